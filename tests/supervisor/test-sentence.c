/* The sentences of `trimtabctl explain`, word for word. */
#include "supervisor/sentence.h"

#include <criterion/criterion.h>
#include <string.h>

#define MIB ((uint64_t)1 << 20)
#define NOW (1000 * USEC_PER_HOUR)

static const struct sentence_slot serving = {
	.phase = SLOT_SERVING,
	.can_trim = true,
	.until_usec = USEC_NEVER,
	.usage_bytes = 312 * MIB,
};

static const struct outlook calm = {
	.restart_usec = USEC_NEVER,
	.deadline_usec = USEC_NEVER,
	.reaches_usec = USEC_NEVER,
	.life_usec = USEC_NEVER,
	.next_trim_usec = USEC_NEVER,
	.limit_bytes = 512 * MIB,
};

static void expect_slot(const struct sentence_slot *slot, const struct outlook *o,
			const char *wanted)
{
	char text[SENTENCE_MAX];

	sentence_slot(text, slot, o, NOW);
	cr_assert_str_eq(text, wanted, "%s", text);
}

Test(sentence, nothing_is_planned_for_what_does_not_grow)
{
	expect_slot(&serving, &calm,
		    "uses 312.0 MiB of 512.0 MiB; does not grow; nothing is planned; "
		    "no trim is due");
}

Test(sentence, growth_plan_and_trim)
{
	struct outlook o = calm;

	o.reason = REASON_MEMORY;
	o.rate_bytes_per_sec = 3612;
	o.rate_error_bytes_per_sec = 233;
	o.reaches_usec = NOW + 190 * USEC_PER_MIN;
	o.restart_usec = NOW + 178 * USEC_PER_MIN;
	o.follows = true;
	o.predecessor = 0;
	o.after_usec = 15 * USEC_PER_MIN;
	o.next_trim_usec = NOW + 40 * USEC_PER_SEC;
	o.n_trims = 3;
	o.kept_permyriad = 6200;
	expect_slot(
		&serving, &o,
		"uses 312.0 MiB of 512.0 MiB; grows 12.4 MiB/h (±819.1 KiB/h), reaches "
		"its limit in about 3 h 10 min; replacement planned in 2 h 58 min, 15 "
		"min after worker 1: forecast to reach its limit; next trim not before "
		"40.0 s, trimming gives back 38 % of the growth here");
}

Test(sentence, a_rate_within_its_error_is_no_growth)
{
	struct outlook o = calm;

	o.rate_bytes_per_sec = 100;
	o.rate_error_bytes_per_sec = 51;
	expect_slot(&serving, &o,
		    "uses 312.0 MiB of 512.0 MiB; does not grow; nothing is planned; "
		    "no trim is due");
	o.rate_error_bytes_per_sec = 50;
	expect_slot(&serving, &o,
		    "uses 312.0 MiB of 512.0 MiB; grows 351.6 KiB/h (±175.8 KiB/h), not "
		    "long enough yet to tell when it reaches its limit; nothing is "
		    "planned; no trim is due");
}

Test(sentence, a_runaway_that_is_held)
{
	struct outlook o = calm;

	o.reason = REASON_MEMORY;
	o.rate_bytes_per_sec = 20 << 20;
	o.reaches_usec = NOW - 1;
	o.restart_usec = NOW;
	o.loan_bytes = 64 * MIB;
	o.held = true;
	o.held_since_usec = NOW - 12 * USEC_PER_SEC;
	o.held_until_usec = NOW + 108 * USEC_PER_SEC;
	o.waiting = WAITING_OTHER;
	o.other = 1;
	o.futile_trims = 2;
	expect_slot(
		&serving, &o,
		"uses 312.0 MiB of 512.0 MiB, 64.0 MiB of that on loan; grows 20.0 "
		"MiB/s (±0.0 KiB/h), and is at its limit; held: slowed for 12.0 s until "
		"its turn comes, for at most 108.0 s more; replacement due now: "
		"forecast to reach its limit, waits for its turn: worker 2 is being "
		"replaced or down; no trim is due, the last ones gave nothing back");
}

Test(sentence, other_waits)
{
	struct outlook o = calm;

	o.limit_bytes = UINT64_MAX;
	o.reason = REASON_RELOAD;
	o.restart_usec = NOW + 20 * USEC_PER_SEC;
	o.waiting = WAITING_GAP;
	expect_slot(
		&serving, &o,
		"uses 312.0 MiB; does not grow; replacement planned in 20.0 s: reload, "
		"waits for its turn: the gap to the last restart; no trim is due");
	o.restart_usec = USEC_NEVER;
	o.waiting = WAITING_BACKOFF;
	o.n_boot_failures = 1;
	o.not_before_usec = NOW + 3 * USEC_PER_SEC;
	expect_slot(&serving, &o,
		    "uses 312.0 MiB; does not grow; nothing is planned; its last boot "
		    "failed; tried again in 3.0 s; no trim is due");
}

Test(sentence, a_slot_without_a_worker)
{
	struct sentence_slot down = { .phase = SLOT_EMPTY, .until_usec = USEC_NEVER };
	struct outlook o = calm;

	expect_slot(&down, &o, "is down; starts at once");
	o.waiting = WAITING_BOOTS;
	expect_slot(&down, &o,
		    "is down; starts when one of those that boot now is ready");
	o.waiting = WAITING_BACKOFF;
	o.n_boot_failures = 3;
	o.not_before_usec = NOW + 12 * USEC_PER_SEC;
	expect_slot(&down, &o,
		    "is down; its last 3 boots failed; starts again in 12.0 s");
	down.retire = true;
	expect_slot(&down, &o, "is one too many and goes for good");
}

Test(sentence, what_is_under_way)
{
	struct sentence_slot slot = serving;

	slot.phase = SLOT_SURGING;
	slot.cause = REASON_LIFETIME;
	slot.since_usec = NOW - 2 * USEC_PER_SEC;
	slot.until_usec = NOW + 58 * USEC_PER_SEC;
	expect_slot(
		&slot, &calm,
		"is being replaced: reached its lifetime; the new one boots for 2.0 s, "
		"given up in 58.0 s; uses 312.0 MiB of 512.0 MiB");
	slot.phase = SLOT_DRAINING;
	expect_slot(&slot, &calm,
		    "finishes its requests for 2.0 s, given up in 58.0 s: reached its "
		    "lifetime");
	slot.phase = SLOT_BOOTING;
	slot.until_usec = USEC_NEVER;
	slot.cause = REASON_CRASHED;
	expect_slot(&slot, &calm, "boots for 2.0 s: its last worker died");
	slot.retire = true;
	slot.phase = SLOT_SERVING;
	slot.can_trim = false;
	expect_slot(
		&slot, &calm,
		"is one too many and goes for good; uses 312.0 MiB of 512.0 MiB; does "
		"not grow; takes no trim requests");
	slot.retire = false;
	slot.can_trim = slot.trimming = true;
	expect_slot(
		&slot, &calm,
		"uses 312.0 MiB of 512.0 MiB; does not grow; nothing is planned; trims "
		"just now");
}

static void expect_pool(const struct sentence_pool *pool, const struct pool_outlook *o,
			const struct limits *limits, const char *wanted)
{
	char text[SENTENCE_MAX];

	sentence_pool(text, pool, o, limits, NOW);
	cr_assert_str_eq(text, wanted, "%s", text);
}

Test(sentence, the_pool)
{
	struct limits limits = { .budget_bytes = 4096 * MIB,
				 .min_gap_usec = 7200 * USEC_PER_SEC };
	struct sentence_pool pool = { .n_serving = 7, .n_wanted = 8, .trims = true };
	struct pool_outlook o = { .used_bytes = 1024 * MIB,
				  .gap_usec = 7200 * USEC_PER_SEC };

	expect_pool(&pool, &o, &limits,
		    "7 of 8 workers serve; uses 1024.0 MiB of a budget of 4096.0 MiB; no "
		    "restart is planned, the gap is 2 h 0 min; no trim was needed yet");
	o.n_planned = 3;
	o.gap_shrunk = true;
	o.gap_usec = 30 * USEC_PER_SEC;
	o.last_restart_usec = NOW - 20 * USEC_PER_SEC;
	o.lent_bytes = 64 * MIB;
	o.n_lent = 1;
	o.n_held = 1;
	o.host_since_usec = NOW - 15 * USEC_PER_SEC;
	o.n_trims = o.futile_trims = 8;
	pool.trimming_is_futile = true;
	pool.why_futile = "a leak";
	expect_pool(
		&pool, &o, &limits,
		"7 of 8 workers serve; uses 1024.0 MiB of a budget of 4096.0 MiB, 64.0 "
		"MiB of it lent to 1 worker; 3 restarts are planned, 30.0 s apart "
		"instead of 2 h 0 min, which what is due leaves no room for, the last "
		"one was 20.0 s ago; 1 held until its turn comes; the host has been "
		"short of memory for 15.0 s; trimming does not help here, 8 in a row "
		"gave nothing back: a leak");
	pool.trims = false;
	pool.reforked = 3;
	limits.budget_bytes = UINT64_MAX;
	o = (struct pool_outlook){ .used_bytes = MIB,
				   .n_planned = 1,
				   .gap_usec = USEC_PER_SEC };
	expect_pool(
		&pool, &o, &limits,
		"7 of 8 workers serve; uses 1.0 MiB; 1 restart is planned, at least "
		"1.0 s apart; new workers come from a child of worker 3; trims are off");
	pool.reforked = 0;
	pool.trims = true;
	pool.trimming_is_futile = false;
	o.n_trims = 1;
	o.kept_permyriad = 6200;
	expect_pool(&pool, &o, &limits,
		    "7 of 8 workers serve; uses 1.0 MiB; 1 restart is planned, at least "
		    "1.0 s "
		    "apart; trimming gives back 38 % of the growth");
}

/* Whatever the figures are, the sentence ends inside its buffer. */
Test(sentence, nonsense_is_cut)
{
	struct sentence_slot slot = serving;
	char text[SENTENCE_MAX + 1];
	struct outlook o;

	memset(&o, 0x7f, sizeof(o));
	o.waiting = WAITING_BACKOFF;
	o.reason = N_REASONS;
	o.held = o.follows = true;
	slot.usage_bytes = UINT64_MAX - 1;
	text[SENTENCE_MAX] = 'x';
	sentence_slot(text, &slot, &o, NOW);
	cr_assert_lt(strlen(text), SENTENCE_MAX);
	cr_assert_eq(text[SENTENCE_MAX], 'x');
}

Test(sentence, quarantine)
{
	struct sentence_slot slot = serving;

	slot.quarantine = SENTENCE_WANTED;
	slot.kept_pid = 4711;
	slot.kept_until_usec = USEC_NEVER;
	expect_slot(&slot, &calm,
		    "uses 312.0 MiB of 512.0 MiB; does not grow; nothing is planned; "
		    "no trim is due; pid 4711 goes into quarantine when it has been "
		    "replaced");
	slot.quarantine = SENTENCE_DRAINS;
	expect_slot(&slot, &calm,
		    "uses 312.0 MiB of 512.0 MiB; does not grow; nothing is planned; "
		    "no trim is due; pid 4711 finishes its requests and goes into "
		    "quarantine");
	slot.quarantine = SENTENCE_KEPT;
	slot.kept_until_usec = NOW + 9 * USEC_PER_MIN;
	expect_slot(&slot, &calm,
		    "uses 312.0 MiB of 512.0 MiB; does not grow; nothing is planned; "
		    "no trim is due; pid 4711 is in quarantine for another 9 min (gdb -p "
		    "4711)");
	slot.quarantine = SENTENCE_ENDS;
	slot.phase = SLOT_EMPTY;
	slot.retire = true;
	expect_slot(&slot, &calm,
		    "is one too many and goes for good; the quarantine of pid 4711 ends");
}
