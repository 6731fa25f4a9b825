/* Tripwires and holds. Owns tripwire_bytes, brake_*, crossed_* and hold of each slot. Must
 * never leave a worker above its tripwire except in a hold, and no hold without end. */
#include "policy/tripwire.h"

/* Measured: raised at once by 8 MiB or more, the worst stall of a worker that grows 1 MiB per
 * ms equals the untripped one; raised by 1 MiB it was 714 ms. */
#define STEP_MIN_BYTES (8 * MIB)
#define STEP_PERMYRIAD 400

/* A raise has room for what growth brings in so long a time. */
#define RAISE_USEC (2 * USEC_PER_SEC)

/* The kernel's brake: at most so long a sleep for each batch that a thread charges. */
#define THROTTLE_MAX_USEC (2 * USEC_PER_SEC)
#define THROTTLE_BATCH	  (256 * KIB)

/* Between two looks at a hold that may yet turn out to be a mere request. */
#define HOLD_LOOK_USEC (500 * USEC_PER_MSEC)

/* A hold that moves neither usage nor reclaim for so long only hurts. */
#define HOLD_WINDOW_USEC    (5 * USEC_PER_SEC)
#define HOLD_PROGRESS_BYTES THROTTLE_BATCH /* that much passes in THROTTLE_MAX_USEC */

/* Growth is slow where a stretch of so many times a replacement and the first sign of a runaway
 * brought less than half of what lies between the brake line and the limit. */
#define SLOW_FACTOR 2

/* A worker that nobody has looked at yet is looked at within this time. */
#define FIRST_LOOK_USEC (100 * USEC_PER_MSEC)

/* ---- where ---- */

uint64_t tripwire_step(const struct limits *limits, const struct slot_memory *slot)
{
	uint64_t scale = limits->worker_max_bytes;
	uint64_t step = STEP_MIN_BYTES;

	if (scale == UINT64_MAX)
		scale = limits->trim_at_bytes;
	if (scale != UINT64_MAX)
		step = u64_max(step, u64_share(scale, STEP_PERMYRIAD));
	if (slot->growth.rate > 0)
		step = u64_max(step, u64_mul_div((uint64_t)slot->growth.rate, RAISE_USEC,
						 USEC_PER_SEC));
	return step;
}

/* How long one thread that meets no reclaimable page takes from high to high + over: the kernel
 * lets it sleep 6.4 ms x (percent over)^2 per 256 KiB, at most 2 s (reached near 17.7 %).
 * Summed: 0.0853 ms x MiB of high x percent^3 up to there, then 2 s a batch. */
static usec_t braked_usec(uint64_t high, uint64_t over)
{
	const uint64_t knee = 1768; /* permyriad */
	uint64_t permyriad = u64_mul_div(over, PERMYRIAD, high);
	uint64_t curve = u64_min(permyriad, knee);
	uint64_t cube = curve * curve * curve; /* percent^3 x 10^6, below 2^33 */
	usec_t climb = u64_mul_div(u64_mul_div(high, cube, MIB), 853, 10 * 1000 * 1000);

	if (permyriad <= knee)
		return climb;
	return u64_add(climb, u64_mul_div(u64_share(high, permyriad - knee),
					  THROTTLE_MAX_USEC, THROTTLE_BATCH));
}

uint64_t tripwire_brake_line(uint64_t max_bytes, usec_t brake_usec)
{
	uint64_t low, high;

	if (max_bytes == UINT64_MAX)
		return UINT64_MAX;
	low = u64_max(u64_share(max_bytes, TRIPWIRE_LINE_MIN_PERMYRIAD), 1);
	high = u64_max(max_bytes, 1);
	while (high - low > 64 * KIB) {
		uint64_t mid = low + (high - low) / 2;

		if (braked_usec(mid, max_bytes - mid) >= brake_usec)
			low = mid;
		else
			high = mid;
	}
	return low;
}

/* The slot's own line, with time for every other worker to have its turn first: when several run
 * away at once, it is too late to think of it. Kept, since it is asked for at every sample. */
static uint64_t brake_line(const struct policy *p, const struct limits *limits,
			   struct slot_memory *s)
{
	uint64_t limit = slot_limit(limits, s);
	usec_t brake = u64_max(TRIPWIRE_BRAKE_USEC,
			       u64_mul_div(limits->min_gap_floor_usec, p->n_slots, 1));

	if (s->brake_bytes == 0 || s->brake_limit_bytes != limit ||
	    s->brake_usec != brake) {
		s->brake_bytes = tripwire_brake_line(limit, brake);
		s->brake_limit_bytes = limit;
		s->brake_usec = brake;
	}
	return s->brake_bytes;
}

/* The fit says so, and the worker is where the fit says. */
static bool fits_slow_growth(const struct forecast *f, uint64_t most, usec_t window,
			     uint64_t peak, uint64_t step)
{
	uint64_t rate = f->rate > 0 ? (uint64_t)f->rate : 0;

	rate = u64_add(rate, u64_add(f->rate_error, f->rate_error));
	return f->span_usec >= window && peak <= u64_add(f->expected_bytes, step) &&
	       u64_mul_div(rate, window, USEC_PER_SEC) < most;
}

/* A worker known to grow slowly is replaced in time without a brake, which would cost it a
 * tenth of its life. Known by what it did last, or by a fit where requests hide that. What it
 * does under the brake says nothing about how it grows. */
static bool grows_slowly(const struct policy *p, const struct limits *limits,
			 const struct slot_memory *s, uint64_t line, uint64_t peak)
{
	usec_t window =
		SLOW_FACTOR * usec_add(policy_lead_usec(p, limits), TRIPWIRE_BRAKE_USEC);
	uint64_t most = u64_sub(slot_limit(limits, s), line) / 2;

	if (s->hold.active || s->hold.spent)
		return false;
	return forecast_rise(&s->growth, p->now_usec, window, peak) < most ||
	       fits_slow_growth(&s->growth, most, window, peak, tripwire_step(limits, s));
}

/* The highest value that the tripwire may take while the worker's peaks are where they are. */
static uint64_t ceiling(const struct policy *p, const struct limits *limits,
			struct slot_memory *s, uint64_t peak)
{
	uint64_t line = brake_line(p, limits, s);

	return s->hold.spent || grows_slowly(p, limits, s, line, peak) ? UINT64_MAX
								       : line;
}

uint64_t tripwire_ceiling(const struct policy *p, const struct limits *limits,
			  struct slot_memory *s)
{
	return ceiling(p, limits, s, s->usage_bytes);
}

uint64_t tripwire_mark(const struct limits *limits, const struct slot_memory *slot)
{
	uint64_t pull;

	if (limits->trim_at_bytes == 0 || limits->trim_at_bytes == UINT64_MAX)
		return UINT64_MAX;
	/* Downwards only: no worker is later than trim-at says. */
	pull = u64_share(u64_share(limits->trim_at_bytes,
				   u64_min(limits->spread_permyriad, PERMYRIAD / 2)),
			 slot->spread_permyriad);
	return limits->trim_at_bytes - pull;
}

/* Never at or above max: the event would come with the kill. */
static uint64_t below_max(const struct limits *limits, const struct slot_memory *s,
			  uint64_t v)
{
	return v < slot_limit(limits, s) ? v : UINT64_MAX;
}

/* The next place worth an event: a step above the peaks, so that growth is known long before it
 * matters, and the mark. High looks at the charge, page cache included; marks are about what
 * the worker costs alone. A look between two requests says nothing about where it will be in
 * the next: armed by that, the tripwire would be crossed by every one of them. */
static uint64_t next_rung(const struct policy *p, const struct limits *limits,
			  struct slot_memory *s)
{
	uint64_t mark = tripwire_mark(limits, s), step = tripwire_step(limits, s);
	uint64_t cache = u64_sub(s->charged_bytes, s->usage_bytes);
	uint64_t peak = u64_max(s->usage_bytes, s->growth.level_bytes);
	uint64_t wanted = u64_add(peak, step);

	if (slot_limit(limits, s) == UINT64_MAX && mark == UINT64_MAX)
		return UINT64_MAX;
	/* A step that would end just short of the mark goes there instead. */
	if (mark != UINT64_MAX && peak < mark && mark - peak < 2 * step)
		wanted = u64_max(wanted, mark);
	/* Never below the charge: the write itself would reclaim, in our own time. */
	wanted = u64_min(u64_add(wanted, cache), ceiling(p, limits, s, peak));
	return below_max(limits, s, u64_max(wanted, s->charged_bytes));
}

/* ---- raise first, decide after ---- */

uint64_t policy_raise_tripwire(struct policy *p, const struct limits *limits,
			       uint32_t slot, usec_t now, uint64_t charged_bytes)
{
	struct slot_memory *s;
	uint64_t step, most, wanted;

	if (slot >= p->n_slots)
		return UINT64_MAX;
	s = &p->slots[slot];
	step = tripwire_step(limits, s);
	/* The fit may lag behind a worker that just began to run. */
	if (s->crossed_usec && now > s->crossed_usec)
		step = u64_max(step, u64_mul_div(u64_sub(charged_bytes, s->crossed_bytes),
						 RAISE_USEC, now - s->crossed_usec));
	s->crossed_usec = now;
	s->crossed_bytes = charged_bytes;
	p->now_usec = u64_max(p->now_usec, now);
	most = ceiling(p, limits, s,
		       u64_sub(charged_bytes, u64_sub(s->charged_bytes, s->usage_bytes)));
	if (charged_bytes < most)
		wanted = u64_min(u64_add(charged_bytes, step), most);
	else if (s->tripwire_bytes >= most && s->tripwire_bytes <= charged_bytes)
		wanted = s->tripwire_bytes; /* the brake is on: stays as it is */
	else
		wanted = charged_bytes; /* it jumped past the line: brake from here */
	s->tripwire_bytes = below_max(limits, s, wanted);
	return s->tripwire_bytes;
}

uint64_t policy_parting_tripwire(uint64_t charged_bytes, uint64_t max_bytes)
{
	uint64_t line = tripwire_brake_line(max_bytes, TRIPWIRE_BRAKE_USEC);

	if (max_bytes == UINT64_MAX || charged_bytes >= max_bytes)
		return UINT64_MAX;
	/* Half of what is left to it: SIGTERM is handled at once, and what runs away on the way
	 * out meets the brake once more. */
	return u64_max(line, charged_bytes + (max_bytes - charged_bytes) / 2);
}

static void set_tripwire(struct round *r, uint32_t i, uint64_t bytes, enum reason reason)
{
	r->p->slots[i].tripwire_bytes = bytes;
	round_give(r, ACTION_TRIPWIRE, reason, i)->bytes = bytes;
}

/* ---- hold ---- */

static void hold_watch(struct hold_memory *hold, const struct slot_memory *s,
		       const struct slot_seen *seen, usec_t now)
{
	hold->checked_usec = now;
	hold->high_events = seen->high_events;
	hold->scanned_pages = seen->scanned_pages;
	hold->freed_pages = seen->freed_pages;
	hold->usage_bytes = s->usage_bytes;
}

/* Throttled all the while, and nothing came of it: the worker neither got on nor did reclaim
 * free a tenth of what it scanned. The few pages of its program that it takes again and again,
 * (six of ten stolen, and all of them wanted again: seen on 6.1), free nothing. */
static bool hold_is_stuck(const struct slot_memory *s, const struct slot_seen *seen)
{
	uint64_t scanned = u64_sub(seen->scanned_pages, s->hold.scanned_pages);
	uint64_t freed = u64_sub(seen->freed_pages, s->hold.freed_pages);

	return seen->high_events > s->hold.high_events &&
	       s->usage_bytes < u64_add(s->hold.usage_bytes, HOLD_PROGRESS_BYTES) &&
	       freed <= scanned / 10;
}

usec_t tripwire_doom(const struct round *r, const struct slot_memory *s)
{
	usec_t end = usec_add(s->hold.since_usec, r->limits->hold_max_usec);
	uint64_t high = s->tripwire_bytes, limit = slot_limit(r->limits, s);
	usec_t took = usec_sub(r->now, s->hold.since_usec), done, left;

	if (limit == UINT64_MAX)
		return end;
	done = braked_usec(high, u64_sub(s->charged_bytes, high));
	left = usec_sub(braked_usec(high, u64_sub(limit, high)), done);
	/* Several threads get on faster than one. */
	if (done > took)
		left = u64_mul_div(left, took, done);
	return u64_min(end, usec_add(r->now, left));
}

/* Nobody has had a turn for so long that something stands in the way of turns. */
static bool turns_are_blocked(const struct round *r)
{
	usec_t floor = r->limits->min_gap_floor_usec;

	return r->p->restarted &&
	       r->now >= usec_add(r->p->last_restart_usec, u64_add(floor, floor));
}

/* When the hold ends at the latest. Where turns do not come, many held at once do not end
 * together: the first go early, each a floor after the last. What cannot be replaced in time is
 * killed by the kernel, but as far as it lies with us never two at once. */
usec_t tripwire_hold_end(const struct round *r, const struct slot_memory *s)
{
	usec_t floor = r->limits->min_gap_floor_usec;
	usec_t end = usec_add(s->hold.since_usec, r->limits->hold_max_usec);
	usec_t early = usec_sub(end, u64_mul_div(floor, u64_max(r->n_held, 1) - 1, 1));

	if (!turns_are_blocked(r))
		return end;
	if (r->p->last_release_usec)
		early = u64_max(early, usec_add(r->p->last_release_usec, floor));
	return u64_min(end, u64_max(early, s->hold.since_usec));
}

static void end_hold(struct hold_memory *hold, enum reason reason)
{
	if (hold->active)
		hold->ended = reason;
	hold->active = false;
}

static void release(struct round *r, uint32_t i, enum reason reason)
{
	struct slot_memory *s = &r->p->slots[i];

	end_hold(&s->hold, reason);
	s->hold.spent = true;
	r->p->last_release_usec = r->now;
	set_tripwire(r, i, UINT64_MAX, reason);
}

static void check_hold(struct round *r, uint32_t i)
{
	struct slot_memory *s = &r->p->slots[i];
	const struct slot_seen *seen = &r->seen->slots[i];
	usec_t end = tripwire_hold_end(r, s);

	if (s->tripwire_bytes < tripwire_ceiling(r->p, r->limits, s)) {
		end_hold(&s->hold, REASON_LENT);
		return;
	}
	if (r->now >= end) {
		release(r, i, REASON_RELEASED);
		return;
	}
	if (r->now >= usec_add(s->hold.checked_usec, HOLD_WINDOW_USEC)) {
		if (hold_is_stuck(s, seen)) {
			release(r, i, REASON_STUCK);
			return;
		}
		hold_watch(&s->hold, s, seen, r->now);
	}
	/* Looked at closely at first: one look below the line ends it. */
	if (r->now < usec_add(s->hold.since_usec, TRIPWIRE_HOLD_DUE_USEC))
		round_wake(r, usec_add(r->now, HOLD_LOOK_USEC));
	round_wake(r, usec_add(s->hold.checked_usec, HOLD_WINDOW_USEC));
	round_wake(r, end);
}

/* At the brake line with the brake on: the kernel counted it above since the last look. Not for
 * its page cache, which the kernel drops without delay. */
static bool is_braked(struct round *r, const struct slot_memory *s,
		      const struct slot_seen *seen)
{
	uint64_t cache = u64_sub(s->charged_bytes, s->usage_bytes);

	return s->tripwire_bytes >= s->brake_bytes && s->tripwire_bytes != UINT64_MAX &&
	       u64_add(s->charged_bytes, MIB) >= s->tripwire_bytes &&
	       seen->high_events > s->high_events && cache < tripwire_step(r->limits, s);
}

static void decide_hold(struct round *r, uint32_t i)
{
	struct slot_memory *s = &r->p->slots[i];
	const struct slot_seen *seen = &r->seen->slots[i];

	if (s->hold.active) {
		check_hold(r, i);
	} else if (!s->hold.spent && tripwire_ceiling(r->p, r->limits, s) != UINT64_MAX &&
		   is_braked(r, s, seen)) {
		s->hold.active = true;
		s->hold.since_usec = r->now;
		hold_watch(&s->hold, s, seen, r->now);
		check_hold(r, i);
	}
	s->high_events = seen->high_events;
}

/* ---- the value ---- */

static void decide_value(struct round *r, uint32_t i)
{
	struct slot_memory *s = &r->p->slots[i];
	uint64_t step = tripwire_step(r->limits, s);
	uint64_t wanted;

	if (s->hold.active || s->hold.spent)
		return;
	wanted = next_rung(r->p, r->limits, s);
	if (s->tripwire_bytes == 0)
		set_tripwire(r, i, wanted, REASON_ARMED);
	else if (s->charged_bytes >= s->tripwire_bytes && wanted > s->tripwire_bytes)
		set_tripwire(r, i, wanted, REASON_CROSSED); /* the event never came */
	else if (u64_add(wanted, step) < s->tripwire_bytes)
		set_tripwire(r, i, wanted, REASON_ARMED);
}

void tripwire_observe(struct round *r)
{
	for (uint32_t i = 0; i < r->n_slots; i++) {
		struct slot_memory *s = &r->p->slots[i];

		/* By itself or by a trim, and not only by what reclaim takes and it takes back.
		 * From here on it may be held again. */
		if (u64_add(s->charged_bytes, tripwire_step(r->limits, s) / 2) <
		    s->tripwire_bytes)
			end_hold(&s->hold, REASON_FELL);
		if (s->hold.spent &&
		    u64_add(s->charged_bytes, tripwire_step(r->limits, s)) <
			    brake_line(r->p, r->limits, s))
			s->hold.spent = false;
	}
}

/* A raise is sized for what growth would bring until then. It may end sooner, below the tripwire,
 * and no event would ever tell: one look does. */
static void look_after_crossing(struct round *r, const struct slot_memory *s)
{
	usec_t look = usec_add(s->crossed_usec, RAISE_USEC);

	if (s->crossed_usec && r->now < look)
		round_wake(r, look);
}

void tripwire_decide(struct round *r)
{
	if (!r->limits->tripwire)
		return;
	for (uint32_t i = 0; i < r->n_slots; i++) {
		const struct slot_seen *seen = &r->seen->slots[i];

		if (!slot_serves(seen->phase) || seen->retire)
			continue;
		if (!seen->sampled) {
			/* Nothing would ever wake us for a worker without a tripwire. */
			if (r->p->slots[i].tripwire_bytes == 0)
				round_wake(r, usec_add(r->now, FIRST_LOOK_USEC));
			continue;
		}
		decide_hold(r, i);
		decide_value(r, i);
		look_after_crossing(r, &r->p->slots[i]);
	}
}
