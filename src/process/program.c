/* Reads the beginning of a file: ELF (elf(5)) or "#!" (execve(2)). What the file claims is checked
 * against its size in every step, and nothing in it is executed. */
#include "process/program.h"

#include <elf.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "util/cleanup.h"

enum {
	MAX_SCRIPTS =
		4, /* a script whose interpreter is a script: the kernel takes so many too */
	MAX_HEADERS = 64,
};

/* As this very program is. */
static bool is_native(const Elf64_Ehdr *header)
{
	static const uint16_t machine =
#if defined(__x86_64__)
		EM_X86_64;
#elif defined(__aarch64__)
		EM_AARCH64;
#elif defined(__riscv)
		EM_RISCV;
#elif defined(__powerpc64__)
		EM_PPC64;
#elif defined(__s390x__)
		EM_S390;
#else
		EM_NONE; /* not told apart */
#endif

	return header->e_ident[EI_CLASS] ==
		       (sizeof(void *) == 8 ? ELFCLASS64 : ELFCLASS32) &&
	       (machine == EM_NONE || header->e_machine == machine);
}

static bool read_at(int fd, void *to, size_t size, uint64_t offset)
{
	return offset <= INT64_MAX && pread(fd, to, size, (off_t)offset) == (ssize_t)size;
}

/* The path in PT_INTERP, "" without one. False: not readable. */
static bool read_interpreter(int fd, const Elf64_Ehdr *header, char *to, size_t size)
{
	for (unsigned i = 0; i < header->e_phnum && i < MAX_HEADERS; i++) {
		Elf64_Phdr p;

		if (!read_at(fd, &p, sizeof(p), header->e_phoff + i * sizeof(p)))
			return false;
		if (p.p_type != PT_INTERP)
			continue;
		if (p.p_filesz == 0 || p.p_filesz >= size ||
		    !read_at(fd, to, p.p_filesz, p.p_offset))
			return false;
		to[p.p_filesz] = '\0';
		return true;
	}
	*to = '\0';
	return true;
}

static enum program_kind examine_elf(int fd)
{
	char interpreter[PATH_MAX];
	Elf64_Ehdr header;

	if (!read_at(fd, &header, sizeof(header), 0))
		return PROGRAM_UNKNOWN;
	if (!is_native(&header))
		return PROGRAM_FOREIGN;
	if (header.e_ident[EI_CLASS] != ELFCLASS64 ||
	    header.e_phentsize != sizeof(Elf64_Phdr) ||
	    !read_interpreter(fd, &header, interpreter, sizeof(interpreter)))
		return PROGRAM_UNKNOWN;
	if (interpreter[0] == '\0')
		return PROGRAM_STATIC;
	return strstr(interpreter, "ld-musl") ? PROGRAM_MUSL : PROGRAM_LOADS;
}

/* ld.so(8), "secure-execution mode". Of capabilities root gains none that it has not. */
static bool is_secure(int fd, uid_t uid, gid_t gid)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return false;
	return (st.st_mode & S_ISUID && st.st_uid != uid) ||
	       (st.st_mode & S_ISGID && st.st_mode & S_IXGRP && st.st_gid != gid) ||
	       (uid != 0 && fgetxattr(fd, "security.capability", NULL, 0) > 0);
}

static bool find_on_path(const char *name, char *to, size_t size)
{
	const char *path = getenv("PATH");

	for (const char *p = path ? path : "/usr/bin:/bin"; *p;) {
		size_t n = strcspn(p, ":");
		int length = snprintf(to, size, "%.*s/%s", (int)n, p, name);

		if (n > 0 && length > 0 && (size_t)length < size && access(to, X_OK) == 0)
			return true;
		p += n + (p[n] == ':');
	}
	return false;
}

/* "#!/usr/bin/env [-S] [NAME=VALUE]... PROGRAM": what env would execute. */
static bool follow_env(char *words, char *to, size_t size)
{
	for (char *rest = words, *word; (word = strsep(&rest, " \t"));)
		if (*word && *word != '-' && !strchr(word, '='))
			return find_on_path(word, to, size);
	return false;
}

/* Puts the interpreter of a script into path. False: this is no script. */
static bool follow_script(int fd, char *path, size_t size)
{
	char line[PATH_MAX], *start, *words;
	ssize_t n = pread(fd, line, sizeof(line) - 1, 0);
	size_t length;

	if (n < 3 || line[0] != '#' || line[1] != '!')
		return false;
	line[n] = '\0';
	line[strcspn(line, "\n")] = '\0';
	start = line + 2 + strspn(line + 2, " \t");
	length = strcspn(start, " \t");
	words = start + length + (start[length] != '\0');
	start[length] = '\0';
	if (length == 0 || length >= size)
		return false;
	if (length >= 4 && strcmp(start + length - 4, "/env") == 0 && *words)
		return follow_env(words, path, size);
	memcpy(path, start, length + 1);
	return true;
}

void program_examine(const char *path, uid_t uid, gid_t gid, struct program *ret)
{
	int length = snprintf(ret->path, sizeof(ret->path), "%s", path);

	ret->kind = PROGRAM_UNKNOWN;
	for (unsigned i = 0;
	     length > 0 && (size_t)length < sizeof(ret->path) && i <= MAX_SCRIPTS; i++) {
		auto_close int fd = open(ret->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
		char magic[SELFMAG];

		if (fd < 0 || !read_at(fd, magic, sizeof(magic), 0))
			return;
		if (memcmp(magic, ELFMAG, SELFMAG) == 0) {
			ret->kind = is_secure(fd, uid, gid) ? PROGRAM_SECURE
							    : examine_elf(fd);
			return;
		}
		if (!follow_script(fd, ret->path, sizeof(ret->path)))
			return;
	}
}

const char *program_problem(enum program_kind kind)
{
	switch (kind) {
	case PROGRAM_STATIC:
		return "is linked statically";
	case PROGRAM_MUSL:
		return "is built against musl";
	case PROGRAM_FOREIGN:
		return "is built for another machine or word size";
	case PROGRAM_SECURE:
		return "is setuid, setgid or has file capabilities";
	case PROGRAM_LOADS:
	case PROGRAM_UNKNOWN:
		break;
	}
	return NULL;
}
