/* Whose turn it is, and who stands in whose way. */
#include "pool.h"

static void fail_boots(struct pool *pool, uint32_t slot, unsigned int n, usec_t now)
{
	for (unsigned int i = 0; i < n; i++) {
		policy_note_started(pool->policy, slot, now);
		policy_note_boot_failed(pool->policy, slot, now);
	}
	pool->slots[slot] = (struct slot_seen){ .phase = SLOT_EMPTY };
}

Test(restart, a_slot_that_cannot_boot_starves_nobody)
{
	struct pool pool = pool_new(3);

	pool_serve(&pool, 60 * MIB);
	pool_decide(&pool, 2 * SEC);
	policy_note_crashed(pool.policy, 0, 1000 * SEC, false);
	fail_boots(&pool, 0, 2, 1000 * SEC);
	pool.slots[1].wish = WISH_OPERATOR;
	pool_decide(&pool, 2000 * SEC);
	cr_assert_null(pool_action(&pool, ACTION_SURGE), "it may come up yet");
	fail_boots(&pool, 0, 1, 2000 * SEC);
	pool_decide(&pool, 3000 * SEC);
	cr_assert_not_null(pool_action(&pool, ACTION_SURGE), "three times in a row");
	pool.limits.surge = SURGE_NEVER;
	pool_decide(&pool, 3000 * SEC);
	cr_assert_null(pool_action(&pool, ACTION_DRAIN), "that would be one less");
	pool_free(&pool);
}

/* A worker that is to reach its limit within the gap has its turn before a reload. */
Test(restart, a_kernel_kill_comes_before_a_wish)
{
	struct pool pool = pool_new(2);
	uint64_t usage = 60 * MIB;
	enum reason order[2] = { REASON_NONE, REASON_NONE };
	unsigned int n = 0;
	usec_t now;

	pool.limits.trim_enabled = false;
	pool.limits.budget_bytes = 1024 * MIB; /* nothing to lend */
	pool_serve(&pool, usage);
	for (now = 2 * SEC; usage < 495 * MIB; now += 10 * SEC, usage += 2 * MIB) {
		pool.slots[1].usage_bytes = pool.slots[1].charged_bytes = usage;
		pool_decide(&pool, now);
		cr_assert_null(pool_action(&pool, ACTION_SURGE));
		cr_assert_null(pool_action(&pool, ACTION_DRAIN));
	}
	pool.slots[0].wish = WISH_RELOAD;
	for (usec_t end = now + 700 * SEC; now < end && n < 2; now += SEC) {
		const struct action *a;

		if (n == 0)
			pool.slots[1].usage_bytes = pool.slots[1].charged_bytes =
				u64_min(usage += 200 * KIB, 511 * MIB);
		pool_decide(&pool, now);
		a = pool_action(&pool, ACTION_SURGE) ? pool_action(&pool, ACTION_SURGE)
						     : pool_action(&pool, ACTION_DRAIN);
		if (!a)
			continue;
		order[n++] = a->reason;
		pool_replace(&pool, a->slot, now, SEC / 2, 60 * MIB);
	}
	cr_assert_eq(order[0], REASON_MEMORY);
	cr_assert_eq(order[1], REASON_RELOAD);
	pool_free(&pool);
}
