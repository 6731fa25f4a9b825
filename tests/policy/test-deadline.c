/* Which causes have a deadline, and when it is. */
#include "pool.h"

static usec_t deadline_of(const struct pool *pool)
{
	return pool->policy->slots[0].outlook.deadline_usec;
}

/* One worker that grows by 0.1 MiB a second from 60 MiB on, after a replacement that took so long.
 * Returns the time of the last look, at 160 MiB. */
static usec_t grow(struct pool *pool, usec_t boot, usec_t drain)
{
	usec_t t;

	pool->limits.trim_enabled = false;
	pool_serve(pool, 60 * MIB);
	policy_note_started(pool->policy, 0, 300 * SEC - boot);
	policy_note_ready(pool->policy, 0, 300 * SEC, 60 * MIB);
	policy_note_drained(pool->policy, 0, 300 * SEC, drain);
	for (t = 0; t <= 1000 * SEC; t += 10 * SEC) {
		pool->slots[0].usage_bytes = pool->slots[0].charged_bytes =
			60 * MIB + t / (10 * SEC) * MIB;
		pool_decide(pool, 300 * SEC + t);
	}
	return 300 * SEC + t - 10 * SEC;
}

Test(deadline, a_replacement_needs_its_time)
{
	struct pool quick = pool_new(1), slow = pool_new(1);
	usec_t now = grow(&quick, SEC, SEC), later, earlier;

	later = deadline_of(&quick);
	cr_assert_gt(later, now + 3300 * SEC);
	cr_assert_lt(later, now + 3520 * SEC, "352 MiB are left");
	grow(&slow, 11 * SEC, 11 * SEC);
	earlier = deadline_of(&slow);
	/* 20 s more, and a quarter on top. */
	cr_assert_gt(later - earlier, 24 * SEC);
	cr_assert_lt(later - earlier, 26 * SEC);
	pool_free(&quick);
	pool_free(&slow);
}

Test(deadline, a_lifetime_ends)
{
	struct pool pool = pool_new(1);
	const struct action *a;

	pool.limits.max_lifetime_usec = 3600 * SEC;
	pool_serve(&pool, 60 * MIB);
	pool_decide(&pool, 2 * SEC);
	cr_assert_eq(deadline_of(&pool), 3601 * SEC);
	cr_assert_eq(pool.decision.wake_usec, 3601 * SEC);
	pool_decide(&pool, 3600 * SEC);
	cr_assert_null(pool_action(&pool, ACTION_SURGE));
	pool_decide(&pool, 3601 * SEC);
	a = pool_action(&pool, ACTION_SURGE);
	cr_assert_not_null(a);
	cr_assert_eq(a->reason, REASON_LIFETIME);
	pool_free(&pool);
}

/* Of every 60 MiB a trim leaves three: what counts is what is left. */
Test(deadline, trims_are_counted_on)
{
	struct pool pool = pool_new(1);
	usec_t now = 10 * SEC;
	uint64_t left = 60 * MIB;

	pool_serve(&pool, left);
	for (unsigned int round = 0; round < 8; round++) {
		for (unsigned int i = 0; i < 60; i++, now += 10 * SEC) {
			pool.slots[0].usage_bytes = pool.slots[0].charged_bytes =
				left + i * MIB;
			pool_decide(&pool, now);
		}
		if (round == 7)
			break;
		policy_note_trimmed(pool.policy, 0, now, left + 60 * MIB, left + 3 * MIB,
				    10000);
		left += 3 * MIB;
	}
	/* By its growth alone in 3,700 s; by what trims leave in 70,000. */
	cr_assert_gt(pool.policy->slots[0].growth.rate, 90 * 1024);
	cr_assert_gt(deadline_of(&pool), now + 20000 * SEC);
	pool_free(&pool);
}

Test(deadline, a_shortage_of_the_host_is_met_with_patience)
{
	struct pool pool = pool_new(2);
	const struct action *a;
	usec_t now;

	pool.limits.trim_enabled = false;
	pool_serve(&pool, 60 * MIB);
	for (uint32_t i = 0; i < 2; i++)
		pool.slots[i].usage_bytes = pool.slots[i].charged_bytes = (120 + i) * MIB;
	for (now = 1000 * SEC; now < 1010 * SEC; now += SEC) {
		pool.seen.host_pressure_usec = now;
		pool_decide(&pool, now);
		cr_assert_null(pool_action(&pool, ACTION_SURGE), "after %lu s",
			       (unsigned long)(now / SEC - 1000));
	}
	pool.seen.host_pressure_usec = now;
	pool_decide(&pool, now);
	a = pool_action(&pool, ACTION_SURGE);
	cr_assert_not_null(a);
	cr_assert_eq(a->reason, REASON_HOST);
	cr_assert_eq(a->slot, 1, "the one that frees most");
	pool_free(&pool);
}

Test(deadline, whose_replacement_failed_waits_and_others_go)
{
	struct pool pool = pool_new(2);
	const struct action *a;

	pool_serve(&pool, 60 * MIB);
	pool_decide(&pool, 2 * SEC);
	policy_note_started(pool.policy, 0, 1000 * SEC);
	for (unsigned int i = 0; i < 9; i++) {
		policy_note_boot_failed(pool.policy, 0, 1000 * SEC);
		policy_note_started(pool.policy, 0, 1000 * SEC);
	}
	policy_note_boot_failed(pool.policy, 0, 1029 * SEC);
	pool.slots[0].wish = pool.slots[1].wish = WISH_OPERATOR;
	pool_decide(&pool, 1040 * SEC);
	a = pool_action(&pool, ACTION_SURGE);
	cr_assert_not_null(a);
	cr_assert_eq(a->slot, 1, "30 s of backoff");
	cr_assert_eq(pool.decision.wake_usec, 1059 * SEC);
	pool_free(&pool);
}
