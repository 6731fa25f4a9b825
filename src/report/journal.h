/* One small function per event, typed, so that every record of a kind has the same fields.
 * MESSAGE says it in words; TRIMTAB_* fields carry the exact numbers. Only the supervisor and
 * main call these; everything below them returns what happened instead. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "util/time.h"

struct journal_exit {
	unsigned worker;
	pid_t pid;
	const char *cause;    /* TRIMTAB_CAUSE: one word */
	const char *sentence; /* "was killed by the kernel: ..." */
	bool expected;	      /* it was asked to go, and went as it should */
	int status;	      /* exit status, or signal number */
	usec_t age_usec;
	uint64_t usage_bytes; /* last seen */
	/* Leaf's memory.events.local since its start. */
	uint64_t n_oom, n_oom_kill, n_max;
};

/* A worker at the end of its life. */
struct journal_black_box {
	unsigned worker;
	pid_t pid;
	const char *reason; /* of its restart, or TRIMTAB_CAUSE of its death */
	bool alive; /* before a restart: the figures are of now, else as last seen */
	bool kept;  /* it was in quarantine */
	usec_t age_usec;
	uint64_t n_requests; /* as it last said; UINT64_MAX: it does not */
	uint64_t usage_bytes, limit_bytes, tripwire_bytes;
	uint64_t rss_bytes, pss_bytes, private_bytes; /* smaps_rollup; 0: not read */
	uint64_t file_bytes;			      /* page cache of its leaf */
	uint64_t
		peak_bytes; /* of its leaf, of workers before it too; UINT64_MAX: not known */
	uint64_t n_crossings;	 /* of memory.high */
	usec_t stalled_ago_usec; /* USEC_NEVER: it never did */
	unsigned n_trims;
	usec_t trim_ago_usec; /* the last one; USEC_NEVER: there was none */
	uint64_t trim_before_bytes, trim_after_bytes;
};

struct journal_trim {
	unsigned worker;
	pid_t pid;
	const char *reason;
	uint64_t before_bytes, after_bytes, limit_bytes;
	usec_t took_usec;   /* from the request to its answer */
	usec_t worked_usec; /* inside the worker, as it says itself */
	const char *allocator;
	bool verified; /* before and after are the leaf's own figures */
};

struct journal_plan {
	unsigned worker;
	pid_t pid;
	const char *reason;
	usec_t in_usec; /* from now */
	uint64_t usage_bytes, limit_bytes;
	int64_t rate_bytes_per_sec;
	usec_t gap_usec; /* between restarts, as it applied */
};

struct journal_decision {
	unsigned worker;
	pid_t pid;	    /* 0: the slot has no worker */
	const char *action; /* "start", "tripwire", ... */
	const char *reason;
	uint64_t bytes; /* tripwire, limit: the new value; trim: usage now */
	uint64_t usage_bytes, limit_bytes;
	int64_t rate_bytes_per_sec;
	usec_t deadline_in_usec; /* from now; USEC_NEVER: none */
	usec_t gap_usec;	 /* that applied; 0: none did */
};

enum journal_quarantine_state { QUARANTINE_REFUSED, QUARANTINE_BEGUN, QUARANTINE_ENDED };

struct journal_quarantine {
	enum journal_quarantine_state state;
	unsigned worker;
	pid_t pid;
	pid_t successor;    /* begun: who serves in its place; 0: nobody yet */
	const char *reason; /* why not, or why it ends; begun: NULL */
	usec_t usec;	    /* begun: for how long at most; ended: how long it was */
	bool drained;	    /* it had finished its requests */
	uint64_t usage_bytes;
};

struct journal_infeasible {
	const char *what; /* "footprint", "limits", "gap" */
	const char *
		text; /* the setting with its file and line, the numbers, what would do */
	bool grave;   /* workers can hardly run with it */
	uint64_t would_do; /* bytes, or for "gap" microseconds */
	unsigned workers;
	uint64_t limit_bytes, budget_bytes;
	uint64_t footprint_bytes; /* of a fresh worker; 0: not known */
	usec_t gap_usec;
	usec_t life_usec; /* mean life at the present growth; USEC_NEVER: not known */
};

struct journal_limits {
	unsigned workers;
	uint64_t worker_max_bytes, trim_at_bytes, budget_bytes;
};

/* The pool's own steps. state: "starting", "ready", "signal", "reloading", "stopping", "stopped". */
void journal_pool(const char *state, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* What the memory there is comes to for each worker: at the start, and when any of it changes.
 * One of the pool's steps, with the state "limits". */
void journal_limits(const struct journal_limits *l);

void journal_worker_started(unsigned worker, pid_t pid, const char *leaf,
			    const char *reason);
void journal_worker_ready(unsigned worker, pid_t pid, usec_t boot_usec,
			  uint64_t usage_bytes);
void journal_worker_exited(const struct journal_exit *e);
void journal_black_box(const struct journal_black_box *b);
void journal_worker_trimmed(const struct journal_trim *t);

/* A worker goes into quarantine, or does not after all; or its quarantine ends. */
void journal_quarantine(const struct journal_quarantine *q);

/* A trim that was asked for and not answered in time. */
void journal_trim_lost(unsigned worker, pid_t pid, usec_t waited_usec);

/* A trim that was left out because it would probably hold a lock for so long. */
void journal_trim_skipped(unsigned worker, pid_t pid, uint64_t usage_bytes,
			  usec_t pause_usec, usec_t max_pause_usec);

/* A trim that was not asked for just now. why: "late collection", "plain signal". */
void journal_trim_unasked(unsigned worker, pid_t pid, const char *why,
			  uint64_t before_bytes, uint64_t after_bytes);

/* A restart has a date, or has another one now. */
void journal_restart_planned(const struct journal_plan *p);

/* A restart begins. how: "surge", "drain", or "retire" where nothing replaces the worker. */
void journal_restart_begun(const struct journal_plan *p, const char *how);

/* A worker is slowed at its limit until its turn comes, for at most so long; or no longer, after so
 * long, for the reason that the plan gives. */
void journal_hold(const struct journal_plan *p, bool held, usec_t usec);

/* Whatever the policy decided, with the numbers behind it; for debugging, at that level. */
void journal_decision(const struct journal_decision *d);

/* scope: "worker", "pool", "host"; worker 0 when not of one. */
void journal_pressure(const char *scope, unsigned worker, uint64_t stalled_usec,
		      uint32_t some_avg10_permyriad);

/* Something the host allows or does not; essential: its absence changes how the pool works.
 * detail and remedy may be NULL. */
void journal_capability(const char *name, bool found, bool essential, const char *detail,
			const char *remedy);

/* A new configuration was taken, or refused: text says which and why. */
void journal_config(bool accepted, const char *text);

/* Settings contradict each other, or what was learned of the workers. */
void journal_infeasible(const struct journal_infeasible *i);

/* The application, as a template loaded it, has what no fork survives. kind: "threads",
 * "connections", "event-loops"; says: what becomes of them in workers. */
void journal_hazard(pid_t template, const char *kind, const char *says,
		    const char *names);

/* Something failed that the pool survives. error: negative errno, or 0. worker: 0 for none. */
void journal_problem(unsigned worker, int error, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
