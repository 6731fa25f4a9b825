/* Loans: given near the limit, out of what the budget has, and paid back. */
#include "pool.h"

/* One worker that was lent 64 MiB and now uses so much. */
static struct pool lent_pool(uint64_t usage_bytes)
{
	struct pool pool = pool_new(1);

	pool_serve(&pool, 60 * MIB);
	pool_decide(&pool, 2 * SEC);
	pool.policy->slots[0].loan_bytes = 64 * MIB;
	pool.policy->slots[0].limit_bytes = 576 * MIB;
	pool.slots[0].usage_bytes = pool.slots[0].charged_bytes = usage_bytes;
	pool_decide(&pool, 10 * SEC);
	return pool;
}

Test(loan, paid_back_when_usage_has_fallen)
{
	struct pool pool = lent_pool(100 * MIB);
	const struct action *a = pool_action(&pool, ACTION_LIMIT);

	cr_assert_not_null(a);
	cr_assert_eq(a->reason, REASON_REPAID);
	cr_assert_eq(a->bytes, 512 * MIB);
	cr_assert_eq(pool.policy->slots[0].loan_bytes, 0);
	pool_free(&pool);
}

Test(loan, kept_while_it_is_needed)
{
	struct pool pool = lent_pool(500 * MIB);
	const struct action *a = pool_action(&pool, ACTION_LIMIT);

	cr_assert(!a || a->reason != REASON_REPAID);
	cr_assert_geq(pool.policy->slots[0].loan_bytes, 64 * MIB);
	pool_free(&pool);
}
