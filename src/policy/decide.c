/* The way in: keeps time, takes notes, and runs the parts of one decision in their order.
 * Owns struct policy as a whole. Must never read a clock, allocate, or fail. */
#include "policy/decide.h"

#include <errno.h>
#include <string.h>

#include "policy/backoff.h"
#include "policy/loan.h"
#include "policy/restart.h"
#include "policy/trim.h"
#include "policy/tripwire.h"

/* Degraded mode has no tripwire: it looks by itself, more often as a deadline comes nearer. */
#define POLL_MIN_USEC (100 * USEC_PER_MSEC)
#define POLL_MAX_USEC (10 * USEC_PER_SEC)

/* A sample that is doubted is taken again after this time. */
#define DOUBT_USEC (250 * USEC_PER_MSEC)

/* So many failed boots in a row: the slot cannot come up, and waiting for it starves others. */
#define STUCK_AFTER 3

size_t policy_size(size_t n_slots)
{
	return sizeof(struct policy) +
	       n_slots * (sizeof(struct slot_memory) + 2 * sizeof(struct plan_entry));
}

uint64_t policy_random(struct policy *p, uint64_t bound)
{
	uint64_t z;

	if (bound == 0)
		return 0;
	/* splitmix64: one word of state, any seed will do. */
	p->random += 0x9e3779b97f4a7c15;
	z = p->random;
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
	z ^= z >> 31;
	return (uint64_t)(((unsigned __int128)z * bound) >> 64);
}

void policy_init(struct policy *p, size_t n_slots, uint64_t seed)
{
	uint64_t place;

	memset(p, 0, policy_size(n_slots));
	p->n_slots = n_slots;
	p->random = seed;
	place = policy_random(p, UINT64_MAX);
	for (size_t i = 0; i < n_slots; i++) {
		/* Steps of the golden ratio: neighbours lie far apart, and any first k slots
		 * cover the range evenly, so a slot keeps its place when others come or go. */
		place += 0x9e3779b97f4a7c15;
		p->slots[i].spread_permyriad =
			(uint64_t)(((unsigned __int128)place * (PERMYRIAD + 1)) >> 64);
		p->slots[i].outlook.restart_usec = USEC_NEVER;
		p->slots[i].outlook.deadline_usec = USEC_NEVER;
		p->slots[i].outlook.next_trim_usec = USEC_NEVER;
		p->slots[i].outlook.reaches_usec = USEC_NEVER;
		p->slots[i].outlook.life_usec = USEC_NEVER;
	}
	p->outlook.life_usec = USEC_NEVER;
}

/* ---- notes ---- */

/* Time never runs back for the policy: a note from the past is taken as of now. */
static struct slot_memory *noted(struct policy *p, uint32_t slot, usec_t *now)
{
	if (slot >= p->n_slots)
		return NULL;
	p->now_usec = *now = u64_max(*now, p->now_usec);
	return &p->slots[slot];
}

static void count_restart(struct policy *p, usec_t now)
{
	p->restarted = true;
	p->last_restart_usec = now;
}

/* A maximum that falls by an eighth of the way: one slow boot is remembered for a while. */
static void learn_slowly(uint64_t *learned, uint64_t value)
{
	*learned = value >= *learned ? value : *learned - (*learned - value) / 8;
}

static void forget_worker(struct slot_memory *s)
{
	forecast_reset(&s->growth);
	forecast_reset(&s->troughs);
	s->usage_bytes = s->charged_bytes = s->footprint_bytes = 0;
	s->sampled_usec = s->ready_usec = s->crossed_usec = 0;
	s->high_events = 0;
	s->tripwire_bytes = s->limit_bytes = s->loan_bytes = 0;
	s->can_trim = false;
	s->due_usec = 0;
	memset(&s->hold, 0, sizeof(s->hold));
	memset(&s->trim, 0, sizeof(s->trim));
}

void policy_note_started(struct policy *p, uint32_t slot, usec_t now)
{
	struct slot_memory *s = noted(p, slot, &now);

	if (!s)
		return;
	s->started_usec = now;
	if (s->known && slot_serves(s->phase)) {
		if (!s->restarting)
			count_restart(p, now);
		s->restarting = true;
		s->phase = SLOT_SURGING;
		return;
	}
	/* The gap after a crash counts from here. A drain has counted already. */
	if (s->absence == ABSENT_CRASHED)
		count_restart(p, now);
	s->known = true;
	s->phase = SLOT_BOOTING;
}

void policy_note_ready(struct policy *p, uint32_t slot, usec_t now,
		       uint64_t footprint_bytes)
{
	struct slot_memory *s = noted(p, slot, &now);

	if (!s)
		return;
	if (s->started_usec)
		learn_slowly(&p->boot_usec, u64_max(now - s->started_usec, 1));
	if (footprint_bytes)
		learn_slowly(&p->footprint_bytes, footprint_bytes);
	if (s->phase == SLOT_SURGING) {
		s->n_parting++;
		s->parting_bytes = u64_max(s->parting_bytes, s->loan_bytes);
	}
	forget_worker(s);
	s->known = true;
	s->phase = SLOT_SERVING;
	s->restarting = false;
	s->n_boot_failures = 0;
	s->not_before_usec = 0;
	s->absence = ABSENT_CRASHED; /* unless somebody says otherwise when it goes */
	s->ready_usec = now;
	s->footprint_bytes = s->usage_bytes = footprint_bytes;
	if (footprint_bytes) {
		(void)forecast_add(&s->growth, now, footprint_bytes, /* trusted= */ true);
		(void)forecast_add(&s->troughs, now, footprint_bytes,
				   /* trusted= */ true);
	}
	trim_begin(s, now);
}

void policy_note_boot_failed(struct policy *p, uint32_t slot, usec_t now)
{
	struct slot_memory *s = noted(p, slot, &now);

	if (!s)
		return;
	if (s->n_boot_failures < UINT32_MAX)
		s->n_boot_failures++;
	s->not_before_usec = usec_add(
		now, backoff_usec(s->n_boot_failures, p->limits.backoff_max_usec));
	if (s->phase == SLOT_SURGING) {
		s->phase = SLOT_SERVING;
		s->restarting = false;
	} else {
		s->phase = SLOT_EMPTY;
		if (s->absence == ABSENT_NEW)
			s->absence = ABSENT_CRASHED;
	}
}

/* It served, and yet it never had a life: as with boots that fail, the next one waits. */
static void back_off_cramped(struct policy *p, struct slot_memory *s, usec_t now,
			     bool kernel_kill)
{
	if (!kernel_kill || !slot_is_cramped(p, &p->limits, s)) {
		s->n_cramped_kills = 0;
		return;
	}
	if (s->n_cramped_kills < UINT32_MAX)
		s->n_cramped_kills++;
	s->not_before_usec = usec_add(
		now, backoff_usec(s->n_cramped_kills, p->limits.backoff_max_usec));
}

void policy_note_crashed(struct policy *p, uint32_t slot, usec_t now, bool kernel_kill)
{
	struct slot_memory *s = noted(p, slot, &now);

	if (!s)
		return;
	/* A kill is a restart that the kernel began. */
	if (kernel_kill)
		count_restart(p, now);
	back_off_cramped(p, s, now, kernel_kill);
	s->absence = ABSENT_CRASHED;
	s->restarting = false;
	s->phase = s->phase == SLOT_SURGING ? SLOT_BOOTING : SLOT_EMPTY;
	forget_worker(s);
}

void policy_note_drained(struct policy *p, uint32_t slot, usec_t now, usec_t drain_usec)
{
	struct slot_memory *s = noted(p, slot, &now);

	if (!s)
		return;
	learn_slowly(&p->drain_usec, u64_max(drain_usec, 1));
	/* The slot serves already: the one that went is nobody's worker any more. */
	if (slot_serves(s->phase) && !s->drain_asked) {
		s->n_parting -= s->n_parting > 0;
		if (s->n_parting == 0)
			s->parting_bytes = 0;
		return;
	}
	if (!s->restarting)
		count_restart(p, now);
	s->restarting = true;
	s->drain_asked = false;
	s->absence = ABSENT_REPLACED;
	s->phase = SLOT_EMPTY;
	forget_worker(s);
}

/* ---- what is seen ---- */

/* What the snapshot shows but no note told: actions carried out, workers taken over from an
 * earlier supervisor. */
static void observe_phase(struct round *r, struct slot_memory *s,
			  const struct slot_seen *seen)
{
	bool begun = seen->phase == SLOT_SURGING || seen->phase == SLOT_DRAINING;

	if (slot_serves(seen->phase) && s->ready_usec == 0) {
		s->ready_usec = u64_min(u64_max(seen->ready_usec, 1), r->now);
		s->footprint_bytes = 0;
		s->absence = ABSENT_CRASHED;
		trim_begin(s, r->now);
	}
	if (begun && !s->restarting && !seen->retire) {
		s->restarting = true;
		count_restart(r->p, r->now);
	}
	if (seen->phase == SLOT_SERVING)
		s->restarting = s->drain_asked = false;
	if (seen->phase == SLOT_DRAINING)
		s->absence = ABSENT_REPLACED;
	if (seen->phase == SLOT_EMPTY && seen->retire) {
		s->absence = ABSENT_NEW;
		s->restarting = false;
	}
	s->known = true;
	s->phase = seen->phase;
	s->can_trim = seen->can_trim;
}

/* A sample that is not believed is taken again soon, and changes nothing until then. */
static void observe_memory(struct round *r, struct slot_memory *s,
			   const struct slot_seen *seen)
{
	uint64_t usage = seen->usage_bytes;
	bool charge_known = r->limits->tripwire && seen->charged_bytes > 0;

	if (!seen->sampled || !slot_serves(seen->phase) || usage == 0)
		return;
	/* The kernel's own counter vouches for what lies below it. */
	if (charge_known)
		usage = u64_min(usage, seen->charged_bytes);
	/* Under the brake a worker does not grow as it would, and in a trim it shrinks. */
	if (!seen->trimming && !s->hold.active &&
	    !forecast_add(&s->growth, r->now, usage, charge_known)) {
		round_wake(r, usec_add(r->now, DOUBT_USEC));
		return;
	}
	s->usage_bytes = usage;
	s->charged_bytes = u64_max(seen->charged_bytes, usage);
	s->sampled_usec = r->now;
}

static void count_phase(struct round *r, const struct slot_memory *s,
			const struct slot_seen *seen)
{
	r->n_booting += seen->phase == SLOT_BOOTING;
	r->n_trimming += seen->trimming;
	r->n_held += s->hold.active;
	if (seen->retire)
		return;
	r->n_wanted++;
	r->n_restarting += s->restarting;
	if (!slot_serves(seen->phase)) {
		r->n_unavailable++;
		r->n_stuck += s->n_boot_failures >= STUCK_AFTER;
	}
}

/* What a worker may add to the pool while another is replaced. */
static uint64_t expected_growth(const struct round *r, const struct slot_memory *s)
{
	return u64_min(forecast_growth(&s->growth, policy_lead_usec(r->p, r->limits)),
		       u64_sub(slot_limit(r->limits, s), s->charged_bytes));
}

static void sum_memory(struct round *r)
{
	uint64_t workers = 0;

	for (size_t i = 0; i < r->n_slots; i++) {
		const struct slot_memory *s = &r->p->slots[i];
		const struct slot_seen *seen = &r->seen->slots[i];

		if (slot_serves(seen->phase)) {
			uint64_t used =
				u64_sub(s->charged_bytes, r->limits->worker_max_bytes);

			workers = u64_add(workers, s->charged_bytes);
			r->growth_bytes = u64_add(r->growth_bytes, expected_growth(r, s));
			r->unused_bytes =
				u64_add(r->unused_bytes, u64_sub(s->loan_bytes, used));
		}
		if (seen->retire)
			continue;
		r->promised_bytes =
			u64_add(r->promised_bytes, r->limits->worker_max_bytes);
		r->promised_bytes = u64_add(r->promised_bytes, s->loan_bytes);
		r->promised_bytes = u64_add(r->promised_bytes, s->parting_bytes);
	}
	/* Template, and workers that boot beside others or drain. */
	r->promised_bytes =
		u64_add(r->promised_bytes, u64_sub(r->seen->pool_bytes, workers));
}

static void observe(struct round *r)
{
	for (size_t i = 0; i < r->n_slots; i++) {
		struct slot_memory *s = &r->p->slots[i];
		const struct slot_seen *seen = &r->seen->slots[i];

		observe_phase(r, s, seen);
		observe_memory(r, s, seen);
		count_phase(r, s, seen);
	}
	sum_memory(r);
}

/* ---- decision ---- */

struct action *round_give(struct round *r, enum action_kind kind, enum reason reason,
			  uint32_t slot)
{
	const struct slot_memory *s = &r->p->slots[slot];
	struct action *a = &r->ret->actions[r->ret->n_actions++];

	*a = (struct action){
		.kind = kind,
		.reason = reason,
		.slot = slot,
		.usage_bytes = s->usage_bytes,
		.limit_bytes =
			s->limit_bytes ? s->limit_bytes : r->limits->worker_max_bytes,
		.rate_bytes_per_sec = s->growth.rate,
		.deadline_usec = USEC_NEVER,
	};
	return a;
}

static void fill_outlook(const struct round *r, struct slot_memory *s)
{
	struct outlook *o = &s->outlook;
	const struct trim_record *trims =
		s->trim.record.n_learned ? &s->trim.record : &r->p->trims;

	o->usage_bytes = s->usage_bytes;
	o->rate_bytes_per_sec = s->growth.rate;
	o->rate_error_bytes_per_sec = (int64_t)s->growth.rate_error;
	o->mark_bytes = tripwire_mark(r->limits, s);
	o->limit_bytes = slot_limit(r->limits, s);
	o->loan_bytes = s->loan_bytes;
	o->has_room = restart_has_room(r, (uint32_t)(s - r->p->slots));
	o->n_boot_failures = s->n_boot_failures;
	o->not_before_usec = s->not_before_usec;
	o->futile_trims = s->trim.record.n_futile;
	o->pause_usec = trim_expected_pause(s);
	o->n_skipped_trims = s->trim.n_skipped;
	o->n_trims = trims->n_learned;
	o->kept_permyriad = (uint32_t)trim_kept_permyriad(r->p, s);
	o->held = s->hold.active;
	o->hold_ended = s->hold.ended;
	o->held_since_usec = s->hold.since_usec;
	o->held_until_usec = s->hold.active ? tripwire_hold_end(r, s) : 0;
}

/* Workers that live for l1, l2, ... are restarted 1/l1 + 1/l2 + ... times in a unit of time: what
 * has to go into the gap is that sum, so the mean is the harmonic one. Those that do not grow add
 * nothing to it. */
static usec_t mean_life(const struct round *r)
{
	const uint64_t one = UINT64_C(1) << 40;
	uint64_t sum = 0, n = 0;

	for (size_t i = 0; i < r->n_slots; i++) {
		const struct slot_memory *s = &r->p->slots[i];

		if (!slot_serves(s->phase))
			continue;
		n++;
		if (s->outlook.life_usec != USEC_NEVER)
			sum = u64_add(sum, u64_mul_div(one, USEC_PER_SEC,
						       u64_max(s->outlook.life_usec, 1)));
	}
	return sum == 0 ? USEC_NEVER : u64_mul_div(one * n, USEC_PER_SEC, sum);
}

static void fill_pool_outlook(const struct round *r)
{
	struct policy *p = r->p;
	struct pool_outlook *o = &p->outlook;

	o->last_restart_usec = p->restarted ? p->last_restart_usec : 0;
	o->lead_usec = policy_lead_usec(p, r->limits);
	o->host_since_usec = p->host_since_usec;
	o->life_usec = mean_life(r);
	o->footprint_bytes = p->footprint_bytes;
	o->used_bytes = r->seen->pool_bytes;
	o->lent_bytes = o->n_lent = o->n_held = 0;
	for (size_t i = 0; i < r->n_slots; i++) {
		uint64_t lent =
			u64_add(p->slots[i].loan_bytes, p->slots[i].parting_bytes);

		o->lent_bytes = u64_add(o->lent_bytes, lent);
		o->n_lent += lent > 0;
		o->n_held += p->slots[i].hold.active;
	}
	o->n_trims = p->trims.n_learned;
	o->futile_trims = p->trims.n_futile;
	o->kept_permyriad =
		p->trims.grown_bytes == 0
			? 0
			: (uint32_t)u64_min(u64_mul_div(p->trims.kept_bytes, PERMYRIAD,
							p->trims.grown_bytes),
					    PERMYRIAD);
}

static void fill_outlooks(struct round *r)
{
	usec_t shortest = USEC_NEVER;

	for (size_t i = 0; i < r->n_slots; i++) {
		fill_outlook(r, &r->p->slots[i]);
		shortest = u64_min(shortest, r->p->slots[i].outlook.deadline_usec);
	}
	fill_pool_outlook(r);
	if (!r->limits->tripwire && r->n_wanted)
		round_wake(r, usec_add(r->now, u64_clamp(usec_sub(shortest, r->now) / 4,
							 POLL_MIN_USEC, POLL_MAX_USEC)));
}

void decide(struct policy *p, const struct limits *limits, const struct snapshot *seen,
	    struct decision *ret)
{
	struct round r = {
		.p = p,
		.limits = limits,
		.seen = seen,
		.ret = ret,
		.n_slots = u64_min(seen->n_slots, p->n_slots),
		.now = u64_max(seen->now_usec, p->now_usec),
	};

	p->now_usec = r.now;
	p->limits = *limits;
	ret->n_actions = 0;
	ret->wake_usec = USEC_NEVER;
	ret->end_kept = REASON_NONE;
	observe(&r);
	tripwire_observe(&r);
	restart_decide_starts(&r);
	restart_decide_plan(&r);
	loan_decide(&r);
	tripwire_decide(&r);
	trim_decide(&r);
	fill_outlooks(&r);
}

int policy_outlook(const struct policy *p, uint32_t slot, struct outlook *ret)
{
	if (slot >= p->n_slots)
		return -EINVAL;
	*ret = p->slots[slot].outlook;
	return 0;
}

void policy_pool_outlook(const struct policy *p, struct pool_outlook *ret)
{
	*ret = p->outlook;
}
