/* The table as a graph: what must hold of every cell, and the walks that a worker takes. */
#include "process/lifecycle.h"

#include <criterion/criterion.h>
#include <string.h>

#include "util/cleanup.h"

static const enum worker_state states[] = {
	WORKER_BOOTING, WORKER_SERVING, WORKER_DRAINING, WORKER_ABORTING,
	WORKER_DYING,	WORKER_KEPT,	WORKER_ENDING,
};

static const struct transition *cell(enum worker_state state, int event)
{
	return &lifecycle[state][event];
}

Test(lifecycle, every_cell_is_sensible)
{
	for (size_t i = 0; i < ELEMENTS(states); i++)
		for (int event = 0; event < N_WORKER_EVENTS; event++) {
			const struct transition *t = cell(states[i], event);

			cr_assert_lt(t->next, N_WORKER_STATES);
			if (t->next == WORKER_NONE) {
				cr_assert_eq(t->step, STEP_NONE,
					     "a step without a state");
				continue;
			}
			cr_assert_neq(t->next, WORKER_BOOTING, "%s goes back to boot",
				      worker_state_name(states[i]));
			cr_assert_neq(t->next, states[i], "%s stays where it is",
				      worker_state_name(states[i]));
			/* Each state is entered by its own step, whatever the way. */
			switch (t->step) {
			case STEP_NONE:
				cr_assert_fail("%s is entered without a step",
					       worker_state_name(t->next));
				break;
			case STEP_SERVE:
				cr_assert_eq(t->next, WORKER_SERVING);
				break;
			case STEP_TERM:
				cr_assert_eq(t->next, WORKER_DRAINING);
				break;
			case STEP_ABORT:
				cr_assert_eq(t->next, WORKER_ABORTING);
				break;
			case STEP_KILL:
				cr_assert_eq(t->next, WORKER_DYING);
				break;
			case STEP_KEEP:
				cr_assert_eq(t->next, WORKER_KEPT);
				break;
			case STEP_END:
				cr_assert_eq(t->next, WORKER_ENDING);
				break;
			}
		}
}

Test(lifecycle, no_state_leads_out_of_none)
{
	for (int event = 0; event < N_WORKER_EVENTS; event++)
		cr_assert_eq(cell(WORKER_NONE, event)->next, WORKER_NONE);
}

Test(lifecycle, dying_is_final)
{
	for (int event = 0; event < N_WORKER_EVENTS; event++)
		cr_assert_eq(cell(WORKER_DYING, event)->next, WORKER_NONE);
}

/* However a worker behaves, patience running out twice ends it; a quick stop ends it at once. */
Test(lifecycle, every_state_but_the_last_can_be_ended)
{
	for (size_t i = 0; i < ELEMENTS(states); i++) {
		if (states[i] == WORKER_DYING)
			continue;
		cr_assert_eq(cell(states[i], WORKER_CONDEMNED)->next, WORKER_DYING);
		if (states[i] == WORKER_SERVING) /* it alone has no deadline */
			continue;

		enum worker_state next = cell(states[i], WORKER_TIMEOUT)->next;

		if (next != WORKER_DYING)
			next = cell(next, WORKER_TIMEOUT)->next;
		cr_assert_eq(next, WORKER_DYING);
	}
	cr_assert_eq(cell(WORKER_SERVING, WORKER_TIMEOUT)->next, WORKER_NONE);
}

Test(lifecycle, asked_once_told_once)
{
	cr_assert_eq(cell(WORKER_BOOTING, WORKER_ASKED)->step, STEP_TERM);
	cr_assert_eq(cell(WORKER_SERVING, WORKER_ASKED)->step, STEP_TERM);
	/* A second TERM would cut short what the first one lets finish. */
	cr_assert_eq(cell(WORKER_DRAINING, WORKER_ASKED)->next, WORKER_NONE);
	cr_assert_eq(cell(WORKER_ABORTING, WORKER_ASKED)->next, WORKER_NONE);
}

/* Who hangs is asked where before it is killed; who was asked to go has had its time. */
/* Only who was asked to go, and once; from there no silence and no message of its own ends it. */
Test(lifecycle, kept_after_its_drain)
{
	for (size_t i = 0; i < ELEMENTS(states); i++)
		cr_assert_eq(cell(states[i], WORKER_STAYS)->next,
			     states[i] == WORKER_DRAINING ? WORKER_KEPT : WORKER_NONE,
			     "%s", worker_state_name(states[i]));
	cr_assert_eq(cell(WORKER_KEPT, WORKER_ASKED)->step, STEP_END);
	cr_assert_eq(cell(WORKER_KEPT, WORKER_TIMEOUT)->step, STEP_END);
	cr_assert_eq(cell(WORKER_ENDING, WORKER_TIMEOUT)->step, STEP_KILL);
	cr_assert_eq(cell(WORKER_ENDING, WORKER_ASKED)->next, WORKER_NONE);
	cr_assert_eq(cell(WORKER_ENDING, WORKER_STAYS)->next, WORKER_NONE);
}

/* An upgrade hands these numbers over: they never change. */
Test(lifecycle, numbers_are_for_ever)
{
	cr_assert_eq(WORKER_BOOTING, 1);
	cr_assert_eq(WORKER_SERVING, 2);
	cr_assert_eq(WORKER_DRAINING, 3);
	cr_assert_eq(WORKER_ABORTING, 4);
	cr_assert_eq(WORKER_DYING, 5);
	cr_assert_eq(WORKER_KEPT, 6);
	cr_assert_eq(WORKER_ENDING, 7);
}

Test(lifecycle, aborted_first)
{
	cr_assert_eq(cell(WORKER_BOOTING, WORKER_TIMEOUT)->step, STEP_ABORT);
	cr_assert_eq(cell(WORKER_SERVING, WORKER_SILENT)->step, STEP_ABORT);
	cr_assert_eq(cell(WORKER_DRAINING, WORKER_TIMEOUT)->step, STEP_KILL);
	cr_assert_eq(cell(WORKER_ABORTING, WORKER_TIMEOUT)->step, STEP_KILL);
}

Test(lifecycle, readiness_is_news_once)
{
	for (size_t i = 0; i < ELEMENTS(states); i++)
		cr_assert_eq(cell(states[i], WORKER_IS_READY)->next,
			     states[i] == WORKER_BOOTING ? WORKER_SERVING : WORKER_NONE,
			     "%s", worker_state_name(states[i]));
}

Test(lifecycle, only_a_serving_worker_is_watched_for_silence)
{
	for (size_t i = 0; i < ELEMENTS(states); i++)
		cr_assert_eq(cell(states[i], WORKER_SILENT)->next,
			     states[i] == WORKER_SERVING ? WORKER_ABORTING : WORKER_NONE,
			     "%s", worker_state_name(states[i]));
}

/* From the first state along any cells: every state is reached, and none twice on one way. */
static void walk(enum worker_state state, unsigned seen, unsigned *reached)
{
	cr_assert_not(seen & 1u << state, "%s is reached again",
		      worker_state_name(state));
	*reached |= 1u << state;
	for (int event = 0; event < N_WORKER_EVENTS; event++)
		if (cell(state, event)->next != WORKER_NONE)
			walk(cell(state, event)->next, seen | 1u << state, reached);
}

Test(lifecycle, every_life_ends)
{
	unsigned reached = 0;

	walk(WORKER_BOOTING, 0, &reached);
	for (size_t i = 0; i < ELEMENTS(states); i++)
		cr_assert(reached & 1u << states[i], "%s is never reached",
			  worker_state_name(states[i]));
}

Test(lifecycle, has_a_name_for_each)
{
	for (int a = 0; a < N_WORKER_STATES; a++) {
		cr_assert_not_null(worker_state_name((enum worker_state)a));
		for (int b = 0; b < a; b++)
			cr_assert_str_neq(worker_state_name((enum worker_state)a),
					  worker_state_name((enum worker_state)b));
	}
}
