/* Of src/process/program.c: programs and scripts made here, byte by byte. */
#include "process/program.h"

#include <criterion/criterion.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/cleanup.h"

static char path[] = "/tmp/trimtab-program-XXXXXX";

static void make_file(void)
{
	auto_close int fd = mkstemp(path);

	cr_assert_geq(fd, 0);
	cr_assert_eq(fchmod(fd, 0755), 0);
}

static void remove_file(void)
{
	(void)unlink(path);
}

TestSuite(program, .init = make_file, .fini = remove_file);

static void put(const void *bytes, size_t size)
{
	auto_close int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);

	cr_assert_eq(write(fd, bytes, size), (ssize_t)size);
}

struct elf {
	Elf64_Ehdr header;
	Elf64_Phdr load, interp;
	char interpreter[64];
};

/* The header of this very program, with an interpreter of our choice; NULL: none. */
static struct elf elf_with(const char *interpreter)
{
	struct elf elf = { 0 };
	auto_close int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

	cr_assert_eq(read(fd, &elf.header, sizeof(elf.header)),
		     (ssize_t)sizeof(elf.header));
	elf.header.e_phoff = offsetof(struct elf, load);
	elf.header.e_phnum = interpreter ? 2 : 1;
	elf.load.p_type = PT_LOAD;
	elf.interp.p_type = PT_INTERP;
	elf.interp.p_offset = offsetof(struct elf, interpreter);
	if (interpreter) {
		elf.interp.p_filesz = strlen(interpreter) + 1;
		memcpy(elf.interpreter, interpreter, strlen(interpreter) + 1);
	}
	return elf;
}

static enum program_kind kind_as(uid_t uid, gid_t gid)
{
	struct program program;

	program_examine(path, uid, gid, &program);
	return program.kind;
}

static enum program_kind kind(void)
{
	return kind_as(geteuid(), getegid());
}

Test(program, by_its_interpreter)
{
	struct elf elf = elf_with("/lib64/ld-linux-x86-64.so.2");

	put(&elf, sizeof(elf));
	cr_assert_eq(kind(), PROGRAM_LOADS);
	cr_assert_null(program_problem(PROGRAM_LOADS));
	elf = elf_with("/lib/ld-musl-x86_64.so.1");
	put(&elf, sizeof(elf));
	cr_assert_eq(kind(), PROGRAM_MUSL);
	elf = elf_with(NULL);
	put(&elf, sizeof(elf));
	cr_assert_eq(kind(), PROGRAM_STATIC);
}

Test(program, of_another_machine)
{
	struct elf elf = elf_with("/lib/ld-linux.so.2");

	elf.header.e_ident[EI_CLASS] = ELFCLASS32;
	put(&elf, sizeof(elf));
	cr_assert_eq(kind(), PROGRAM_FOREIGN);
	elf = elf_with("/lib/ld-linux.so.2");
	elf.header.e_machine = EM_SPARC;
	put(&elf, sizeof(elf));
	cr_assert_eq(kind(), PROGRAM_FOREIGN);
}

Test(program, setuid_to_somebody_else)
{
	struct elf elf = elf_with("/lib64/ld-linux-x86-64.so.2");

	put(&elf, sizeof(elf));
	cr_assert_eq(chmod(path, 04755), 0);
	cr_assert_eq(kind(), PROGRAM_LOADS, "it is ours already");
	cr_assert_eq(kind_as(geteuid() + 1, getegid()), PROGRAM_SECURE);
	cr_assert_eq(chmod(path, 02755), 0);
	cr_assert_eq(kind_as(geteuid(), getegid() + 1), PROGRAM_SECURE);
}

Test(program, scripts)
{
	struct program program;

	put("#!/bin/sh -e\necho\n", 18);
	program_examine(path, geteuid(), getegid(), &program);
	cr_assert_eq(program.kind, PROGRAM_LOADS);
	cr_assert_str_eq(program.path, "/bin/sh");
	put("#! /usr/bin/env -S A=b sh\n", 26);
	program_examine(path, geteuid(), getegid(), &program);
	cr_assert_eq(program.kind, PROGRAM_LOADS);
	cr_assert_str_eq(strrchr(program.path, '/'), "/sh");
	put("#!/usr/bin/env no-such-program\n", 31);
	cr_assert_eq(kind(), PROGRAM_UNKNOWN);
	put("#!\n", 3);
	cr_assert_eq(kind(), PROGRAM_UNKNOWN);
}

Test(program, a_script_that_is_its_own_interpreter)
{
	char line[64];
	int n = snprintf(line, sizeof(line), "#!%s\n", path);

	put(line, (size_t)n);
	cr_assert_eq(kind(), PROGRAM_UNKNOWN);
}

Test(program, what_is_none)
{
	struct program program;

	cr_assert_eq(kind(), PROGRAM_UNKNOWN, "empty");
	put("\177ELF", 4);
	cr_assert_eq(kind(), PROGRAM_UNKNOWN);
	program_examine("/nonexistent", 0, 0, &program);
	cr_assert_eq(program.kind, PROGRAM_UNKNOWN);
	program_examine("/tmp", 0, 0, &program);
	cr_assert_eq(program.kind, PROGRAM_UNKNOWN);
}

/* Offsets and sizes that point anywhere, and noise. */
Test(program, headers_that_lie)
{
	struct elf good = elf_with("/lib64/ld-linux-x86-64.so.2"), elf;
	uint32_t seed = 1;

	for (int round = 0; round < 3000; round++) {
		unsigned char *bytes = (unsigned char *)&elf;

		elf = good;
		for (int i = 0; i < 6; i++) {
			seed = seed * 1664525 + 1013904223;
			bytes[SELFMAG + (seed >> 8) % (sizeof(elf) - SELFMAG)] =
				(unsigned char)(seed >> 24);
		}
		put(&elf, sizeof(elf));
		cr_assert_leq(kind(), PROGRAM_UNKNOWN);
	}
	elf = good;
	elf.header.e_phoff = UINT64_MAX - 8;
	put(&elf, sizeof(elf));
	cr_assert_eq(kind(), PROGRAM_UNKNOWN);
	elf = good;
	elf.interp.p_filesz = UINT64_MAX;
	put(&elf, sizeof(elf));
	cr_assert_eq(kind(), PROGRAM_UNKNOWN);
}
