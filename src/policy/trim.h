/* Which worker is asked to give free heap back, and when. */
#pragma once

#include "policy/round.h"

/* A new worker: its interval starts over, what the pool has learned stays. */
void trim_begin(struct slot_memory *slot, usec_t now);

/* What a trim would probably give back now. */
uint64_t trim_expected_yield(const struct policy *p, const struct slot_memory *slot);

/* Of what grows between two trims, the share that the second leaves. */
uint64_t trim_kept_permyriad(const struct policy *p, const struct slot_memory *slot);

/* The longest time that a trim would probably hold a lock of the worker now. */
usec_t trim_expected_pause(const struct slot_memory *slot);

/* True while trims of this worker keep giving back what it grows by. */
bool trim_helps(const struct policy *p, const struct slot_memory *slot);

/* The next trim, should its deadline ask for it. */
usec_t trim_earliest(const struct slot_memory *slot);

/* How far above what the last trim left the worker was before it. */
uint64_t trim_tooth(const struct slot_memory *slot);

/* True where a trim that may well help is under way, or would be given now. */
bool trim_is_coming(const struct round *r, uint32_t slot);

/* Gives at most one TRIM. */
void trim_decide(struct round *r);
