/* Access to tests/fixtures/: sample texts, and copies of directories that a test may write. */
#pragma once

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/cleanup.h"

/* The text of tests/fixtures/NAME (caller frees). */
static inline char *fixture_text(const char *name)
{
	char path[512];
	auto_file FILE *file = NULL;
	auto_free char *text = NULL;
	size_t size = 0;

	(void)snprintf(path, sizeof(path), FIXTURES "/%s", name);
	file = fopen(path, "re");
	cr_assert_not_null(file, "%s: %m", path);
	if (getdelim(&text, &size, '\0', file) < 0) {
		free(text);
		text = strdup("");
	}
	return TAKE(text);
}

static inline int fixture_dir(const char *name)
{
	char path[512];
	int fd;

	(void)snprintf(path, sizeof(path), FIXTURES "/cgroup/%s", name);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cr_assert_geq(fd, 0, "%s: %m", path);
	return fd;
}

/* A writable copy of tests/fixtures/cgroup/NAME, and its path for scratch_remove(). */
struct scratch {
	char path[64];
	int dir_fd;
};

static inline void scratch_remove(struct scratch *scratch)
{
	char command[128];

	(void)close_fd(scratch->dir_fd);
	(void)snprintf(command, sizeof(command), "rm -rf %s", scratch->path);
	cr_assert_eq(system(command), 0);
}

#define auto_scratch CLEANUP(scratch_remove)

static inline struct scratch scratch_copy(const char *name)
{
	struct scratch scratch = { .path = "/tmp/trimtab-fixture-XXXXXX" };
	char command[1024];

	cr_assert_not_null(mkdtemp(scratch.path), "%m");
	(void)snprintf(command, sizeof(command),
		       "cp -R " FIXTURES "/cgroup/%s/. %s && chmod -R u+w %s", name,
		       scratch.path, scratch.path);
	cr_assert_eq(system(command), 0);
	scratch.dir_fd = open(scratch.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cr_assert_geq(scratch.dir_fd, 0, "%m");
	return scratch;
}

/* What a file of a directory holds now; size bytes at most, NUL behind them. */
static inline ssize_t file_text(int dir_fd, const char *file, char *text, size_t size)
{
	auto_close int fd = openat(dir_fd, file, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	cr_assert_geq(fd, 0, "%s: %m", file);
	n = read(fd, text, size - 1);
	cr_assert_geq(n, 0, "%s: %m", file);
	text[n] = '\0';
	return n;
}
