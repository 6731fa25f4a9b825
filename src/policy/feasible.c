/* Can the operator's settings hold at all? Asked at start, on reload and by `trimtab check`,
 * before any worker runs; owns no state. */
#include "policy/arith.h"
#include "policy/decide.h"
#include "policy/round.h"

static bool exceed_budget(const struct limits *limits, size_t n_workers,
			  struct infeasibility *ret)
{
	uint64_t left = u64_sub(limits->budget_bytes, limits->reserve_bytes);
	uint64_t wanted;

	if (limits->budget_bytes == UINT64_MAX ||
	    limits->worker_max_bytes == UINT64_MAX || n_workers == 0)
		return false;
	wanted = u64_add(u64_mul_div(limits->worker_max_bytes, n_workers, 1),
			 limits->reserve_bytes);
	*ret = (struct infeasibility){
		.what = INFEASIBLE_LIMITS,
		.would_do = left / n_workers,
		.workers_would_do = left / u64_max(limits->worker_max_bytes, 1),
	};
	return wanted > limits->budget_bytes;
}

/* One worker needs no gap to another, but its own restarts still keep it. */
static bool outlast_life(const struct limits *limits, size_t n_workers, usec_t life_usec,
			 struct infeasibility *ret)
{
	if (life_usec == USEC_NEVER || n_workers == 0)
		return false;
	*ret = (struct infeasibility){
		.what = INFEASIBLE_GAP,
		.would_do = life_usec / n_workers,
		.workers_would_do = life_usec / u64_max(limits->min_gap_usec, 1),
	};
	return u64_mul_div(limits->min_gap_usec, n_workers, 1) > life_usec;
}

static bool cramps_workers(const struct limits *limits, uint64_t footprint_bytes,
			   struct infeasibility *ret)
{
	uint64_t least = u64_share(footprint_bytes, FOOTPRINT_FACTOR_PERMYRIAD);

	*ret = (struct infeasibility){
		.what = INFEASIBLE_FOOTPRINT,
		.would_do = least,
		.workers_would_do = u64_sub(limits->budget_bytes, limits->reserve_bytes) /
				    u64_max(least, 1),
	};
	return limits->worker_max_bytes < least;
}

size_t policy_infeasible(const struct limits *limits, size_t n_workers, usec_t life_usec,
			 uint64_t footprint_bytes,
			 struct infeasibility ret[N_INFEASIBILITIES])
{
	size_t n = 0;

	if (limits->max_lifetime_usec > 0)
		life_usec = u64_min(life_usec, limits->max_lifetime_usec);
	/* First what makes the worker useless, then what endangers the pool, then comfort. */
	n += cramps_workers(limits, footprint_bytes, &ret[n]);
	n += exceed_budget(limits, n_workers, &ret[n]);
	n += outlast_life(limits, n_workers, life_usec, &ret[n]);
	return n;
}
