/* Apply: the policy's actions, carried out one by one and reported. Decides nothing. */
#include "supervisor/supervisor.h"

#include "report/journal.h"

static struct journal_plan plan_of(const struct slot *slot, const struct action *a)
{
	return (struct journal_plan){
		.worker = slot->number,
		.pid = slot->worker ? slot->worker->pid : 0,
		.reason = reason_text(a->reason),
		.usage_bytes = a->usage_bytes,
		.limit_bytes = a->limit_bytes,
		.rate_bytes_per_sec = a->rate_bytes_per_sec,
		.gap_usec = a->gap_usec,
	};
}

/* Every action, before anything comes of it: what is reported of starts, restarts and trims later
 * tells how they went. */
static void report_decision(struct supervisor *s, const struct slot *slot,
			    const struct action *a)
{
	journal_decision(&(struct journal_decision){
		.worker = slot->number,
		.pid = slot->worker ? slot->worker->pid : 0,
		.action = action_name(a->kind),
		.reason = reason_text(a->reason),
		.bytes = a->bytes,
		.usage_bytes = a->usage_bytes,
		.limit_bytes = a->limit_bytes,
		.rate_bytes_per_sec = a->rate_bytes_per_sec,
		.deadline_in_usec =
			a->deadline_usec == USEC_NEVER
				? USEC_NEVER
				: usec_sub(a->deadline_usec, supervisor_now(s)),
		.gap_usec = a->gap_usec,
	});
}

static void start(struct supervisor *s, struct slot *slot, const struct action *a)
{
	int r;

	if (!quarantine_admits(slot, a->reason))
		return;
	if (a->kind == ACTION_SURGE) {
		struct journal_plan plan = plan_of(slot, a);

		journal_restart_begun(&plan, "surge");
	}
	r = worker_start(slot, a->reason);
	if (r < 0) {
		journal_problem(slot->number, r, "Cannot start worker %u", slot->number);
		policy_note_boot_failed(s->policy, slot->number - 1, supervisor_now(s));
	}
}

static void drain(struct slot *slot, const struct action *a)
{
	struct journal_plan plan = plan_of(slot, a);

	if (!slot->worker || slot->worker->examination ||
	    !quarantine_admits(slot, a->reason))
		return;
	slot->start_reason = a->reason;
	journal_restart_begun(&plan, "drain");
	worker_part(slot->worker, a->reason);
}

/* A surplus slot: whatever runs there goes, and nothing follows. */
static void retire(struct slot *slot, const struct action *a)
{
	struct journal_plan plan = plan_of(slot, a);

	/* Given again until the next snapshot shows it done; said once. */
	if (slot->worker && slot->worker->state == WORKER_SERVING &&
	    !slot->worker->examination)
		journal_restart_begun(&plan, "retire");
	if (slot->worker)
		worker_part(slot->worker, a->reason);
	if (slot->incoming)
		worker_event(slot->incoming, WORKER_ASKED, HAND_ASKED);
}

static void apply_one(struct supervisor *s, const struct action *a)
{
	struct slot *slot = &s->slots[a->slot];

	report_decision(s, slot, a);
	switch (a->kind) {
	case ACTION_START:
	case ACTION_SURGE:
		start(s, slot, a);
		break;
	case ACTION_DRAIN:
		drain(slot, a);
		break;
	case ACTION_RETIRE:
		retire(slot, a);
		break;
	case ACTION_TRIM:
		if (slot->worker)
			(void)trim_ask(slot->worker, a->reason);
		break;
	case ACTION_TRIPWIRE:
		if (slot->worker)
			set_tripwire(slot->worker, a->bytes);
		break;
	case ACTION_LIMIT:
		if (slot->worker)
			set_limit(slot->worker, a->bytes);
		break;
	}
}

void apply(struct supervisor *s, const struct decision *decision)
{
	for (size_t i = 0; i < decision->n_actions; i++)
		if (decision->actions[i].slot < s->n_slots)
			apply_one(s, &decision->actions[i]);
	if (decision->end_kept != REASON_NONE)
		quarantine_evict(s, reason_text(decision->end_kept));
}

/* A plan is news when it appears, when its reason changes, and when its date moves by more than a
 * quarter of the time that was left. */
static bool is_news(const struct slot *slot, const struct outlook *o, usec_t now)
{
	usec_t left, moved;

	if (o->restart_usec == USEC_NEVER)
		return false;
	if (slot->planned_usec == USEC_NEVER || slot->planned != o->reason)
		return true;
	left = usec_sub(slot->planned_usec, now);
	moved = o->restart_usec > slot->planned_usec
			? o->restart_usec - slot->planned_usec
			: slot->planned_usec - o->restart_usec;
	return moved > left / 4 + USEC_PER_MIN;
}

static void report_hold(struct slot *slot, const struct outlook *o, usec_t now)
{
	bool held = o->held && slot->worker;
	struct journal_plan plan = {
		.worker = slot->number,
		.reason = reason_text(held ? REASON_HELD : o->hold_ended),
		.usage_bytes = o->usage_bytes,
		.limit_bytes = o->limit_bytes,
		.rate_bytes_per_sec = o->rate_bytes_per_sec,
	};

	if (held == slot->held)
		return;
	slot->held = held;
	if (!slot->worker || (!held && o->hold_ended == REASON_NONE))
		return; /* it is gone, which is told elsewhere */
	plan.pid = slot->worker->pid;
	journal_hold(&plan, held,
		     held ? usec_sub(o->held_until_usec, now)
			  : usec_sub(now, o->held_since_usec));
}

/* Of each worker the first; status has the number. */
static void report_skip(struct slot *slot, const struct outlook *o)
{
	struct worker *w = slot->worker;

	if (!w || w->trims.skip_told || o->n_skipped_trims == 0)
		return;
	w->trims.skip_told = true;
	journal_trim_skipped(slot->number, w->pid, w->usage_bytes, o->pause_usec,
			     slot->supervisor->limits.trim_max_pause_usec);
}

void report_plans(struct supervisor *s)
{
	usec_t now = supervisor_now(s);
	struct pool_outlook pool;

	policy_pool_outlook(s->policy, &pool);
	for (unsigned i = 0; i < s->n_slots; i++) {
		struct slot *slot = &s->slots[i];
		struct outlook o;

		if (policy_outlook(s->policy, i, &o) < 0)
			continue;
		report_hold(slot, &o, now);
		report_skip(slot, &o);
		if (slot->worker && !slot->incoming && is_news(slot, &o, now)) {
			struct journal_plan plan = {
				.worker = slot->number,
				.pid = slot->worker->pid,
				.reason = reason_text(o.reason),
				.in_usec = usec_sub(o.restart_usec, now),
				.usage_bytes = slot->worker->usage_bytes,
				.limit_bytes = o.limit_bytes,
				.rate_bytes_per_sec = o.rate_bytes_per_sec,
				.gap_usec = pool.gap_usec,
			};

			journal_restart_planned(&plan);
			slot->planned_usec = o.restart_usec;
			slot->planned = o.reason;
		} else if (o.restart_usec == USEC_NEVER) {
			slot->planned_usec = USEC_NEVER;
		}
	}
	if (!s->futile_told && policy_trimming_is_futile(s->policy)) {
		s->futile_told = true;
		journal_problem(
			0, 0,
			"Trimming does not help this pool and will rarely be tried: %s",
			explain_futility(s));
	}
}
