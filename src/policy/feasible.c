/* Can the operator's settings hold at all? Asked at start, on reload and by `trimtab check`,
 * before any worker runs; owns no state. */
#include "policy/arith.h"
#include "policy/decide.h"

/* A limit this close to a fresh worker would replace it as soon as it serves. */
#define FOOTPRINT_FACTOR_PERMYRIAD 12000

static enum feasibility check_limits(const struct limits *limits, size_t n_workers,
				     uint64_t *ret_would_do)
{
	uint64_t wanted;

	if (limits->budget_bytes == UINT64_MAX ||
	    limits->worker_max_bytes == UINT64_MAX || n_workers == 0)
		return FEASIBLE;
	wanted = u64_add(u64_mul_div(limits->worker_max_bytes, n_workers, 1),
			 limits->reserve_bytes);
	if (wanted <= limits->budget_bytes)
		return FEASIBLE;
	*ret_would_do = u64_sub(limits->budget_bytes, limits->reserve_bytes) / n_workers;
	return INFEASIBLE_LIMITS;
}

static enum feasibility check_gap(const struct limits *limits, size_t n_workers,
				  usec_t life_usec, uint64_t *ret_would_do)
{
	/* One worker needs no gap to another, but its own restarts still keep it. */
	if (life_usec == USEC_NEVER || n_workers == 0)
		return FEASIBLE;
	if (u64_mul_div(limits->min_gap_usec, n_workers, 1) <= life_usec)
		return FEASIBLE;
	*ret_would_do = life_usec / n_workers;
	return INFEASIBLE_GAP;
}

enum feasibility policy_feasible(const struct limits *limits, size_t n_workers,
				 usec_t life_usec, uint64_t footprint_bytes,
				 uint64_t *ret_would_do)
{
	uint64_t least = u64_share(footprint_bytes, FOOTPRINT_FACTOR_PERMYRIAD);
	enum feasibility f;

	/* First what makes the worker useless, then what endangers the pool, then comfort. */
	if (limits->worker_max_bytes < least) {
		*ret_would_do = least;
		return INFEASIBLE_FOOTPRINT;
	}
	f = check_limits(limits, n_workers, ret_would_do);
	if (f != FEASIBLE)
		return f;
	if (limits->max_lifetime_usec > 0)
		life_usec = u64_min(life_usec, limits->max_lifetime_usec);
	return check_gap(limits, n_workers, life_usec, ret_would_do);
}
