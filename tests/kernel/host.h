/* A cgroup of our own on this machine's real v2 hierarchy, for tests of the suite "host". Where
 * none can be had the test is skipped, and says why. */
#pragma once

#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel/cgroup.h"
#include "util/cleanup.h"

struct host {
	int parent_fd; /* the cgroup that the test was started in */
	int fd;	       /* a new one below it */
	char name[64];
	bool memory;	     /* its children may have the memory controller */
	bool memory_enabled; /* by us, for the parent's children */
	char why_not[256];
};

static struct host host = { .parent_fd = -1, .fd = -1 };

static inline void host_init(void)
{
	auto_free char *path = NULL;
	int r;

	r = cgroup_open_own(&host.parent_fd, &path);
	if (r < 0) {
		(void)snprintf(host.why_not, sizeof(host.why_not),
			       "no cgroup v2 hierarchy to test in: %s", strerror(-r));
		return;
	}
	if (cgroup_offers(host.parent_fd, "memory") &&
	    !cgroup_enabled(host.parent_fd, "memory"))
		host.memory_enabled = cgroup_enable(host.parent_fd, "memory") == 0;
	(void)snprintf(host.name, sizeof(host.name), "trimtab-test-%d", getpid());
	r = cgroup_make(host.parent_fd, host.name, &host.fd);
	if (r < 0) {
		(void)snprintf(host.why_not, sizeof(host.why_not),
			       "cannot make a cgroup in %s: %s", path, strerror(-r));
		return;
	}
	host.memory = cgroup_offers(host.fd, "memory");
}

static inline void host_wait_empty(int dir_fd)
{
	auto_close int fd = -1;
	bool populated;
	int r;

	r = cgroup_open_populated(dir_fd, &fd);
	while (r == 0) {
		struct pollfd wait = { .fd = fd, .events = POLLPRI };

		r = cgroup_read_populated(fd, &populated);
		if (r != 0 || !populated)
			break;
		(void)poll(&wait, 1, -1);
	}
}

static inline void host_remove_below(int dir_fd)
{
	int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		int child;

		if (entry->d_type != DT_DIR || entry->d_name[0] == '.')
			continue;
		child = openat(dir_fd, entry->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		host_remove_below(child);
		(void)close_fd(child);
		(void)cgroup_remove(dir_fd, entry->d_name);
	}
	if (dir)
		(void)closedir(dir);
}

static inline void host_done(void)
{
	if (host.fd >= 0) {
		(void)cgroup_enter(host.parent_fd, 0);
		(void)cgroup_kill(host.fd);
		while (waitpid(-1, NULL, 0) > 0)
			;
		host_wait_empty(host.fd);
		host_remove_below(host.fd);
		(void)cgroup_remove(host.parent_fd, host.name);
	}
	if (host.memory_enabled)
		(void)cgroup_disable(host.parent_fd, "memory");
	host.fd = close_fd(host.fd);
	host.parent_fd = close_fd(host.parent_fd);
}

/* Criterion does not run the .fini of a test that skips. */
#define HOST_SKIP(...)                \
	do {                          \
		host_done();          \
		cr_skip(__VA_ARGS__); \
	} while (0)

#define HOST_NEEDED()                                  \
	do {                                           \
		if (host.fd < 0)                       \
			HOST_SKIP("%s", host.why_not); \
	} while (0)

#define HOST_MEMORY_NEEDED()                                                      \
	do {                                                                      \
		HOST_NEEDED();                                                    \
		if (!host.memory)                                                 \
			HOST_SKIP("the memory controller is not available here"); \
	} while (0)
