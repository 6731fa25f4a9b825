/* The one budget for all causes of a restart. Owns the decision that a worker goes. Must never
 * take two out of service, start one while the last replacement is not ready, or start two
 * closer than the gap that applies. */
#include "policy/restart.h"

#include "policy/deadline.h"
#include "policy/plan.h"

/* Until a boot has been measured. */
#define BOOT_GUESS_USEC (10 * USEC_PER_SEC)

/* No closer look than this at a deadline ahead. */
#define LOOK_MIN_USEC USEC_PER_SEC

#define NO_SLOT UINT32_MAX

usec_t policy_lead_usec(const struct policy *p, const struct limits *limits)
{
	usec_t boot = p->boot_usec ? p->boot_usec : BOOT_GUESS_USEC;
	usec_t drain = p->drain_usec ? p->drain_usec : limits->graceful_usec;

	return u64_max(u64_mul_div(usec_add(boot, drain), 5, 4), 1);
}

/* ---- room ---- */

/* Room for one more worker beside all others, and for what these grow by meanwhile: in the
 * budget, which is ours alone, and up the tree, where others take theirs. freed_bytes: if so much
 * of what is used now were not. */
static bool has_room(const struct round *r, uint32_t i, uint64_t freed_bytes)
{
	const struct slot_memory *s = &r->p->slots[i];
	uint64_t footprint = u64_max(r->p->footprint_bytes, s->footprint_bytes);
	uint64_t need;

	if (r->limits->budget_bytes == UINT64_MAX && !r->seen->headroom_known)
		return true;
	if (footprint == 0)
		footprint = s->usage_bytes;
	if (footprint == 0)
		return false;
	need = u64_add(footprint, u64_add(r->growth_bytes, r->unused_bytes));
	if (r->seen->headroom_known &&
	    need > u64_add(r->seen->headroom_bytes, freed_bytes))
		return false;
	return u64_add(need, u64_sub(r->seen->pool_bytes, freed_bytes)) <=
	       r->limits->budget_bytes;
}

bool restart_has_room(const struct round *r, uint32_t i)
{
	return has_room(r, i, 0);
}

/* Whether the worker in quarantine is why there is none. */
static bool kept_takes_room(const struct round *r, uint32_t i)
{
	return r->seen->kept_bytes > 0 && !has_room(r, i, 0) &&
	       has_room(r, i, r->seen->kept_bytes);
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
			s->outlook.waiting = WAITING_BACKOFF;
			round_wake(r, s->not_before_usec);
			continue;
		}
		if (r->n_booting >= at_once) {
			s->outlook.waiting = WAITING_BOOTS;
			continue; /* a boot that ends is an event */
		}
		/* It is missed, and will not need its memory before the other one is gone. */
		if (kept_takes_room(r, i))
			r->ret->end_kept = REASON_ROOM;
		round_give(r, ACTION_START, start_reason(s->absence), i);
		r->n_booting++;
	}
}

void restart_decide_starts(struct round *r)
{
	for (uint32_t i = 0; i < r->n_slots; i++) {
		const struct slot_seen *seen = &r->seen->slots[i];

		r->p->slots[i].outlook.waiting = WAITING_NONE;
		if (seen->retire && seen->phase != SLOT_EMPTY &&
		    seen->phase != SLOT_DRAINING)
			round_give(r, ACTION_RETIRE, REASON_SURPLUS, i);
	}
	/* Those that served before come first: they are missed. */
	start_slots(r, /* first_starts= */ false);
	start_slots(r, /* first_starts= */ true);
}

/* ---- admission ---- */

static enum action_kind kind_of_restart(const struct round *r, uint32_t i)
{
	switch (r->limits->surge) {
	case SURGE_ALWAYS:
		return ACTION_SURGE;
	case SURGE_NEVER:
		return ACTION_DRAIN;
	case SURGE_AUTO:
		return has_room(r, i, 0) ? ACTION_SURGE : ACTION_DRAIN;
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

/* The latest start of those alone whose lateness is a kernel kill. */
static usec_t hard_start(const struct round *r, usec_t gap)
{
	usec_t start = USEC_NEVER;

	for (size_t i = r->n_entries; i-- > 0;) {
		if (!r->entries[i].hard)
			continue;
		if (start != USEC_NEVER)
			start = usec_sub(start, gap);
		start = u64_min(r->entries[i].deadline_usec, start);
	}
	return start;
}

static const struct plan_entry *first_hard(const struct round *r)
{
	for (size_t i = 0; i < r->n_entries; i++)
		if (r->entries[i].hard)
			return &r->entries[i];
	return NULL;
}

/* The entry that starts now: the first by deadline, except that the others get only the slack
 * that the hard ones leave. NULL: none yet. */
static const struct plan_entry *pick(const struct round *r, usec_t gap)
{
	const struct plan_entry *hard = first_hard(r);

	if (hard && hard->start_usec <= r->now)
		return hard;
	if (r->n_entries == 0 || r->entries[0].start_usec > r->now)
		return NULL;
	return hard_start(r, gap) >= usec_add(r->now, gap) ? &r->entries[0] : NULL;
}

/* The slot that keeps others from their turn: it is being replaced, or it is down. NO_SLOT: none. */
static uint32_t find_blocking(const struct round *r)
{
	uint32_t down = NO_SLOT;

	for (uint32_t i = 0; i < r->n_slots; i++) {
		const struct slot_seen *seen = &r->seen->slots[i];

		if (seen->retire)
			continue;
		if (r->p->slots[i].restarting)
			return i;
		if (down == NO_SLOT && !slot_serves(seen->phase))
			down = i;
	}
	return down;
}

/* Those whose time has come wait for this one. */
static void tell_blocked(struct round *r, uint32_t other)
{
	if (other == NO_SLOT)
		return;
	for (size_t i = 0; i < r->n_entries; i++) {
		const struct plan_entry *e = &r->entries[i];
		struct outlook *o = &r->p->slots[e->slot].outlook;

		if (e->start_usec > r->now || e->slot == other)
			continue;
		o->waiting = WAITING_OTHER;
		o->other = other;
	}
}

static void give_restart(struct round *r, const struct plan_entry *e, usec_t gap)
{
	enum action_kind kind = kind_of_restart(r, e->slot);
	struct action *a;

	if (!service_allows(r, kind)) {
		tell_blocked(r, find_blocking(r));
		return; /* what stands in the way ends with an event */
	}
	if (r->limits->surge != SURGE_NEVER && kept_takes_room(r, e->slot)) {
		r->ret->end_kept = REASON_ROOM;
		return;
	}
	a = round_give(r, kind, e->reason, e->slot);
	a->deadline_usec = e->deadline_usec;
	a->gap_usec = gap;
	r->p->slots[e->slot].drain_asked = kind == ACTION_DRAIN;
	r->p->slots[e->slot].outlook.waiting = WAITING_NONE;
	tell_blocked(r, e->slot);
}

/* A deadline ahead is looked at again after half of the time left: the forecast grows sharper
 * as it comes nearer, and the looks that this takes grow only with its logarithm. */
static void wake_for_plan(struct round *r)
{
	for (size_t i = 0; i < r->n_entries; i++) {
		usec_t start = r->entries[i].start_usec;
		usec_t look = usec_sub(start, r->now);

		if (r->entries[i].hard && look > LOOK_MIN_USEC)
			look = u64_max(look / 2, LOOK_MIN_USEC);
		if (start != USEC_NEVER)
			round_wake(r, usec_add(r->now, look));
	}
}

static void tell_outlooks(struct round *r, usec_t turn, usec_t gap)
{
	usec_t earliest = u64_max(r->now, turn);

	for (size_t i = 0; i < r->n_entries; i++) {
		const struct plan_entry *e = &r->entries[i];
		struct outlook *o = &r->p->slots[e->slot].outlook;

		o->restart_usec = u64_max(e->start_usec, earliest);
		earliest = usec_add(o->restart_usec, gap);
		if (e->start_usec <= r->now && r->now < o->restart_usec)
			o->waiting = WAITING_GAP;
		if (i == 0)
			continue;
		o->follows = true;
		o->predecessor = r->entries[i - 1].slot;
		o->after_usec =
			usec_sub(o->restart_usec,
				 r->p->slots[o->predecessor].outlook.restart_usec);
	}
}

void restart_decide_plan(struct round *r)
{
	const struct limits *limits = r->limits;
	usec_t last = r->p->restarted ? r->p->last_restart_usec : USEC_NEVER;
	const struct plan_entry *e;
	struct plan plan;
	usec_t turn;

	r->entries = policy_entries(r->p);
	r->n_entries = deadline_collect(r, r->entries);
	plan = plan_make(r->entries, r->n_entries, r->now, last, limits->min_gap_usec,
			 limits->min_gap_floor_usec);
	r->p->outlook.gap_usec = plan.gap_usec;
	r->p->outlook.gap_shrunk = !plan.feasible;
	r->p->outlook.n_planned = (uint32_t)r->n_entries;
	turn = r->p->restarted ? usec_add(last, plan.gap_usec) : 0;
	tell_outlooks(r, turn, plan.gap_usec);
	if (r->n_restarting > 0)
		tell_blocked(r, find_blocking(r));
	wake_for_plan(r);
	e = pick(r, plan.gap_usec);
	if (!e)
		return;
	if (e->patient && r->p->restarted)
		turn = usec_add(last, limits->min_gap_usec);
	if (r->now < turn)
		round_wake(r, turn);
	else
		give_restart(r, e, plan.gap_usec);
}
