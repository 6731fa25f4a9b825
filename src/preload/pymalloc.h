/* Free memory inside the arenas of CPython's object allocator, which malloc_trim(3) cannot reach:
 * arenas are mapped by themselves and go back only when wholly empty, so one survivor in each
 * keeps all of a burst resident. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "trimtab/preload.h"

struct pymalloc_result {
	uint64_t purged_bytes; /* given back this time */
	uint64_t
		free_pool_bytes; /* of it, or that would be, in pools that are wholly free */
	uint64_t arena_bytes;	 /* in arenas that were looked at */
	uint64_t live_bytes;	 /* in blocks that are in use there */
	uint64_t longest_hold_nsec; /* of the GIL, without a pause */
	unsigned n_odd_arenas;	    /* left alone: not what we know */
};

/* Starts to keep a list of arenas, by Python's own hook for that. From the constructor, before
 * the interpreter exists; does nothing where there is none. */
void pymalloc_watch(void);

/* Gives back what is free, for at most wait_msec; the rest of it comes later, on its own. The
 * first call examines the interpreter. Anything but ON: nothing was touched, and why. */
enum trimtab_pymalloc pymalloc_purge(unsigned wait_msec, struct pymalloc_result *ret);

/* As above without giving anything back. */
enum trimtab_pymalloc pymalloc_look(unsigned wait_msec, struct pymalloc_result *ret);
