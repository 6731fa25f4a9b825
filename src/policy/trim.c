/* Trims: the choice, the cadence, and what was learned from earlier ones. Owns struct
 * trim_memory of each slot and the pool's record. Must never ask two workers at once: a trim
 * holds the locks of a worker's heap for a tenth of a millisecond per MiB. */
#include "policy/trim.h"

#include "policy/tripwire.h"

#define BACKOFF_MAX_USEC  USEC_PER_HOUR
#define FUTILE_PERMYRIAD  200  /* of the usage before */
#define FUTILE_IN_A_ROW	  2    /* before the forecast stops counting on trims */
#define HELPS_PERMYRIAD	  9000 /* kept: more is a leak, whatever a trim finds beside it */
#define DUTY_FACTOR	  100 /* interval at least so many times the last trim's length */
#define URGENT_PAUSE_USEC (5 * USEC_PER_SEC)

/* A stall reported longer ago than this is over. */
#define PRESSURE_FRESH_USEC (10 * USEC_PER_SEC)
#define HOST_FRESH_USEC	    USEC_PER_MIN

#define QUIET_GROWTH_BYTES     (32 * MIB)
#define QUIET_GROWTH_PERMYRIAD 1500
#define QUIET_WAIT_USEC	       (10 * USEC_PER_SEC)
#define QUIET_WAIT_MAX_USEC    (5 * USEC_PER_MIN)
#define STILL_BYTES	       MIB
#define STILL_PERMYRIAD	       100

/* Measured with glibc and heaps of 1 GiB: 95 to 130 ms. It holds until a worker's own trims are
 * known, and what they show may be forgotten no further than to this. */
#define HOLD_USEC_PER_GIB     (130 * USEC_PER_MSEC)
#define HOLD_MAX_USEC_PER_GIB (100 * USEC_PER_SEC)
#define GIB		      (1024 * MIB)

/* A trim that is felt waits so long for a moment when the worker is idle: when of a window that
 * passed it used less than this share. */
#define FELT_USEC	   (10 * USEC_PER_MSEC)
#define IDLE_WINDOW_USEC   (200 * USEC_PER_MSEC)
#define IDLE_PATIENCE_USEC USEC_PER_SEC
#define IDLE_PERMYRIAD	   500
#define SOON_USEC	   USEC_PER_MIN

static usec_t draw_interval(struct policy *p)
{
	const struct limits *limits = &p->limits;
	usec_t low =
		u64_min(limits->trim_interval_min_usec, limits->trim_interval_max_usec);
	usec_t high =
		u64_max(limits->trim_interval_min_usec, limits->trim_interval_max_usec);

	return u64_add(low, policy_random(p, u64_add(high - low, 1)));
}

void trim_begin(struct slot_memory *slot, usec_t now)
{
	slot->trim = (struct trim_memory){
		.next_usec = now,
		.after_bytes = slot->footprint_bytes,
		.quiet_wait_usec = QUIET_WAIT_USEC,
	};
}

uint64_t trim_kept_permyriad(const struct policy *p, const struct slot_memory *slot)
{
	const struct trim_record *record =
		slot->trim.record.n_learned ? &slot->trim.record : &p->trims;

	if (record->n_learned == 0 || record->grown_bytes == 0)
		return PERMYRIAD / 2;
	return u64_min(u64_mul_div(record->kept_bytes, PERMYRIAD, record->grown_bytes),
		       PERMYRIAD);
}

uint64_t trim_expected_yield(const struct policy *p, const struct slot_memory *slot)
{
	uint64_t grown = u64_sub(slot->usage_bytes, slot->trim.after_bytes);

	return grown - u64_share(grown, trim_kept_permyriad(p, slot));
}

static usec_t hold_rate(const struct trim_memory *t)
{
	return t->hold_usec_per_gib ? t->hold_usec_per_gib : HOLD_USEC_PER_GIB;
}

usec_t trim_expected_pause(const struct slot_memory *slot)
{
	return u64_mul_div(slot->usage_bytes, hold_rate(&slot->trim), GIB);
}

static bool pause_is_too_long(const struct limits *limits, const struct slot_memory *slot)
{
	return limits->trim_max_pause_usec > 0 &&
	       trim_expected_pause(slot) > limits->trim_max_pause_usec;
}

/* The longest counts, and fades by a quarter with each trim that took less: a young worker's trim
 * finds little to do and says little of a later one. */
void policy_note_trim_hold(struct policy *p, uint32_t slot, uint64_t before_bytes,
			   usec_t hold_usec)
{
	struct trim_memory *t;
	usec_t rate;

	if (slot >= p->n_slots || before_bytes == 0)
		return;
	t = &p->slots[slot].trim;
	rate = u64_min(u64_mul_div(hold_usec, GIB, before_bytes), HOLD_MAX_USEC_PER_GIB);
	t->hold_usec_per_gib = u64_max(u64_max(rate, hold_rate(t) / 4 * 3), 1);
}

static uint64_t least_yield(const struct limits *limits, uint64_t usage)
{
	return u64_max(limits->trim_min_yield_bytes, u64_share(usage, FUTILE_PERMYRIAD));
}

bool trim_helps(const struct policy *p, const struct slot_memory *slot)
{
	return p->limits.trim_enabled && slot->can_trim &&
	       !pause_is_too_long(&p->limits, slot) &&
	       slot->trim.record.n_futile < FUTILE_IN_A_ROW &&
	       (slot->trim.record.n_learned || p->trims.n_learned) &&
	       trim_kept_permyriad(p, slot) < HELPS_PERMYRIAD;
}

usec_t trim_earliest(const struct slot_memory *slot)
{
	const struct trim_memory *t = &slot->trim;

	if (t->record.n_futile)
		return t->next_usec;
	return u64_min(t->next_usec, usec_add(t->last_usec, URGENT_PAUSE_USEC));
}

uint64_t trim_tooth(const struct slot_memory *slot)
{
	return slot->trim.tooth_bytes;
}

static void learn(struct trim_record *record, uint64_t grown, uint64_t kept, bool futile)
{
	/* The older a trim, the less it counts: three quarters for each that came since. */
	record->grown_bytes =
		u64_add(record->grown_bytes - record->grown_bytes / 4, grown);
	record->kept_bytes = u64_add(record->kept_bytes - record->kept_bytes / 4, kept);
	if (record->n_learned < UINT32_MAX)
		record->n_learned++;
	if (!futile)
		record->n_futile = 0;
	else if (record->n_futile < UINT32_MAX)
		record->n_futile++;
}

static void back_off(struct policy *p, struct trim_memory *t, usec_t now, usec_t took)
{
	usec_t interval = draw_interval(p);

	if (t->record.n_futile) {
		interval = u64_max(interval, u64_mul_div(t->interval_usec, 2, 1));
		/* Where nothing ever came back, one try for each worker is enough. */
		if (policy_trimming_is_futile(p))
			interval = BACKOFF_MAX_USEC;
		interval = u64_min(interval, BACKOFF_MAX_USEC);
	}
	t->interval_usec = interval;
	t->next_usec =
		usec_add(now, u64_max(interval, u64_mul_div(took, DUTY_FACTOR, 1)));
	t->last_usec = now;
	t->still_usec = 0;
	t->quiet_wait_usec = QUIET_WAIT_USEC;
	t->waits_usec = t->cpu_seen_usec = 0;
}

void policy_note_trimmed(struct policy *p, uint32_t slot, usec_t now,
			 uint64_t before_bytes, uint64_t after_bytes, usec_t took_usec)
{
	uint64_t yield = u64_sub(before_bytes, after_bytes);
	struct slot_memory *s;
	uint64_t grown, kept;
	bool futile;

	if (slot >= p->n_slots)
		return;
	p->now_usec = now = u64_max(now, p->now_usec);
	s = &p->slots[slot];
	futile = yield < least_yield(&p->limits, before_bytes);
	grown = u64_sub(before_bytes, s->trim.after_bytes);
	kept = u64_min(u64_sub(after_bytes, s->trim.after_bytes), grown);
	learn(&s->trim.record, grown, kept, futile);
	learn(&p->trims, grown, kept, futile);
	s->trim.after_bytes = after_bytes;
	s->trim.tooth_bytes = yield;
	s->usage_bytes = after_bytes;
	/* The fall is our doing, not the worker's. */
	if (!futile)
		forecast_fell(&s->growth, yield);
	if (!s->hold.active || !futile)
		(void)forecast_add(&s->growth, now, after_bytes, /* trusted= */ true);
	(void)forecast_add(&s->troughs, now, after_bytes, /* trusted= */ true);
	p->last_trim_usec = now;
	back_off(p, &s->trim, now, took_usec);
}

void policy_note_trimmed_late(struct policy *p, uint32_t slot, usec_t now,
			      uint64_t after_bytes)
{
	struct slot_memory *s;
	uint64_t more;

	if (slot >= p->n_slots)
		return;
	p->now_usec = now = u64_max(now, p->now_usec);
	s = &p->slots[slot];
	more = u64_sub(s->trim.after_bytes, after_bytes);
	if (more == 0)
		return;
	forecast_fell(&s->growth, more);
	(void)forecast_add(&s->growth, now, after_bytes, /* trusted= */ true);
	s->usage_bytes = s->trim.after_bytes = after_bytes;
	s->trim.tooth_bytes = u64_add(s->trim.tooth_bytes, more);
	/* It helped after all: the next one need not wait longer for that. */
	if (more >= least_yield(&p->limits, u64_add(after_bytes, more)) &&
	    s->trim.record.n_futile > 0) {
		s->trim.record.n_futile = p->trims.n_futile = 0;
		s->trim.interval_usec = draw_interval(p);
		s->trim.next_usec = usec_add(s->trim.last_usec, s->trim.interval_usec);
	}
}

void policy_note_trim_lost(struct policy *p, uint32_t slot, usec_t now)
{
	struct slot_memory *s;

	if (slot >= p->n_slots)
		return;
	p->now_usec = now = u64_max(now, p->now_usec);
	s = &p->slots[slot];
	/* Says nothing about what there is to give, so the pool's record is left alone. */
	if (s->trim.record.n_futile < UINT32_MAX)
		s->trim.record.n_futile++;
	back_off(p, &s->trim, now, 0);
}

bool policy_trimming_is_futile(const struct policy *p)
{
	return p->trims.n_futile >= u64_clamp(p->n_slots, 3, 8);
}

static bool fresh(usec_t event, usec_t last_trim, usec_t now, usec_t age)
{
	return event != 0 && event > last_trim && usec_sub(now, event) < age;
}

static bool under_pressure(const struct round *r, uint32_t i)
{
	usec_t last = r->p->slots[i].trim.last_usec;

	return fresh(r->seen->slots[i].pressure_usec, last, r->now,
		     PRESSURE_FRESH_USEC) ||
	       fresh(r->seen->pool_pressure_usec, last, r->now, PRESSURE_FRESH_USEC) ||
	       fresh(r->seen->host_pressure_usec, last, r->now, HOST_FRESH_USEC);
}

/* Grown by a burst and motionless since: heap that nobody needs now. Usage is all that is
 * seen of a worker, so "idle" is "its usage does not move". */
static bool fell_quiet(struct round *r, uint32_t i)
{
	struct slot_memory *s = &r->p->slots[i];
	struct trim_memory *t = &s->trim;
	uint64_t slack = u64_max(STILL_BYTES, u64_share(s->usage_bytes, STILL_PERMYRIAD));
	uint64_t base = t->after_bytes;

	if (s->usage_bytes <
	    u64_add(base, u64_max(QUIET_GROWTH_BYTES,
				  u64_share(base, QUIET_GROWTH_PERMYRIAD)))) {
		t->still_usec = 0;
		return false;
	}
	if (t->still_usec == 0) {
		t->still_usec = r->now;
		t->still_bytes = s->usage_bytes;
	} else if (u64_sub(s->usage_bytes, t->still_bytes) > slack ||
		   u64_sub(t->still_bytes, s->usage_bytes) > slack) {
		/* Looking ever more rarely: a busy worker must not keep the pool awake. */
		if (r->now >= usec_add(t->still_usec, t->quiet_wait_usec))
			t->quiet_wait_usec =
				u64_min(t->quiet_wait_usec * 2, QUIET_WAIT_MAX_USEC);
		t->still_usec = r->now;
		t->still_bytes = s->usage_bytes;
	}
	if (r->now >= usec_add(t->still_usec, t->quiet_wait_usec))
		return true;
	round_wake(r, u64_max(usec_add(t->still_usec, t->quiet_wait_usec), t->next_usec));
	return false;
}

/* Why the slot should be trimmed if its interval allowed; REASON_NONE: it should not. */
static enum reason wanted_for(struct round *r, uint32_t i)
{
	struct slot_memory *s = &r->p->slots[i];
	const struct limits *limits = r->limits;
	uint64_t least = least_yield(limits, s->usage_bytes);
	uint64_t mark = tripwire_mark(limits, s);
	bool quiet = fell_quiet(r, i);

	if (under_pressure(r, i) && trim_expected_yield(r->p, s) >= least)
		return REASON_PRESSURE;
	if (s->usage_bytes >= mark && limits->trim_periodic)
		return REASON_PERIODIC;
	/* Above the mark, but not by anything that came since the last trim: it would fail. */
	if (s->usage_bytes >= mark &&
	    s->usage_bytes >= u64_add(s->trim.after_bytes, u64_add(least, least)))
		return REASON_MARK;
	return quiet ? REASON_QUIET : REASON_NONE;
}

static bool may_trim(const struct round *r, uint32_t i)
{
	const struct slot_seen *seen = &r->seen->slots[i];

	return seen->phase == SLOT_SERVING && !seen->retire && seen->can_trim &&
	       seen->sampled;
}

/* One trim in vain says little: the burst that it met was still in use. */
#define FUTILE_BEFORE_RESTART 2

bool trim_is_coming(const struct round *r, uint32_t slot)
{
	const struct slot_memory *s = &r->p->slots[slot];

	if (r->seen->slots[slot].trimming)
		return true;
	return r->limits->trim_enabled && may_trim(r, slot) &&
	       !pause_is_too_long(r->limits, s) &&
	       s->trim.record.n_futile < FUTILE_BEFORE_RESTART &&
	       !policy_trimming_is_futile(r->p) && r->now >= trim_earliest(s) &&
	       s->usage_bytes >= tripwire_mark(r->limits, s) &&
	       trim_expected_yield(r->p, s) >= least_yield(r->limits, s->usage_bytes);
}

/* When the slot's interval lets it be asked: sooner where its limit comes before that. */
static usec_t allowed_at(const struct slot_memory *s)
{
	return s->outlook.deadline_usec < s->trim.next_usec ? trim_earliest(s)
							    : s->trim.next_usec;
}

/* Left out, until its next turn. A single hold that was long for reasons of its own, a CPU lost in
 * the middle of it, must not keep a worker from being trimmed for good: it fades. */
static void skip(struct round *r, struct slot_memory *s)
{
	struct trim_memory *t = &s->trim;

	if (t->n_skipped < UINT32_MAX)
		t->n_skipped++;
	if (hold_rate(t) > HOLD_USEC_PER_GIB)
		t->hold_usec_per_gib = u64_max(hold_rate(t) / 4 * 3, HOLD_USEC_PER_GIB);
	t->interval_usec = draw_interval(r->p);
	t->next_usec = usec_add(r->now, t->interval_usec);
	t->still_usec = 0;
	t->waits_usec = t->cpu_seen_usec = 0;
	round_wake(r, t->next_usec);
}

/* Whether the worker used next to no CPU in the window that ends now; looks again when one has
 * passed. */
static bool is_idle(struct round *r, uint32_t i)
{
	struct trim_memory *t = &r->p->slots[i].trim;
	usec_t used = r->seen->slots[i].cpu_usec,
	       passed = usec_sub(r->now, t->cpu_seen_usec);
	bool idle = false;

	if (t->cpu_seen_usec > 0 && passed < IDLE_WINDOW_USEC) {
		round_wake(r, usec_add(t->cpu_seen_usec, IDLE_WINDOW_USEC));
		return false;
	}
	/* One that began long ago says nothing of now. */
	if (t->cpu_seen_usec > 0 && passed < 2 * IDLE_WINDOW_USEC)
		idle = u64_sub(used, t->cpu_usec) <= u64_share(passed, IDLE_PERMYRIAD);
	t->cpu_seen_usec = r->now;
	t->cpu_usec = used;
	if (!idle)
		round_wake(r, usec_add(r->now, IDLE_WINDOW_USEC));
	return idle;
}

/* A pause while nothing is served costs nobody anything: worth a short wait, unless memory is what
 * is short. */
static bool is_good_moment(struct round *r, uint32_t i, enum reason reason)
{
	struct slot_memory *s = &r->p->slots[i];

	if (r->seen->slots[i].cpu_usec == 0 || trim_expected_pause(s) < FELT_USEC ||
	    (reason != REASON_MARK && reason != REASON_PERIODIC) ||
	    s->outlook.deadline_usec < usec_add(r->now, SOON_USEC))
		return true;
	if (s->trim.waits_usec == 0)
		s->trim.waits_usec = r->now;
	return r->now >= usec_add(s->trim.waits_usec, IDLE_PATIENCE_USEC) ||
	       is_idle(r, i);
}

/* A trim in the middle of a burst gives nothing back, and the burst may end below the tripwire,
 * which was raised by what two seconds of it would bring: no event would ever tell. One look when
 * the interval is over does. */
static void look_again(struct round *r, const struct slot_memory *s)
{
	if (s->trim.record.n_futile > 0 && r->now < s->trim.next_usec &&
	    s->usage_bytes >= tripwire_mark(r->limits, s))
		round_wake(r, s->trim.next_usec);
}

void trim_decide(struct round *r)
{
	uint64_t best_yield = 0, best_usage = 0;
	enum reason best_reason = REASON_NONE;
	uint32_t best = 0;
	struct action *a;

	if (!r->limits->trim_enabled)
		return;
	for (uint32_t i = 0; i < r->n_slots; i++) {
		struct slot_memory *s = &r->p->slots[i];
		enum reason reason = may_trim(r, i) ? wanted_for(r, i) : REASON_NONE;
		uint64_t yield;

		s->outlook.next_trim_usec =
			reason == REASON_NONE ? USEC_NEVER : allowed_at(s);
		if (reason == REASON_NONE) {
			s->trim.waits_usec = 0;
			look_again(r, s);
			continue;
		}
		if (r->now < s->outlook.next_trim_usec) {
			round_wake(r, s->outlook.next_trim_usec);
			continue;
		}
		if (pause_is_too_long(r->limits, s)) {
			skip(r, s);
			s->outlook.next_trim_usec = USEC_NEVER;
			continue;
		}
		if (r->n_trimming == 0 && !is_good_moment(r, i, reason))
			continue;
		yield = trim_expected_yield(r->p, s);
		if (best_reason == REASON_NONE || yield > best_yield ||
		    (yield == best_yield && s->usage_bytes > best_usage)) {
			best = i;
			best_reason = reason;
			best_yield = yield;
			best_usage = s->usage_bytes;
		}
	}
	/* One at a time; the end of the one under way is an event, so nothing need be waited for. */
	if (best_reason == REASON_NONE || r->n_trimming > 0)
		return;
	a = round_give(r, ACTION_TRIM, best_reason, best);
	a->bytes = a->usage_bytes;
}
