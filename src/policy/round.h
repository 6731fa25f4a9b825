/* One call of decide(): its inputs, the sums that several parts need, and the answer as it
 * grows. Internal to the policy. */
#pragma once

#include "policy/arith.h"
#include "policy/state.h"

/* Of a fresh worker's footprint: what its limit must be at least. */
#define FOOTPRINT_FACTOR_PERMYRIAD 12000

struct round {
	struct policy *p;
	const struct limits *limits;
	const struct snapshot *seen;
	struct decision *ret;
	size_t n_slots; /* min(seen, p) */
	usec_t now;

	size_t n_wanted;      /* slots that are not retiring */
	size_t n_unavailable; /* of these: EMPTY, BOOTING or DRAINING */
	size_t n_stuck;	      /* of these: cannot get past their boot */
	size_t n_booting;     /* EMPTY slots on their way up, beside no old worker */
	size_t n_restarting;  /* planned restarts under way */
	size_t n_trimming;
	size_t n_held;

	uint64_t
		promised_bytes; /* what the pool may grow to with every worker at its limit */
	uint64_t unused_bytes; /* of loans */
	uint64_t growth_bytes; /* expected of all workers while one is replaced */

	struct plan_entry *entries; /* of the plan, by deadline */
	size_t n_entries;
};

/* Adds an action, with the slot's figures; returns it for more. The array has 4 per slot, and
 * no slot is given more: one of START, SURGE, DRAIN and RETIRE, one LIMIT, one TRIPWIRE and
 * one TRIM. */
struct action *round_give(struct round *r, enum action_kind kind, enum reason reason,
			  uint32_t slot);

/* Look again at t at the latest; a time already past is not a time to wait for. */
static inline void round_wake(struct round *r, usec_t t)
{
	if (t > r->now && t < r->ret->wake_usec)
		r->ret->wake_usec = t;
}

static inline bool slot_serves(enum slot_phase phase)
{
	return phase == SLOT_SERVING || phase == SLOT_SURGING;
}

/* The limit in force for the slot's worker, a loan included. */
static inline uint64_t slot_limit(const struct limits *limits,
				  const struct slot_memory *s)
{
	return s->limit_bytes ? s->limit_bytes : limits->worker_max_bytes;
}

/* Where its peaks are, by what the kernel counts: page cache included. */
static inline uint64_t slot_peak_charge(const struct slot_memory *s)
{
	uint64_t cache = u64_sub(s->charged_bytes, s->usage_bytes);

	return u64_add(u64_max(s->usage_bytes, s->growth.level_bytes), cache);
}

/* A limit that leaves a fresh worker less than a fifth of what it takes to be one. It meets that
 * limit soon after it serves, and so would its replacement: replacing it helps nobody. */
static inline bool slot_is_cramped(const struct policy *p, const struct limits *limits,
				   const struct slot_memory *s)
{
	uint64_t footprint = s->footprint_bytes ? s->footprint_bytes : p->footprint_bytes;

	return limits->worker_max_bytes <
	       u64_share(footprint, FOOTPRINT_FACTOR_PERMYRIAD);
}

/* Time that a replacement needs from its start until the old worker is gone, with a quarter
 * on top: the learned figures are maxima of the past, not of the future. */
usec_t policy_lead_usec(const struct policy *p, const struct limits *limits);

/* A number below bound from the policy's own generator; 0 for bound 0. */
uint64_t policy_random(struct policy *p, uint64_t bound);
