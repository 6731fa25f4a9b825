/* The supervisor's side of include/trimtab/preload.h: one page for one worker process. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "trimtab/preload.h"
#include "util/time.h"

struct trimpage {
	struct trimtab_page *page; /* our mapping */
	int fd; /* the sealed memfd; handed to the worker, and kept: who
					 * takes our place maps it again */
	/* Kept here, not read back: the worker can write the page. */
	uint64_t cookie;
	int signal_number;
	enum trimtab_wake wake;
	uint32_t requested; /* number of our newest request */
	bool looking;	    /* it asks for a look alone */
};

#define TRIMPAGE_NONE ((struct trimpage){ .fd = -1 })

/* What the worker says of its newest trim: copied once, ranges checked, believed by nobody. */
struct trim_answer {
	usec_t worked_usec;
	usec_t hold_usec; /* of a lock, without a pause; no more than worked_usec */
	uint64_t rss_before_bytes, rss_after_bytes;
	uint64_t released_bytes; /* by the allocator */
	uint64_t purged_bytes;	 /* inside CPython's arenas */
	enum trimtab_gc_result gc;
	enum trimtab_allocator allocator;
};

/* What it says of itself at any time, for showing alone: copied, ranges checked. */
struct trim_view {
	bool failed; /* the library is there, but could not make its thread */
	enum trimtab_allocator allocator;
	enum trimtab_wake waits; /* 0: no helper ever waited */
	enum trimtab_pymalloc pymalloc;
	usec_t longest_hold_usec;
	/* As of the newest request; 0 where nothing is known (include/trimtab/preload.h). */
	uint64_t heap_bytes, heap_live_bytes;
	uint64_t arena_bytes, arena_live_bytes, free_pool_bytes;
};

/* Makes and seals a page. signal_number and wake are what the worker is to wait for.
 * Returns 0 or -errno. */
int trimpage_init(struct trimpage *t, int signal_number, enum trimtab_wake wake);
void trimpage_done(struct trimpage *t);

/* Maps the page behind t->fd; its other fields are those of the trimpage that another program had in
 * this process. Returns 0, or -EBADF when that is no such page; t->fd stays the caller's then. */
int trimpage_resume(struct trimpage *t);

/* Whether the library in process pid waits for requests. */
bool trimpage_is_live(const struct trimpage *t);

/* Asks for a trim. operations: enum trimtab_operation bits. Cannot block. Returns 0 or -errno:
 * -ENOTCONN when the library is not live, -EBUSY while a request is under way (but a look gives
 * way to whatever is asked next), -ESRCH when the helper thread is gone (the process executed
 * another program, or ended). */
int trimpage_request(struct trimpage *t, pid_t pid, uint32_t operations,
		     uint32_t gc_wait_msec);

/* The answer to the newest request. Returns 1 and the answer, or 0 while it is not there. */
int trimpage_answer(const struct trimpage *t, struct trim_answer *ret);

/* Whether process pid has the thread that the library calls its helper. */
bool trimpage_has_helper(const struct trimpage *t, pid_t pid);

void trimpage_view(const struct trimpage *t, struct trim_view *ret);

/* "on", or why CPython's arenas are left alone. */
const char *trimpage_pymalloc_text(enum trimtab_pymalloc pymalloc);

/* "glibc", "jemalloc", ...; "unknown" for anything else. */
const char *trimpage_allocator_name(enum trimtab_allocator allocator);
