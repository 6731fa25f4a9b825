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
	};
}

static void start(struct supervisor *s, struct slot *slot, const struct action *a)
{
	int r;

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

	if (!slot->worker)
		return;
	journal_restart_begun(&plan, "drain");
	worker_event(slot->worker, WORKER_ASKED, HAND_ASKED);
}

/* A surplus slot: whatever runs there goes, and nothing follows. */
static void retire(struct slot *slot)
{
	if (slot->worker)
		worker_event(slot->worker, WORKER_ASKED, HAND_ASKED);
	if (slot->incoming)
		worker_event(slot->incoming, WORKER_ASKED, HAND_ASKED);
}

static void apply_one(struct supervisor *s, const struct action *a)
{
	struct slot *slot = &s->slots[a->slot];

	switch (a->kind) {
	case ACTION_START:
	case ACTION_SURGE:
		start(s, slot, a);
		break;
	case ACTION_DRAIN:
		drain(slot, a);
		break;
	case ACTION_RETIRE:
		retire(slot);
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
	moved = o->restart_usec > slot->planned_usec ? o->restart_usec - slot->planned_usec
						     : slot->planned_usec - o->restart_usec;
	return moved > left / 4 + USEC_PER_MIN;
}

void report_plans(struct supervisor *s)
{
	usec_t now = supervisor_now(s);

	for (unsigned i = 0; i < s->n_slots; i++) {
		struct slot *slot = &s->slots[i];
		struct outlook o;

		if (policy_outlook(s->policy, i, &o) < 0)
			continue;
		if (slot->worker && !slot->incoming && is_news(slot, &o, now)) {
			struct journal_plan plan = {
				.worker = slot->number,
				.pid = slot->worker->pid,
				.reason = reason_text(o.reason),
				.in_usec = usec_sub(o.restart_usec, now),
				.usage_bytes = slot->worker->usage_bytes,
				.limit_bytes = o.limit_bytes,
				.rate_bytes_per_sec = o.rate_bytes_per_sec,
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
		journal_problem(0, 0, "Trimming does not help this pool: its workers keep small "
				      "objects in their language's own arenas, use another "
				      "allocator, or leak; it will rarely be tried");
	}
}
