/* Owns the way into the pool and out of it.
 *
 * It must leave the tree as it found it when anything fails: a supervisor without leaves still
 * serves in degraded mode, one that sits in a half-made cgroup disturbs its neighbours. It never
 * touches a cgroup above our own, never moves a process but ourselves, and never kills. */
#include "kernel/pool.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "kernel/cgroup.h"

static const struct {
	unsigned bit;
	const char *name;
} controllers[] = {
	{ POOL_MEMORY, "memory" },
	{ POOL_PIDS, "pids" },
};

#define SUPERVISOR "supervisor"

/* On P/supervisor: that we made it, whether we made P too, and who we are: "made 4711". Read back
 * after the process has executed itself anew; another process that happens to be started in
 * there has another number and is not taken in by it. */
#define MARK	  "user.trimtab.pool"
#define MARK_HOME "home"
#define MARK_MADE "made"

void pool_done(struct pool *pool)
{
	pool->dir_fd = close_fd(pool->dir_fd);
	pool->supervisor_fd = close_fd(pool->supervisor_fd);
	pool->home_fd = close_fd(pool->home_fd);
	free(TAKE(pool->path));
	free(TAKE(pool->made));
}

static struct pool take_pool(struct pool *pool)
{
	struct pool taken = *pool;

	*pool = POOL_NONE;
	return taken;
}

static int duplicate(int fd)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);

	return copy < 0 ? -errno : copy;
}

/* CGROUP_GONE, for callers to whom it is an error: somebody removed the directory under us. */
static int as_error(int r)
{
	return r == CGROUP_GONE ? -ENODEV : r;
}

/* ---- controllers ---- */

static unsigned enable_all(int dir_fd, int *ret_memory_error)
{
	unsigned enabled = 0;

	for (size_t i = 0; i < ELEMENTS(controllers); i++) {
		int r = as_error(cgroup_enable(dir_fd, controllers[i].name));

		if (r == 0)
			enabled |= controllers[i].bit;
		if (controllers[i].bit == POOL_MEMORY)
			*ret_memory_error = r;
	}
	return enabled;
}

static int disable(int dir_fd, unsigned which)
{
	int r = 0;

	for (size_t i = 0; i < ELEMENTS(controllers); i++)
		if (r == 0 && (which & controllers[i].bit))
			r = cgroup_disable(dir_fd, controllers[i].name);
	return as_error(r);
}

/* What P can get, its parent must hand out. On the root of the hierarchy that needs only the
 * permission; elsewhere others are inside and the kernel says EBUSY. */
static unsigned hand_out(int home_fd, int *ret_memory_error)
{
	unsigned handed_out = 0;

	for (size_t i = 0; i < ELEMENTS(controllers); i++) {
		const char *name = controllers[i].name;
		int r = 0;

		if (!cgroup_enabled(home_fd, name)) {
			r = as_error(cgroup_enable(home_fd, name));
			if (r == 0)
				handed_out |= controllers[i].bit;
		}
		if (controllers[i].bit == POOL_MEMORY)
			*ret_memory_error = r;
	}
	return handed_out;
}

/* ---- in ---- */

static size_t mark_text(char *text, size_t size, const char *kind)
{
	return (size_t)snprintf(text, size, "%s %d", kind, getpid());
}

/* Where the kernel refuses it (before 5.7) a successor makes a pool in the pool: deeper than need
 * be, but in order. */
static void set_mark(const struct pool *pool)
{
	char text[32];
	size_t length = mark_text(text, sizeof(text), pool->made ? MARK_MADE : MARK_HOME);

	(void)fsetxattr(pool->supervisor_fd, MARK, text, length, 0);
}

/* Makes P/supervisor and goes there. -EADDRINUSE when somebody is there already. */
static int enter_supervisor(struct pool *pool)
{
	bool populated;
	int r;

	r = cgroup_make(pool->dir_fd, SUPERVISOR, &pool->supervisor_fd);
	if (r < 0)
		return r;
	r = cgroup_populated(pool->supervisor_fd, &populated);
	if (r == 0 && populated)
		return -EADDRINUSE;
	if (r == 0)
		r = cgroup_enter(pool->supervisor_fd, 0);
	if (r != 0) {
		(void)cgroup_remove(pool->dir_fd, SUPERVISOR);
		return as_error(r);
	}
	pool->moved = true;
	set_mark(pool);
	return 0;
}

static void leave_supervisor(struct pool *pool)
{
	(void)disable(pool->dir_fd, pool->controllers);
	(void)cgroup_enter(pool->home_fd, 0);
	(void)cgroup_remove(pool->dir_fd, SUPERVISOR);
	pool->controllers = 0;
	pool->moved = false;
}

/* P is our own cgroup. -EBUSY when others are inside. */
static int settle_at_home(struct pool *pool)
{
	pid_t other;
	ssize_t n;
	int r;

	r = duplicate(pool->home_fd);
	if (r < 0)
		return r;
	pool->dir_fd = r;
	r = enter_supervisor(pool);
	if (r < 0)
		return r == -EADDRINUSE ? -EBUSY : r;

	n = cgroup_pids(pool->home_fd, &other, 1);
	if (n == 0)
		pool->controllers = enable_all(pool->dir_fd, &pool->memory_error);
	/* EBUSY, though the list was empty: they are outside our pid namespace. */
	if (n != 0 || pool->memory_error == -EBUSY) {
		leave_supervisor(pool);
		return n < 0 ? (int)n : -EBUSY;
	}
	return 0;
}

/* P is a directory below our own cgroup. */
static int settle_below_home(struct pool *pool, const char *name)
{
	auto_free char *path = NULL;
	int r, home_error;

	if (asprintf(&pool->made, "trimtab-%s", name) < 0) {
		pool->made = NULL;
		return -ENOMEM;
	}
	if (asprintf(&path, "%s/%s", pool->path, pool->made) < 0) {
		path = NULL;
		return -ENOMEM;
	}
	r = cgroup_make(pool->home_fd, pool->made, &pool->dir_fd);
	if (r < 0)
		return r;
	r = enter_supervisor(pool);
	if (r < 0) {
		/* Not when it is another's: then somebody is inside, and it stays. */
		(void)cgroup_remove(pool->home_fd, pool->made);
		return r;
	}

	pool->home_controllers = hand_out(pool->home_fd, &home_error);
	pool->controllers = enable_all(pool->dir_fd, &pool->memory_error);
	if (pool->memory_error < 0 && home_error < 0)
		pool->memory_error = home_error;
	free(pool->path);
	pool->path = TAKE(path);
	return 0;
}

/* ---- in again ---- */

static bool has_value(int dir_fd, const char *name, const char *value)
{
	char text[32];
	ssize_t n = fgetxattr(dir_fd, name, text, sizeof(text));

	return n >= 0 && (size_t)n == strlen(value) &&
	       memcmp(text, value, (size_t)n) == 0;
}

static bool has_mark(int dir_fd, const char *kind)
{
	char text[32];

	(void)mark_text(text, sizeof(text), kind);
	return has_value(dir_fd, MARK, text);
}

/* What systemd puts on a cgroup that it hands over. */
static bool is_delegated(int dir_fd)
{
	return has_value(dir_fd, "user.delegate", "1") ||
	       has_value(dir_fd, "trusted.delegate", "1");
}

static int open_parent(int dir_fd)
{
	int fd = openat(dir_fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

/* Where home is, seen from a P/supervisor that we did or did not come to by ourselves. */
static int open_home(const struct pool *pool)
{
	if (pool->made)
		return open_parent(pool->dir_fd);
	return duplicate(pool->moved ? pool->dir_fd : pool->supervisor_fd);
}

/* path is that of a P/supervisor, and home_fd open on it: rearranges the pool accordingly. */
static int take_up(struct pool *pool, bool moved, bool made)
{
	int r;

	pool->supervisor_fd = TAKE_FD(pool->home_fd);
	r = open_parent(pool->supervisor_fd);
	if (r < 0)
		return r;
	pool->dir_fd = r;
	pool->moved = moved;
	*strrchr(pool->path, '/') = '\0';
	if (made) {
		const char *slash = strrchr(pool->path, '/');

		pool->made = strdup(slash ? slash + 1 : pool->path);
		if (!pool->made)
			return -ENOMEM;
	}
	r = open_home(pool);
	if (r < 0)
		return r;
	pool->home_fd = r;
	pool->controllers = enable_all(pool->dir_fd, &pool->memory_error);
	return 0;
}

/* Whether the directory lies in one that the service manager handed over: the main process of a
 * unit with DelegateSubgroup=supervisor. */
static bool is_subgroup(int dir_fd)
{
	auto_close int parent_fd = open_parent(dir_fd);

	return parent_fd >= 0 && is_delegated(parent_fd);
}

/* Takes the pool up when we are in its supervisor already. Returns 1 when so, 0 or -errno. */
static int recognise(struct pool *pool)
{
	const char *slash = strrchr(pool->path, '/');
	bool made, ours;
	int r;

	if (!slash || strcmp(slash + 1, SUPERVISOR) != 0)
		return 0;
	made = has_mark(pool->home_fd, MARK_MADE);
	ours = made || has_mark(pool->home_fd, MARK_HOME);
	/* A mark with another's number: we are a child of a supervisor, not the supervisor. */
	if (!ours &&
	    (fgetxattr(pool->home_fd, MARK, NULL, 0) > 0 || !is_subgroup(pool->home_fd)))
		return 0;
	r = take_up(pool, ours, made);
	return r < 0 ? r : 1;
}

/* The root alone has no cgroup.type; the root of a namespace has one. */
static bool is_root(int dir_fd)
{
	return faccessat(dir_fd, "cgroup.type", F_OK, 0) < 0 && errno == ENOENT;
}

static int settle(struct pool *pool, const char *name)
{
	int r;

	if (is_root(pool->home_fd))
		return settle_below_home(pool, name);
	r = settle_at_home(pool);
	if (r != -EBUSY)
		return r;
	pool->dir_fd = close_fd(pool->dir_fd);
	pool->supervisor_fd = close_fd(pool->supervisor_fd);
	return settle_below_home(pool, name);
}

int pool_open(const char *name, struct pool *ret)
{
	auto_pool struct pool pool = POOL_NONE;
	int r;

	if (!*name || strchr(name, '/'))
		return -EINVAL;
	r = cgroup_open_own(&pool.home_fd, &pool.path);
	if (r < 0)
		return r;
	r = recognise(&pool);
	if (r < 0)
		return r;
	if (r == 0)
		r = settle(&pool, name);
	if (r < 0)
		return r;
	*ret = take_pool(&pool);
	return 0;
}

/* ---- out ---- */

/* Removes every child but our own. Returns 0, or the first refusal. */
static int remove_leaves(int dir_fd)
{
	int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;
	int r = 0;

	if (!dir) {
		r = -errno;
		(void)close_fd(fd);
		return r;
	}
	while ((entry = readdir(dir))) {
		int removed;

		if (entry->d_type != DT_DIR || entry->d_name[0] == '.' ||
		    strcmp(entry->d_name, SUPERVISOR) == 0)
			continue;
		removed = cgroup_remove(dir_fd, entry->d_name);
		if (removed < 0 && r == 0)
			r = removed;
	}
	(void)closedir(dir);
	return r;
}

/* kernfs counts as the file systems of old did: two, and one for each directory inside. */
static bool has_children(int dir_fd)
{
	struct stat st;

	return fstat(dir_fd, &st) < 0 || st.st_nlink > 2;
}

static int go_home(struct pool *pool)
{
	int r;

	/* Into our own cgroup there is a way back only once its children have no controllers. */
	if (!pool->made) {
		r = disable(pool->dir_fd, pool->controllers);
		if (r < 0)
			return r;
	}
	r = as_error(cgroup_enter(pool->home_fd, 0));
	if (r < 0)
		return r;
	r = cgroup_remove(pool->dir_fd, SUPERVISOR);
	if (r < 0 || !pool->made)
		return r < 0 ? r : 0;
	r = cgroup_remove(pool->home_fd, pool->made);
	if (r < 0)
		return r;
	/* Others may have come to count on it; then it stays. */
	if (pool->home_controllers && !has_children(pool->home_fd))
		(void)disable(pool->home_fd, pool->home_controllers);
	return 0;
}

int pool_close(struct pool *pool)
{
	int r = 0;

	if (pool->dir_fd >= 0) {
		r = remove_leaves(pool->dir_fd);
		if (r == 0 && pool->moved)
			r = go_home(pool);
	}
	pool_done(pool);
	return r;
}
