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
#include <sys/xattr.h>
#include <unistd.h>

#include "kernel/cgroup.h"
#include "util/cleanup.h"

struct host {
	int parent_fd; /* the cgroup that the tests were started in */
	int back_fd;   /* where the test itself goes in the end */
	int fd;	       /* a new one below parent_fd */
	char name[64];
	bool memory;	     /* its children may have the memory controller */
	bool memory_enabled; /* by us, for the parent's children */
	char why_not[256];
};

static struct host host = { .parent_fd = -1, .back_fd = -1, .fd = -1 };

/* In a unit with Delegate=yes every process is ours, and all have to leave the unit's own cgroup
 * before its children can have controllers. Each test is a process of its own: the first one
 * moves everybody, the others find themselves moved. */
#define HOST_RUNNER "trimtab-test-runner"

static inline int host_move_all(int from_fd, int *ret_runner_fd)
{
	auto_close int runner_fd = -1;
	pid_t pids[64];
	ssize_t n;
	int r;

	r = cgroup_make(from_fd, HOST_RUNNER, &runner_fd);
	if (r < 0)
		return r;
	n = cgroup_pids(from_fd, pids, ELEMENTS(pids));
	for (ssize_t i = 0; i < n; i++)
		(void)cgroup_enter(runner_fd, pids[i]);
	*ret_runner_fd = TAKE_FD(runner_fd);
	return 0;
}

static inline int host_open_parent(char **ret_path)
{
	auto_close int own_fd = -1;
	char c;
	int r;

	r = cgroup_open_own(&own_fd, ret_path);
	if (r < 0)
		return r;
	if (strstr(*ret_path, "/" HOST_RUNNER)) {
		host.parent_fd = openat(own_fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		host.back_fd = TAKE_FD(own_fd);
		return host.parent_fd < 0 ? -errno : 0;
	}
	host.parent_fd = TAKE_FD(own_fd);
	if (fgetxattr(host.parent_fd, "user.delegate", &c, 1) == 1 ||
	    fgetxattr(host.parent_fd, "trusted.delegate", &c, 1) == 1)
		return host_move_all(host.parent_fd, &host.back_fd);
	host.back_fd = fcntl(host.parent_fd, F_DUPFD_CLOEXEC, 3);
	return host.back_fd < 0 ? -errno : 0;
}

static inline void host_init(void)
{
	auto_free char *path = NULL;
	int r;

	r = host_open_parent(&path);
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
		(void)cgroup_enter(host.back_fd, 0);
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
	host.back_fd = close_fd(host.back_fd);
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
