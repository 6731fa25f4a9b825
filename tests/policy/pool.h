/* A pool for tests: limits that make sense, a snapshot to edit, and a supervisor that does at
 * once what it is told. */
#pragma once

#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "policy/arith.h"
#include "policy/state.h"

struct pool {
	struct limits limits;
	struct policy *policy;
	struct slot_seen *slots;
	struct snapshot seen;
	struct decision decision;
};

#define SEC USEC_PER_SEC

static inline struct limits pool_limits(void)
{
	return (struct limits){
		.budget_bytes = 4096 * MIB,
		.reserve_bytes = 512 * MIB,
		.worker_max_bytes = 512 * MIB,
		.trim_at_bytes = 358 * MIB,
		.spread_permyriad = 0,
		.min_gap_usec = 600 * SEC,
		.min_gap_floor_usec = 30 * SEC,
		.hold_max_usec = 300 * SEC,
		.backoff_max_usec = 30 * SEC,
		.graceful_usec = 10 * SEC,
		.max_unavailable = 1,
		.max_booting = 2,
		.trim_enabled = true,
		.trim_interval_min_usec = 30 * SEC,
		.trim_interval_max_usec = 60 * SEC,
		.trim_min_yield_bytes = 2 * MIB,
		.tripwire = true,
	};
}

static inline struct pool pool_new(size_t n)
{
	struct pool pool = { .limits = pool_limits() };

	pool.policy = malloc(policy_size(n));
	pool.slots = calloc(n, sizeof(*pool.slots));
	pool.decision.actions = calloc(4 * n, sizeof(*pool.decision.actions));
	cr_assert(pool.policy && pool.slots && pool.decision.actions);
	policy_init(pool.policy, n, 1);
	pool.seen =
		(struct snapshot){ .slots = pool.slots, .n_slots = n, .now_usec = SEC };
	return pool;
}

static inline void pool_free(struct pool *pool)
{
	free(pool->policy);
	free(pool->slots);
	free(pool->decision.actions);
}

/* All slots ready since `now`, each with so much. */
static inline void pool_serve(struct pool *pool, uint64_t footprint_bytes)
{
	usec_t now = pool->seen.now_usec;

	for (uint32_t i = 0; i < pool->seen.n_slots; i++) {
		policy_note_started(pool->policy, i, now);
		policy_note_ready(pool->policy, i, now, footprint_bytes);
		pool->slots[i] = (struct slot_seen){
			.phase = SLOT_SERVING,
			.can_trim = true,
			.sampled = true,
			.usage_bytes = footprint_bytes,
			.charged_bytes = footprint_bytes,
			.ready_usec = now,
		};
	}
}

/* Decides; the pool's own usage is the workers' sum, that of one in quarantine included. */
static inline struct decision *pool_decide(struct pool *pool, usec_t now)
{
	pool->seen.now_usec = now;
	pool->seen.pool_bytes = pool->seen.kept_bytes;
	for (size_t i = 0; i < pool->seen.n_slots; i++)
		pool->seen.pool_bytes += pool->slots[i].charged_bytes;
	decide(pool->policy, &pool->limits, &pool->seen, &pool->decision);
	return &pool->decision;
}

static inline const struct action *pool_action(const struct pool *pool,
					       enum action_kind kind)
{
	for (size_t i = 0; i < pool->decision.n_actions; i++)
		if (pool->decision.actions[i].kind == kind)
			return &pool->decision.actions[i];
	return NULL;
}

static inline unsigned int pool_count(const struct pool *pool, enum action_kind kind)
{
	unsigned int n = 0;

	for (size_t i = 0; i < pool->decision.n_actions; i++)
		n += pool->decision.actions[i].kind == kind;
	return n;
}

/* A restart carried out from first to last, ready again after so long. */
static inline void pool_replace(struct pool *pool, uint32_t slot, usec_t now,
				usec_t boot_usec, uint64_t footprint_bytes)
{
	policy_note_started(pool->policy, slot, now);
	policy_note_ready(pool->policy, slot, now + boot_usec, footprint_bytes);
	pool->slots[slot].usage_bytes = pool->slots[slot].charged_bytes = footprint_bytes;
	pool->slots[slot].ready_usec = now + boot_usec;
	pool->slots[slot].wish = WISH_NONE;
}
