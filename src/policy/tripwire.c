/* Tripwires and holds. Owns tripwire_bytes, crossed_* and hold of each slot. Must never leave
 * a worker above its tripwire except in a hold, and no hold without end. */
#include "policy/tripwire.h"

/* Measured: raised at once by 8 MiB or more, the worst stall of a worker that grows 1 MiB per
 * ms equals the untripped one; raised by 1 MiB it was 714 ms. */
#define STEP_MIN_BYTES (8 * MIB)
#define STEP_PERMYRIAD 400

/* From the first sign to a kernel kill. */
#define BRAKE_USEC	   (30 * USEC_PER_SEC)
#define LINE_MIN_PERMYRIAD 8500

/* A hold that moves neither usage nor reclaim for so long only hurts. */
#define HOLD_WINDOW_USEC (5 * USEC_PER_SEC)

static uint64_t growth_of_two_seconds(const struct slot_memory *slot)
{
	return slot->growth.rate > 0 ? u64_mul_div((uint64_t)slot->growth.rate, 2, 1) : 0;
}

uint64_t tripwire_step(const struct limits *limits, const struct slot_memory *slot)
{
	uint64_t scale = limits->worker_max_bytes;
	uint64_t step = STEP_MIN_BYTES;

	if (scale == UINT64_MAX)
		scale = limits->trim_at_bytes;
	if (scale != UINT64_MAX)
		step = u64_max(step, u64_share(scale, STEP_PERMYRIAD));
	return u64_max(step, growth_of_two_seconds(slot));
}

/* How long one thread that meets no reclaimable page takes from high to high + over:
 * the kernel makes it sleep 6.4 ms x (percent over)^2 per 256 KiB, at most 2 s (reached near
 * 17.7 %). Summed: 0.0853 ms x MiB of high x percent^3 up to there, then 2 s a batch. */
static usec_t braked_usec(uint64_t high, uint64_t over)
{
	const uint64_t knee = 1768; /* permyriad */
	uint64_t permyriad = u64_mul_div(over, PERMYRIAD, high);
	uint64_t curve = u64_min(permyriad, knee);
	uint64_t cube = curve * curve * curve; /* < 2^33: percent^3 x 10^6 */
	usec_t climb = u64_mul_div(u64_mul_div(high, cube, MIB), 853,
				   10 * (uint64_t)PERMYRIAD * 100);

	if (permyriad <= knee)
		return climb;
	return u64_add(climb, u64_mul_div(u64_share(high, permyriad - knee),
					  2 * USEC_PER_SEC, 256 * KIB));
}

uint64_t tripwire_brake_line(uint64_t max_bytes, usec_t brake_usec)
{
	uint64_t low, high;

	if (max_bytes == UINT64_MAX)
		return UINT64_MAX;
	low = u64_max(u64_share(max_bytes, LINE_MIN_PERMYRIAD), 1);
	high = u64_max(max_bytes, 1);
	/* The highest line that still leaves brake_usec; the lowest allowed where none does. */
	while (low + 1 < high) {
		uint64_t mid = low + (high - low) / 2;

		if (braked_usec(mid, max_bytes - mid) >= brake_usec)
			low = mid;
		else
			high = mid;
	}
	return low;
}

static uint64_t slot_limit(const struct limits *limits, const struct slot_memory *slot)
{
	return slot->limit_bytes ? slot->limit_bytes : limits->worker_max_bytes;
}

/* Time for every other worker to have its turn first. */
static usec_t brake_time(const struct policy *p, const struct limits *limits)
{
	return u64_max(BRAKE_USEC,
		       u64_mul_div(limits->min_gap_floor_usec, p->n_slots, 1));
}

uint64_t tripwire_line(const struct policy *p, const struct limits *limits,
		       const struct slot_memory *slot)
{
	uint64_t max = slot_limit(limits, slot);
	uint64_t line = tripwire_brake_line(max, brake_time(p, limits));
	usec_t runway = usec_add(policy_lead_usec(p, limits), BRAKE_USEC);

	if (max == UINT64_MAX)
		return UINT64_MAX;
	/* A worker known to grow slowly is replaced in time without a brake, and braking it
	 * would cost it a tenth of its life. Known: a fit over more than the runway. */
	if (slot->growth.n_points >= 4 && slot->growth.span_usec > 4 * runway &&
	    slot->growth.rate >= 0) {
		uint64_t fast = (uint64_t)slot->growth.rate +
				2 * (uint64_t)slot->growth.rate_error + 1;

		if (u64_mul_div(max - line, USEC_PER_SEC, fast) > 4 * runway)
			return UINT64_MAX;
	}
	return line;
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

/* The next place worth an event: rungs on the way to the mark, so that growth is known long
 * before it matters; then every step. */
static uint64_t next_rung(const struct policy *p, const struct limits *limits,
			  const struct slot_memory *slot)
{
	uint64_t step = tripwire_step(limits, slot);
	uint64_t mark = tripwire_mark(limits, slot);
	uint64_t cache = u64_sub(slot->charged_bytes, slot->usage_bytes);
	uint64_t rung = u64_add(slot->usage_bytes, 2 * step);
	uint64_t line = tripwire_line(p, limits, slot);
	uint64_t wanted;

	if (slot->usage_bytes < mark)
		rung = u64_min(rung, mark);
	/* High looks at the charge, page cache included; marks are about what the worker costs. */
	wanted = u64_max(u64_add(rung, cache), u64_add(slot->charged_bytes, step));
	wanted = u64_min(wanted, line);
	/* Never at or above max: the event would come with the kill. */
	return wanted < slot_limit(limits, slot) ? wanted : UINT64_MAX;
}

uint64_t policy_raise_tripwire(struct policy *p, const struct limits *limits,
			       uint32_t slot, usec_t now, uint64_t charged_bytes)
{
	struct slot_memory *s;
	uint64_t step, growth = 0, wanted;

	if (slot >= p->n_slots)
		return UINT64_MAX;
	s = &p->slots[slot];
	step = tripwire_step(limits, s);
	if (s->crossed_usec && now > s->crossed_usec)
		growth = u64_mul_div(u64_sub(charged_bytes, s->crossed_bytes),
				     2 * USEC_PER_SEC, now - s->crossed_usec);
	s->crossed_usec = now;
	s->crossed_bytes = charged_bytes;
	wanted = u64_add(charged_bytes, u64_max(step, growth));
	wanted = u64_min(wanted, tripwire_line(p, limits, s));
	if (s->hold.spent || wanted >= slot_limit(limits, s))
		wanted = UINT64_MAX;
	s->tripwire_bytes = wanted;
	return wanted;
}

static void set_tripwire(struct round *r, uint32_t i, uint64_t bytes, enum reason reason)
{
	struct action *a = round_give(r, ACTION_TRIPWIRE, reason, i);

	a->bytes = bytes;
	r->p->slots[i].tripwire_bytes = bytes;
}

static void hold_begin(struct slot_memory *s, const struct slot_seen *seen, usec_t now)
{
	s->hold.active = true;
	s->hold.since_usec = now;
	s->hold.checked_usec = now;
	s->hold.high_events = seen->high_events;
	s->hold.scanned_pages = seen->scanned_pages;
	s->hold.stolen_pages = seen->stolen_pages;
	s->hold.usage_bytes = s->usage_bytes;
}

/* Throttled all the while, and nothing came of it: the worker neither grew into the room left
 * nor did reclaim find a tenth of what it scanned. Holding on would only starve it. */
static bool hold_is_stuck(const struct slot_memory *s, const struct slot_seen *seen)
{
	uint64_t scanned = u64_sub(seen->scanned_pages, s->hold.scanned_pages);
	uint64_t stolen = u64_sub(seen->stolen_pages, s->hold.stolen_pages);

	if (seen->high_events <= s->hold.high_events ||
	    s->usage_bytes > s->hold.usage_bytes)
		return false;
	return stolen <= scanned / 10;
}

static bool hold_must_end(struct round *r, struct slot_memory *s,
			  const struct slot_seen *seen)
{
	if (r->now >= usec_add(s->hold.since_usec, r->limits->hold_max_usec))
		return true;
	if (r->now < usec_add(s->hold.checked_usec, HOLD_WINDOW_USEC))
		return false;
	if (hold_is_stuck(s, seen))
		return true;
	s->hold.checked_usec = r->now;
	s->hold.high_events = seen->high_events;
	s->hold.scanned_pages = seen->scanned_pages;
	s->hold.stolen_pages = seen->stolen_pages;
	s->hold.usage_bytes = s->usage_bytes;
	return false;
}

static void decide_hold(struct round *r, uint32_t i)
{
	struct slot_memory *s = &r->p->slots[i];
	const struct slot_seen *seen = &r->seen->slots[i];
	uint64_t line = tripwire_line(r->p, r->limits, s);
	bool at_line = s->tripwire_bytes <= line && s->usage_bytes >= s->tripwire_bytes;

	if (!s->hold.active && at_line && !s->hold.spent && s->tripwire_bytes) {
		hold_begin(s, seen, r->now);
	} else if (s->hold.active && s->usage_bytes < s->tripwire_bytes) {
		s->hold.active = false;
	} else if (s->hold.active && hold_must_end(r, s, seen)) {
		s->hold.active = false;
		s->hold.spent = true;
		set_tripwire(r, i, UINT64_MAX, REASON_RELEASED);
	}
	if (s->hold.active) {
		round_wake(r, usec_add(s->hold.checked_usec, HOLD_WINDOW_USEC));
		round_wake(r, usec_add(s->hold.since_usec, r->limits->hold_max_usec));
	}
}

static void decide_value(struct round *r, uint32_t i)
{
	struct slot_memory *s = &r->p->slots[i];
	uint64_t step = tripwire_step(r->limits, s);
	uint64_t wanted = next_rung(r->p, r->limits, s);

	if (s->hold.spent) {
		/* Armed again once the worker has come down by itself or by a trim. */
		if (u64_add(s->charged_bytes, step) >= tripwire_line(r->p, r->limits, s))
			return;
		s->hold.spent = false;
	}
	if (s->hold.active)
		return;
	if (s->tripwire_bytes == 0)
		set_tripwire(r, i, wanted, REASON_ARMED);
	else if (s->charged_bytes >= s->tripwire_bytes && wanted > s->tripwire_bytes)
		set_tripwire(r, i, wanted, REASON_CROSSED); /* an event that never came */
	else if (u64_add(wanted, step) < s->tripwire_bytes)
		set_tripwire(r, i, wanted, REASON_ARMED);
}

void tripwire_decide(struct round *r)
{
	if (!r->limits->tripwire)
		return;
	for (uint32_t i = 0; i < r->n_slots; i++) {
		const struct slot_seen *seen = &r->seen->slots[i];

		if (!slot_serves(seen->phase) || !seen->sampled || seen->retire)
			continue;
		decide_hold(r, i);
		decide_value(r, i);
	}
}
