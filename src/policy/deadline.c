/* Causes to deadlines. Owns the notion of "too late" for each cause; decides nothing. */
#include "policy/deadline.h"

#include "policy/loan.h"
#include "policy/trim.h"
#include "policy/tripwire.h"

/* Peaks this close to the limit have reached it; the plan aims at twice the distance. */
#define MARGIN_SHIFT 10

/* Of the time to a last call: how much later it may well turn out to be. */
#define DOUBT_SHIFT 3

/* Growth younger than this is a burst until it passes the trim mark: a trim is tried first,
 * and the brake line leaves the time for it. */
#define ESTABLISHED_USEC (10 * USEC_PER_MIN)

/* Past the mark, growth that is no older than this is a burst still, where there is a brake: if
 * it goes on, the worker is held at its brake line, which leaves time for a replacement. */
#define BURST_USEC (20 * USEC_PER_SEC)

/* A trim that may help is given so long before a restart is. */
#define TRIM_FIRST_USEC (2 * USEC_PER_SEC)

/* Not worth a restart for what it would free. */
#define YIELD_MIN_BYTES (16 * MIB)

/* With less than this share of the budget left, a worker in quarantine goes. */
#define KEPT_MARGIN_SHIFT 6

/* A shortage of the host that lasts so long, trims and all, costs a worker. */
#define HOST_LASTING_USEC (10 * USEC_PER_SEC)
#define HOST_FRESH_USEC	  USEC_PER_MIN

static void no_later(struct plan_entry *e, usec_t deadline, usec_t last_call,
		     enum reason reason, bool hard)
{
	if (deadline >= e->deadline_usec)
		return;
	e->deadline_usec = deadline;
	e->last_call_usec = u64_max(last_call, deadline);
	e->reason = reason;
	e->hard = hard;
	e->patient = false;
}

/* ---- memory ---- */

/* When the worker meets target, its trims taken into account. */
static usec_t reaches(const struct round *r, const struct slot_memory *s, uint64_t target,
		      unsigned int sigmas)
{
	usec_t at = forecast_reaches(&s->growth, target, sigmas);
	usec_t net;

	if (at == USEC_NEVER || !trim_helps(r->p, s) || at <= trim_earliest(s))
		return at;
	/* Each trim takes back most of what has grown: what counts is what they leave. */
	net = forecast_reaches(&s->troughs, u64_sub(target, trim_tooth(s)), sigmas);
	if (s->troughs.n_points >= 3)
		return u64_max(at, net);
	return usec_add(r->now, u64_mul_div(usec_sub(at, r->now), PERMYRIAD,
					    u64_max(trim_kept_permyriad(r->p, s), 1)));
}

/* What the worker itself would do, were it left alone: told, not planned by. */
static void foresee(const struct round *r, struct slot_memory *s)
{
	struct outlook *o = &s->outlook;
	usec_t at = reaches(r, s, slot_limit(r->limits, s), 0);

	o->reaches_usec = at;
	if (at != USEC_NEVER && s->growth.span_usec >= ESTABLISHED_USEC)
		o->life_usec = usec_sub(u64_max(at, r->now), s->ready_usec);
}

static bool is_established(const struct round *r, const struct slot_memory *s)
{
	if (s->growth.span_usec >= ESTABLISHED_USEC)
		return true;
	if (s->growth.level_bytes < tripwire_mark(r->limits, s))
		return false;
	/* One request may well take a worker past its mark and no further. */
	return !r->limits->tripwire ||
	       (s->growth.span_usec >= BURST_USEC &&
		forecast_rise(&s->growth, r->now, BURST_USEC, s->usage_bytes) > 0);
}

static usec_t minus_lead(const struct round *r, usec_t t)
{
	return t == USEC_NEVER ? t : usec_sub(t, policy_lead_usec(r->p, r->limits));
}

/* On the safe side, at the limit that the operator set, and before any brake. */
static usec_t planned_start(const struct round *r, struct slot_memory *s)
{
	uint64_t limit = r->limits->worker_max_bytes;

	if (r->limits->tripwire)
		limit = u64_min(limit, tripwire_ceiling(r->p, r->limits, s));

	return minus_lead(r, reaches(r, s, limit - (limit >> (MARGIN_SHIFT - 1)), 2));
}

/* Without cgroups the kernel has no limit to enforce, and what is spare serves all alike. */
static uint64_t enforced_limit(const struct round *r, const struct slot_memory *s)
{
	uint64_t limit = slot_limit(r->limits, s);

	if (r->limits->tripwire)
		return limit;
	return u64_add(limit, u64_min(loan_spare_bytes(r) / u64_max(r->n_wanted, 1),
				      limit >> 3));
}

/* When the kernel would have it, a loan included. The further ahead, the less certain: that is
 * no reason to break the gap now, while there is time to see. */
static usec_t last_call(const struct round *r, const struct slot_memory *s)
{
	uint64_t limit = enforced_limit(r, s);
	usec_t at = minus_lead(r, reaches(r, s, limit - (limit >> MARGIN_SHIFT), 0));

	return usec_add(at, usec_sub(at, r->now) >> DOUBT_SHIFT);
}

/* The latest start that saves a worker which has been held: one that is no longer, and stands
 * still, is in no danger. */
static usec_t doom(const struct round *r, const struct slot_memory *s)
{
	return s->hold.active ? minus_lead(r, tripwire_doom(r, s)) : last_call(r, s);
}

static void consider_memory(struct round *r, struct plan_entry *e)
{
	struct slot_memory *s = &r->p->slots[e->slot];
	uint64_t limit = r->limits->worker_max_bytes;

	if (limit == UINT64_MAX)
		return;
	if (s->hold.spent ||
	    (s->hold.active &&
	     r->now >= usec_add(s->hold.since_usec, TRIPWIRE_HOLD_DUE_USEC))) {
		no_later(e, r->now, r->now, REASON_MEMORY, /* hard= */ true);
		e->doom_usec = doom(r, s);
	} else if (is_established(r, s)) {
		no_later(e, planned_start(r, s), last_call(r, s), REASON_MEMORY,
			 /* hard= */ true);
	}
	if (e->reason == REASON_MEMORY &&
	    e->deadline_usec < usec_add(r->now, TRIM_FIRST_USEC) &&
	    trim_is_coming(r, e->slot)) {
		e->deadline_usec = usec_add(r->now, TRIM_FIRST_USEC);
		e->last_call_usec = u64_max(e->last_call_usec, e->deadline_usec);
	}
	/* Another one would be where this one is as soon as it serves. One at a time at the full
	 * gap, or the pool does nothing but replace. */
	if (e->reason == REASON_MEMORY && slot_is_cramped(r->p, r->limits, s)) {
		e->hard = false;
		e->patient = true;
		e->last_call_usec = USEC_NEVER;
	}
}

/* ---- the pool ---- */

static uint64_t restart_yield(const struct round *r, const struct slot_memory *s)
{
	uint64_t footprint =
		s->footprint_bytes ? s->footprint_bytes : r->p->footprint_bytes;
	uint64_t yield = u64_sub(s->usage_bytes, footprint);

	/* One that has just begun holds what its successor would hold too. */
	if (r->now < usec_add(s->ready_usec, policy_lead_usec(r->p, r->limits)))
		return 0;
	return yield >= u64_max(YIELD_MIN_BYTES, s->usage_bytes / 8) ? yield : 0;
}

/* The entry whose worker would free most; NULL where none would free enough. */
static struct plan_entry *best_yield(const struct round *r, struct plan_entry *entries,
				     size_t n)
{
	struct plan_entry *best = NULL;
	uint64_t most = 0;

	for (size_t i = 0; i < n; i++) {
		uint64_t yield = restart_yield(r, &r->p->slots[entries[i].slot]);

		if (yield > most) {
			most = yield;
			best = &entries[i];
		}
	}
	return best;
}

/* When the pool as a whole meets its budget. Only where the workers' own limits do not keep
 * it from there. */
static usec_t budget_deadline(const struct round *r)
{
	uint64_t budget = r->limits->budget_bytes;
	uint64_t margin = u64_max(budget >> 6, r->p->footprint_bytes);
	uint64_t missed = u64_sub(r->seen->pool_bytes, r->seen->kept_bytes);
	uint64_t used = u64_add(u64_add(missed, r->unused_bytes), margin);
	usec_t lead = policy_lead_usec(r->p, r->limits);

	if (budget == UINT64_MAX ||
	    u64_sub(r->promised_bytes, r->seen->kept_bytes) <= budget)
		return USEC_NEVER;
	if (used >= budget)
		return r->now;
	/* growth_bytes is what a lead brings. */
	return r->growth_bytes == 0
		       ? USEC_NEVER
		       : usec_add(r->now, usec_sub(u64_mul_div(budget - used, lead,
							       r->growth_bytes),
						   lead));
}

/* Reports keep coming although trims were tried: somebody has to go. Patiently: others on the
 * host may be the cause, and a pool that restarts in haste helps nobody. */
static bool host_wants_one(const struct round *r)
{
	const struct policy *p = r->p;

	return p->host_since_usec &&
	       r->now >= usec_add(p->host_since_usec, HOST_LASTING_USEC) &&
	       p->host_last_usec > p->last_trim_usec && r->n_trimming == 0;
}

/* What the worker in quarantine has can be had at once: it counts as free until then. */
static bool kept_is_needed(const struct round *r)
{
	uint64_t budget = r->limits->budget_bytes;
	uint64_t used = u64_add(r->seen->pool_bytes, r->unused_bytes);

	return r->seen->kept_bytes > 0 &&
	       (host_wants_one(r) ||
		(budget != UINT64_MAX &&
		 u64_add(used, budget >> KEPT_MARGIN_SHIFT) >= budget));
}

static void consider_pool(struct round *r, struct plan_entry *entries, size_t n)
{
	usec_t deadline = budget_deadline(r);
	struct plan_entry *best;

	if (kept_is_needed(r)) {
		r->ret->end_kept = REASON_HOST;
		return;
	}
	if (deadline == USEC_NEVER && !host_wants_one(r))
		return;
	best = best_yield(r, entries, n);
	if (!best)
		return;
	if (deadline != USEC_NEVER)
		no_later(best, deadline, deadline, REASON_HOST, /* hard= */ true);
	if (host_wants_one(r) && best->deadline_usec > r->now) {
		no_later(best, r->now, USEC_NEVER, REASON_HOST, /* hard= */ false);
		best->patient = true;
	}
}

static void observe_host(struct round *r)
{
	struct policy *p = r->p;
	usec_t reported = u64_min(r->seen->host_pressure_usec, r->now);

	if (reported > p->host_last_usec) {
		if (p->host_since_usec == 0)
			p->host_since_usec = reported;
		p->host_last_usec = reported;
	}
	if (p->host_since_usec && r->now >= usec_add(p->host_last_usec, HOST_FRESH_USEC))
		p->host_since_usec = 0;
}

/* ---- all causes ---- */

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
	case WISH_REFORK:
		return REASON_REFORK;
	}
	return REASON_NONE;
}

/* Those that are late have their turn in the order in which they came to be. */
static void keep_in_line(struct round *r, struct plan_entry *e)
{
	struct slot_memory *s = &r->p->slots[e->slot];

	if (e->reason != REASON_MEMORY || e->deadline_usec > r->now) {
		s->due_usec = 0;
		return;
	}
	if (s->due_usec == 0)
		s->due_usec = r->now;
	e->deadline_usec = s->due_usec;
}

static void consider_slot(struct round *r, struct plan_entry *e)
{
	const struct slot_memory *s = &r->p->slots[e->slot];
	enum reason wish = wish_reason(r->seen->slots[e->slot].wish);
	usec_t end;

	consider_memory(r, e);
	keep_in_line(r, e);
	if (r->limits->max_lifetime_usec) {
		end = usec_add(s->ready_usec, r->limits->max_lifetime_usec);
		no_later(e, end, end, REASON_LIFETIME, /* hard= */ false);
	}
	/* What is late for its memory stays so: a wish must not make it less urgent. */
	if (wish == REASON_NONE)
		return;
	no_later(e, r->now, r->now, wish, /* hard= */ false);
	/* A worker that has had its requests still serves. That all of them reach the number at
	 * the same time is what the gap is for. */
	if (e->reason == REASON_REQUESTS || e->reason == REASON_REFORK) {
		e->last_call_usec = USEC_NEVER;
		e->patient = true;
	}
}

static bool may_restart(struct round *r, uint32_t i)
{
	const struct slot_seen *seen = &r->seen->slots[i];
	usec_t not_before = r->p->slots[i].not_before_usec;

	if (seen->phase != SLOT_SERVING || seen->retire)
		return false;
	/* Its last replacement did not come up. Others have their turn meanwhile. */
	if (r->now < not_before) {
		r->p->slots[i].outlook.waiting = WAITING_BACKOFF;
		round_wake(r, not_before);
		return false;
	}
	return true;
}

size_t deadline_collect(struct round *r, struct plan_entry *entries)
{
	size_t n = 0, n_due = 0;

	observe_host(r);
	for (uint32_t i = 0; i < r->n_slots; i++) {
		struct outlook *o = &r->p->slots[i].outlook;

		o->reason = REASON_NONE;
		o->restart_usec = o->deadline_usec = USEC_NEVER;
		o->reaches_usec = o->life_usec = USEC_NEVER;
		o->follows = false;
		if (slot_serves(r->seen->slots[i].phase))
			foresee(r, &r->p->slots[i]);
		if (!may_restart(r, i))
			continue;
		entries[n] = (struct plan_entry){
			.slot = i,
			.deadline_usec = USEC_NEVER,
			.last_call_usec = USEC_NEVER,
			.doom_usec = USEC_NEVER,
		};
		consider_slot(r, &entries[n++]);
	}
	consider_pool(r, entries, n);
	for (size_t i = 0; i < n; i++) {
		struct outlook *o = &r->p->slots[entries[i].slot].outlook;

		if (entries[i].deadline_usec == USEC_NEVER)
			continue;
		o->reason = entries[i].reason;
		o->deadline_usec = entries[i].deadline_usec;
		entries[n_due++] = entries[i];
	}
	return n_due;
}
