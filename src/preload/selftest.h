/* Whether an allocator is the pymalloc that arena.h describes: found out on a few blocks of its
 * own, before any other is touched. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct selftest_allocator {
	void *(*allocate)(size_t size);
	void (*release)(void *block);
	/* The known arena around an address, or NULL. */
	void *(*arena_of)(const void *address);
	size_t page_bytes;
};

enum selftest_verdict {
	SELFTEST_PASSED,
	SELFTEST_OTHER_ALLOCATOR, /* its blocks lie in no arena that we know */
	SELFTEST_FAILED,	  /* they do, but look or behave otherwise */
};

/* Allocates blocks with a mark in each, looks at the headers of their pools, releases most of
 * them, purges, and allocates again. A purge happens only after everything read so far was as
 * expected. Leaves nothing allocated. About 0.2 ms; uses 8 KiB of stack. */
enum selftest_verdict selftest_run(const struct selftest_allocator *allocator);
