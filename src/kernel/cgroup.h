/* Control groups, version 2: make a leaf, limit it, read it, kill it.
 *
 * Everything works on directory descriptors, never on global paths, so a directory of plain
 * files serves the tests. Source of the formats: Documentation/admin-guide/cgroup-v2.rst. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Positive outcome of most calls below: the directory vanished under us (ENOENT on open, ENODEV
 * on read or write). Not an error: workers and leaves may end at any time. */
enum { CGROUP_GONE = 1 };

/* Of memory.events or memory.events.local; keys that the kernel lacks stay 0, unknown ones are
 * skipped. */
struct cgroup_events {
	uint64_t low, high, max, oom, oom_kill, oom_group_kill;
};

struct cgroup_usage {
	uint64_t charged_bytes;	/* memory.current */
	uint64_t own_bytes;	/* memory.stat anon + shmem + kernel: what it costs alone */
	uint64_t file_bytes;	/* page cache but shmem: reclaimable */
	uint64_t scanned_pages;	/* pgscan */
	uint64_t stolen_pages;	/* pgsteal */
};

/* Finds this process's cgroup on the v2 hierarchy. Returns 0 and a directory descriptor plus its
 * path for messages (caller frees), or -errno: -ENOENT when no v2 hierarchy is mounted. */
int cgroup_open_own(int *ret_dir_fd, char **ret_path);

/* Opens (creating first where it is missing) a child directory. name has no slash.
 * Returns 0 or -errno: -EROFS, -EACCES, -EAGAIN (cgroup.max.descendants), -ENAMETOOLONG. */
int cgroup_make(int parent_fd, const char *name, int *ret_dir_fd);

/* Removes a child directory. Returns 0, CGROUP_GONE, or -errno: -EBUSY while processes or
 * children are inside. */
int cgroup_remove(int parent_fd, const char *name);

/* Writes text to a file of the cgroup: one write(2). Returns 0, CGROUP_GONE or -errno. */
int cgroup_write(int dir_fd, const char *file, const char *text);

/* As cgroup_write with a decimal number; UINT64_MAX writes "max". */
int cgroup_write_u64(int dir_fd, const char *file, uint64_t value);

/* Reads a file with one number; "max" gives UINT64_MAX. Returns 0, CGROUP_GONE or -errno. */
int cgroup_read_u64(int dir_fd, const char *file, uint64_t *ret);

/* Moves a process into the cgroup; pid 0: the caller. Returns 0, CGROUP_GONE or -errno: -EBUSY
 * for an inner node with controllers, -ESRCH, -EACCES, -EOPNOTSUPP (threaded). */
int cgroup_enter(int dir_fd, pid_t pid);

/* Enables a controller ("memory") for children. Retries the kernel's transient EBUSY a bounded
 * number of times without sleeping. Returns 0 or -errno: -EBUSY while processes are inside,
 * -ENOENT when the parent does not offer the controller. */
int cgroup_enable(int dir_fd, const char *controller);

/* True where cgroup.controllers lists the controller. */
bool cgroup_offers(int dir_fd, const char *controller);

/* Returns 0, CGROUP_GONE, or -errno (-ENOENT cannot happen: a missing file is CGROUP_GONE; check
 * cgroup_offers() first). */
int cgroup_read_usage(int dir_fd, struct cgroup_usage *ret);

/* Parses memory.events from an open descriptor, by pread at 0: which also re-arms its poll
 * event. Returns 0, CGROUP_GONE or -errno. */
int cgroup_read_events(int events_fd, struct cgroup_events *ret);

/* As above, opening memory.events.local of the directory. */
int cgroup_read_local_events(int dir_fd, struct cgroup_events *ret);

/* Opens memory.events for epoll and reads it once, so that the first EPOLLPRI is a real change.
 * Wait for EPOLLPRI only (EPOLLERR always comes with it and is no error; EPOLLIN spins), and
 * call cgroup_read_events on each wake-up or epoll fires again at once.
 * Returns 0, CGROUP_GONE or -errno. */
int cgroup_open_events(int dir_fd, int *ret_fd);

/* Kills every process in the subtree through cgroup.kill, or one by one on kernels before 5.14.
 * Returns 0, CGROUP_GONE or -errno. */
int cgroup_kill(int dir_fd);

/* Whether any live process is inside (cgroup.events populated; zombies do not count).
 * Returns 0, CGROUP_GONE or -errno. */
int cgroup_populated(int dir_fd, bool *ret);

/* Lists the processes inside, at most max of them. Returns their number, or -errno. */
ssize_t cgroup_pids(int dir_fd, pid_t *pids, size_t max);

/* The tightest memory.max from this directory up to the root of the mount (inclusive), and how
 * much memory.current leaves below it at that level. UINT64_MAX: no limit. Returns 0 or -errno. */
int cgroup_effective_limit(int dir_fd, uint64_t *ret_limit_bytes);
