/* One clock for every decision: CLOCK_MONOTONIC in microseconds, as sd-event counts.
 * Wall-clock time never takes part in a decision; the journal stamps records itself. */
#pragma once

#include <stdint.h>
#include <time.h>

typedef uint64_t usec_t;

#define USEC_PER_MSEC ((usec_t)1000)
#define USEC_PER_SEC  ((usec_t)1000000)
#define USEC_PER_MIN  (60 * USEC_PER_SEC)
#define USEC_PER_HOUR (60 * USEC_PER_MIN)
#define USEC_NEVER    ((usec_t)UINT64_MAX)

/* CLOCK_MONOTONIC now. Cannot fail: the clock exists on every kernel we run on. */
static inline usec_t time_now_usec(void)
{
	struct timespec ts = { 0 };

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (usec_t)ts.tv_sec * USEC_PER_SEC + (usec_t)ts.tv_nsec / 1000;
}

/* a + b, where USEC_NEVER absorbs: a time that never comes stays so. */
static inline usec_t usec_add(usec_t a, usec_t b)
{
	return a > USEC_NEVER - b ? USEC_NEVER : a + b;
}

/* a - b, or 0 where b is later. */
static inline usec_t usec_sub(usec_t a, usec_t b)
{
	return a > b ? a - b : 0;
}
