/* Numbers as people read them: "120.3 MiB", "1 h 5 min". For messages only; every record carries
 * the exact number in a field of its own. */
#pragma once

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>

#include "util/time.h"

struct text {
	char s[32];
};

static inline struct text format_bytes(uint64_t bytes)
{
	struct text t;

	if (bytes == UINT64_MAX)
		(void)snprintf(t.s, sizeof(t.s), "no limit");
	else if (bytes >= 10 * (UINT64_C(1) << 30))
		(void)snprintf(t.s, sizeof(t.s), "%.1f GiB", (double)bytes / (1 << 30));
	else if (bytes >= 1 << 20)
		(void)snprintf(t.s, sizeof(t.s), "%.1f MiB", (double)bytes / (1 << 20));
	else
		(void)snprintf(t.s, sizeof(t.s), "%.1f KiB", (double)bytes / (1 << 10));
	return t;
}

static inline struct text format_usec(usec_t usec)
{
	struct text t;

	if (usec == USEC_NEVER)
		(void)snprintf(t.s, sizeof(t.s), "never");
	else if (usec < 10 * USEC_PER_MSEC)
		(void)snprintf(t.s, sizeof(t.s), "%.2f ms", (double)usec / 1000);
	else if (usec < USEC_PER_SEC)
		(void)snprintf(t.s, sizeof(t.s), "%" PRIu64 " ms", usec / USEC_PER_MSEC);
	else if (usec < 2 * USEC_PER_MIN)
		(void)snprintf(t.s, sizeof(t.s), "%.1f s",
			       (double)usec / (double)USEC_PER_SEC);
	else if (usec < 2 * USEC_PER_HOUR)
		(void)snprintf(t.s, sizeof(t.s), "%" PRIu64 " min", usec / USEC_PER_MIN);
	else
		(void)snprintf(t.s, sizeof(t.s), "%" PRIu64 " h %" PRIu64 " min",
			       usec / USEC_PER_HOUR, usec % USEC_PER_HOUR / USEC_PER_MIN);
	return t;
}
