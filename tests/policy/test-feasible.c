/* Settings against each other: what is refused, and what would do instead. */
#include "pool.h"

static struct infeasibility found[N_INFEASIBILITIES];

static size_t check(const struct limits *limits, size_t n_workers, usec_t life_usec,
		    uint64_t footprint_bytes)
{
	memset(found, 0xff, sizeof(found));
	return policy_infeasible(limits, n_workers, life_usec, footprint_bytes, found);
}

Test(feasible, sane_settings_pass)
{
	struct limits limits = pool_limits();

	cr_assert_eq(check(&limits, 4, 4 * USEC_PER_HOUR, 60 * MIB), 0);
}

Test(feasible, limits_that_exceed_the_budget)
{
	struct limits limits = pool_limits();

	cr_assert_eq(check(&limits, 8, USEC_NEVER, 0), 1);
	cr_assert_eq(found[0].what, INFEASIBLE_LIMITS);
	cr_assert_eq(found[0].would_do, (4096 - 512) * MIB / 8);
	cr_assert_eq(found[0].workers_would_do, 7);
	cr_assert_eq(check(&limits, 7, USEC_NEVER, 0), 0);
	limits.worker_max_bytes = found[0].would_do = (4096 - 512) * MIB / 8;
	cr_assert_eq(check(&limits, 8, USEC_NEVER, 0), 0);
}

Test(feasible, gap_longer_than_a_life)
{
	struct limits limits = pool_limits();

	cr_assert_eq(check(&limits, 4, 2399 * SEC, 0), 1);
	cr_assert_eq(found[0].what, INFEASIBLE_GAP);
	cr_assert_eq(found[0].workers_would_do, 3);
	cr_assert_eq(check(&limits, 3, 2399 * SEC, 0), 0);
	limits.min_gap_usec = 2399 * SEC / 4;
	cr_assert_eq(check(&limits, 4, 2399 * SEC, 0), 0);
}

Test(feasible, lifetime_bounds_the_life)
{
	struct limits limits = pool_limits();

	limits.max_lifetime_usec = 1800 * SEC;
	cr_assert_eq(check(&limits, 4, 24 * USEC_PER_HOUR, 0), 1);
	cr_assert_eq(found[0].what, INFEASIBLE_GAP);
	cr_assert_eq(found[0].would_do, 450 * SEC);
	cr_assert_eq(check(&limits, 4, USEC_NEVER, 0), 1, "known without any growth");
}

Test(feasible, limit_close_to_a_fresh_worker)
{
	struct limits limits = pool_limits();

	limits.worker_max_bytes = 119 * MIB;
	cr_assert_eq(check(&limits, 4, USEC_NEVER, 100 * MIB), 1);
	cr_assert_eq(found[0].what, INFEASIBLE_FOOTPRINT);
	cr_assert_eq(found[0].would_do, 120 * MIB);
	cr_assert_eq(found[0].workers_would_do, (4096 - 512) / 120);
	limits.worker_max_bytes = 120 * MIB;
	cr_assert_eq(check(&limits, 4, USEC_NEVER, 100 * MIB), 0);
}

Test(feasible, all_of_it_is_told_at_once)
{
	struct limits limits = pool_limits();

	cr_assert_eq(check(&limits, 8, 2399 * SEC, 500 * MIB), 3);
	cr_assert_eq(found[0].what, INFEASIBLE_FOOTPRINT);
	cr_assert_eq(found[1].what, INFEASIBLE_LIMITS);
	cr_assert_eq(found[2].what, INFEASIBLE_GAP);
}

Test(feasible, no_limit_known_is_no_contradiction)
{
	struct limits limits = pool_limits();

	limits.worker_max_bytes = UINT64_MAX;
	cr_assert_eq(check(&limits, SIZE_MAX, USEC_NEVER, UINT64_MAX), 0);
	limits.worker_max_bytes = UINT64_MAX - 1;
	limits.budget_bytes = UINT64_MAX;
	cr_assert_eq(check(&limits, SIZE_MAX, USEC_NEVER, 0), 0);
}

Test(feasible, nothing_at_all_divides_by_zero)
{
	struct limits limits = { 0 };

	(void)check(&limits, 0, 0, 0);
	(void)check(&limits, 0, 0, 1);
	(void)check(&limits, 1, 0, 1);
}
