/* Owns the look at the host: which of the things that trimtab can use are there, and if not, why.
 *
 * It must only try, never set up: whatever it makes it takes back before it returns, and what it
 * finds missing is a state, not an error. Versions are never compared: distributions carry
 * features back, containers take them away. */
#include "kernel/probe.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernel/cgroup.h"
#include "kernel/parse.h"
#include "kernel/pool.h"
#include "kernel/psi.h"
#include "kernel/text.h"
#include "util/cleanup.h"

static const struct {
	const char *name, *gives;
} capabilities[] = {
#define CAPABILITY(id, name, gives) [CAPABILITY_##id] = { name, gives },
#include "kernel/capabilities.def"
};

static const struct {
	enum capability capability;
	int error;
	const char *cause, *remedy;
} causes[] = {
#define CAUSE(id, error, cause, remedy) { CAPABILITY_##id, error, cause, remedy },
#include "kernel/capabilities.def"
};

const char *capability_name(enum capability capability)
{
	return capabilities[capability].name;
}

const char *capability_gives(enum capability capability)
{
	return capabilities[capability].gives;
}

/* r: 0 when it is there, else -errno. */
static struct capability_state state(enum capability capability, int r)
{
	struct capability_state state = { .there = r == 0, .error = -r };

	if (state.there)
		return state;
	for (size_t i = 0; i < ELEMENTS(causes); i++) {
		if (causes[i].capability != capability ||
		    (causes[i].error != state.error && causes[i].error != 0))
			continue;
		state.cause = causes[i].cause;
		state.remedy = causes[i].remedy;
		break;
	}
	return state;
}

/* ---- one question each; the answer is 0 or -errno ---- */

static int try_own_cgroup(void)
{
	auto_free char *path = NULL;
	auto_close int fd = -1;

	return cgroup_open_own(&fd, &path);
}

/* The kernel says ENOENT whatever keeps the controller away; the operator needs to know which. */
static int why_no_memory(void)
{
	auto_close int fd = open("/proc/cgroups", O_RDONLY | O_CLOEXEC);
	struct text_lines lines;
	uint64_t hierarchy;
	bool enabled;
	char *line;

	if (fd < 0)
		return -ENOENT;
	text_lines_init(&lines, fd);
	while (text_lines_next(&lines, &line) > 0) {
		if (parse_controller(line, "memory", &hierarchy, &enabled) < 0)
			continue;
		if (hierarchy != 0)
			return -EXDEV;
		return enabled ? -ENOENT : -ENODEV;
	}
	return -ENOENT;
}

static int try_memory(const struct pool *pool)
{
	if (pool->controllers & POOL_MEMORY)
		return 0;
	return pool->memory_error == -ENOENT ? why_no_memory() : pool->memory_error;
}

static int try_pressure(int dir_fd, const char *file, usec_t window_usec,
			usec_t *ret_window_usec)
{
	auto_close int fd = -1;

	return psi_arm(dir_fd, file, window_usec / 10, window_usec, &fd, ret_window_usec);
}

/* Half a second is the shortest window that every kernel knows. */
static int try_fast_pressure(void)
{
	usec_t asked = USEC_PER_SEC / 2, armed;
	int r;

	r = try_pressure(AT_FDCWD, "/proc/pressure/memory", asked, &armed);
	if (r < 0)
		return -ECANCELED;
	return armed == asked ? 0 : -EPERM;
}

static int try_file(int dir_fd, const char *file)
{
	return faccessat(dir_fd, file, W_OK, AT_EACCESS) < 0 ? -errno : 0;
}

/* Limits further up may forbid it too; they show as soon as memory.swap.events counts. */
static int try_swap(const struct pool *pool)
{
	auto_close int fd = open("/proc/meminfo", O_RDONLY | O_CLOEXEC);
	struct text_lines lines;
	uint64_t total, limit;
	char *line;

	if (fd < 0)
		return -errno;
	text_lines_init(&lines, fd);
	while (text_lines_next(&lines, &line) > 0) {
		if (parse_keyed_u64(line, "SwapTotal:", &total) < 0)
			continue;
		if (total == 0)
			return -ENOENT;
		if (pool &&
		    cgroup_read_u64(pool->dir_fd, "memory.swap.max", &limit) == 0 &&
		    limit == 0)
			return -EDQUOT;
		return 0;
	}
	return -ENOENT;
}

static int try_manager(void)
{
	return getenv("NOTIFY_SOCKET") || getenv("INVOCATION_ID") ? 0 : -ENOENT;
}

/* ---- all of them ---- */

#define PROBE_LEAF "probe"

/* What takes a leaf to find out. Returns 0, or why there is no leaf. */
static int probe_leaf(const struct pool *pool, struct capability_state *states)
{
	auto_close int leaf = -1;
	bool has_memory = pool->controllers & POOL_MEMORY;
	usec_t armed;
	int r;

	r = cgroup_make(pool->dir_fd, PROBE_LEAF, &leaf);
	if (r < 0)
		return r;
	states[CAPABILITY_PSI_LEAVES] =
		state(CAPABILITY_PSI_LEAVES,
		      try_pressure(leaf, "memory.pressure", 2 * USEC_PER_SEC, &armed));
	states[CAPABILITY_CGROUP_KILL] =
		state(CAPABILITY_CGROUP_KILL, try_file(leaf, "cgroup.kill"));
	states[CAPABILITY_RECLAIM] =
		state(CAPABILITY_RECLAIM,
		      has_memory ? try_file(leaf, "memory.reclaim") : -ECANCELED);
	(void)cgroup_remove(pool->dir_fd, PROBE_LEAF);
	return 0;
}

static void no_leaves(int r, struct capability_state *states)
{
	static const enum capability dependants[] = {
		CAPABILITY_MEMORY,
		CAPABILITY_PSI_LEAVES,
		CAPABILITY_CGROUP_KILL,
		CAPABILITY_RECLAIM,
	};

	states[CAPABILITY_LEAVES] = state(CAPABILITY_LEAVES, r);
	for (size_t i = 0; i < ELEMENTS(dependants); i++)
		states[dependants[i]] = state(dependants[i], -ECANCELED);
}

void probe(const struct pool *pool, int pool_error,
	   struct capability_state ret_states[N_CAPABILITIES])
{
	int own = pool ? 0 : try_own_cgroup();
	int r = pool_error < 0 ? pool_error : -EIO;
	usec_t armed;

	if (pool)
		r = probe_leaf(pool, ret_states);
	else if (own < 0 && pool_error != -ECANCELED)
		r = own;

	ret_states[CAPABILITY_CGROUP_V2] = state(CAPABILITY_CGROUP_V2, own);
	if (r < 0) {
		no_leaves(r, ret_states);
	} else {
		ret_states[CAPABILITY_LEAVES] = state(CAPABILITY_LEAVES, 0);
		ret_states[CAPABILITY_MEMORY] =
			state(CAPABILITY_MEMORY, try_memory(pool));
	}
	ret_states[CAPABILITY_PSI] =
		state(CAPABILITY_PSI, try_pressure(AT_FDCWD, "/proc/pressure/memory",
						   2 * USEC_PER_SEC, &armed));
	ret_states[CAPABILITY_PSI_FAST] = state(CAPABILITY_PSI_FAST, try_fast_pressure());
	ret_states[CAPABILITY_SWAP] = state(CAPABILITY_SWAP, try_swap(pool));
	ret_states[CAPABILITY_MANAGER] = state(CAPABILITY_MANAGER, try_manager());
}
