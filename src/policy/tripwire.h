/* memory.high as a tripwire: where it stands, when it is moved, and the hold, the one case in
 * which it is left in a worker's way on purpose. The kernel's rule for a worker above it is
 * that of mem_cgroup_handle_over_high(), mm/memcontrol.c. */
#pragma once

#include "policy/round.h"

/* From the first sign of a runaway to a kernel kill, at least. */
#define TRIPWIRE_BRAKE_USEC (30 * USEC_PER_SEC)

/* The brake line is never lower than this share of the limit. */
#define TRIPWIRE_LINE_MIN_PERMYRIAD 8500

/* A hold that lasts so long is no mere request: the worker has to go. */
#define TRIPWIRE_HOLD_DUE_USEC (3 * USEC_PER_SEC)

/* Space above the present charge that a worker gets before it meets the tripwire again. */
uint64_t tripwire_step(const struct limits *limits, const struct slot_memory *slot);

/* Where the brake is meant: the highest place from which braked growth needs brake_usec to
 * max_bytes, but not below the least share of it. UINT64_MAX gives UINT64_MAX. */
uint64_t tripwire_brake_line(uint64_t max_bytes, usec_t brake_usec);

/* The slot's own brake line; UINT64_MAX while its growth is so slow that it needs none. */
uint64_t tripwire_ceiling(const struct policy *p, const struct limits *limits,
			  struct slot_memory *slot);

/* The slot's trim mark after the spread, in bytes of usage; UINT64_MAX: none. */
uint64_t tripwire_mark(const struct limits *limits, const struct slot_memory *slot);

/* When the slot's hold, which is active, ends at the latest. */
usec_t tripwire_hold_end(const struct round *r, const struct slot_memory *slot);

/* When the kernel kills a held worker that nobody replaces: at its limit, at the pace at which it
 * crept there so far, or soon after the hold has lasted as long as it may. */
usec_t tripwire_doom(const struct round *r, const struct slot_memory *slot);

/* Ends the holds of workers that have come down: before the plan, which counts on it. */
void tripwire_observe(struct round *r);

/* Starts, checks and ends holds, and gives TRIPWIRE where the leaf's value should change. */
void tripwire_decide(struct round *r);
