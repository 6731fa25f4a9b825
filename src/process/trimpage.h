/* The supervisor's side of include/trimtab/preload.h: one page for one worker process. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "trimtab/preload.h"
#include "util/time.h"

struct trimpage {
	struct trimtab_page *page;	/* our mapping */
	int fd;				/* the sealed memfd; handed to the worker, and kept: who
					 * takes our place maps it again */
	/* Kept here, not read back: the worker can write the page. */
	uint64_t cookie;
	int signal_number;
	enum trimtab_wake wake;
	uint32_t requested;		/* number of our newest request */
};

#define TRIMPAGE_NONE ((struct trimpage){ .fd = -1 })

/* What the worker says of its newest trim: copied once, ranges checked, believed by nobody. */
struct trim_answer {
	usec_t worked_usec;
	uint64_t rss_before_bytes, rss_after_bytes, purged_bytes;
	enum trimtab_gc_result gc;
	enum trimtab_allocator allocator;
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
 * -ENOTCONN when the library is not live, -EBUSY while a request is under way, -ESRCH when the
 * helper thread is gone (the process executed another program, or ended). */
int trimpage_request(struct trimpage *t, pid_t pid, uint32_t operations, uint32_t gc_wait_msec);

/* The answer to the newest request. Returns 1 and the answer, or 0 while it is not there. */
int trimpage_answer(const struct trimpage *t, struct trim_answer *ret);

/* "glibc", "jemalloc", ...; "unknown" for anything else. */
const char *trimpage_allocator_name(enum trimtab_allocator allocator);
