/* Limits: pure arithmetic but for reading the host, and words for those that contradict each
 * other. */
#include "supervisor/limits.h"

#include <stdio.h>
#include <unistd.h>

#include "config/resolve.h"
#include "kernel/cgroup.h"
#include "kernel/procfs.h"
#include "util/format.h"

/* What the pool could have at all. An enclosing limit is meant for us and may be used in full; of
 * a whole host a tenth stays for everybody else. */
static uint64_t read_whole(int root_fd, uint64_t *ret_automatic)
{
	uint64_t limit = UINT64_MAX, total = UINT64_MAX, available;

	(void)proc_meminfo(&total, &available);
	if (root_fd < 0 || cgroup_effective_limit(root_fd, &limit) != 0)
		/* Read-only cgroups still tell, v1 ones too. */
		(void)cgroup_own_limit(&limit);
	if (limit < total) {
		*ret_automatic = limit;
		return limit;
	}
	*ret_automatic = total == UINT64_MAX ? total : total / 10 * 9;
	return total;
}

static void resolve_memory(const struct config *c, int root_fd, unsigned n_workers,
			   struct limits *l)
{
	uint64_t automatic, whole = read_whole(root_fd, &automatic), share;

	l->budget_bytes = config_resolve_size(c->memory_budget, whole, automatic);
	l->reserve_bytes = config_resolve_size(c->memory_reserve, l->budget_bytes, 0);
	share = l->budget_bytes;
	if (l->budget_bytes != UINT64_MAX && l->reserve_bytes < l->budget_bytes)
		share = (l->budget_bytes - l->reserve_bytes) / n_workers;
	l->worker_max_bytes =
		config_resolve_size(c->memory_worker_max, l->budget_bytes, share);
	l->trim_at_bytes = config_resolve_size(c->memory_trim_at, l->worker_max_bytes, 0);
	l->spread_permyriad = c->memory_spread;
}

static enum surge_rule surge_rule(enum config_surge surge)
{
	switch (surge) {
	case CONFIG_SURGE_ALWAYS:
		return SURGE_ALWAYS;
	case CONFIG_SURGE_NEVER:
		return SURGE_NEVER;
	case CONFIG_SURGE_AUTO:
		break;
	}
	return SURGE_AUTO;
}

void limits_resolve(const struct config *c, const struct launch *launch, int root_fd,
		    unsigned n_workers, bool memory, struct limits *ret)
{
	*ret = (struct limits){
		.min_gap_usec = c->restart_min_gap,
		.min_gap_floor_usec = c->restart_min_gap_floor,
		.max_lifetime_usec = c->restart_max_lifetime,
		.hold_max_usec = c->restart_hold_max,
		.backoff_max_usec = c->restart_backoff_max,
		.graceful_usec = launch->graceful_usec,
		.max_unavailable = (uint32_t)c->restart_max_unavailable,
		.max_booting = (uint32_t)sysconf(_SC_NPROCESSORS_ONLN),
		.surge = surge_rule(c->restart_surge),
		.trim_enabled = c->trim_mode != CONFIG_TRIM_OFF,
		.trim_periodic = c->trim_mode == CONFIG_TRIM_PERIODIC,
		.trim_interval_min_usec = c->trim_interval.min,
		.trim_interval_max_usec = c->trim_interval.max,
		.trim_max_pause_usec = c->trim_max_pause,
		.trim_min_yield_bytes = c->trim_min_yield,
		.tripwire = memory,
	};
	resolve_memory(c, root_fd, n_workers > 0 ? n_workers : 1, ret);
}

/* ---- contradictions ---- */

/* As the file has it, never above the figure: "448M". */
static struct text setting_bytes(uint64_t bytes)
{
	struct text t;

	if (bytes >= 1 << 20)
		(void)snprintf(t.s, sizeof(t.s), "%" PRIu64 "M", bytes >> 20);
	else
		(void)snprintf(t.s, sizeof(t.s), "%" PRIu64 "K", bytes >> 10);
	return t;
}

static struct text setting_usec(usec_t usec)
{
	struct text t;

	if (usec >= 10 * USEC_PER_MIN)
		(void)snprintf(t.s, sizeof(t.s), "%" PRIu64 "m", usec / USEC_PER_MIN);
	else if (usec >= USEC_PER_SEC)
		(void)snprintf(t.s, sizeof(t.s), "%" PRIu64 "s", usec / USEC_PER_SEC);
	else
		(void)snprintf(t.s, sizeof(t.s), "%" PRIu64 "ms", usec / USEC_PER_MSEC);
	return t;
}

/* ", or workers = 6"; nothing where no number of them would do. */
static struct text or_workers(const struct infeasibility *i)
{
	struct text t = { "" };

	if (i->workers_would_do > 0)
		(void)snprintf(t.s, sizeof(t.s), ", or workers = %u",
			       (unsigned)i->workers_would_do);
	return t;
}

static void blame_footprint(const struct config *c, const struct limits *l,
			    unsigned n_workers, uint64_t footprint,
			    const struct infeasibility *i, struct config_error *err)
{
	uint64_t budget = i->would_do * n_workers + l->reserve_bytes;
	uint64_t rounded = i->would_do + (1 << 20) - 1;

	if (c->memory_worker_max.kind != SIZE_AUTO)
		(void)config_blame(
			c, KEY_memory_worker_max, 0, err,
			"a fresh worker uses %s by itself, and %s leave it too little to "
			"live on; worker-max = %s would do",
			format_bytes(footprint).s, format_bytes(l->worker_max_bytes).s,
			setting_bytes(rounded).s);
	else if (i->workers_would_do > 0)
		(void)config_blame(
			c, KEY_pool_workers, 0, err,
			"a fresh worker uses %s by itself, and a share of %s for each of "
			"%u leaves it too little to live on; workers = %" PRIu64
			" would do, or [memory] budget = %s",
			format_bytes(footprint).s, format_bytes(l->worker_max_bytes).s,
			n_workers, i->workers_would_do,
			setting_bytes(budget + (1 << 20) - 1).s);
	else
		(void)config_blame(
			c, KEY_memory_budget, 0, err,
			"a fresh worker uses %s by itself, and not even one has room to "
			"live in %s; budget = %s would do for %u",
			format_bytes(footprint).s, format_bytes(l->budget_bytes).s,
			setting_bytes(budget + (1 << 20) - 1).s, n_workers);
}

static void blame_limits(const struct config *c, const struct limits *l,
			 unsigned n_workers, const struct infeasibility *i,
			 struct config_error *err)
{
	(void)config_blame(
		c, KEY_memory_worker_max, 0, err,
		"%u workers of %s and a reserve of %s exceed the budget of %s, so the pool "
		"can run out together; worker-max = %s would do%s",
		n_workers, format_bytes(l->worker_max_bytes).s,
		format_bytes(l->reserve_bytes).s, format_bytes(l->budget_bytes).s,
		setting_bytes(i->would_do).s, or_workers(i).s);
}

static void blame_gap(const struct config *c, const struct limits *l, unsigned n_workers,
		      usec_t life, const struct infeasibility *i,
		      struct config_error *err)
{
	bool by_setting = l->max_lifetime_usec > 0 && l->max_lifetime_usec <= life;

	(void)config_blame(
		c, KEY_restart_min_gap, 0, err,
		"%u workers this far apart take %s to replace, and %s %s: restarts will "
		"come closer together; min-gap = %s would do%s",
		n_workers, format_usec(l->min_gap_usec * n_workers).s,
		by_setting ? "max-lifetime is"
			   : "at its present growth one lives for about",
		format_usec(by_setting ? l->max_lifetime_usec : life).s,
		setting_usec(i->would_do).s, or_workers(i).s);
}

size_t limits_contradictions(const struct config *c, const struct limits *limits,
			     unsigned n_workers, usec_t life_usec,
			     uint64_t footprint_bytes,
			     struct contradiction ret[N_INFEASIBILITIES])
{
	struct infeasibility found[N_INFEASIBILITIES];
	size_t n =
		policy_infeasible(limits, n_workers, life_usec, footprint_bytes, found);

	for (size_t i = 0; i < n; i++) {
		ret[i] = (struct contradiction){ .what = found[i].what,
						 .would_do = found[i].would_do };
		switch (found[i].what) {
		case INFEASIBLE_FOOTPRINT:
			blame_footprint(c, limits, n_workers, footprint_bytes, &found[i],
					&ret[i].message);
			break;
		case INFEASIBLE_LIMITS:
			blame_limits(c, limits, n_workers, &found[i], &ret[i].message);
			break;
		case INFEASIBLE_GAP:
			blame_gap(c, limits, n_workers, life_usec, &found[i],
				  &ret[i].message);
			break;
		case N_INFEASIBILITIES:
			break;
		}
	}
	return n;
}
