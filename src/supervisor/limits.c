/* Limits: pure arithmetic but for reading the host. */
#include "supervisor/limits.h"

#include <unistd.h>

#include "config/resolve.h"
#include "kernel/cgroup.h"
#include "kernel/procfs.h"

/* What the pool could have at all. An enclosing limit is meant for us and may be used in full; of
 * a whole host a tenth stays for everybody else. */
static uint64_t read_whole(int root_fd, uint64_t *ret_automatic)
{
	uint64_t limit = UINT64_MAX, total = UINT64_MAX, available;

	(void)proc_meminfo(&total, &available);
	if (root_fd < 0 || cgroup_effective_limit(root_fd, &limit) != 0)
		(void)cgroup_own_limit(&limit); /* read-only cgroups still tell, v1 ones too */
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
	l->worker_max_bytes = config_resolve_size(c->memory_worker_max, l->budget_bytes, share);
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
		.trim_min_yield_bytes = c->trim_min_yield,
		.tripwire = memory,
	};
	resolve_memory(c, root_fd, n_workers > 0 ? n_workers : 1, ret);
}
