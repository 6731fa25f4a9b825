/* Which worker is asked to give free heap back, and when. */
#pragma once

#include "policy/round.h"

/* A new worker: its interval starts over, what the pool has learned stays. */
void trim_begin(struct policy *p, struct slot_memory *slot, usec_t now);

/* What a trim would probably give back now. */
uint64_t trim_expected_yield(const struct policy *p, const struct slot_memory *slot);

/* True while trims of this worker keep giving back what it grows by. */
bool trim_helps(const struct policy *p, const struct slot_memory *slot);

/* Gives at most one TRIM. */
void trim_decide(struct round *r);
