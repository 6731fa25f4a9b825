/* The loop and the step. Owns the supervisor object; every other file here works on it.
 *
 * Single-threaded: everything runs in an sd-event callback. A callback must return 0 (sd-event
 * silently disables a source whose callback fails) and must not block. */
#include "supervisor/supervisor.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "report/journal.h"
#include "report/record.h"
#include "util/cleanup.h"

usec_t supervisor_now(struct supervisor *s)
{
	uint64_t now = 0;

	/* The time of this turn of the loop; before the first turn, the clock itself. */
	return sd_event_now(s->event, CLOCK_MONOTONIC, &now) < 0 ? time_now_usec() : now;
}

void supervisor_arm(struct supervisor *s, sd_event_source **timer, usec_t usec,
		    sd_event_time_handler_t handler, void *userdata)
{
	int r;

	if (!*timer) {
		if (usec == USEC_NEVER)
			return;
		r = sd_event_add_time(s->event, timer, CLOCK_MONOTONIC, usec,
				      USEC_PER_MSEC, handler, userdata);
		if (r < 0)
			journal_problem(0, r, "Cannot make a timer");
		return;
	}
	if (usec == USEC_NEVER) {
		(void)sd_event_source_set_enabled(*timer, SD_EVENT_OFF);
		return;
	}
	(void)sd_event_source_set_time(*timer, usec);
	(void)sd_event_source_set_enabled(*timer, SD_EVENT_ONESHOT);
}

void supervisor_wake(struct supervisor *s)
{
	(void)sd_event_source_set_enabled(s->step, SD_EVENT_ONESHOT);
}

static int on_time(sd_event_source *source, uint64_t usec, void *userdata)
{
	(void)source;
	(void)usec;
	supervisor_wake(userdata);
	return 0;
}

static void report_status(struct supervisor *s)
{
	unsigned n_serving = 0;

	for (unsigned i = 0; i < s->n_slots; i++)
		n_serving +=
			s->slots[i].worker && s->slots[i].worker->state == WORKER_SERVING;
	if (n_serving == s->told_serving && s->target == s->told_target)
		return;
	if (n_serving != s->told_serving)
		template_serving(s, n_serving);
	s->told_serving = n_serving;
	s->told_target = s->target;
	record_notify_manager("STATUS=%u of %u workers serve", n_serving, s->target);
}

/* observe -> decide -> apply -> report */
static int on_step(sd_event_source *source, void *userdata)
{
	struct supervisor *s = userdata;
	struct snapshot seen;

	(void)source;
	if (s->phase == PHASE_EMPTYING || s->phase == PHASE_STOPPING) {
		stop_if_empty(s);
		return 0;
	}
	listeners_settle(s);
	if (template_is_awaited(s))
		return 0; /* its first word is the next event */
	refork_consider(s);
	observe(s, &seen);
	decide(s->policy, &s->limits, &seen, &s->decision);
	apply(s, &s->decision);
	report_plans(s);
	report_feasibility(s);
	report_status(s);
	supervisor_arm(s, &s->timer, s->decision.wake_usec, on_time, s);
	return 0;
}

static int prepare_loop(struct supervisor *s)
{
	int r;

	r = sd_event_new(&s->event);
	if (r < 0)
		return r;
	r = sd_event_add_defer(s->event, &s->step, on_step, s);
	if (r < 0)
		return r;
	r = sd_event_source_set_priority(s->step, PRIORITY_STEP);
	if (r < 0)
		return r;
	(void)sd_event_set_watchdog(s->event, true);
	return watch_signals(s);
}

static void supervisor_done(struct supervisor *s)
{
	upgrade_forget(s);
	teardown(s);
	s->step = sd_event_source_disable_unref(s->step);
	s->timer = sd_event_source_disable_unref(s->timer);
	s->orphans = sd_event_source_disable_unref(s->orphans);
	s->stop_timer = sd_event_source_disable_unref(s->stop_timer);
	s->event = sd_event_unref(s->event);
	s->launch = launch_free(s->launch);
	config_free(TAKE(s->config));
}

static int start(struct supervisor *s, struct state *state)
{
	int r = state ? carry_in(s, state) : setup(s);

	if (r >= 0 && state) {
		upgrade_done(s, state);
		carry_close(state);
	}
	return r;
}

int supervisor_run(const struct arguments *arguments, struct config *config,
		   struct launch *launch, struct state *state)
{
	struct supervisor s = {
		.arguments = arguments,
		.config = config,
		.launch = launch,
		.notify_fd = -1,
		.limitwatch_fd = -1,
		.pool_stall.fd = -1,
		.host_stall.fd = -1,
		.template_output_fd = -1,
		.generation = 1,
		.upgrade = { .pidfd = -1, .answer_fd = -1 },
		.root = POOL_NONE,
	};
	int r;

	r = prepare_loop(&s);
	if (r >= 0)
		r = start(&s, state);
	if (r >= 0) {
		supervisor_wake(&s);
		r = sd_event_loop(s.event);
		if (r < 0)
			journal_problem(0, r, "The event loop ended");
	}
	supervisor_done(&s);
	record_close();
	return r < 0 ? 1 : s.exit_status;
}
