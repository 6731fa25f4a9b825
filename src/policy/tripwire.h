/* memory.high as a tripwire: where it stands, when it is moved, and the hold, the one case in
 * which it is left in a worker's way on purpose. */
#pragma once

#include "policy/round.h"

/* Space above the present charge that a worker gets before it meets the tripwire again. */
uint64_t tripwire_step(const struct limits *limits, const struct slot_memory *slot);

/* Where the brake is meant: so far below max_bytes that braked growth needs at least brake_usec
 * from there to max_bytes, but never below 85 % of it. UINT64_MAX gives UINT64_MAX. */
uint64_t tripwire_brake_line(uint64_t max_bytes, usec_t brake_usec);

/* The slot's own brake line, UINT64_MAX while its growth is so slow that it needs none. */
uint64_t tripwire_line(const struct policy *p, const struct limits *limits,
		       const struct slot_memory *slot);

/* The slot's trim mark after the spread, in bytes of usage; UINT64_MAX: none. */
uint64_t tripwire_mark(const struct limits *limits, const struct slot_memory *slot);

/* Starts, checks and ends holds, and gives TRIPWIRE where the leaf's value should change. */
void tripwire_decide(struct round *r);
