/* The environment of a worker: ours, less what was meant for us alone, plus the conventions of
 * ARCHITECTURE.md. Built once for each slot, so that a restart allocates nothing. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "util/time.h"

struct environment_plan {
	unsigned worker;    /* TRIMTAB_WORKER; 0: this is the template's environment,
					 * which gets TRIMTAB_TEMPLATE and no page */
	const char *pool;   /* TRIMTAB_POOL */
	char *const *extra; /* NAME=VALUE of the configuration; they win */
	size_t n_extra;
	size_t n_listen_fds;
	const char *listen_names; /* LISTEN_FDNAMES, colons between */
	const char *notify_path;  /* NOTIFY_SOCKET */
	usec_t watchdog_usec;	  /* WATCHDOG_USEC; 0: none */
	const char
		*pressure_path; /* MEMORY_PRESSURE_WATCH; NULL: /dev/null, that is off */
	const char *preload;	/* library for LD_PRELOAD, or NULL */
	int64_t arena_max;	/* MALLOC_ARENA_MAX unless set; 0: leave it */
};

/* Returns a NULL-terminated array, freed by environment_free(), or NULL without memory. Entries
 * that hold the worker's pid end in SPAWN_PID_ROOM. */
char **environment_new(char *const *base, const struct environment_plan *plan);
char **environment_free(char **env);

/* The value of NAME, or NULL. */
const char *environment_get(char *const *env, const char *name);

/* Writes the cookie of this start's page into TRIMTAB_PAGE. */
void environment_set_cookie(char **env, uint64_t cookie);
