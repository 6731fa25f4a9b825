/* The one budget for all causes of a restart. Owns the decision that a worker goes. Must never
 * take two out of service, start one while the last replacement is not ready, or start two
 * closer than the gap that applies. */
#include "policy/restart.h"

#include "policy/loan.h"
#include "policy/plan.h"
#include "policy/trim.h"
#include "policy/tripwire.h"

/* So many failed boots in a row: the slot cannot come up, and waiting for it starves others. */
#define STUCK_AFTER 3

/* Of the limit: peaks that come closer than this to it have reached it. */
#define MARGIN_SHIFT 7

/* Until a boot and a drain have been measured. */
#define BOOT_GUESS_USEC (10 * USEC_PER_SEC)

usec_t policy_lead_usec(const struct policy *p, const struct limits *limits)
{
	usec_t boot = p->boot_usec ? p->boot_usec : BOOT_GUESS_USEC;
	usec_t drain = p->drain_usec ? p->drain_usec : limits->graceful_usec;

	return u64_mul_div(usec_add(boot, drain), 5, 4);
}

/* ---- starts ---- */

static enum reason start_reason(enum absence absence)
{
	switch (absence) {
	case ABSENT_NEW:
		return REASON_FIRST_START;
	case ABSENT_CRASHED:
		return REASON_CRASHED;
	case ABSENT_REPLACED:
		return REASON_REPLACED;
	}
	return REASON_FIRST_START;
}

static void start_slots(struct round *r, bool first_starts)
{
	size_t at_once = r->limits->max_booting ? r->limits->max_booting : 1;

	for (uint32_t i = 0; i < r->n_slots; i++) {
		struct slot_memory *s = &r->p->slots[i];
		const struct slot_seen *seen = &r->seen->slots[i];

		if (seen->phase != SLOT_EMPTY || seen->retire ||
		    (s->absence == ABSENT_NEW) != first_starts)
			continue;
		if (r->now < s->not_before_usec) {
			round_wake(r, s->not_before_usec);
			continue;
		}
		if (r->n_booting >= at_once)
			continue; /* a boot that ends is an event */
		round_give(r, ACTION_START, start_reason(s->absence), i);
		r->n_booting++;
	}
}

void restart_decide_starts(struct round *r)
{
	for (uint32_t i = 0; i < r->n_slots; i++) {
		const struct slot_seen *seen = &r->seen->slots[i];

		if (seen->retire && seen->phase != SLOT_EMPTY &&
		    seen->phase != SLOT_DRAINING)
			round_give(r, ACTION_RETIRE, REASON_SURPLUS, i);
	}
	/* Those that served before come first: they are missed. */
	start_slots(r, false);
	start_slots(r, true);
}

/* ---- deadlines ---- */

static usec_t memory_deadline(const struct round *r, struct slot_memory *s)
{
	uint64_t limit = r->limits->worker_max_bytes;
	usec_t at;

	if (limit == UINT64_MAX)
		return USEC_NEVER;
	at = forecast_reaches(&s->growth, r->now, limit - (limit >> MARGIN_SHIFT));
	if (at == USEC_NEVER)
		return USEC_NEVER;
	/* Where trims give back most of the growth, only what they leave counts, provided that
	 * the next trim comes first. */
	if (trim_helps(r->p, s) && at > s->trim.next_usec) {
		uint64_t kept = s->trim.record.n_learned ? s->trim.record.kept_permyriad
							 : r->p->trims.kept_permyriad;

		at = usec_add(r->now,
			      u64_mul_div(at - r->now, PERMYRIAD, u64_max(kept, 1)));
	}
	return usec_sub(at, policy_lead_usec(r->p, r->limits));
}

static enum reason wish_reason(enum wish wish)
{
	switch (wish) {
	case WISH_NONE:
		return REASON_NONE;
	case WISH_RELOAD:
		return REASON_RELOAD;
	case WISH_REQUESTS:
		return REASON_REQUESTS;
	case WISH_OPERATOR:
		return REASON_OPERATOR;
	}
	return REASON_NONE;
}

static struct plan_entry deadline_of(struct round *r, uint32_t i)
{
	struct slot_memory *s = &r->p->slots[i];
	struct plan_entry e = {
		.slot = i,
		.deadline_usec = memory_deadline(r, s),
		.reason = REASON_MEMORY,
		.hard = true,
	};
	usec_t end = USEC_NEVER;

	if (r->limits->max_lifetime_usec)
		end = usec_add(s->ready_usec, r->limits->max_lifetime_usec);
	/* Lateness costs nothing but lateness here, so a kernel kill ahead goes first, unless
	 * the soft cause comes earlier anyway. */
	if (end < e.deadline_usec)
		e = (struct plan_entry){ .slot = i,
					 .deadline_usec = end,
					 .reason = REASON_LIFETIME };
	if (r->seen->slots[i].wish != WISH_NONE && e.deadline_usec > r->now)
		e = (struct plan_entry){ .slot = i,
					 .deadline_usec = r->now,
					 .reason = wish_reason(r->seen->slots[i].wish) };
	return e;
}

static size_t collect(struct round *r, struct plan_entry *entries)
{
	size_t n = 0;

	for (uint32_t i = 0; i < r->n_slots; i++) {
		struct outlook *o = &r->p->slots[i].outlook;
		struct plan_entry e;

		o->reason = REASON_NONE;
		o->restart_usec = o->deadline_usec = USEC_NEVER;
		if (r->seen->slots[i].phase != SLOT_SERVING || r->seen->slots[i].retire)
			continue;
		e = deadline_of(r, i);
		if (e.deadline_usec == USEC_NEVER)
			continue;
		o->reason = e.reason;
		o->deadline_usec = e.deadline_usec;
		entries[n++] = e;
	}
	return n;
}

/* ---- admission ---- */

uint64_t restart_spare_bytes(const struct round *r)
{
	uint64_t budget = r->limits->budget_bytes, promised = r->overhead_bytes;

	if (budget == UINT64_MAX)
		return UINT64_MAX;
	for (uint32_t i = 0; i < r->n_slots; i++) {
		const struct slot_memory *s = &r->p->slots[i];

		if (r->seen->slots[i].retire)
			continue;
		promised = u64_add(promised,
				   u64_add(r->limits->worker_max_bytes, s->loan_bytes));
		promised = u64_add(promised, s->parting_bytes);
	}
	return u64_sub(budget, promised);
}

static bool has_room_to_surge(const struct round *r, uint32_t i)
{
	const struct slot_memory *s = &r->p->slots[i];
	uint64_t footprint =
		r->p->footprint_bytes ? r->p->footprint_bytes : s->usage_bytes;
	usec_t lead = policy_lead_usec(r->p, r->limits);
	uint64_t need = u64_add(r->seen->pool_bytes, footprint);

	if (r->limits->budget_bytes == UINT64_MAX)
		return true;
	if (footprint == 0)
		return false;
	/* The others go on growing while two workers share the slot. */
	for (uint32_t k = 0; k < r->n_slots; k++) {
		int64_t rate = r->p->slots[k].growth.rate;

		if (rate > 0 && slot_serves(r->seen->slots[k].phase))
			need = u64_add(need,
				       u64_mul_div((uint64_t)rate, lead, USEC_PER_SEC));
	}
	return u64_add(need, loan_unused_bytes(r)) <= r->limits->budget_bytes;
}

static enum action_kind kind_of_restart(const struct round *r, uint32_t i)
{
	switch (r->limits->surge) {
	case SURGE_ALWAYS:
		return ACTION_SURGE;
	case SURGE_NEVER:
		return ACTION_DRAIN;
	case SURGE_AUTO:
		return has_room_to_surge(r, i) ? ACTION_SURGE : ACTION_DRAIN;
	}
	return ACTION_DRAIN;
}

/* Stop first takes one more out of service. A surge takes none, but replaces nothing while
 * another slot is down, unless that slot cannot come up at all. */
static bool service_allows(const struct round *r, enum action_kind kind)
{
	size_t allowed = r->limits->max_unavailable ? r->limits->max_unavailable : 1;

	if (r->n_restarting > 0)
		return false;
	if (kind == ACTION_DRAIN)
		return r->n_unavailable < allowed;
	return r->n_unavailable - r->n_stuck < allowed;
}

/* ---- the choice ---- */

/* The entry that starts now: the first by deadline, except that lateness alone does not go
 * before a worker that would be killed for it. */
static const struct plan_entry *
pick(const struct round *r, const struct plan_entry *entries, size_t n, usec_t gap)
{
	usec_t next = USEC_NEVER;
	const struct plan_entry *first = NULL;

	if (n == 0 || entries[0].start_usec > r->now)
		return NULL;
	if (entries[0].hard)
		return &entries[0];
	for (size_t i = n; i-- > 0;) {
		if (!entries[i].hard)
			continue;
		next = u64_min(entries[i].deadline_usec,
			       next == USEC_NEVER ? next : usec_sub(next, gap));
		first = &entries[i];
	}
	return first && next < usec_add(r->now, gap) ? first : &entries[0];
}

static void give_restart(struct round *r, const struct plan_entry *e, usec_t gap)
{
	enum action_kind kind = kind_of_restart(r, e->slot);
	const struct slot_memory *s = &r->p->slots[e->slot];
	struct action *a;

	if (r->now < s->not_before_usec) {
		round_wake(r, s->not_before_usec);
		return;
	}
	if (!service_allows(r, kind))
		return; /* what stands in the way ends with an event */
	a = round_give(r, kind, e->reason, e->slot);
	a->deadline_usec = e->deadline_usec;
	a->gap_usec = gap;
}

/* A deadline ahead is looked at again after a quarter of the time left, so that the forecast
 * grows sharper as it comes nearer, in a number of wakeups that only its logarithm counts. */
static void wake_for_plan(struct round *r, const struct plan_entry *entries, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		usec_t left = usec_sub(entries[i].start_usec, r->now);

		if (entries[i].start_usec == USEC_NEVER || left == 0)
			continue;
		round_wake(r, usec_add(r->now,
				       entries[i].hard
					       ? u64_max(left / 4, 100 * USEC_PER_MSEC)
					       : left));
	}
}

void restart_decide_plan(struct round *r)
{
	struct plan_entry *entries = policy_entries(r->p);
	size_t n = collect(r, entries);
	usec_t last = r->p->restarted ? r->p->last_restart_usec : USEC_NEVER;
	struct plan plan = plan_make(entries, n, r->now, last, r->limits->min_gap_usec,
				     r->limits->min_gap_floor_usec);
	usec_t turn = r->p->restarted ? usec_add(last, plan.gap_usec) : 0;
	const struct plan_entry *e;

	for (size_t i = 0; i < n; i++) {
		usec_t start = u64_max(entries[i].start_usec, turn);

		r->p->slots[entries[i].slot].outlook.restart_usec =
			u64_max(start, r->now);
	}
	wake_for_plan(r, entries, n);
	e = pick(r, entries, n, plan.gap_usec);
	if (!e)
		return;
	if (r->now < turn)
		round_wake(r, turn);
	else
		give_restart(r, e, plan.gap_usec);
}
