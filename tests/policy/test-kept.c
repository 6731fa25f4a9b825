/* A worker in quarantine: its memory is the first to go when another one needs some. */
#include "pool.h"

/* Two workers of 100 MiB in a budget that has room for a third, and one in quarantine. */
static struct pool pool_with_kept(uint64_t kept_bytes)
{
	struct pool pool = pool_new(2);

	pool.limits.trim_enabled = false;
	pool.limits.reserve_bytes = 0;
	pool.limits.budget_bytes = 320 * MIB;
	pool.limits.worker_max_bytes = 160 * MIB;
	pool.limits.trim_at_bytes = 112 * MIB;
	pool_serve(&pool, 100 * MIB);
	pool.seen.kept_bytes = kept_bytes;
	pool_decide(&pool, 2 * SEC);
	return pool;
}

static bool has_room(const struct pool *pool)
{
	struct outlook o;

	cr_assert_eq(policy_outlook(pool->policy, 0, &o), 0);
	return o.has_room;
}

Test(kept, stays_while_nobody_needs_its_memory)
{
	struct pool pool = pool_with_kept(100 * MIB);

	for (usec_t now = 3 * SEC; now < 10000 * SEC; now += 100 * SEC) {
		pool_decide(&pool, now);
		cr_assert_eq(pool.decision.end_kept, REASON_NONE);
	}
	pool_free(&pool);
}

Test(kept, makes_room_for_a_replacement_first)
{
	struct pool pool = pool_with_kept(100 * MIB);

	cr_assert_not(has_room(&pool));
	pool.slots[0].wish = WISH_OPERATOR;
	pool_decide(&pool, 1000 * SEC);
	cr_assert_eq(pool.decision.end_kept, REASON_ROOM);
	cr_assert_eq(pool.decision.n_actions, 0, "before it is gone");
	pool.seen.kept_bytes = 0;
	pool_decide(&pool, 1001 * SEC);
	cr_assert(has_room(&pool));
	cr_assert_eq(pool.decision.end_kept, REASON_NONE);
	cr_assert_not_null(pool_action(&pool, ACTION_SURGE));
	pool_free(&pool);
}

Test(kept, stays_where_there_is_room_beside_it)
{
	struct pool pool = pool_with_kept(20 * MIB);

	cr_assert(has_room(&pool));
	pool.slots[0].wish = WISH_OPERATOR;
	pool_decide(&pool, 1000 * SEC);
	cr_assert_eq(pool.decision.end_kept, REASON_NONE);
	cr_assert_not_null(pool_action(&pool, ACTION_SURGE));
	pool_free(&pool);
}

Test(kept, stays_where_its_end_would_make_no_room)
{
	struct pool pool = pool_with_kept(80 * MIB);

	pool.limits.budget_bytes = 290 * MIB;
	pool.slots[0].wish = WISH_OPERATOR;
	pool_decide(&pool, 1000 * SEC);
	cr_assert_eq(pool.decision.end_kept, REASON_NONE);
	cr_assert_not_null(pool_action(&pool, ACTION_DRAIN));
	pool_free(&pool);
}

Test(kept, one_that_stops_first_needs_none)
{
	struct pool pool = pool_with_kept(100 * MIB);

	pool.limits.surge = SURGE_NEVER;
	pool.slots[0].wish = WISH_OPERATOR;
	pool_decide(&pool, 1000 * SEC);
	cr_assert_eq(pool.decision.end_kept, REASON_NONE);
	cr_assert_not_null(pool_action(&pool, ACTION_DRAIN));
	pool_free(&pool);
}

Test(kept, makes_room_up_the_tree)
{
	struct pool pool = pool_with_kept(100 * MIB);

	pool.limits.budget_bytes = 4096 * MIB;
	pool.seen.headroom_known = true;
	pool.seen.headroom_bytes = 50 * MIB;
	pool.slots[0].wish = WISH_OPERATOR;
	pool_decide(&pool, 1000 * SEC);
	cr_assert_eq(pool.decision.end_kept, REASON_ROOM);
	pool_free(&pool);
}

/* A worker that is missed starts at once, whatever that takes. */
Test(kept, makes_room_for_a_start)
{
	struct pool pool = pool_with_kept(140 * MIB);

	policy_note_crashed(pool.policy, 0, 1000 * SEC, false);
	pool.slots[0] = (struct slot_seen){ .phase = SLOT_EMPTY };
	pool_decide(&pool, 1000 * SEC);
	cr_assert_eq(pool.decision.end_kept, REASON_ROOM);
	cr_assert_not_null(pool_action(&pool, ACTION_START));
	pool_free(&pool);
}

/* Up to its brake line at 300 KiB a second: it wants headroom, which is the other one's. */
static enum reason climb(uint64_t budget_bytes, uint64_t kept_bytes, bool *ret_lent)
{
	struct pool pool = pool_with_kept(kept_bytes);
	enum reason end = REASON_NONE;
	uint64_t usage = 100 * MIB;

	*ret_lent = false;
	pool.limits.surge = SURGE_NEVER;
	pool.limits.budget_bytes = budget_bytes;
	/* Nobody else wants anything. */
	pool.slots[1] = (struct slot_seen){ .phase = SLOT_EMPTY, .retire = true };
	for (usec_t now = 3 * SEC; usage < 159 * MIB; now += SEC, usage += 300 * KIB) {
		pool.slots[0].usage_bytes = pool.slots[0].charged_bytes = usage;
		pool_decide(&pool, now);
		for (size_t i = 0; i < pool.decision.n_actions; i++)
			*ret_lent |= pool.decision.actions[i].reason == REASON_LENT;
		if (pool.decision.end_kept != REASON_NONE)
			end = pool.decision.end_kept;
	}
	pool_free(&pool);
	return end;
}

Test(kept, makes_room_for_a_loan)
{
	bool lent;

	cr_assert_eq(climb(250 * MIB, 0, &lent), REASON_NONE);
	cr_assert(lent, "the budget has it");
	cr_assert_eq(climb(250 * MIB, 80 * MIB, &lent), REASON_ROOM);
	cr_assert_not(lent, "but for the one in quarantine");
	cr_assert_eq(climb(330 * MIB, 80 * MIB, &lent), REASON_NONE);
	cr_assert(lent, "which is not in the way here");
	cr_assert_eq(climb(170 * MIB, 5 * MIB, &lent), REASON_NONE);
	cr_assert_not(lent, "nor without it");
}

Test(kept, goes_before_one_that_serves_when_the_host_is_short)
{
	for (unsigned int kept = 0; kept < 2; kept++) {
		struct pool pool = pool_with_kept(kept * 20 * MIB);
		enum reason end = REASON_NONE, restart = REASON_NONE;

		for (usec_t now = 1000 * SEC; now < 1060 * SEC; now += SEC) {
			for (size_t i = 0; i < 2; i++)
				pool.slots[i].usage_bytes = pool.slots[i].charged_bytes =
					125 * MIB;
			pool.seen.host_pressure_usec = now;
			pool_decide(&pool, now);
			for (size_t i = 0; i < pool.decision.n_actions; i++)
				if (pool.decision.actions[i].kind <= ACTION_DRAIN)
					restart = pool.decision.actions[i].reason;
			if (pool.decision.end_kept != REASON_NONE)
				end = pool.decision.end_kept;
		}
		cr_assert_eq(end, kept ? REASON_HOST : REASON_NONE);
		cr_assert_eq(restart, kept ? REASON_NONE : REASON_HOST);
		pool_free(&pool);
	}
}

/* Its growth is found out in time, and not held against it before. */
Test(kept, goes_when_the_budget_is_used_up)
{
	struct pool pool = pool_with_kept(0);
	enum reason end = REASON_NONE;
	uint64_t kept = 20 * MIB;

	pool.limits.budget_bytes = 500 * MIB;
	for (usec_t now = 1000 * SEC; end == REASON_NONE && kept < 500 * MIB;
	     now += SEC, kept += 2 * MIB) {
		pool.seen.kept_bytes = kept;
		end = pool_decide(&pool, now)->end_kept;
	}
	cr_assert_eq(end, REASON_HOST);
	cr_assert_gt(200 * MIB + kept, 485 * MIB);
	cr_assert_lt(200 * MIB + kept, 500 * MIB);
	pool_free(&pool);
}

/* No worker that serves is replaced for what can be had from it. */
Test(kept, counts_as_free_until_then)
{
	struct pool pool = pool_with_kept(180 * MIB);

	pool.limits.budget_bytes = 500 * MIB;
	pool.limits.worker_max_bytes = 400 * MIB;
	for (usec_t now = 1000 * SEC; now < 1060 * SEC; now += SEC) {
		for (size_t i = 0; i < 2; i++)
			pool.slots[i].usage_bytes = pool.slots[i].charged_bytes =
				130 * MIB;
		pool_decide(&pool, now);
		cr_assert_eq(pool.decision.end_kept, REASON_NONE);
		cr_assert_null(pool_action(&pool, ACTION_SURGE));
		cr_assert_null(pool_action(&pool, ACTION_DRAIN));
	}
	pool_free(&pool);
}
