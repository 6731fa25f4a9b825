/* Of src/policy/trim.c: what is learned from trims, what they are kept from, and when one is asked
 * for again. */
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

/* One worker above its mark, grown since it became ready. */
static struct pool grown_pool(uint64_t usage_bytes)
{
	struct pool pool = pool_new(1);

	pool.limits.worker_max_bytes = 8192 * MIB;
	pool.limits.trim_at_bytes = 200 * MIB;
	pool.limits.budget_bytes = UINT64_MAX;
	pool_serve(&pool, 60 * MIB);
	pool_decide(&pool, 2 * SEC);
	pool.slots[0].usage_bytes = pool.slots[0].charged_bytes = usage_bytes;
	return pool;
}

static usec_t pause_of(const struct pool *pool)
{
	struct outlook outlook;

	cr_assert_eq(policy_outlook(pool->policy, 0, &outlook), 0);
	return outlook.pause_usec;
}

static unsigned int skipped(const struct pool *pool)
{
	struct outlook outlook;

	cr_assert_eq(policy_outlook(pool->policy, 0, &outlook), 0);
	return outlook.n_skipped_trims;
}

Test(trim, a_long_pause_is_left_out_and_counted_once_a_turn)
{
	struct pool pool = grown_pool(1024 * MIB);

	pool.limits.trim_max_pause_usec = 50 * USEC_PER_MSEC;
	for (usec_t now = 100; now < 100 + 600; now++) {
		pool_decide(&pool, now * SEC);
		cr_assert_null(pool_action(&pool, ACTION_TRIM), "at %lu s", now);
	}
	cr_assert_eq(pause_of(&pool), 130 * USEC_PER_MSEC,
		     "as measured, before it is learned");
	cr_assert_geq(skipped(&pool), 600 / 60);
	cr_assert_leq(skipped(&pool), 600 / 30);
	/* Another worker is another heap. */
	pool_replace(&pool, 0, 800 * SEC, SEC, 60 * MIB);
	pool_decide(&pool, 802 * SEC);
	cr_assert_eq(skipped(&pool), 0);
	pool_free(&pool);
}

Test(trim, without_a_budget_no_pause_is_too_long)
{
	struct pool pool = grown_pool(4096 * MIB);

	pool_decide(&pool, 100 * SEC);
	cr_assert_not_null(pool_action(&pool, ACTION_TRIM));
	cr_assert_eq(skipped(&pool), 0);
	pool_free(&pool);
}

Test(trim, a_short_pause_is_within_the_budget)
{
	struct pool pool = grown_pool(300 * MIB);

	pool.limits.trim_max_pause_usec = 50 * USEC_PER_MSEC;
	pool_decide(&pool, 100 * SEC);
	cr_assert_not_null(pool_action(&pool, ACTION_TRIM), "%lu us", pause_of(&pool));
	pool_free(&pool);
}

Test(trim, what_trims_took_is_learned)
{
	struct pool pool = grown_pool(1024 * MIB);

	pool.limits.trim_max_pause_usec = 50 * USEC_PER_MSEC;
	/* Cheap ones make the next look cheaper, little by little. */
	for (int i = 0; i < 3; i++) {
		policy_note_trim_hold(pool.policy, 0, 1024 * MIB, 20 * USEC_PER_MSEC);
		pool_decide(&pool, 100 * SEC);
		cr_assert_null(pool_action(&pool, ACTION_TRIM));
	}
	for (int i = 0; i < 3; i++)
		policy_note_trim_hold(pool.policy, 0, 1024 * MIB, 20 * USEC_PER_MSEC);
	pool_decide(&pool, 200 * SEC);
	cr_assert_not_null(pool_action(&pool, ACTION_TRIM), "%lu us", pause_of(&pool));
	/* A dear one counts at once. */
	policy_note_trim_hold(pool.policy, 0, 1024 * MIB, 400 * USEC_PER_MSEC);
	pool_decide(&pool, 201 * SEC);
	cr_assert_null(pool_action(&pool, ACTION_TRIM));
	cr_assert_geq(pause_of(&pool), 300 * USEC_PER_MSEC);
	pool_free(&pool);
}

/* The helper once lost its CPU for two seconds in the middle of a trim of a small heap. */
Test(trim, one_long_hold_is_forgotten_but_not_more_than_that)
{
	struct pool pool = grown_pool(300 * MIB);
	usec_t now = 100 * SEC;

	pool.limits.trim_max_pause_usec = 50 * USEC_PER_MSEC;
	policy_note_trim_hold(pool.policy, 0, 300 * MIB, 2 * SEC);
	for (pool_decide(&pool, now); !pool_action(&pool, ACTION_TRIM); now += 10 * SEC) {
		cr_assert_lt(now, 3600 * SEC, "it is never trimmed again");
		pool_decide(&pool, now);
	}
	cr_assert_gt(skipped(&pool), 3);
	pool.slots[0].usage_bytes = pool.slots[0].charged_bytes = 4096 * MIB;
	for (; now < 36000 * SEC; now += 10 * SEC) {
		pool_decide(&pool, now);
		cr_assert_null(pool_action(&pool, ACTION_TRIM), "500 ms are 500 ms");
	}
	pool_free(&pool);
}

Test(trim, absurd_figures_of_a_hold)
{
	struct pool pool = grown_pool(300 * MIB);

	pool.limits.trim_max_pause_usec = 50 * USEC_PER_MSEC;
	policy_note_trim_hold(pool.policy, 0, 1, USEC_NEVER);
	policy_note_trim_hold(pool.policy, 0, 0, 5);
	policy_note_trim_hold(pool.policy, 7, 1, 1);
	pool_decide(&pool, 100 * SEC);
	cr_assert_leq(pause_of(&pool), 100 * SEC);
	pool_free(&pool);
}

/* CPU use of so many permyriad between two looks, until a trim comes; returns when. */
static usec_t trimmed_at(struct pool *pool, usec_t now, uint32_t busy_permyriad)
{
	usec_t end = now + 10 * SEC;

	pool->slots[0].cpu_usec = 5 * SEC;
	for (pool_decide(pool, now); !pool_action(pool, ACTION_TRIM);
	     pool_decide(pool, now)) {
		usec_t passed = pool->decision.wake_usec - now;

		cr_assert_lt(now, end, "no trim");
		now += passed;
		pool->slots[0].cpu_usec += passed * busy_permyriad / 10000;
	}
	return now;
}

Test(trim, waits_shortly_for_an_idle_moment)
{
	struct pool pool = grown_pool(300 * MIB);

	cr_assert_eq(trimmed_at(&pool, 100 * SEC, 10), 100 * SEC + 200 * USEC_PER_MSEC);
	pool_free(&pool);
	pool = grown_pool(300 * MIB);
	cr_assert_eq(trimmed_at(&pool, 100 * SEC, 5000), 101 * SEC, "always busy");
	pool_free(&pool);
	/* Not where nobody would feel it, nor where memory is short. */
	pool = grown_pool(70 * MIB);
	pool.limits.trim_at_bytes = 65 * MIB;
	cr_assert_eq(trimmed_at(&pool, 100 * SEC, 5000), 100 * SEC);
	pool_free(&pool);
	pool = grown_pool(300 * MIB);
	pool.slots[0].pressure_usec = 100 * SEC;
	cr_assert_eq(trimmed_at(&pool, 100 * SEC, 5000), 100 * SEC);
	pool_free(&pool);
}

/* ---- after one in vain ---- */

/* A worker above its mark whose trim at 10 s ended so. */
static struct pool trimmed_pool(uint64_t before_bytes, uint64_t after_bytes)
{
	struct pool pool = pool_new(1);
	struct slot_seen *s = &pool.slots[0];

	pool_serve(&pool, 60 * MIB);
	pool_decide(&pool, 2 * SEC);
	s->usage_bytes = s->charged_bytes = before_bytes;
	pool_decide(&pool, 10 * SEC);
	cr_assert_not_null(pool_action(&pool, ACTION_TRIM));
	policy_note_trimmed(pool.policy, 0, 10 * SEC, before_bytes, after_bytes, 1000);
	s->usage_bytes = s->charged_bytes = after_bytes;
	return pool;
}

static usec_t next_trim(const struct pool *pool)
{
	return pool->policy->slots[0].trim.next_usec;
}

Test(trim, in_vain_is_looked_at_again_when_its_interval_is_over)
{
	struct pool pool = trimmed_pool(400 * MIB, 400 * MIB);

	pool_decide(&pool, 10 * SEC);
	cr_assert_null(pool_action(&pool, ACTION_TRIM), "again at once");
	cr_assert_geq(next_trim(&pool), 40 * SEC);
	cr_assert_leq(next_trim(&pool), 70 * SEC);
	/* Looks that come sooner for other reasons do not end it. */
	for (unsigned int i = 0; i < 5 && pool.decision.wake_usec < next_trim(&pool); i++)
		pool_decide(&pool, pool.decision.wake_usec);
	cr_assert_eq(pool.decision.wake_usec, next_trim(&pool));
	pool_free(&pool);
}

/* What the look is for: the burst that the first trim met is over by then. */
Test(trim, and_asked_again_then_if_there_is_something_to_give)
{
	struct pool pool = trimmed_pool(400 * MIB, 400 * MIB);
	const struct action *a;

	pool_decide(&pool, 10 * SEC);
	pool.slots[0].usage_bytes = pool.slots[0].charged_bytes = 430 * MIB;
	pool_decide(&pool, next_trim(&pool) - 1);
	cr_assert_null(pool_action(&pool, ACTION_TRIM));
	pool_decide(&pool, next_trim(&pool));
	a = pool_action(&pool, ACTION_TRIM);
	cr_assert_not_null(a);
	cr_assert_eq(a->reason, REASON_MARK);
	pool_free(&pool);
}

Test(trim, below_the_mark_nobody_looks_again)
{
	struct pool pool = trimmed_pool(400 * MIB, 400 * MIB);

	pool.slots[0].usage_bytes = pool.slots[0].charged_bytes = 357 * MIB;
	pool_decide(&pool, 20 * SEC);
	cr_assert_eq(pool.decision.wake_usec, USEC_NEVER);
	pool_free(&pool);
}

Test(trim, one_that_helped_is_not_looked_at_again)
{
	struct pool pool = trimmed_pool(400 * MIB, 370 * MIB);

	pool_decide(&pool, 20 * SEC);
	cr_assert_eq(pool.decision.wake_usec, USEC_NEVER);
	pool_free(&pool);
}

/* ---- who, and how often ---- */

Test(trim, only_a_worker_that_said_it_can)
{
	struct pool pool = pool_new(2);

	pool_serve(&pool, 60 * MIB);
	pool_decide(&pool, 2 * SEC);
	for (uint32_t i = 0; i < 2; i++)
		pool.slots[i].usage_bytes = pool.slots[i].charged_bytes =
			(400 - 20 * i) * MIB;
	pool.slots[0].can_trim = false;
	pool_decide(&pool, 10 * SEC);
	cr_assert_eq(pool_count(&pool, ACTION_TRIM), 1);
	cr_assert_eq(pool_action(&pool, ACTION_TRIM)->slot, 1, "though 0 is fatter");
	pool_free(&pool);
}

Test(trim, quiet_after_a_burst)
{
	struct pool pool = pool_new(1);
	const struct action *a = NULL;
	usec_t now = 10 * SEC;

	pool_serve(&pool, 60 * MIB);
	pool_decide(&pool, 2 * SEC);
	pool.slots[0].usage_bytes = pool.slots[0].charged_bytes = 160 * MIB;
	for (unsigned int i = 0; i < 40 && !a; i++) {
		pool_decide(&pool, now);
		a = pool_action(&pool, ACTION_TRIM);
		if (!a)
			now = pool.decision.wake_usec;
	}
	cr_assert_not_null(a, "a burst far below the mark stays for ever");
	cr_assert_eq(a->reason, REASON_QUIET);
	cr_assert_geq(now, 20 * SEC);
	cr_assert_leq(now, 22 * SEC);
	pool_free(&pool);
}

Test(trim, in_vain_doubles_the_wait_each_time)
{
	struct pool pool = pool_new(8); /* where five are not yet a verdict */
	usec_t now = 10 * SEC, last = 0;

	pool_serve(&pool, 60 * MIB);
	pool_decide(&pool, 2 * SEC);
	for (unsigned int i = 0; i < 5; i++) {
		usec_t wait;

		policy_note_trimmed(pool.policy, 0, now, 400 * MIB, 400 * MIB, 1000);
		wait = pool.policy->slots[0].trim.next_usec - now;
		cr_assert_geq(wait, 2 * last);
		last = wait;
		now += wait;
	}
	cr_assert_not(policy_trimming_is_futile(pool.policy));
	pool_free(&pool);
}
