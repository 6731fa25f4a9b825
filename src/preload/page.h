/* The shared page as the worker sees it: found by $TRIMTAB_PAGE, believed only after every mark
 * on it has been checked. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "trimtab/preload.h"

struct page_name {
	int fd;
	pid_t pid;
	uint64_t cookie;
};

/* "<fd>:<pid>:<cookie, 16 hex digits>". False: not of that form. */
bool page_parse_name(const char *text, struct page_name *ret);

/* Maps the page that `name` speaks of. NULL when it is not a memfd of the right size sealed
 * against resizing (a shrinking file would kill us with SIGBUS), or when magic, version, size,
 * cookie, pid, start time, wake or signal number is not as it must be.
 *
 * The mapping stays for the life of the process image; forked children do not have it. The
 * descriptor stays open: a shell that executes the real program next needs it there. */
struct trimtab_page *page_open(const struct page_name *name);

/* As above for a page that names no process yet: it names this one afterwards. */
struct trimtab_page *page_claim(const struct page_name *name);
