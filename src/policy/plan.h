/* The latest-start plan: when each worker has to be replaced so that no two replacements come
 * closer than the gap and none comes earlier than that demands. */
#pragma once

#include "policy/state.h"

struct plan {
	usec_t gap_usec; /* the gap that applies: min_gap unless that cannot be kept */
	bool feasible;	 /* min_gap can be kept */
	bool doomed;	 /* not even the floor can be kept */
};

/* Sorts entries by deadline and writes each one's latest start:
 *	s_n = d_n,  s_i = min(d_i, s_{i+1} - gap).
 * Where the first could not start that early, the gap shrinks by just as much as is needed for
 * every last call to be met with equal gaps, but not below the floor; below it only where a
 * doom would otherwise not be met: several workers held at once, each for as long as it may be.
 * entries has room for 2 x n: the second half is scratch. last_usec: start of the last restart;
 * USEC_NEVER: none. O(n log n), no recursion. */
struct plan plan_make(struct plan_entry *entries, size_t n, usec_t now, usec_t last_usec,
		      usec_t min_gap_usec, usec_t floor_usec);
