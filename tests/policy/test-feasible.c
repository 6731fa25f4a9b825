/* Settings against each other: what is refused, and what would do instead. */
#include "pool.h"

Test(feasible, sane_settings_pass)
{
	struct limits limits = pool_limits();
	uint64_t would_do = 7;

	cr_assert_eq(policy_feasible(&limits, 4, 4 * USEC_PER_HOUR, 60 * MIB, &would_do),
		     FEASIBLE);
	cr_assert_eq(would_do, 7, "written without need");
}

Test(feasible, limits_that_exceed_the_budget)
{
	struct limits limits = pool_limits();
	uint64_t would_do = 0;

	cr_assert_eq(policy_feasible(&limits, 8, USEC_NEVER, 0, &would_do),
		     INFEASIBLE_LIMITS);
	cr_assert_eq(would_do, (4096 - 512) * MIB / 8);
	limits.worker_max_bytes = would_do;
	cr_assert_eq(policy_feasible(&limits, 8, USEC_NEVER, 0, &would_do), FEASIBLE);
}

Test(feasible, gap_longer_than_a_life)
{
	struct limits limits = pool_limits();
	uint64_t would_do = 0;

	cr_assert_eq(policy_feasible(&limits, 4, 2399 * SEC, 0, &would_do),
		     INFEASIBLE_GAP);
	limits.min_gap_usec = would_do;
	cr_assert_eq(policy_feasible(&limits, 4, 2399 * SEC, 0, &would_do), FEASIBLE);
}

Test(feasible, lifetime_bounds_the_life)
{
	struct limits limits = pool_limits();
	uint64_t would_do = 0;

	limits.max_lifetime_usec = 1800 * SEC;
	cr_assert_eq(policy_feasible(&limits, 4, 24 * USEC_PER_HOUR, 0, &would_do),
		     INFEASIBLE_GAP);
	cr_assert_eq(would_do, 450 * SEC);
}

Test(feasible, limit_close_to_a_fresh_worker)
{
	struct limits limits = pool_limits();
	uint64_t would_do = 0;

	limits.worker_max_bytes = 119 * MIB;
	cr_assert_eq(policy_feasible(&limits, 4, USEC_NEVER, 100 * MIB, &would_do),
		     INFEASIBLE_FOOTPRINT);
	cr_assert_eq(would_do, 120 * MIB);
	limits.worker_max_bytes = would_do;
	cr_assert_eq(policy_feasible(&limits, 4, USEC_NEVER, 100 * MIB, &would_do),
		     FEASIBLE);
}

Test(feasible, no_limit_known_is_no_contradiction)
{
	struct limits limits = pool_limits();
	uint64_t would_do = 0;

	limits.worker_max_bytes = UINT64_MAX;
	cr_assert_eq(
		policy_feasible(&limits, SIZE_MAX, USEC_NEVER, UINT64_MAX, &would_do),
		FEASIBLE);
	limits.worker_max_bytes = UINT64_MAX - 1;
	limits.budget_bytes = UINT64_MAX;
	cr_assert_eq(policy_feasible(&limits, SIZE_MAX, USEC_NEVER, 0, &would_do),
		     FEASIBLE);
}
