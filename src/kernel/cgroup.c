/* Owns the files of one cgroup directory: which to open, what to write, and what each errno
 * means there.
 *
 * It must never build a path from the root, sleep, or allocate on a read: a supervisor whose
 * host has no memory left must still be able to look and to kill. The one path it does build is
 * that of our own cgroup, once at start. A worker may end, and its directory go, between any two
 * calls; that is told apart from real trouble here and nowhere else. */
#include "kernel/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "kernel/cgroup1.h"
#include "kernel/parse.h"
#include "kernel/procfs.h"
#include "kernel/text.h"
#include "util/cleanup.h"

/* ---- what an errno means ---- */

/* A live cgroup always has cgroup.procs, whatever the kernel and its controllers. */
static bool is_alive(int dir_fd)
{
	return faccessat(dir_fd, "cgroup.procs", F_OK, 0) == 0;
}

/* kernfs answers ENODEV when the directory goes while a file of it is open. */
static int outcome(int dir_fd, int r)
{
	if (r == -ENODEV)
		return CGROUP_GONE;
	if (r == -ENOENT && !is_alive(dir_fd))
		return CGROUP_GONE;
	return r;
}

static int open_file(int dir_fd, const char *file, int flags, int *ret_fd)
{
	int fd = openat(dir_fd, file, flags | O_CLOEXEC | O_NOCTTY);

	if (fd < 0)
		return outcome(dir_fd, -errno);
	*ret_fd = fd;
	return 0;
}

static int read_file(int dir_fd, const char *file, char *text, size_t size)
{
	return outcome(dir_fd, text_read(dir_fd, file, text, size));
}

/* ---- our own place ---- */

static int open_dir(const char *path, int *ret_fd)
{
	auto_close int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct statfs fs;

	if (fd < 0 || fstatfs(fd, &fs) < 0)
		return -errno;
	/* Something else may be mounted on top, or the mount may have gone. */
	if ((unsigned long)fs.f_type != CGROUP2_SUPER_MAGIC)
		return -ENOENT;
	*ret_fd = TAKE_FD(fd);
	return 0;
}

/* Opens own below this mount. Returns 0, -EXDEV when it is not below it, or -errno. */
static int open_below(const struct parse_mount *mount, const char *own, int *ret_dir_fd,
		      char **ret_path)
{
	auto_free char *path = NULL;
	const char *below;
	int r;

	/* In a container with its own view of the tree, own may be "/../x" and the root of a
	 * mount made outside "/.."; both count from the same place, so a prefix is all there is
	 * to it. */
	below = parse_path_below(own, mount->root);
	if (!below)
		return -EXDEV;
	if (asprintf(&path, "%s%s", mount->point, below) < 0) {
		path = NULL;
		return -ENOMEM;
	}
	r = open_dir(path, ret_dir_fd);
	if (r < 0)
		return r;
	*ret_path = TAKE(path);
	return 0;
}

int cgroup_open_own(int *ret_dir_fd, char **ret_path)
{
	auto_close int fd = -1;
	auto_free char *own = NULL;
	struct text_lines lines;
	struct parse_mount mount;
	int r, trouble = -ENOENT;
	char *line;

	r = proc_cgroup(getpid(), &own);
	/* No v2 line, or no /proc at all. */
	if (r != 0)
		return r == -ENODATA || r > 0 ? -ENOENT : r;
	fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;

	/* On a hybrid host and in some containers there is more than one; the first that shows
	 * our directory serves. */
	text_lines_init(&lines, fd);
	while ((r = text_lines_next(&lines, &line)) > 0) {
		if (parse_mount_line(line, &mount) < 0 ||
		    strcmp(mount.type, "cgroup2") != 0)
			continue;
		r = open_below(&mount, own, ret_dir_fd, ret_path);
		if (r == 0)
			return 0;
		trouble = r;
	}
	return r < 0 ? r : trouble;
}

/* ---- directories ---- */

static bool is_name(const char *name)
{
	return *name && !strchr(name, '/') && strcmp(name, ".") != 0 &&
	       strcmp(name, "..") != 0;
}

int cgroup_make(int parent_fd, const char *name, int *ret_dir_fd)
{
	int fd;

	if (!is_name(name))
		return -EINVAL;
	if (mkdirat(parent_fd, name, 0755) < 0 && errno != EEXIST)
		return -errno;
	fd = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	*ret_dir_fd = fd;
	return 0;
}

int cgroup_remove(int parent_fd, const char *name)
{
	if (!is_name(name))
		return -EINVAL;
	if (unlinkat(parent_fd, name, AT_REMOVEDIR) == 0)
		return 0;
	return errno == ENOENT || errno == ENODEV ? CGROUP_GONE : -errno;
}

/* ---- one file ---- */

int cgroup_write(int dir_fd, const char *file, const char *text)
{
	auto_close int fd = -1;
	size_t length = strlen(text);
	ssize_t n;
	int r;

	/* O_TRUNC means nothing to kernfs; it is there for the plain files of the tests. */
	r = open_file(dir_fd, file, O_WRONLY | O_TRUNC, &fd);
	if (r != 0)
		return r;
	n = write(fd, text, length);
	if (n < 0)
		return outcome(dir_fd, -errno);
	return (size_t)n == length ? 0 : -EIO;
}

int cgroup_write_u64(int dir_fd, const char *file, uint64_t value)
{
	char text[32];

	if (value == UINT64_MAX)
		return cgroup_write(dir_fd, file, "max\n");
	(void)snprintf(text, sizeof(text), "%" PRIu64 "\n", value);
	return cgroup_write(dir_fd, file, text);
}

int cgroup_read_u64(int dir_fd, const char *file, uint64_t *ret)
{
	char text[64];
	int r;

	r = read_file(dir_fd, file, text, sizeof(text));
	return r != 0 ? r : parse_u64(text, ret);
}

int cgroup_read_cpu(int dir_fd, uint64_t *ret_usec)
{
	char text[1024];
	int r;

	r = read_file(dir_fd, "cpu.stat", text, sizeof(text));
	return r != 0 ? r : parse_keyed_u64(text, "usage_usec", ret_usec);
}

static bool list_has(int dir_fd, const char *file, const char *word)
{
	char text[512];

	return text_read(dir_fd, file, text, sizeof(text)) == 0 &&
	       parse_list_has(text, word);
}

/* ---- processes and controllers ---- */

int cgroup_enter(int dir_fd, pid_t pid)
{
	char text[32];

	if (pid < 0)
		return -EINVAL;
	(void)snprintf(text, sizeof(text), "%ji\n", (intmax_t)pid);
	return cgroup_write(dir_fd, "cgroup.procs", text);
}

bool cgroup_offers(int dir_fd, const char *controller)
{
	return list_has(dir_fd, "cgroup.controllers", controller);
}

bool cgroup_enabled(int dir_fd, const char *controller)
{
	return list_has(dir_fd, "cgroup.subtree_control", controller);
}

/* A process that is just leaving counts as inside for a moment, and another writer of the same
 * file makes for EBUSY too; both are over after a few tries or not at all. */
static int switch_controller(int dir_fd, char sign, const char *controller)
{
	enum { TRIES = 16 };
	char text[64];
	int r = -EBUSY;

	if ((size_t)snprintf(text, sizeof(text), "%c%s\n", sign, controller) >=
	    sizeof(text))
		return -EINVAL;
	for (int i = 0; i < TRIES && r == -EBUSY; i++)
		r = cgroup_write(dir_fd, "cgroup.subtree_control", text);
	return r;
}

int cgroup_enable(int dir_fd, const char *controller)
{
	return switch_controller(dir_fd, '+', controller);
}

int cgroup_disable(int dir_fd, const char *controller)
{
	return switch_controller(dir_fd, '-', controller);
}

ssize_t cgroup_pids(int dir_fd, pid_t *pids, size_t max)
{
	auto_close int fd = -1;
	struct text_lines lines;
	size_t n = 0;
	char *line;
	int r;

	r = open_file(dir_fd, "cgroup.procs", O_RDONLY, &fd);
	if (r != 0)
		return r > 0 ? -ENODEV : r;

	text_lines_init(&lines, fd);
	while (n < max && (r = text_lines_next(&lines, &line)) > 0) {
		uint64_t pid;

		r = parse_u64(line, &pid);
		if (r < 0)
			return r;
		/* 0 stands for a process outside our pid namespace. Left in, a kill() of it
		 * would hit our own process group. */
		if (pid > 0 && pid <= INT32_MAX)
			pids[n++] = (pid_t)pid;
	}
	return r < 0 ? r : (ssize_t)n;
}

/* ---- life and death ---- */

/* The kernel lists a killed process until it has exited, so "nobody left" cannot be waited for
 * here; a second round catches what was forked during the first, and so on. A round in which
 * the list did not change has reached all. */
static int kill_one_by_one(int dir_fd)
{
	enum { ROUNDS = 32, MANY = 512 };
	pid_t now[MANY], before[MANY];
	ssize_t n_before = -1;

	for (int round = 0; round < ROUNDS; round++) {
		ssize_t n = cgroup_pids(dir_fd, now, MANY);

		if (n < 0)
			return n == -ENODEV ? CGROUP_GONE : (int)n;
		for (ssize_t i = 0; i < n; i++)
			if (kill(now[i], SIGKILL) < 0 && errno != ESRCH)
				return -errno;
		if (n == n_before && n < MANY &&
		    memcmp(now, before, (size_t)n * sizeof(pid_t)) == 0)
			return 0;
		memcpy(before, now, (size_t)n * sizeof(pid_t));
		n_before = n;
	}
	return -EBUSY;
}

int cgroup_kill(int dir_fd)
{
	int r = cgroup_write(dir_fd, "cgroup.kill", "1\n");

	return r == -ENOENT ? kill_one_by_one(dir_fd) : r;
}

static int parse_populated(const char *text, bool *ret)
{
	uint64_t populated;
	int r;

	r = parse_keyed_u64(text, "populated", &populated);
	if (r < 0)
		return r == -ENOENT ? -EINVAL : r;
	*ret = populated != 0;
	return 0;
}

int cgroup_populated(int dir_fd, bool *ret)
{
	char text[256];
	int r;

	r = read_file(dir_fd, "cgroup.events", text, sizeof(text));
	return r != 0 ? r : parse_populated(text, ret);
}

int cgroup_read_populated(int populated_fd, bool *ret)
{
	char text[256];
	int r;

	r = text_read_fd(populated_fd, text, sizeof(text));
	if (r < 0)
		return r == -ENODEV ? CGROUP_GONE : r;
	return parse_populated(text, ret);
}

int cgroup_open_populated(int dir_fd, int *ret_fd)
{
	auto_close int fd = -1;
	bool populated;
	int r;

	r = open_file(dir_fd, "cgroup.events", O_RDONLY, &fd);
	if (r != 0)
		return r;
	r = cgroup_read_populated(fd, &populated);
	if (r != 0)
		return r;
	*ret_fd = TAKE_FD(fd);
	return 0;
}

/* ---- memory ---- */

static int parse_events(const char *text, struct cgroup_events *ret)
{
	struct cgroup_events events = { 0 };
	const struct parse_field fields[] = {
		{ "low", &events.low },
		{ "high", &events.high },
		{ "max", &events.max },
		{ "oom", &events.oom },
		{ "oom_kill", &events.oom_kill },
		{ "oom_group_kill", &events.oom_group_kill },
	};
	int r;

	r = parse_fields(text, fields, ELEMENTS(fields));
	if (r < 0)
		return r;
	*ret = events;
	return 0;
}

int cgroup_read_events(int events_fd, struct cgroup_events *ret)
{
	char text[1024];
	int r;

	r = text_read_fd(events_fd, text, sizeof(text));
	if (r < 0)
		return r == -ENODEV ? CGROUP_GONE : r;
	return parse_events(text, ret);
}

int cgroup_read_local_events(int dir_fd, struct cgroup_events *ret)
{
	char text[1024];
	int r;

	r = read_file(dir_fd, "memory.events.local", text, sizeof(text));
	return r != 0 ? r : parse_events(text, ret);
}

int cgroup_open_events(int dir_fd, int *ret_fd)
{
	struct cgroup_events events;
	auto_close int fd = -1;
	int r;

	r = open_file(dir_fd, "memory.events", O_RDONLY, &fd);
	if (r != 0)
		return r;
	r = cgroup_read_events(fd, &events);
	if (r != 0)
		return r;
	*ret_fd = TAKE_FD(fd);
	return 0;
}

/* What of memory.stat is wanted. kernel came with 5.18; before, its parts must be added up.
 * workingset_refault was split in two with 5.9. */
struct stat_seen {
	uint64_t anon, shmem, active_file, inactive_file, pgscan, pgsteal;
	uint64_t refault, refault_anon, refault_file;
	uint64_t kernel, kernel_stack, pagetables, percpu, slab;
};

static int read_stat(int fd, struct stat_seen *seen)
{
	const struct parse_field fields[] = {
		{ "anon", &seen->anon },
		{ "shmem", &seen->shmem },
		{ "active_file", &seen->active_file },
		{ "inactive_file", &seen->inactive_file },
		{ "pgscan", &seen->pgscan },
		{ "pgsteal", &seen->pgsteal },
		{ "workingset_refault", &seen->refault },
		{ "workingset_refault_anon", &seen->refault_anon },
		{ "workingset_refault_file", &seen->refault_file },
		{ "kernel", &seen->kernel },
		{ "kernel_stack", &seen->kernel_stack },
		{ "pagetables", &seen->pagetables },
		{ "percpu", &seen->percpu },
		{ "slab", &seen->slab },
	};
	struct text_lines lines;
	char *line;
	int r;

	*seen = (struct stat_seen){ .kernel = UINT64_MAX };
	text_lines_init(&lines, fd);
	while ((r = text_lines_next(&lines, &line)) > 0) {
		r = parse_fields(line, fields, ELEMENTS(fields));
		if (r < 0)
			return r;
	}
	if (r < 0)
		return r;
	if (seen->kernel == UINT64_MAX)
		seen->kernel =
			seen->kernel_stack + seen->pagetables + seen->percpu + seen->slab;
	return 0;
}

int cgroup_read_usage(int dir_fd, struct cgroup_usage *ret)
{
	auto_close int fd = -1;
	struct stat_seen seen;
	uint64_t charged;
	int r;

	r = cgroup_read_u64(dir_fd, "memory.current", &charged);
	if (r != 0)
		return r;
	r = open_file(dir_fd, "memory.stat", O_RDONLY, &fd);
	if (r != 0)
		return r;
	r = read_stat(fd, &seen);
	if (r < 0)
		return outcome(dir_fd, r);
	*ret = (struct cgroup_usage){
		.charged_bytes = charged,
		.own_bytes = seen.anon + seen.shmem + seen.kernel,
		.file_bytes = seen.active_file + seen.inactive_file,
		.scanned_pages = seen.pgscan,
		.stolen_pages = seen.pgsteal,
		.refaulted_pages = seen.refault + seen.refault_anon + seen.refault_file,
	};
	return 0;
}

/* ---- limits up the tree ---- */

static uint64_t smaller(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* As cgroup_read_u64, where a missing file (the root, or no controller) leaves the value. */
static int read_if_there(int dir_fd, const char *file, uint64_t *value)
{
	int r = cgroup_read_u64(dir_fd, file, value);

	return r == -ENOENT ? 0 : r;
}

static int read_limit(int dir_fd, uint64_t *ret)
{
	uint64_t max = UINT64_MAX, high = UINT64_MAX;
	int r;

	r = read_if_there(dir_fd, "memory.max", &max);
	if (r == 0)
		r = read_if_there(dir_fd, "memory.high", &high);
	if (r == 0)
		*ret = smaller(max, high);
	return r;
}

/* Page cache makes way, so it takes nothing from anybody: without that, a cgroup that has read
 * files for a day has no headroom left at all. */
static int read_headroom(int dir_fd, uint64_t limit, uint64_t *ret)
{
	struct cgroup_usage usage;
	uint64_t kept;
	int r;

	*ret = UINT64_MAX;
	if (limit == UINT64_MAX)
		return 0;
	r = cgroup_read_usage(dir_fd, &usage);
	if (r != 0)
		return r;
	kept = usage.charged_bytes - smaller(usage.charged_bytes, usage.file_bytes);
	*ret = limit > kept ? limit - kept : 0;
	return 0;
}

/* Above the root of the mount lies some other file system: the walk ends where a directory has
 * no cgroup.controllers. */
static int walk_up(int dir_fd, uint64_t *ret_limit, uint64_t *ret_headroom)
{
	uint64_t limit = UINT64_MAX, headroom = UINT64_MAX;
	auto_close int level_fd = -1;
	int r;

	if (!is_alive(dir_fd))
		return CGROUP_GONE;
	level_fd = openat(dir_fd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (level_fd < 0)
		return outcome(dir_fd, -errno);

	while (faccessat(level_fd, "cgroup.controllers", F_OK, 0) == 0) {
		uint64_t here_limit = UINT64_MAX, here_headroom = UINT64_MAX;
		int parent_fd;

		r = read_limit(level_fd, &here_limit);
		if (r == 0 && ret_headroom)
			r = read_headroom(level_fd, here_limit, &here_headroom);
		if (r != 0)
			return r;
		limit = smaller(limit, here_limit);
		headroom = smaller(headroom, here_headroom);

		parent_fd = openat(level_fd, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (parent_fd < 0)
			return outcome(dir_fd, -errno);
		(void)close_fd(level_fd);
		level_fd = parent_fd;
	}
	*ret_limit = limit;
	if (ret_headroom)
		*ret_headroom = headroom;
	return 0;
}

int cgroup_effective_limit(int dir_fd, uint64_t *ret_limit_bytes)
{
	return walk_up(dir_fd, ret_limit_bytes, NULL);
}

int cgroup_headroom(int dir_fd, uint64_t *ret_bytes)
{
	uint64_t limit;

	return walk_up(dir_fd, &limit, ret_bytes);
}

int cgroup_own_limit(uint64_t *ret_limit_bytes)
{
	uint64_t limit = UINT64_MAX, limit1 = UINT64_MAX;
	auto_free char *path = NULL;
	auto_close int fd = -1;
	int r;

	r = cgroup_open_own(&fd, &path);
	if (r == 0)
		r = cgroup_effective_limit(fd, &limit);
	/* No such hierarchy, or none that shows us: then it does not tell of a limit either. */
	if (r < 0 && r != -ENOENT && r != -EXDEV)
		return r;
	r = cgroup1_limit(&limit1);
	if (r < 0 && r != -ENOENT && r != -EXDEV)
		return r;
	*ret_limit_bytes = smaller(limit, limit1);
	return 0;
}
