/* Arithmetic that cannot overflow: every sum saturates, every product has 128 bits. A policy
 * fed with nonsense must stay within its promises, so no expression here is undefined. */
#pragma once

#include <stdint.h>

#include "policy/snapshot.h"

#define KIB ((uint64_t)1024)
#define MIB (1024 * KIB)

static inline uint64_t u64_min(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static inline uint64_t u64_max(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static inline uint64_t u64_clamp(uint64_t v, uint64_t low, uint64_t high)
{
	return v < low ? low : v > high ? high : v;
}

/* a + b, or UINT64_MAX: "no limit" absorbs. */
static inline uint64_t u64_add(uint64_t a, uint64_t b)
{
	return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

/* a - b, or 0. */
static inline uint64_t u64_sub(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

/* a * b / c rounded down, or UINT64_MAX; c = 0 gives UINT64_MAX as well. */
static inline uint64_t u64_mul_div(uint64_t a, uint64_t b, uint64_t c)
{
	unsigned __int128 q;

	if (c == 0)
		return UINT64_MAX;
	q = (unsigned __int128)a * b / c;
	return q > UINT64_MAX ? UINT64_MAX : (uint64_t)q;
}

/* So many permyriad of v; a share of "no limit" is no limit. */
static inline uint64_t u64_share(uint64_t v, uint64_t permyriad)
{
	return v == UINT64_MAX ? UINT64_MAX : u64_mul_div(v, permyriad, PERMYRIAD);
}
