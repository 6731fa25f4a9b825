/* Limits above the pool, watched by inotify. Owns nothing but the descriptor it gives; must never
 * watch a leaf's limits, which the supervisor itself writes. */
#include "kernel/limitwatch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "util/cleanup.h"

/* inotify knows no directory descriptors; /proc gives each of them a path. */
static int watch_file(int inotify_fd, int dir_fd, const char *file)
{
	char path[64];

	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", dir_fd, file);
	return inotify_add_watch(inotify_fd, path, IN_MODIFY) < 0 ? -errno : 0;
}

/* Returns how many files are watched, or -errno. */
static int watch_level(int inotify_fd, int dir_fd)
{
	static const char *const files[] = { "memory.max", "memory.high" };
	int n = 0;

	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		int r = watch_file(inotify_fd, dir_fd, files[i]);

		if (r < 0 && r != -ENOENT)
			return r;
		n += r == 0;
	}
	return n;
}

int limitwatch_open(int dir_fd, int *ret_fd)
{
	auto_close int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	auto_close int level_fd = openat(dir_fd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	int n = 0;

	if (fd < 0 || level_fd < 0)
		return -errno;
	/* Above the root of the mount lies some other file system. */
	while (faccessat(level_fd, "cgroup.controllers", F_OK, 0) == 0) {
		int r = watch_level(fd, level_fd), parent_fd;

		if (r < 0)
			return r;
		n += r;
		parent_fd = openat(level_fd, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (parent_fd < 0)
			return -errno;
		(void)close_fd(level_fd);
		level_fd = parent_fd;
	}
	if (n == 0)
		return -ENOENT;
	*ret_fd = TAKE_FD(fd);
	return 0;
}

void limitwatch_drain(int fd)
{
	char events[1024];

	while (read(fd, events, sizeof(events)) > 0)
		;
}
