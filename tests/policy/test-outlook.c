/* What the policy says of its plans: the numbers that `trimtabctl explain` turns into words. */
#include <errno.h>

#include "pool.h"

#define MIN  USEC_PER_MIN
#define HOUR USEC_PER_HOUR

static struct outlook outlook_of(const struct pool *pool, uint32_t slot)
{
	struct outlook o;

	cr_assert_eq(policy_outlook(pool->policy, slot, &o), 0);
	return o;
}

static struct pool_outlook pool_outlook_of(const struct pool *pool)
{
	struct pool_outlook o;

	policy_pool_outlook(pool->policy, &o);
	return o;
}

/* Every worker grows by so much an hour, looked at every minute. Returns the time after. */
static usec_t grow(struct pool *pool, usec_t now, usec_t length, uint64_t bytes_per_hour)
{
	for (usec_t end = now + length; now < end; now += MIN) {
		for (size_t i = 0; i < pool->seen.n_slots; i++) {
			pool->slots[i].usage_bytes += bytes_per_hour / 60;
			pool->slots[i].charged_bytes = pool->slots[i].usage_bytes;
		}
		pool_decide(pool, now);
	}
	return now - MIN;
}

Test(outlook, a_worker_that_does_not_grow_has_nothing_planned)
{
	struct pool pool = pool_new(2);
	struct outlook o;

	pool_serve(&pool, 60 * MIB);
	grow(&pool, 2 * SEC, HOUR, 0);
	o = outlook_of(&pool, 0);
	cr_assert_eq(o.reason, REASON_NONE);
	cr_assert_eq(o.restart_usec, USEC_NEVER);
	cr_assert_eq(o.reaches_usec, USEC_NEVER);
	cr_assert_eq(o.life_usec, USEC_NEVER);
	cr_assert_eq(o.waiting, WAITING_NONE);
	cr_assert_eq(o.usage_bytes, 60 * MIB);
	cr_assert_eq(pool_outlook_of(&pool).life_usec, USEC_NEVER);
	cr_assert_eq(pool_outlook_of(&pool).footprint_bytes, 60 * MIB);
	cr_assert_eq(pool_outlook_of(&pool).used_bytes, 120 * MIB);
	cr_assert_eq(pool_outlook_of(&pool).n_planned, 0);
	pool_free(&pool);
}

Test(outlook, growth_tells_when_the_limit_is_reached_and_how_long_a_life_is)
{
	struct pool pool = pool_new(2);
	struct outlook first, second;
	usec_t now;

	pool.limits.trim_enabled = false;
	pool_serve(&pool, 60 * MIB);
	now = grow(&pool, 2 * SEC, HOUR, 60 * MIB); /* 120 of 512 MiB: 6 h 32 min left */
	first = outlook_of(&pool, 0);
	second = outlook_of(&pool, 1);
	cr_assert_eq(first.reason, REASON_MEMORY);
	cr_assert_geq(first.reaches_usec, now + 6 * HOUR);
	cr_assert_leq(first.reaches_usec, now + 7 * HOUR);
	cr_assert_geq(first.life_usec, 7 * HOUR);
	cr_assert_leq(first.life_usec, 8 * HOUR);
	cr_assert_lt(first.restart_usec, first.reaches_usec);
	/* Equal workers: one of them follows the other by the gap. */
	cr_assert_neq(first.follows, second.follows);
	if (first.follows) {
		cr_assert_eq(first.predecessor, 1);
		cr_assert_eq(first.after_usec, 600 * SEC);
	} else {
		cr_assert_eq(second.predecessor, 0);
		cr_assert_eq(second.after_usec, 600 * SEC);
	}
	cr_assert_eq(pool_outlook_of(&pool).gap_usec, 600 * SEC);
	cr_assert_not(pool_outlook_of(&pool).gap_shrunk);
	cr_assert_eq(pool_outlook_of(&pool).n_planned, 2);
	cr_assert_geq(pool_outlook_of(&pool).life_usec, 7 * HOUR);
	cr_assert_leq(pool_outlook_of(&pool).life_usec, 8 * HOUR);
	pool_free(&pool);
}

/* One that lives for L and one that lives for ever are restarted as often as two of 2 L. */
Test(outlook, mean_life_counts_restarts)
{
	struct pool pool = pool_new(2);
	usec_t one;

	pool.limits.trim_enabled = false;
	pool_serve(&pool, 60 * MIB);
	for (usec_t now = 2 * SEC; now < HOUR; now += MIN) {
		pool.slots[0].usage_bytes += MIB;
		pool.slots[0].charged_bytes = pool.slots[0].usage_bytes;
		pool_decide(&pool, now);
	}
	one = outlook_of(&pool, 0).life_usec;
	cr_assert_neq(one, USEC_NEVER);
	cr_assert_geq(pool_outlook_of(&pool).life_usec, 2 * one - MIN);
	cr_assert_leq(pool_outlook_of(&pool).life_usec, 2 * one + MIN);
	pool_free(&pool);
}

Test(outlook, a_shrunk_gap_is_told)
{
	struct pool pool = pool_new(2);

	pool_serve(&pool, 60 * MIB);
	pool.slots[0].wish = pool.slots[1].wish = WISH_RELOAD;
	pool_decide(&pool, 1000 * SEC);
	cr_assert(pool_outlook_of(&pool).gap_shrunk);
	cr_assert_eq(pool_outlook_of(&pool).gap_usec, 30 * SEC);
	pool_free(&pool);
}

Test(outlook, what_a_worker_waits_for)
{
	struct pool pool = pool_new(3);
	uint32_t waits;

	pool_serve(&pool, 60 * MIB);
	pool_decide(&pool, 2 * SEC);
	for (uint32_t i = 0; i < 2; i++)
		pool.slots[i].wish = WISH_OPERATOR;
	pool_decide(&pool, 1000 * SEC);
	cr_assert_not_null(pool_action(&pool, ACTION_SURGE));
	waits = 1 - pool_action(&pool, ACTION_SURGE)->slot;
	cr_assert_eq(outlook_of(&pool, waits).waiting, WAITING_OTHER, "told at once");
	cr_assert_eq(outlook_of(&pool, waits).other, 1 - waits);
	cr_assert_eq(outlook_of(&pool, 1 - waits).waiting, WAITING_NONE);
	policy_note_started(pool.policy, 1 - waits, 1000 * SEC);
	pool.slots[1 - waits].phase = SLOT_SURGING;

	pool_decide(&pool, 1001 * SEC);
	cr_assert_eq(outlook_of(&pool, waits).waiting, WAITING_OTHER);
	cr_assert_eq(outlook_of(&pool, waits).other, 1 - waits);
	cr_assert_eq(outlook_of(&pool, waits).reason, REASON_OPERATOR);

	pool_replace(&pool, 1 - waits, 1000 * SEC, 2 * SEC, 60 * MIB);
	pool.slots[1 - waits].phase = SLOT_SERVING;
	pool_decide(&pool, 1003 * SEC);
	cr_assert_eq(outlook_of(&pool, waits).waiting, WAITING_GAP);
	cr_assert_eq(outlook_of(&pool, waits).restart_usec, 1030 * SEC);
	cr_assert_eq(outlook_of(&pool, 2).waiting, WAITING_NONE);
	pool_free(&pool);
}

Test(outlook, a_slot_that_is_down_keeps_the_others_waiting)
{
	struct pool pool = pool_new(2);

	pool_serve(&pool, 60 * MIB);
	pool_decide(&pool, 2 * SEC);
	policy_note_crashed(pool.policy, 0, 100 * SEC, false);
	policy_note_started(pool.policy, 0, 100 * SEC);
	pool.slots[0] = (struct slot_seen){ .phase = SLOT_BOOTING };
	pool.slots[1].wish = WISH_OPERATOR;
	pool_decide(&pool, 200 * SEC);
	cr_assert_eq(outlook_of(&pool, 1).waiting, WAITING_OTHER);
	cr_assert_eq(outlook_of(&pool, 1).other, 0);
	pool_free(&pool);
}

Test(outlook, a_boot_that_failed_tells_when_the_next_is)
{
	struct pool pool = pool_new(4);
	struct outlook o;

	pool_decide(&pool, SEC);
	cr_assert_eq(outlook_of(&pool, 3).waiting, WAITING_BOOTS, "two boot at once");
	policy_note_started(pool.policy, 0, SEC);
	policy_note_boot_failed(pool.policy, 0, 2 * SEC);
	pool_decide(&pool, 2 * SEC);
	o = outlook_of(&pool, 0);
	cr_assert_eq(o.waiting, WAITING_BACKOFF);
	cr_assert_eq(o.n_boot_failures, 1);
	cr_assert_eq(o.not_before_usec, 3500000);
	pool_decide(&pool, 4 * SEC);
	cr_assert_eq(outlook_of(&pool, 0).waiting, WAITING_NONE);
	pool_free(&pool);
}

Test(outlook, trims_and_holds_are_told)
{
	struct pool pool = pool_new(1);
	struct outlook o;

	pool.limits.budget_bytes = 512 * MIB; /* nothing to lend */
	pool_serve(&pool, 60 * MIB);
	pool_decide(&pool, 2 * SEC);
	policy_note_trimmed(pool.policy, 0, 3 * SEC, 160 * MIB, 98 * MIB, 1000);
	pool_decide(&pool, 3 * SEC);
	o = outlook_of(&pool, 0);
	cr_assert_eq(o.n_trims, 1);
	cr_assert_eq(o.kept_permyriad, 3800);
	cr_assert_eq(pool_outlook_of(&pool).n_trims, 1);
	cr_assert_eq(pool_outlook_of(&pool).kept_permyriad, 3800);

	pool.slots[0].usage_bytes = pool.slots[0].charged_bytes = 470 * MIB;
	pool.slots[0].high_events++;
	(void)policy_raise_tripwire(pool.policy, &pool.limits, 0, 20 * SEC, 470 * MIB);
	pool_decide(&pool, 20 * SEC);
	o = outlook_of(&pool, 0);
	cr_assert(o.held);
	cr_assert_eq(o.held_since_usec, 20 * SEC);
	cr_assert_eq(o.held_until_usec, 320 * SEC);
	cr_assert_eq(pool_outlook_of(&pool).n_held, 1);
	pool_free(&pool);
}

Test(outlook, no_such_slot)
{
	struct pool pool = pool_new(1);
	struct outlook o;

	cr_assert_eq(policy_outlook(pool.policy, 1, &o), -EINVAL);
	pool_free(&pool);
}
