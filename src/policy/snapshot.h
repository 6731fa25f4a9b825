/* What the policy sees and what it may answer: plain data, no pointers into the world.
 *
 * The supervisor fills a snapshot from the kernel's figures, calls decide(), and carries the
 * actions out. Bytes, microseconds and permyriad (1/10000) throughout; every time is
 * CLOCK_MONOTONIC. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/time.h"

#define PERMYRIAD 10000

/* ---- what the operator asked for, resolved to numbers ---- */

enum surge_rule {
	SURGE_AUTO, /* new before old when the budget has room for one boot footprint */
	SURGE_ALWAYS,
	SURGE_NEVER,
};

struct limits {
	uint64_t
		budget_bytes; /* what the pool may use in all; UINT64_MAX: no limit known */
	uint64_t reserve_bytes;	   /* part of the budget kept for surges and loans */
	uint64_t worker_max_bytes; /* one worker's limit; UINT64_MAX: none */
	uint64_t trim_at_bytes;	   /* usage at which a worker is asked to give back */
	uint32_t spread_permyriad; /* how far equal workers' marks are pulled apart */

	usec_t min_gap_usec;	   /* between the starts of two planned restarts */
	usec_t min_gap_floor_usec; /* what it may shrink to when the plan is infeasible */
	usec_t max_lifetime_usec;  /* 0: no limit */
	usec_t hold_max_usec;	   /* longest time a worker may be slowed on purpose */
	usec_t backoff_max_usec;   /* longest wait before a crashed worker starts again */
	usec_t graceful_usec;	   /* longest drain, until measured drains say better */
	uint32_t max_unavailable;  /* slots that may be out of service by our own doing */
	uint32_t max_booting;	   /* workers that may boot at once at the first start */
	enum surge_rule surge;

	bool trim_enabled;
	bool trim_periodic; /* the article's mode: a jittered loop above trim_at */
	usec_t trim_interval_min_usec; /* one worker is asked at most once in a time drawn */
	usec_t trim_interval_max_usec; /* from this range */
	usec_t trim_max_pause_usec;    /* longest hold of a lock by a trim; 0: any */
	uint64_t trim_min_yield_bytes; /* less than this, and 2 %, counts as "no help" */

	bool tripwire; /* memory.high can be set; false: degraded mode */
};

/* ---- what is seen now ---- */

enum slot_phase {
	SLOT_EMPTY,    /* nothing runs here; a worker is wanted unless the slot retires */
	SLOT_BOOTING,  /* its only worker is not ready yet */
	SLOT_SERVING,  /* its worker accepts */
	SLOT_SURGING,  /* its worker accepts while its replacement boots beside it */
	SLOT_DRAINING, /* its worker no longer accepts and nothing replaces it yet */
};

/* Why somebody other than the policy wants the worker replaced. */
enum wish {
	WISH_NONE,
	WISH_RELOAD,   /* a new generation of code or configuration */
	WISH_REQUESTS, /* the worker announced that it reached max-requests */
	WISH_OPERATOR, /* trimtabctl recycle */
	WISH_REFORK,   /* the next template was forked from it */
};

struct slot_seen {
	enum slot_phase phase;
	enum wish wish;
	bool retire;   /* surplus: drain it, start nothing after */
	bool can_trim; /* its worker has said that it takes trim requests */
	bool trimming; /* such a request is under way */
	bool sampled;  /* usage_bytes and charged_bytes are of this moment */
	uint64_t
		usage_bytes; /* serving worker: anon + shmem + kernel, what it costs alone */
	uint64_t
		charged_bytes; /* memory.current: what memory.high and memory.max look at */
	uint64_t high_events; /* memory.events.local high, counted since its start */
	/* memory.stat pgscan, and pgsteal less the refaults: to tell a hold that makes no progress
	 * from one that does. freed_pages may fall. */
	uint64_t scanned_pages, freed_pages;
	usec_t ready_usec;    /* when the serving worker became ready */
	usec_t cpu_usec;      /* CPU time that it has used; 0: not known */
	usec_t pressure_usec; /* when its leaf last reported a stall; 0: never */
};

struct snapshot {
	usec_t now_usec;
	uint64_t pool_bytes; /* charged in the whole pool: workers, template, draining */
	uint64_t
		kept_bytes; /* of that, by a worker in quarantine, which nobody would miss; 0: none */
	usec_t pool_pressure_usec; /* last stall reported for the pool; 0: never */
	usec_t host_pressure_usec; /* last stall reported for the host; 0: never */
	bool headroom_known;
	uint64_t
		headroom_bytes; /* the least that limits of the pool's cgroup and of those above
				  * it leave, others' usage included */
	const struct slot_seen *slots;
	size_t n_slots;
};

/* ---- what is to be done ---- */

enum action_kind {
	ACTION_START, /* start a worker in this empty slot */
	ACTION_SURGE, /* start a replacement beside the worker; on its READY the old drains */
	ACTION_DRAIN,	 /* stop first: TERM the worker; START follows when it is gone */
	ACTION_RETIRE,	 /* drain the worker of a surplus slot */
	ACTION_TRIM,	 /* ask the worker to give free heap back */
	ACTION_TRIPWIRE, /* set the leaf's memory.high to .bytes */
	ACTION_LIMIT,	 /* set the leaf's memory.max to .bytes (a loan, or its end) */
};

/* Each names one sentence; reason_text() has it. */
enum reason {
	REASON_NONE,
	/* starts */
	REASON_FIRST_START,
	REASON_CRASHED,	 /* the last worker died; after the backoff */
	REASON_REPLACED, /* the last worker was drained on purpose */
	/* restarts */
	REASON_MEMORY, /* forecast to reach its limit */
	REASON_LIFETIME,
	REASON_REQUESTS,
	REASON_RELOAD,
	REASON_OPERATOR,
	REASON_HOST, /* the host or container is short of memory */
	REASON_SURPLUS,
	/* trims */
	REASON_MARK, /* crossed trim-at */
	REASON_PERIODIC,
	REASON_PRESSURE, /* its leaf, the pool or the host stalls */
	REASON_QUIET,	 /* it grew and fell idle */
	/* tripwires and limits */
	REASON_ARMED,	 /* set at the next mark */
	REASON_CROSSED,	 /* raised out of the worker's way */
	REASON_HELD,	 /* left in place so that the worker slows down */
	REASON_RELEASED, /* a hold ended: its time is up */
	REASON_STUCK,	 /* a hold ended: it made no progress */
	REASON_FELL,	 /* a hold ended: the worker came down */
	REASON_LENT,	 /* memory.max raised out of the reserve */
	REASON_REPAID,
	REASON_CONFIGURED, /* a new leaf gets the limit as configured */
	REASON_ROOM,	   /* a quarantine ends: another worker needs its memory */
	/* one more restart */
	REASON_REFORK,
	N_REASONS,
};

struct action {
	enum action_kind kind;
	enum reason reason;
	uint32_t slot;
	uint64_t bytes; /* TRIPWIRE, LIMIT: the new value; TRIM: usage now */
	/* The numbers behind the reason; 0 or USEC_NEVER where they do not apply. */
	uint64_t usage_bytes;
	uint64_t limit_bytes;
	int64_t rate_bytes_per_sec;
	usec_t deadline_usec;
	usec_t gap_usec; /* the gap that applied */
};
