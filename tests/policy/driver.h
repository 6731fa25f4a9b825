/* A pool driven by arbitrary bytes: whatever they say happens, and after each decision every
 * promise that the policy can keep alone is checked. Used by the property test with random
 * bytes and by the fuzzer with its own.
 *
 * The driver is a supervisor that may be slow, forgetful and lied to, but does not make up
 * workers: phases change only as a real pool's could. */
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/arith.h"
#include "policy/state.h"

enum { DRIVER_SLOTS = 6 };

struct driver {
	const uint8_t *data;
	size_t left;

	struct limits limits;
	struct policy *policy, *twin; /* the twin is told the same and answers the same */
	struct slot_seen slots[DRIVER_SLOTS];
	struct action actions[4 * DRIVER_SLOTS], twin_actions[4 * DRIVER_SLOTS];
	size_t n_slots;
	usec_t now, decided, last_planned; /* the last two as the policy was told */
	bool planned;
	size_t n_decisions;
};

#define DRIVER_CHECK(condition)                                                  \
	do {                                                                     \
		if (!(condition)) {                                              \
			fprintf(stderr, "%s:%d: broken promise: %s\n", __FILE__, \
				__LINE__, #condition);                           \
			abort();                                                 \
		}                                                                \
	} while (0)

static inline uint8_t driver_byte(struct driver *d)
{
	if (d->left == 0)
		return 0;
	d->left--;
	return *d->data++;
}

/* Any magnitude, small ones as likely as absurd ones. */
static inline uint64_t driver_number(struct driver *d)
{
	unsigned int shift = driver_byte(d) & 63;
	uint64_t v = driver_byte(d);

	v = v << 8 | driver_byte(d);
	return shift > 60 ? UINT64_MAX : shift > 48 ? v << 47 : v << shift >> 8;
}

static inline uint64_t driver_mib(struct driver *d, uint64_t most)
{
	uint64_t v = driver_byte(d);

	return (v << 8 | driver_byte(d)) % (most + 1) * MIB;
}

static inline struct limits driver_limits(struct driver *d)
{
	struct limits limits = {
		.budget_bytes = driver_mib(d, 8192),
		.reserve_bytes = driver_mib(d, 512),
		.worker_max_bytes = driver_mib(d, 1024),
		.trim_at_bytes = driver_mib(d, 1024),
		.spread_permyriad = (uint32_t)driver_number(d),
		.min_gap_usec = driver_byte(d) * 10 * USEC_PER_SEC,
		.min_gap_floor_usec = driver_byte(d) * USEC_PER_SEC / 4,
		.max_lifetime_usec = driver_byte(d) * USEC_PER_MIN,
		.hold_max_usec = driver_byte(d) * USEC_PER_SEC,
		.backoff_max_usec = driver_byte(d) * USEC_PER_SEC,
		.graceful_usec = driver_byte(d) * USEC_PER_SEC,
		.max_unavailable = driver_byte(d) % 3,
		.max_booting = driver_byte(d) % 4,
		.surge = driver_byte(d) % 3,
		.trim_enabled = driver_byte(d) & 1,
		.trim_periodic = driver_byte(d) & 1,
		.trim_interval_min_usec = driver_number(d),
		.trim_interval_max_usec = driver_number(d),
		.trim_min_yield_bytes = driver_mib(d, 16),
		.tripwire = driver_byte(d) % 4 != 0,
	};
	uint8_t odd = driver_byte(d);

	/* "No limit" and plain nonsense are inputs like others. */
	if (odd % 8 == 1)
		limits.budget_bytes = UINT64_MAX;
	if (odd % 8 == 2)
		limits.worker_max_bytes = UINT64_MAX;
	if (odd % 8 == 3)
		limits.min_gap_usec = limits.hold_max_usec = USEC_NEVER;
	if (odd % 8 == 4)
		limits.graceful_usec = driver_number(d);
	if (odd % 8 >= 6)
		limits.trim_max_pause_usec = (odd >> 3) * USEC_PER_MSEC;
	return limits;
}

static inline bool driver_serves(const struct slot_seen *s)
{
	return s->phase == SLOT_SERVING || s->phase == SLOT_SURGING;
}

#define DRIVER_TELL(d, call, ...)               \
	do {                                    \
		call((d)->policy, __VA_ARGS__); \
		call((d)->twin, __VA_ARGS__);   \
	} while (0)

/* ---- what happens to a slot ---- */

static inline void driver_ready(struct driver *d, uint32_t i)
{
	struct slot_seen *s = &d->slots[i];
	uint64_t footprint = driver_mib(d, 128);

	DRIVER_TELL(d, policy_note_ready, i, d->now, footprint);
	*s = (struct slot_seen){
		.phase = SLOT_SERVING,
		.can_trim = true,
		.usage_bytes = footprint,
		.charged_bytes = footprint,
		.ready_usec = d->now,
	};
}

static inline void driver_event(struct driver *d, uint32_t i)
{
	struct slot_seen *s = &d->slots[i];
	bool good = driver_byte(d) & 1, kernel = driver_byte(d) & 1;
	usec_t took = driver_number(d);

	switch (s->phase) {
	case SLOT_EMPTY:
		s->retire = good && s->retire;
		return;
	case SLOT_BOOTING:
		if (good) {
			driver_ready(d, i);
		} else {
			DRIVER_TELL(d, policy_note_boot_failed, i, d->now);
			*s = (struct slot_seen){ .phase = SLOT_EMPTY,
						 .retire = s->retire };
		}
		return;
	case SLOT_SURGING:
		if (good) {
			driver_ready(d, i);
			DRIVER_TELL(d, policy_note_drained, i, d->now, took);
		} else {
			DRIVER_TELL(d, policy_note_boot_failed, i, d->now);
			s->phase = SLOT_SERVING;
		}
		return;
	case SLOT_SERVING:
		if (good && s->trimming) {
			s->trimming = false;
			DRIVER_TELL(d, policy_note_trim_hold, i, s->usage_bytes, took);
			DRIVER_TELL(d, policy_note_trimmed, i, d->now, s->usage_bytes,
				    s->usage_bytes / 2, took);
			s->usage_bytes = s->charged_bytes /= 2;
		} else if (s->trimming) {
			s->trimming = false;
			DRIVER_TELL(d, policy_note_trim_lost, i, d->now);
		} else if (good) {
			DRIVER_TELL(d, policy_note_crashed, i, d->now, kernel);
			*s = (struct slot_seen){ .phase = SLOT_EMPTY,
						 .retire = s->retire };
		}
		return;
	case SLOT_DRAINING:
		DRIVER_TELL(d, policy_note_drained, i, d->now, took);
		*s = (struct slot_seen){ .phase = SLOT_EMPTY, .retire = s->retire };
		return;
	}
}

static inline void driver_sample(struct driver *d, uint32_t i)
{
	struct slot_seen *s = &d->slots[i];
	uint8_t kind = driver_byte(d);

	s->sampled = kind & 1;
	if (kind % 16 == 15) {
		s->usage_bytes = driver_number(d);
		s->charged_bytes = driver_number(d);
	} else {
		s->usage_bytes = u64_min(u64_add(s->usage_bytes, driver_mib(d, 24)),
					 UINT64_MAX / 4);
		s->charged_bytes =
			u64_add(s->usage_bytes, driver_mib(d, kind % 4 ? 1 : 64));
	}
	if (kind % 4 == 3)
		s->cpu_usec = u64_add(s->cpu_usec, d->now / 16);
	s->high_events += driver_byte(d);
	s->scanned_pages += driver_byte(d);
	s->freed_pages += driver_byte(d) / 2;
	if (kind % 8 == 2)
		s->pressure_usec = d->now;
	if (kind % 32 == 7)
		s->wish = driver_byte(d) % 4;
	if (kind % 64 == 9)
		s->retire = !s->retire;
	if (kind % 8 == 4) {
		uint64_t a = policy_raise_tripwire(d->policy, &d->limits, i, d->now,
						   s->charged_bytes);
		uint64_t b = policy_raise_tripwire(d->twin, &d->limits, i, d->now,
						   s->charged_bytes);

		DRIVER_CHECK(a == b);
		s->high_events++;
	}
}

/* ---- promises ---- */

/* Those who are held may be too many for the floor of the gap; nothing else breaks it. */
static inline bool driver_anyone_held(const struct driver *d)
{
	for (size_t i = 0; i < d->n_slots; i++) {
		const struct hold_memory *hold = &d->policy->slots[i].hold;

		if (hold->active || hold->spent)
			return true;
	}
	return false;
}

static inline void driver_check_restart(const struct driver *d, const struct action *a)
{
	const struct slot_seen *s = &d->slots[a->slot];
	size_t out = 0,
	       allowed = d->limits.max_unavailable ? d->limits.max_unavailable : 1;

	DRIVER_CHECK(s->phase == SLOT_SERVING && !s->retire);
	for (size_t i = 0; i < d->n_slots; i++) {
		const struct slot_seen *other = &d->slots[i];

		if (i == a->slot || other->retire)
			continue;
		DRIVER_CHECK(other->phase != SLOT_SURGING);
		out += !driver_serves(other);
	}
	if (a->kind == ACTION_DRAIN)
		DRIVER_CHECK(out < allowed);
	if (d->planned && !driver_anyone_held(d))
		DRIVER_CHECK(
			d->policy->now_usec - d->last_planned >=
			u64_min(d->limits.min_gap_floor_usec, d->limits.min_gap_usec));
}

static inline uint64_t driver_own(const struct slot_seen *s)
{
	return s->usage_bytes == 0 ? 0 : s->charged_bytes;
}

static inline void driver_check_loans(const struct driver *d, uint64_t pool_bytes)
{
	uint64_t workers = 0, promised = 0;

	for (size_t i = 0; i < d->n_slots; i++) {
		const struct slot_memory *m = &d->policy->slots[i];

		if (driver_serves(&d->slots[i]))
			workers = u64_add(workers, m->charged_bytes);
		if (d->slots[i].retire)
			continue;
		promised = u64_add(promised, d->limits.worker_max_bytes);
		promised = u64_add(promised, u64_add(m->loan_bytes, m->parting_bytes));
	}
	promised = u64_add(promised, u64_sub(pool_bytes, workers));
	DRIVER_CHECK(promised <= d->limits.budget_bytes);
}

static inline void driver_check_action(const struct driver *d, const struct action *a,
				       uint64_t pool_bytes)
{
	const struct slot_seen *s = &d->slots[a->slot];

	DRIVER_CHECK((unsigned int)a->reason < N_REASONS && reason_text(a->reason));
	switch (a->kind) {
	case ACTION_START:
		DRIVER_CHECK(s->phase == SLOT_EMPTY && !s->retire);
		return;
	case ACTION_SURGE:
	case ACTION_DRAIN:
		driver_check_restart(d, a);
		return;
	case ACTION_RETIRE:
		DRIVER_CHECK(s->retire && s->phase != SLOT_EMPTY);
		return;
	case ACTION_TRIM:
		DRIVER_CHECK(s->phase == SLOT_SERVING && s->can_trim &&
			     d->limits.trim_enabled);
		for (size_t i = 0; i < d->n_slots; i++)
			DRIVER_CHECK(!d->slots[i].trimming);
		DRIVER_CHECK(d->limits.trim_max_pause_usec == 0 ||
			     d->policy->slots[a->slot].outlook.pause_usec <=
				     d->limits.trim_max_pause_usec);
		return;
	case ACTION_TRIPWIRE:
		DRIVER_CHECK(d->limits.tripwire && driver_serves(s));
		DRIVER_CHECK(a->bytes >= d->policy->slots[a->slot].charged_bytes);
		return;
	case ACTION_LIMIT:
		DRIVER_CHECK(d->limits.tripwire && driver_serves(s));
		DRIVER_CHECK(a->bytes >= d->limits.worker_max_bytes);
		DRIVER_CHECK(a->bytes >= d->policy->slots[a->slot].charged_bytes);
		if (a->reason == REASON_LENT)
			driver_check_loans(d, pool_bytes);
		return;
	}
	DRIVER_CHECK(false); /* no such kind */
}

static inline void driver_check(const struct driver *d, const struct decision *ret,
				uint64_t pool_bytes)
{
	unsigned int kinds[DRIVER_SLOTS][ACTION_LIMIT + 1] = { 0 };
	unsigned int n_restarts = 0, n_trims = 0;

	DRIVER_CHECK(ret->n_actions <= 4 * d->n_slots);
	DRIVER_CHECK(ret->wake_usec > d->policy->now_usec);
	for (size_t i = 0; i < ret->n_actions; i++) {
		const struct action *a = &ret->actions[i];

		DRIVER_CHECK(a->slot < d->n_slots);
		DRIVER_CHECK(kinds[a->slot][a->kind]++ == 0);
		n_restarts += a->kind == ACTION_SURGE || a->kind == ACTION_DRAIN;
		n_trims += a->kind == ACTION_TRIM;
		driver_check_action(d, a, pool_bytes);
	}
	DRIVER_CHECK(n_restarts <= 1);
	DRIVER_CHECK(n_trims <= 1);
	for (size_t i = 0; i < d->n_slots; i++)
		DRIVER_CHECK(!d->policy->slots[i].hold.active || !d->slots[i].sampled ||
			     d->slots[i].retire || !driver_serves(&d->slots[i]) ||
			     !d->limits.tripwire ||
			     d->policy->now_usec <
				     usec_add(d->policy->slots[i].hold.since_usec,
					      d->limits.hold_max_usec));
}

/* Nothing is started beside others where a fresh worker would not fit up the tree. */
static inline void driver_check_headroom(const struct driver *d,
					 const struct decision *ret,
					 const struct snapshot *seen)
{
	for (size_t i = 0; i < ret->n_actions; i++)
		if (ret->actions[i].kind == ACTION_SURGE && seen->headroom_known &&
		    d->limits.surge == SURGE_AUTO)
			DRIVER_CHECK(d->policy->footprint_bytes <= seen->headroom_bytes);
}

/* A worker in quarantine is ended for a reason, and before one that serves has to make room. */
static inline void driver_check_kept(const struct driver *d, const struct decision *ret,
				     const struct snapshot *seen)
{
	uint64_t budget = d->limits.budget_bytes;

	DRIVER_CHECK(ret->end_kept == REASON_NONE ||
		     (seen->kept_bytes > 0 &&
		      (ret->end_kept == REASON_ROOM || ret->end_kept == REASON_HOST)));
	if (seen->kept_bytes == 0)
		return;
	for (size_t i = 0; i < ret->n_actions; i++) {
		const struct action *a = &ret->actions[i];

		DRIVER_CHECK(a->reason != REASON_HOST || ret->end_kept != REASON_HOST);
		/* Without it all would fit, and nothing else is asked of memory here. */
		if (a->kind == ACTION_DRAIN && d->limits.surge == SURGE_AUTO &&
		    !seen->headroom_known)
			DRIVER_CHECK(!d->policy->slots[a->slot].outlook.has_room &&
				     (budget < UINT64_MAX));
	}
}

/* What is told names slots that exist, and no time that has passed. */
static inline void driver_check_outlooks(const struct driver *d)
{
	usec_t now = d->policy->now_usec;

	for (uint32_t i = 0; i < d->n_slots; i++) {
		struct outlook o;

		DRIVER_CHECK(policy_outlook(d->policy, i, &o) == 0);
		DRIVER_CHECK((unsigned int)o.reason < N_REASONS);
		DRIVER_CHECK(o.restart_usec == USEC_NEVER || o.restart_usec >= now ||
			     !driver_serves(&d->slots[i]));
		if (o.follows)
			DRIVER_CHECK(o.predecessor < d->n_slots && o.predecessor != i);
		if (o.waiting == WAITING_OTHER)
			DRIVER_CHECK(o.other < d->n_slots && o.other != i);
		if (o.waiting == WAITING_BACKOFF)
			DRIVER_CHECK(o.not_before_usec > now);
		DRIVER_CHECK(o.kept_permyriad <= PERMYRIAD);
		DRIVER_CHECK(!o.held || o.held_until_usec >= o.held_since_usec);
	}
}

/* Field by field: the bytes between them are nobody's. */
static inline bool driver_same(const struct action *a, const struct action *b)
{
	return a->kind == b->kind && a->reason == b->reason && a->slot == b->slot &&
	       a->bytes == b->bytes && a->usage_bytes == b->usage_bytes &&
	       a->limit_bytes == b->limit_bytes && a->deadline_usec == b->deadline_usec &&
	       a->gap_usec == b->gap_usec &&
	       a->rate_bytes_per_sec == b->rate_bytes_per_sec;
}

/* ---- doing ---- */

static inline void driver_apply(struct driver *d, const struct action *a)
{
	struct slot_seen *s = &d->slots[a->slot];

	switch (a->kind) {
	case ACTION_START:
		DRIVER_TELL(d, policy_note_started, a->slot, d->now);
		s->phase = SLOT_BOOTING;
		return;
	case ACTION_SURGE:
		DRIVER_TELL(d, policy_note_started, a->slot, d->now);
		s->phase = SLOT_SURGING;
		break;
	case ACTION_DRAIN:
		s->phase = SLOT_DRAINING;
		s->sampled = s->trimming = false;
		break;
	case ACTION_RETIRE:
		s->phase = SLOT_DRAINING;
		s->sampled = s->trimming = false;
		return;
	case ACTION_TRIM:
		s->trimming = true;
		return;
	case ACTION_TRIPWIRE:
	case ACTION_LIMIT:
		return;
	}
	d->planned = true;
	d->last_planned = u64_max(d->last_planned, d->decided);
}

static inline void driver_decide(struct driver *d)
{
	struct decision ret = { .actions = d->actions },
			twin = { .actions = d->twin_actions };
	struct snapshot seen = { .slots = d->slots,
				 .n_slots = d->n_slots,
				 .now_usec = d->now };
	uint8_t kind = driver_byte(d);

	for (size_t i = 0; i < d->n_slots; i++)
		seen.pool_bytes = u64_add(seen.pool_bytes, driver_own(&d->slots[i]));
	seen.pool_bytes = u64_add(seen.pool_bytes, driver_mib(d, 64));
	if (kind % 16 >= 12) {
		seen.kept_bytes = driver_mib(d, 256);
		seen.pool_bytes = u64_add(seen.pool_bytes, seen.kept_bytes);
	}
	if (kind % 16 == 3)
		seen.now_usec = driver_number(d) % (d->now + 1); /* back, never ahead */
	if (kind % 8 == 5)
		seen.host_pressure_usec = d->now;
	if (kind % 4 == 3) {
		seen.headroom_known = true;
		seen.headroom_bytes = driver_mib(d, 512);
	}
	if (kind % 32 == 6)
		seen.n_slots = DRIVER_SLOTS +
			       0; /* the array is as long as that, p may be shorter */
	decide(d->policy, &d->limits, &seen, &ret);
	decide(d->twin, &d->limits, &seen, &twin);
	DRIVER_CHECK(ret.n_actions == twin.n_actions && ret.wake_usec == twin.wake_usec &&
		     ret.end_kept == twin.end_kept);
	for (size_t i = 0; i < ret.n_actions; i++)
		DRIVER_CHECK(driver_same(&d->actions[i], &d->twin_actions[i]));
	driver_check(d, &ret, seen.pool_bytes);
	driver_check_headroom(d, &ret, &seen);
	driver_check_kept(d, &ret, &seen);
	driver_check_outlooks(d);
	d->decided = d->policy->now_usec;
	d->n_decisions++;
	for (size_t i = 0; i < ret.n_actions; i++)
		if (kind % 4)
			driver_apply(d, &ret.actions[i]);
}

static inline void driver_step(struct driver *d)
{
	uint8_t kind = driver_byte(d);
	uint32_t i = driver_byte(d) % (uint32_t)d->n_slots;

	d->now += (usec_t)driver_byte(d) * (kind & 1 ? USEC_PER_MSEC : USEC_PER_SEC);
	if (kind % 32 == 30)
		d->now = u64_min(u64_add(d->now, driver_number(d)), UINT64_MAX / 4);
	if (kind % 4 == 0)
		driver_event(d, i);
	for (uint32_t k = 0; k < d->n_slots; k++)
		if (driver_serves(&d->slots[k]))
			driver_sample(d, k);
	driver_decide(d);
}

/* Runs until the bytes are used up; aborts on a broken promise. Returns the decisions taken. */
static inline size_t driver_run(const uint8_t *data, size_t size)
{
	struct driver d = { .data = data, .left = size, .now = USEC_PER_SEC };
	size_t bytes;
	uint64_t seed;

	d.n_slots = 1 + driver_byte(&d) % DRIVER_SLOTS;
	d.limits = driver_limits(&d);
	seed = driver_number(&d);
	bytes = policy_size(d.n_slots);
	d.policy = malloc(bytes);
	d.twin = malloc(bytes);
	if (!d.policy || !d.twin)
		abort();
	policy_init(d.policy, d.n_slots, seed);
	policy_init(d.twin, d.n_slots, seed);
	while (d.left > 0)
		driver_step(&d);
	free(d.policy);
	free(d.twin);
	return d.n_decisions;
}
