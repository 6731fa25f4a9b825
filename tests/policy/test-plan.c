/* Deadlines to start times, against the definition and against brute force. */
#include "policy/plan.h"

#include <stdio.h>
#include <stdlib.h>

#include "pool.h"

static struct plan make(struct plan_entry *entries, size_t n, usec_t now, usec_t last,
			usec_t gap)
{
	for (size_t i = 0; i < n; i++) {
		entries[i].last_call_usec = entries[i].deadline_usec;
		if (entries[i].doom_usec == 0)
			entries[i].doom_usec = USEC_NEVER;
	}
	return plan_make(entries, n, now, last, gap, 30 * SEC);
}

Test(plan, latest_start_leaves_each_its_life)
{
	struct plan_entry e[8] = {
		{ .slot = 0, .deadline_usec = 5000 * SEC },
		{ .slot = 1, .deadline_usec = 5100 * SEC },
		{ .slot = 2, .deadline_usec = 5050 * SEC },
		{ .slot = 3, .deadline_usec = 9000 * SEC },
	};
	struct plan plan = make(e, 4, 0, USEC_NEVER, 600 * SEC);

	cr_assert(plan.feasible);
	cr_assert_eq(plan.gap_usec, 600 * SEC);
	cr_assert_eq(e[0].slot, 0);
	cr_assert_eq(e[1].slot, 2);
	cr_assert_eq(e[2].slot, 1);
	cr_assert_eq(e[3].slot, 3);
	cr_assert_eq(e[3].start_usec, 9000 * SEC);
	cr_assert_eq(e[2].start_usec, 5100 * SEC);
	cr_assert_eq(e[1].start_usec, 4500 * SEC);
	cr_assert_eq(e[0].start_usec, 3900 * SEC);
}

Test(plan, gap_shrinks_by_no_more_than_it_must)
{
	struct plan_entry e[6] = {
		{ .deadline_usec = 300 * SEC },
		{ .deadline_usec = 300 * SEC },
		{ .deadline_usec = 300 * SEC },
	};
	struct plan plan = make(e, 3, 0, USEC_NEVER, 600 * SEC);

	cr_assert(!plan.feasible);
	cr_assert_eq(plan.gap_usec, 150 * SEC);
	cr_assert_eq(e[0].start_usec, 0);
	cr_assert_eq(e[1].start_usec, 150 * SEC);
	cr_assert_eq(e[2].start_usec, 300 * SEC);
}

Test(plan, gap_never_shrinks_below_its_floor)
{
	struct plan_entry e[8] = { { .deadline_usec = 1 },
				   { .deadline_usec = 1 },
				   { .deadline_usec = 1 },
				   { .deadline_usec = 1 } };

	cr_assert_eq(make(e, 4, 10 * SEC, 9 * SEC, 600 * SEC).gap_usec, 30 * SEC);
}

/* Four workers held at once, the last of them until 50 s from now. */
Test(plan, gap_goes_below_its_floor_for_those_who_would_die)
{
	struct plan_entry e[8] = { { .deadline_usec = 1, .doom_usec = 20 * SEC },
				   { .deadline_usec = 2, .doom_usec = 40 * SEC },
				   { .deadline_usec = 3, .doom_usec = 50 * SEC },
				   { .deadline_usec = 4, .doom_usec = 55 * SEC } };
	struct plan plan = make(e, 4, 10 * SEC, USEC_NEVER, 600 * SEC);

	cr_assert(plan.doomed);
	cr_assert_eq(plan.gap_usec, 15 * SEC);
	/* There is time for all of them at the floor. */
	for (size_t i = 0; i < 4; i++)
		e[i].doom_usec = (i + 1) * 40 * SEC;
	plan = make(e, 4, 10 * SEC, USEC_NEVER, 600 * SEC);
	cr_assert(!plan.doomed);
	cr_assert_eq(plan.gap_usec, 30 * SEC);
}

Test(plan, the_last_restart_takes_part)
{
	struct plan_entry e[2] = { { .deadline_usec = 1400 * SEC } };

	cr_assert(make(e, 1, 1000 * SEC, 700 * SEC, 600 * SEC).feasible);
	cr_assert_eq(make(e, 1, 1000 * SEC, 900 * SEC, 600 * SEC).gap_usec, 500 * SEC);
}

Test(plan, what_never_comes_is_never_started)
{
	struct plan_entry e[4] = { { .slot = 1, .deadline_usec = USEC_NEVER },
				   { .slot = 2, .deadline_usec = 50 * SEC } };

	cr_assert(make(e, 2, 0, USEC_NEVER, 600 * SEC).feasible);
	cr_assert_eq(e[0].slot, 2);
	cr_assert_eq(e[0].start_usec, 50 * SEC);
	cr_assert_eq(e[1].start_usec, USEC_NEVER);
	cr_assert(plan_make(e, 0, 0, USEC_NEVER, 1, 1).feasible);
}

/* Could so many equal gaps from the earliest possible start meet all deadlines? */
static bool meets(const struct plan_entry *e, size_t n, usec_t now, usec_t last,
		  usec_t gap)
{
	usec_t start = last == USEC_NEVER ? now : u64_max(now, last + gap);

	for (size_t i = 0; i < n; i++)
		if (start + i * gap > u64_max(e[i].deadline_usec, now))
			return false;
	return true;
}

Test(plan, agrees_with_brute_force)
{
	srand(7);
	for (unsigned int round = 0; round < 20000; round++) {
		size_t n = 1 + (size_t)rand() % 12;
		struct plan_entry e[24] = { 0 };
		usec_t now = 10000,
		       last = rand() % 3 ? (usec_t)(rand() % 10000) : USEC_NEVER;
		usec_t gap = 1 + (usec_t)(rand() % 500),
		       floor = 1 + (usec_t)(rand() % 100);
		struct plan plan;

		for (size_t i = 0; i < n; i++)
			e[i].deadline_usec = 9000 + (usec_t)(rand() % 8000);
		for (size_t i = 0; i < n; i++) {
			e[i].last_call_usec = e[i].deadline_usec;
			e[i].doom_usec = USEC_NEVER;
		}
		plan = plan_make(e, n, now, last, gap, floor);
		for (size_t i = 0; i + 1 < n; i++) {
			cr_assert_leq(e[i].deadline_usec, e[i + 1].deadline_usec);
			cr_assert_geq(e[i + 1].start_usec - e[i].start_usec,
				      plan.gap_usec);
		}
		cr_assert_eq(plan.feasible, meets(e, n, now, last, gap));
		if (plan.feasible) {
			cr_assert_eq(plan.gap_usec, gap);
		} else if (plan.gap_usec > u64_min(floor, gap)) {
			cr_assert(meets(e, n, now, last, plan.gap_usec));
			cr_assert(!meets(e, n, now, last, plan.gap_usec + 1));
		}
	}
}

/* Printed, not asserted: a busy machine must not fail a test. The bound that is asserted is the
 * one that an algorithm of higher order would miss on any machine. */
Test(plan, ten_thousand_workers)
{
	const size_t n = 10000;
	struct plan_entry *e = calloc(2 * n, sizeof(*e));
	usec_t best = USEC_NEVER;

	cr_assert(e);
	for (unsigned int round = 0; round < 20; round++) {
		usec_t begin;

		srand(round);
		for (size_t i = 0; i < n; i++)
			e[i] = (struct plan_entry){
				.slot = (uint32_t)i,
				.deadline_usec = (usec_t)rand() * 1000,
			};
		begin = time_now_usec();
		make(e, n, 0, 0, SEC);
		best = u64_min(best, time_now_usec() - begin);
	}
	printf("10,000 workers planned in %lu us\n", (unsigned long)best);
	cr_assert_lt(best, 500 * USEC_PER_MSEC);
	free(e);
}
