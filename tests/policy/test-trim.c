/* Of src/policy/trim.c: what is learned from trims, and what they are kept from. */
#include "pool.h"

/* Twice in vain, as when a collection that was asked for comes too late each time. */
static struct pool futile_pool(usec_t now)
{
	struct pool pool = pool_new(1);

	pool_serve(&pool, 60 * MIB);
	for (int i = 0; i < 2; i++)
		policy_note_trimmed(pool.policy, 0, now, 400 * MIB, 400 * MIB, 1000);
	cr_assert_eq(pool.policy->slots[0].trim.record.n_futile, 2);
	return pool;
}

Test(trim, what_came_late_counts_as_help)
{
	struct pool pool = futile_pool(100 * SEC);
	struct trim_memory *trim = &pool.policy->slots[0].trim;

	policy_note_trimmed_late(pool.policy, 0, 105 * SEC, 100 * MIB);
	cr_assert_eq(trim->record.n_futile, 0);
	cr_assert_eq(trim->after_bytes, 100 * MIB);
	cr_assert_eq(trim->tooth_bytes, 300 * MIB);
	cr_assert_leq(trim->next_usec, 160 * SEC, "its interval is as after a good one");
	pool_free(&pool);
}

Test(trim, too_little_that_came_late_does_not)
{
	struct pool pool = futile_pool(100 * SEC);
	struct trim_memory *trim = &pool.policy->slots[0].trim;

	policy_note_trimmed_late(pool.policy, 0, 105 * SEC, 399 * MIB);
	cr_assert_eq(trim->record.n_futile, 2);
	cr_assert_eq(trim->after_bytes, 399 * MIB);
	/* Grown meanwhile, or a slot that is not there: nothing is learned. */
	policy_note_trimmed_late(pool.policy, 0, 106 * SEC, 500 * MIB);
	cr_assert_eq(trim->after_bytes, 399 * MIB);
	policy_note_trimmed_late(pool.policy, 1, 106 * SEC, 1);
	pool_free(&pool);
}
