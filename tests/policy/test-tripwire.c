/* Where the tripwire stands, and when it is looked at again without any event. */
#include "policy/tripwire.h"

#include "pool.h"

/* One worker whose tripwire is armed, and nothing else to wake for. */
static struct pool armed_pool(void)
{
	struct pool pool = pool_new(1);

	pool.limits.trim_enabled = false;
	pool_serve(&pool, 60 * MIB);
	pool_decide(&pool, 2 * SEC);
	cr_assert_eq(pool.decision.wake_usec, USEC_NEVER);
	cr_assert_neq(pool.policy->slots[0].tripwire_bytes, 0);
	return pool;
}

/* The worker meets its tripwire at so much; returns the value it is raised to. */
static uint64_t cross(struct pool *pool, usec_t now, uint64_t charged)
{
	struct slot_seen *s = &pool->slots[0];

	s->usage_bytes = s->charged_bytes = charged;
	s->high_events++;
	return policy_raise_tripwire(pool->policy, &pool->limits, 0, now, charged);
}

Test(tripwire, a_crossing_is_looked_after_two_seconds_later)
{
	struct pool pool = armed_pool();

	cross(&pool, 10 * SEC, 82 * MIB);
	pool_decide(&pool, 10 * SEC);
	cr_assert_eq(pool.decision.wake_usec, 12 * SEC);
	pool_decide(&pool, 11 * SEC);
	cr_assert_eq(pool.decision.wake_usec, 12 * SEC, "an event between puts it off");
	pool_decide(&pool, 12 * SEC);
	cr_assert_eq(pool.decision.wake_usec, USEC_NEVER, "one look is enough");
	pool_free(&pool);
}

Test(tripwire, a_worker_that_never_crossed_is_not_looked_after)
{
	struct pool pool = armed_pool();

	pool.slots[0].usage_bytes = pool.slots[0].charged_bytes = 62 * MIB;
	pool_decide(&pool, 30 * SEC);
	cr_assert_eq(pool.decision.wake_usec, USEC_NEVER);
	pool_free(&pool);
}

/* What the look is for: growth of 100 MiB/s has the tripwire raised far ahead, and then the
 * request is over. Whatever comes next is to be told at its own step, not 200 MiB later. */
Test(tripwire, after_a_burst_it_comes_down_by_that_look)
{
	struct pool pool = armed_pool();
	uint64_t raised, step = tripwire_step(&pool.limits, &pool.policy->slots[0]);

	cross(&pool, 10 * SEC, 82 * MIB);
	pool_decide(&pool, 10 * SEC);
	raised = cross(&pool, 11 * SEC, 182 * MIB);
	cr_assert_geq(raised, 382 * MIB);
	pool_decide(&pool, 11 * SEC);
	for (usec_t now = pool.decision.wake_usec;
	     now != USEC_NEVER && pool.policy->slots[0].tripwire_bytes >= raised;
	     now = pool.decision.wake_usec) {
		cr_assert_leq(now, 60 * SEC, "looked at, and left there");
		pool_decide(&pool, now);
	}
	cr_assert_lt(pool.policy->slots[0].tripwire_bytes, raised);
	cr_assert_geq(pool.policy->slots[0].tripwire_bytes, 182 * MIB + step);
	pool_free(&pool);
}

Test(tripwire, raised_before_anything_else_by_a_step_at_least)
{
	struct pool pool = armed_pool();
	uint64_t step = tripwire_step(&pool.limits, &pool.policy->slots[0]);

	cr_assert_eq(step, 512 * MIB / 25, "4 %% of the limit");
	cr_assert_geq(cross(&pool, 10 * SEC, 82 * MIB), 82 * MIB + step);
	pool.limits.worker_max_bytes = 100 * MIB;
	pool.policy->slots[0].growth.rate = 0;
	cr_assert_eq(tripwire_step(&pool.limits, &pool.policy->slots[0]), 8 * MIB);
	pool.policy->slots[0].growth.rate = 30 * (int64_t)MIB;
	cr_assert_eq(tripwire_step(&pool.limits, &pool.policy->slots[0]), 60 * MIB);
	pool_free(&pool);
}

Test(tripwire, marks_are_pulled_apart_downwards_only)
{
	struct pool pool = pool_new(16);
	uint64_t low = UINT64_MAX, high = 0;

	pool.limits.spread_permyriad = 1000;
	for (uint32_t i = 0; i < 16; i++) {
		uint64_t mark = tripwire_mark(&pool.limits, &pool.policy->slots[i]);

		cr_assert_leq(mark, pool.limits.trim_at_bytes);
		cr_assert_geq(mark, pool.limits.trim_at_bytes / 10 * 9);
		for (uint32_t k = 0; k < i; k++)
			cr_assert_neq(mark, tripwire_mark(&pool.limits,
							  &pool.policy->slots[k]));
		low = u64_min(low, mark);
		high = u64_max(high, mark);
	}
	cr_assert_gt(high - low, pool.limits.trim_at_bytes / 10 / 4 * 3,
		     "huddled in a part of the range");
	pool_free(&pool);
}

/* Nothing would ever wake us for it. */
Test(tripwire, a_worker_without_one_is_looked_at_soon)
{
	struct pool pool = pool_new(1);

	pool.limits.trim_enabled = false;
	pool_serve(&pool, 60 * MIB);
	pool.slots[0].sampled = false;
	pool_decide(&pool, 10 * SEC);
	cr_assert_leq(pool.decision.wake_usec, 11 * SEC);
	pool.slots[0].sampled = true;
	pool_decide(&pool, 11 * SEC);
	cr_assert_not_null(pool_action(&pool, ACTION_TRIPWIRE));
	pool.slots[0].sampled = false;
	pool_decide(&pool, 12 * SEC);
	cr_assert_eq(pool.decision.wake_usec, USEC_NEVER);
	pool_free(&pool);
}

/* Three at their brake lines, and one that is down and keeps them from their turns: those that the
 * kernel will have at last, it has one by one. */
Test(tripwire, holds_do_not_end_together)
{
	struct pool pool = pool_new(4);
	usec_t now = 2000 * SEC, released[3];
	unsigned int n = 0;

	pool.limits.trim_enabled = false;
	pool.limits.budget_bytes = 4 * 512 * MIB; /* nothing to lend */
	pool_serve(&pool, 60 * MIB);
	pool_decide(&pool, 2 * SEC);
	policy_note_crashed(pool.policy, 3, 1000 * SEC, /* kernel_kill= */ true);
	pool.slots[3] = (struct slot_seen){ .phase = SLOT_EMPTY };
	for (usec_t t = now - 100 * SEC; t < now; t += 10 * SEC)
		pool_decide(&pool, t);
	for (uint32_t i = 0; i < 3; i++) {
		pool.slots[i].usage_bytes = pool.slots[i].charged_bytes = 480 * MIB;
		pool.slots[i].high_events++;
		(void)policy_raise_tripwire(pool.policy, &pool.limits, i, now, 480 * MIB);
	}
	pool_decide(&pool, now);
	for (uint32_t i = 0; i < 3; i++)
		cr_assert(pool.policy->slots[i].hold.active, "%u is not held", i);
	for (usec_t end = now + 400 * SEC; now < end; now += SEC) {
		/* Each gets on a little: not a hold that makes no progress. */
		for (uint32_t i = 0; i < 3; i++) {
			pool.slots[i].usage_bytes += 64 * KIB;
			pool.slots[i].charged_bytes = pool.slots[i].usage_bytes;
			pool.slots[i].high_events++;
		}
		pool_decide(&pool, now);
		for (size_t i = 0; i < pool.decision.n_actions; i++)
			if (pool.decision.actions[i].kind == ACTION_TRIPWIRE &&
			    pool.decision.actions[i].bytes == UINT64_MAX) {
				cr_assert_lt(n, 3);
				released[n++] = now;
			}
	}
	cr_assert_eq(n, 3, "%u holds ended", n);
	for (unsigned int i = 1; i < 3; i++)
		cr_assert_geq(released[i] - released[i - 1],
			      pool.limits.min_gap_floor_usec);
	pool_free(&pool);
}
