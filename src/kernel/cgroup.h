/* Control groups, version 2: make a leaf, limit it, read it, kill it.
 *
 * Everything works on directory descriptors, never on global paths, so a directory of plain
 * files serves the tests. Source of the formats: Documentation/admin-guide/cgroup-v2.rst.
 *
 * One rule holds for every call that takes dir_fd and a file: when the file is missing because
 * the directory was removed, the answer is CGROUP_GONE; when the directory lives and this kernel
 * or the enabled controllers lack the file, it is -ENOENT. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Positive outcome of most calls below: the directory vanished under us. Not an error: workers
 * and leaves may end at any time. */
enum { CGROUP_GONE = 1 };

/* Of memory.events or memory.events.local; keys that the kernel lacks stay 0, unknown ones are
 * skipped. */
struct cgroup_events {
	uint64_t low, high, max, oom, oom_kill, oom_group_kill;
};

struct cgroup_usage {
	uint64_t charged_bytes; /* memory.current */
	uint64_t own_bytes;  /* memory.stat anon + shmem + kernel: what it costs alone */
	uint64_t file_bytes; /* page cache on the file LRU (not shmem): reclaimable */
	uint64_t scanned_pages; /* pgscan */
	uint64_t stolen_pages;	/* pgsteal */
	uint64_t
		refaulted_pages; /* workingset_refault_*: stolen, and wanted again soon after */
};

/* Finds this process's cgroup on the v2 hierarchy. Returns 0 and a directory descriptor plus its
 * path for messages (caller frees), or -errno: -ENOENT when no v2 hierarchy is mounted, -EXDEV
 * when it is mounted but shows only directories that ours is not below. */
int cgroup_open_own(int *ret_dir_fd, char **ret_path);

/* Opens (creating first where it is missing) a child directory. name has no slash.
 * Returns 0 or -errno: -EROFS, -EACCES, -EAGAIN (cgroup.max.descendants), -ENAMETOOLONG. */
int cgroup_make(int parent_fd, const char *name, int *ret_dir_fd);

/* Removes a child directory. Returns 0, CGROUP_GONE, or -errno: -EBUSY while processes or
 * children are inside. */
int cgroup_remove(int parent_fd, const char *name);

/* Writes text to a file of the cgroup: one write(2), which for a limit below the usage may take
 * seconds (the kernel reclaims in our context). Returns 0, CGROUP_GONE or -errno; memory.reclaim
 * also -EAGAIN (less than asked was reclaimed, possibly much) and -EINTR. */
int cgroup_write(int dir_fd, const char *file, const char *text);

/* As cgroup_write with a decimal number; UINT64_MAX writes "max". */
int cgroup_write_u64(int dir_fd, const char *file, uint64_t value);

/* Reads a file with one number; "max" gives UINT64_MAX. Returns 0, CGROUP_GONE or -errno. */
int cgroup_read_u64(int dir_fd, const char *file, uint64_t *ret);

/* CPU time that its processes have used, those that have ended included (cpu.stat, which is there
 * without the cpu controller). Returns 0, CGROUP_GONE or -errno. */
int cgroup_read_cpu(int dir_fd, uint64_t *ret_usec);

/* Moves a process into the cgroup; pid 0: the caller. Returns 0, CGROUP_GONE or -errno: -EBUSY
 * for an inner node with controllers, -ESRCH, -EACCES, -EOPNOTSUPP (below a threaded one). */
int cgroup_enter(int dir_fd, pid_t pid);

/* Enables a controller ("memory") for children. Retries the kernel's transient EBUSY a bounded
 * number of times without sleeping. Returns 0, CGROUP_GONE or -errno: -EBUSY while processes are
 * inside, -ENOENT when the parent does not offer the controller. */
int cgroup_enable(int dir_fd, const char *controller);

/* Takes it back. Returns as cgroup_enable; -EBUSY while a child hands it on to its children. */
int cgroup_disable(int dir_fd, const char *controller);

/* True where cgroup.controllers lists the controller: it can be enabled here. */
bool cgroup_offers(int dir_fd, const char *controller);

/* True where cgroup.subtree_control lists the controller: children have it. */
bool cgroup_enabled(int dir_fd, const char *controller);

/* Costs two files (memory.current, memory.stat). Returns 0, CGROUP_GONE or -errno: -ENOENT
 * without the memory controller. */
int cgroup_read_usage(int dir_fd, struct cgroup_usage *ret);

/* Parses memory.events from an open descriptor, by pread at 0: which also re-arms its poll
 * event. Returns 0, CGROUP_GONE or -errno. */
int cgroup_read_events(int events_fd, struct cgroup_events *ret);

/* As above, opening memory.events.local of the directory. */
int cgroup_read_local_events(int dir_fd, struct cgroup_events *ret);

/* Opens memory.events for epoll and reads it once, so that the first EPOLLPRI is a real change.
 * Wait for EPOLLPRI only (EPOLLERR always comes with it and is no error; EPOLLIN spins), and
 * call cgroup_read_events on each wake-up or epoll fires again at once. Removing the cgroup
 * wakes nobody; a read then gives CGROUP_GONE.
 * Returns 0, CGROUP_GONE or -errno. */
int cgroup_open_events(int dir_fd, int *ret_fd);

/* The same pair for cgroup.events: EPOLLPRI when the last live process leaves. */
int cgroup_open_populated(int dir_fd, int *ret_fd);
int cgroup_read_populated(int populated_fd, bool *ret);

/* Kills every process in the subtree through cgroup.kill; on kernels before 5.14 the directory's
 * own processes (not those of its children) one by one, -EBUSY when they fork faster than that.
 * Returns 0, CGROUP_GONE or -errno: -EOPNOTSUPP (threaded). */
int cgroup_kill(int dir_fd);

/* Whether any live process is inside (cgroup.events populated; zombies do not count).
 * Returns 0, CGROUP_GONE or -errno: -ENOENT for the root of the hierarchy. */
int cgroup_populated(int dir_fd, bool *ret);

/* Lists the processes inside, at most max of them; those that our pid namespace has no number
 * for are left out. Returns how many were stored, or -errno: -ENODEV when the directory is gone
 * (a positive outcome has no room here). */
ssize_t cgroup_pids(int dir_fd, pid_t *pids, size_t max);

/* The tightest limit from this directory up to the root of the mount (inclusive): memory.max, or
 * memory.high where that is lower, since above it the kernel brings everything to a standstill.
 * Ask for a pool, not for a leaf, whose memory.high is the tripwire. UINT64_MAX: no limit.
 * Returns 0, CGROUP_GONE or -errno. */
int cgroup_effective_limit(int dir_fd, uint64_t *ret_limit_bytes);

/* How much more may be charged to this directory before one of these limits, here or further up,
 * is reached, others' usage up there included; page cache is taken for free. UINT64_MAX: no limit.
 * Returns 0, CGROUP_GONE or -errno. */
int cgroup_headroom(int dir_fd, uint64_t *ret_bytes);

/* The tightest limit on this very process, in any mode: up the tree from its own v2 cgroup, and
 * that of the version 1 memory controller where a host binds it there. A read-only tree, as in
 * containers, is enough. UINT64_MAX: none is known. Returns 0 or -errno. */
int cgroup_own_limit(uint64_t *ret_limit_bytes);
