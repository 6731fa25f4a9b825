/* What this host allows, found by trying; nothing that was tried stays. The list itself, and the
 * sentences for an operator, are in capabilities.def. */
#pragma once

#include <stdbool.h>

struct pool;

enum capability {
#define CAPABILITY(id, name, gives) CAPABILITY_##id,
#include "kernel/capabilities.def"
	N_CAPABILITIES
};

struct capability_state {
	bool there;
	int error; /* 0 when there; else a positive errno, which picks the sentences */
	const char *cause;  /* static text without a full stop; NULL when there */
	const char *remedy; /* as above */
};

/* pool: an open pool, or NULL with what pool_open answered in pool_error, or with -ECANCELED when
 * the configuration wants none. Makes, and removes again, a leaf "probe" in the pool. Cannot fail:
 * what cannot be found out is not there. For the start, not for the loop: arming and dropping
 * triggers took 36 ms on 6.18, all else 0.4 ms. */
void probe(const struct pool *pool, int pool_error,
	   struct capability_state ret_states[N_CAPABILITIES]);

/* "memory", as doctor, log and journal call it. */
const char *capability_name(enum capability capability);

/* What it is good for, as half a sentence. */
const char *capability_gives(enum capability capability);
