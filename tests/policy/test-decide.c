/* One decision at a time: what is given, what is not, and when to look again. */
#include "pool.h"

Test(decide, first_start_brings_up_few_at_once)
{
	struct pool pool = pool_new(4);

	pool_decide(&pool, SEC);
	cr_assert_eq(pool_count(&pool, ACTION_START), 2);
	cr_assert_eq(pool_action(&pool, ACTION_START)->reason, REASON_FIRST_START);
	cr_assert_eq(pool.decision.n_actions, 2);
	pool_decide(&pool, 2 * SEC);
	cr_assert_eq(pool_count(&pool, ACTION_START), 2, "not carried out: given again");
	for (uint32_t i = 0; i < 2; i++) {
		policy_note_started(pool.policy, i, 2 * SEC);
		pool.slots[i].phase = SLOT_BOOTING;
	}
	pool_decide(&pool, 3 * SEC);
	cr_assert_eq(pool.decision.n_actions, 0);
	cr_assert_eq(pool.decision.wake_usec, USEC_NEVER);
	pool_free(&pool);
}

Test(decide, idle_pool_is_left_alone)
{
	struct pool pool = pool_new(4);

	pool_serve(&pool, 60 * MIB);
	pool_decide(&pool, 2 * SEC); /* arms tripwires and limits */
	for (usec_t t = 3 * SEC; t < 100 * SEC; t += 10 * SEC) {
		pool_decide(&pool, t);
		cr_assert_eq(pool.decision.n_actions, 0);
		cr_assert_eq(pool.decision.wake_usec, USEC_NEVER);
	}
	pool_free(&pool);
}

Test(decide, mark_crossed_trims_one_at_a_time)
{
	struct pool pool = pool_new(4);

	pool_serve(&pool, 60 * MIB);
	for (uint32_t i = 0; i < 4; i++)
		pool.slots[i].usage_bytes = pool.slots[i].charged_bytes = (360 + i) * MIB;
	pool_decide(&pool, 10 * SEC);
	cr_assert_eq(pool_count(&pool, ACTION_TRIM), 1);
	cr_assert_eq(pool_action(&pool, ACTION_TRIM)->slot, 3, "the fattest first");
	pool.slots[3].trimming = true;
	pool_decide(&pool, 11 * SEC);
	cr_assert_eq(pool_count(&pool, ACTION_TRIM), 0);
	pool.slots[3].trimming = false;
	policy_note_trimmed(pool.policy, 3, 11 * SEC, 363 * MIB, 80 * MIB, 20000);
	pool.slots[3].usage_bytes = pool.slots[3].charged_bytes = 80 * MIB;
	pool_decide(&pool, 11 * SEC);
	cr_assert_eq(pool_action(&pool, ACTION_TRIM)->slot, 2);
	pool_free(&pool);
}

Test(decide, reload_goes_one_by_one_at_the_floor)
{
	struct pool pool = pool_new(4);
	usec_t now = 1000 * SEC, starts[4];
	unsigned int n = 0;

	pool_serve(&pool, 60 * MIB);
	for (uint32_t i = 0; i < 4; i++)
		pool.slots[i].wish = WISH_RELOAD;
	while (n < 4 && now < 2000 * SEC) {
		const struct action *a;

		pool_decide(&pool, now);
		a = pool_action(&pool, ACTION_SURGE);
		cr_assert_leq(pool_count(&pool, ACTION_SURGE), 1);
		if (a) {
			cr_assert_eq(a->reason, REASON_RELOAD);
			starts[n++] = now;
			pool_replace(&pool, a->slot, now, SEC, 60 * MIB);
			now += SEC;
			continue;
		}
		cr_assert_neq(pool.decision.wake_usec, USEC_NEVER);
		now = pool.decision.wake_usec;
	}
	cr_assert_eq(n, 4);
	for (unsigned int i = 1; i < 4; i++)
		cr_assert_eq(starts[i] - starts[i - 1], 30 * SEC);
	pool_free(&pool);
}

Test(decide, crash_restarts_at_once_and_failed_boots_wait)
{
	struct pool pool = pool_new(2);

	pool_serve(&pool, 60 * MIB);
	pool_decide(&pool, 2 * SEC);
	policy_note_crashed(pool.policy, 0, 10 * SEC, false);
	pool.slots[0] = (struct slot_seen){ .phase = SLOT_EMPTY };
	pool_decide(&pool, 10 * SEC);
	cr_assert_eq(pool_action(&pool, ACTION_START)->reason, REASON_CRASHED);
	policy_note_started(pool.policy, 0, 10 * SEC);
	policy_note_boot_failed(pool.policy, 0, 11 * SEC);
	pool_decide(&pool, 11 * SEC);
	cr_assert_null(pool_action(&pool, ACTION_START));
	cr_assert_eq(pool.decision.wake_usec, 12500000);
	pool_decide(&pool, 12500000);
	cr_assert_not_null(pool_action(&pool, ACTION_START));
	pool_free(&pool);
}
