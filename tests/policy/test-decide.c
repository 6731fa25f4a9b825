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

Test(decide, a_worker_that_became_ready_ends_the_backoff)
{
	struct pool pool = pool_new(1);
	usec_t now = 1000 * SEC;

	for (unsigned int i = 0; i < 5; i++) {
		policy_note_started(pool.policy, 0, now);
		policy_note_boot_failed(pool.policy, 0, now);
	}
	policy_note_started(pool.policy, 0, now);
	policy_note_ready(pool.policy, 0, now, 60 * MIB);
	policy_note_crashed(pool.policy, 0, now, false);
	pool_decide(&pool, now);
	cr_assert_not_null(pool_action(&pool, ACTION_START), "at once");
	policy_note_started(pool.policy, 0, now);
	policy_note_boot_failed(pool.policy, 0, now);
	pool_decide(&pool, now);
	cr_assert_null(pool_action(&pool, ACTION_START));
	cr_assert_eq(pool.decision.wake_usec, now + 1500 * USEC_PER_MSEC,
		     "the first again");
	pool_free(&pool);
}

/* A worker that jumps to its brake line: the tripwire is met there and stays. */
static void run_into_the_line(struct pool *pool, uint32_t slot, usec_t now)
{
	struct slot_seen *s = &pool->slots[slot];

	s->usage_bytes = s->charged_bytes = 470 * MIB;
	s->high_events++;
	(void)policy_raise_tripwire(pool->policy, &pool->limits, slot, now,
				    s->charged_bytes);
	pool_decide(pool, now);
	cr_assert(pool->policy->slots[slot].hold.active, "not held at the line");
}

Test(decide, a_hold_without_progress_is_ended)
{
	struct pool pool = pool_new(1);
	const struct action *a = NULL;
	usec_t now = 20 * SEC;

	pool.limits.budget_bytes = 512 * MIB; /* nothing to lend */
	pool.limits.trim_enabled = false;
	pool_serve(&pool, 60 * MIB);
	pool_decide(&pool, 2 * SEC);
	run_into_the_line(&pool, 0, now);
	/* The restart that it asks for is not carried out: this is about the hold alone. */
	for (unsigned int i = 0; i < 40 && !a; i++) {
		now += SEC / 2;
		pool.slots[0].high_events += 10;
		pool.slots[0].scanned_pages += 10000;
		pool_decide(&pool, now);
		a = pool_action(&pool, ACTION_TRIPWIRE);
	}
	cr_assert_not_null(a, "held for ever");
	cr_assert_eq(a->reason, REASON_STUCK);
	cr_assert_eq(a->bytes, UINT64_MAX);
	cr_assert_leq(now, 27 * SEC);
	pool_free(&pool);
}

Test(decide, surge_only_with_room_for_another)
{
	struct pool pool = pool_new(2);

	pool_serve(&pool, 60 * MIB);
	pool_decide(&pool, 2 * SEC);
	pool.slots[0].wish = WISH_OPERATOR;
	pool.limits.budget_bytes = 179 * MIB; /* 2 x 60 in use, 60 more wanted */
	pool_decide(&pool, 3 * SEC);
	cr_assert_null(pool_action(&pool, ACTION_SURGE));
	cr_assert_not_null(pool_action(&pool, ACTION_DRAIN));
	pool.limits.budget_bytes = 180 * MIB;
	pool_decide(&pool, 4 * SEC);
	cr_assert_not_null(pool_action(&pool, ACTION_SURGE));
	cr_assert_null(pool_action(&pool, ACTION_DRAIN));
	pool_free(&pool);
}

/* The pool is at its budget. Whoever has just begun holds what its successor would hold too. */
Test(decide, what_is_new_is_not_replaced_for_the_pool)
{
	struct pool pool = pool_new(2);
	const struct action *a;

	pool.limits.surge = SURGE_NEVER;
	pool.limits.budget_bytes = 300 * MIB;
	pool_serve(&pool, 60 * MIB);
	pool_replace(&pool, 1, 995 * SEC, 4 * SEC, 60 * MIB);
	pool.slots[0].usage_bytes = pool.slots[0].charged_bytes = 120 * MIB;
	pool.slots[1].usage_bytes = pool.slots[1].charged_bytes = 140 * MIB;
	pool_decide(&pool, 1040 * SEC);
	a = pool_action(&pool, ACTION_DRAIN);
	cr_assert_not_null(a);
	cr_assert_eq(a->reason, REASON_HOST);
	cr_assert_eq(a->slot, 1, "the fatter one, in service for 41 s");
	pool.slots[0].usage_bytes = pool.slots[0].charged_bytes = 60 * MIB;
	pool.slots[1].usage_bytes = pool.slots[1].charged_bytes = 200 * MIB;
	pool.policy->slots[1].ready_usec = 1035 * SEC;
	pool_decide(&pool, 1040 * SEC);
	cr_assert_null(pool_action(&pool, ACTION_DRAIN), "after 5 s");
	pool_free(&pool);
}

Test(decide, a_kernel_kill_counts_for_the_gap)
{
	struct pool pool = pool_new(3);

	pool.limits.max_unavailable = 2;
	pool_serve(&pool, 60 * MIB);
	pool_decide(&pool, 2 * SEC);
	policy_note_crashed(pool.policy, 0, 1000 * SEC, /* kernel_kill= */ true);
	pool.slots[0] = (struct slot_seen){ .phase = SLOT_EMPTY };
	pool.slots[1].wish = WISH_OPERATOR;
	pool_decide(&pool, 1010 * SEC);
	cr_assert_null(pool_action(&pool, ACTION_SURGE), "10 s after a kill");
	pool_decide(&pool, 1030 * SEC);
	cr_assert_not_null(pool_action(&pool, ACTION_SURGE));
	pool_free(&pool);
}

Test(decide, futile_trims_grow_rare)
{
	struct pool pool = pool_new(1);
	usec_t now = 10 * SEC, last = 0;

	pool_serve(&pool, 60 * MIB);
	for (unsigned int i = 0; i < 12; i++) {
		usec_t wait;

		policy_note_trimmed(pool.policy, 0, now, 400 * MIB, 400 * MIB, 1000);
		pool_decide(&pool, now);
		wait = pool.policy->slots[0].trim.next_usec - now;
		cr_assert_geq(wait, last);
		cr_assert_leq(wait, USEC_PER_HOUR);
		last = wait;
		now += wait;
	}
	cr_assert_eq(last, USEC_PER_HOUR);
	cr_assert(policy_trimming_is_futile(pool.policy));
	policy_note_trimmed(pool.policy, 0, now, 400 * MIB, 100 * MIB, 1000);
	cr_assert_not(policy_trimming_is_futile(pool.policy));
	cr_assert_leq(pool.policy->slots[0].trim.next_usec - now, 60 * SEC);
	pool_free(&pool);
}

Test(decide, without_tripwire_the_clock_asks_for_samples)
{
	struct pool pool = pool_new(2);

	pool.limits.tripwire = false;
	pool_serve(&pool, 60 * MIB);
	pool_decide(&pool, 2 * SEC);
	cr_assert_eq(pool.decision.wake_usec, 12 * SEC);
	cr_assert_eq(pool_count(&pool, ACTION_TRIPWIRE), 0);
	cr_assert_eq(pool_count(&pool, ACTION_LIMIT), 0);
	pool_free(&pool);
}

Test(decide, a_parting_worker_gets_room_to_answer)
{
	cr_assert_gt(policy_parting_tripwire(500 * MIB, 512 * MIB), 500 * MIB);
	cr_assert_lt(policy_parting_tripwire(500 * MIB, 512 * MIB), 512 * MIB);
	cr_assert_eq(policy_parting_tripwire(500 * MIB, UINT64_MAX), UINT64_MAX);
	cr_assert_eq(policy_parting_tripwire(512 * MIB, 512 * MIB), UINT64_MAX);
}

Test(decide, surge_only_with_headroom_up_the_tree)
{
	struct pool pool = pool_new(2);

	pool.limits.budget_bytes = UINT64_MAX;
	pool_serve(&pool, 60 * MIB);
	pool_decide(&pool, 2 * SEC);
	pool.slots[0].wish = WISH_OPERATOR;
	pool.seen.headroom_known = true;
	pool.seen.headroom_bytes = 59 * MIB; /* others up there have taken the rest */
	pool_decide(&pool, 3 * SEC);
	cr_assert_null(pool_action(&pool, ACTION_SURGE));
	cr_assert_not_null(pool_action(&pool, ACTION_DRAIN));
	pool.seen.headroom_bytes = 60 * MIB;
	pool_decide(&pool, 4 * SEC);
	cr_assert_not_null(pool_action(&pool, ACTION_SURGE));
	pool_free(&pool);
}

/* Fresh workers that fill nine tenths of their limit, and grow past it: what replaces them is
 * soon where they are. */
Test(decide, workers_that_hardly_fit_are_not_replaced_in_haste)
{
	struct pool pool = pool_new(4);
	unsigned int n = 0;

	pool.limits.budget_bytes = 4 * 512 * MIB;
	pool.limits.reserve_bytes = 0;
	pool.limits.surge = SURGE_ALWAYS;
	pool.limits.trim_enabled = false;
	pool_serve(&pool, 460 * MIB);
	for (usec_t now = 2 * SEC; now < 2 * USEC_PER_HOUR; now += SEC) {
		const struct action *a;

		for (uint32_t i = 0; i < 4; i++) {
			uint64_t more = pool.slots[i].usage_bytes < 511 * MIB ? MIB : 0;

			pool.slots[i].usage_bytes += more;
			pool.slots[i].charged_bytes = pool.slots[i].usage_bytes;
			pool.slots[i].high_events++;
		}
		pool_decide(&pool, now);
		a = pool_action(&pool, ACTION_SURGE);
		if (!a)
			continue;
		n++;
		pool_replace(&pool, a->slot, now, 0, 460 * MIB);
	}
	/* The gap is ten minutes; with room to live they would have been 240, at the floor. */
	cr_assert_geq(n, 1);
	cr_assert_leq(n, 13, "%u restarts in two hours", n);
	pool_free(&pool);
}

Test(decide, kills_at_a_limit_that_a_fresh_worker_fills_back_off)
{
	struct pool pool = pool_new(1);
	usec_t now = 10 * SEC, wait = 0;

	pool_serve(&pool, 460 * MIB);
	for (unsigned int i = 0; i < 12; i++) {
		usec_t waited = 0;

		pool_decide(&pool, now);
		policy_note_crashed(pool.policy, 0, now, /* kernel_kill= */ true);
		pool.slots[0] = (struct slot_seen){ .phase = SLOT_EMPTY };
		pool_decide(&pool, now);
		if (!pool_action(&pool, ACTION_START)) {
			waited = pool.decision.wake_usec - now;
			now = pool.decision.wake_usec;
			pool_decide(&pool, now);
		}
		cr_assert_not_null(pool_action(&pool, ACTION_START));
		cr_assert_geq(waited, wait);
		wait = waited;
		pool.seen.now_usec = now += SEC;
		pool_serve(&pool, 460 * MIB);
	}
	cr_assert_eq(wait, 30 * SEC);
	/* With more room the first kill is an accident again. */
	pool.limits.worker_max_bytes = 1024 * MIB;
	pool_decide(&pool, now);
	policy_note_crashed(pool.policy, 0, now, /* kernel_kill= */ true);
	pool.slots[0] = (struct slot_seen){ .phase = SLOT_EMPTY };
	pool_decide(&pool, now);
	cr_assert_not_null(pool_action(&pool, ACTION_START));
	pool_free(&pool);
}
