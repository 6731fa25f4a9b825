/* The policy: limits + snapshot + what it remembers -> actions.
 *
 * Pure: no clock, heap, I/O or log; the caller owns all memory. The same inputs in the same
 * order give the same actions, so it is simulated, fuzzed and property-tested as it stands.
 * tests/policy/ checks that the library imports nothing but memcpy and friends. */
#pragma once

#include "policy/snapshot.h"

struct slot_memory; /* what is remembered of one slot; policy/state.h */
struct policy;	    /* the pool's memory, slots included; policy/state.h */

/* Bytes to allocate for a policy of up to n_slots slots, scratch space included. Cannot fail. */
size_t policy_size(size_t n_slots);

/* Prepares memory of policy_size(n_slots) bytes. seed: any number; it jitters intervals and
 * spreads marks, so two pools that should differ get different ones. */
void policy_init(struct policy *p, size_t n_slots, uint64_t seed);

/* ---- what happened; called by the supervisor when it happens ---- */

/* A worker started in the slot, replacing (surge) or not. */
void policy_note_started(struct policy *p, uint32_t slot, usec_t now);
/* The newest worker of the slot is ready; footprint: its usage now, 0 when not known. In a
 * surge it is from now on the slot's worker, and what was learned of the old one is dropped. */
void policy_note_ready(struct policy *p, uint32_t slot, usec_t now,
		       uint64_t footprint_bytes);
/* A worker of the slot that had not become ready is gone: counts towards the backoff. */
void policy_note_boot_failed(struct policy *p, uint32_t slot, usec_t now);
/* The slot's worker died without being asked to. */
void policy_note_crashed(struct policy *p, uint32_t slot, usec_t now, bool kernel_kill);
/* A worker that was asked to go has gone, after so long. The slot may serve already. */
void policy_note_drained(struct policy *p, uint32_t slot, usec_t now, usec_t drain_usec);
/* The trim asked for ended: usage of the leaf before and after, and how long it took. */
void policy_note_trimmed(struct policy *p, uint32_t slot, usec_t now,
			 uint64_t before_bytes, uint64_t after_bytes, usec_t took_usec);
/* How long that trim held a lock of the worker without a pause, as the worker says; told before the
 * trim itself. */
void policy_note_trim_hold(struct policy *p, uint32_t slot, uint64_t before_bytes,
			   usec_t hold_usec);
/* What the last trim could not reach yet went back by itself later on: usage now. */
void policy_note_trimmed_late(struct policy *p, uint32_t slot, usec_t now,
			      uint64_t after_bytes);
/* The trim asked for was not answered in time. */
void policy_note_trim_lost(struct policy *p, uint32_t slot, usec_t now);

/* ---- tripwire, the one decision taken before any other ---- */

/* The value to write to memory.high at once when the leaf's `high` counter moved: at least
 * max(8 MiB, 4 % of the limit, growth of the last two seconds) above charged_bytes, but never
 * above the hold line (below memory.max), where the brake is meant. */
uint64_t policy_raise_tripwire(struct policy *p, const struct limits *limits,
			       uint32_t slot, usec_t now, uint64_t charged_bytes);

/* The value to write to memory.high of a worker's leaf before it is sent SIGTERM, by then
 * nobody's slot any more: a worker stuck above its tripwire would answer up to 2 s late. */
uint64_t policy_parting_tripwire(uint64_t charged_bytes, uint64_t max_bytes);

/* ---- decision ---- */

struct decision {
	struct action *actions; /* caller's array of at least 4 per slot */
	size_t n_actions;
	usec_t wake_usec; /* look again at this time at the latest; USEC_NEVER: on events only */
	enum reason
		end_kept; /* why the worker in quarantine has to go now; REASON_NONE: it has not.
			       * What needs its memory waits for its end, which is an event. */
};

/* Fills ret. O(n log n) in slots; never fails; a nonsensical snapshot (n_slots beyond what
 * policy_init was told, time running backwards) costs actions, not safety. Each action is
 * given once: the next snapshot must show it carried out, or it is given again. */
void decide(struct policy *p, const struct limits *limits, const struct snapshot *seen,
	    struct decision *ret);

/* ---- why ---- */

/* What stands between a slot and its start or restart, its date aside. */
enum waiting {
	WAITING_NONE,
	WAITING_GAP,   /* it is due, but the last restart is not long enough ago */
	WAITING_OTHER, /* it is due, but slot `other` is being replaced or out of service */
	WAITING_BACKOFF, /* its last boots failed: not before not_before_usec */
	WAITING_BOOTS,	 /* as many workers boot as may at once */
};

struct outlook {
	/* The next restart: */
	enum reason reason;  /* what it would be for */
	usec_t restart_usec; /* when it is planned; USEC_NEVER: none */
	usec_t deadline_usec;
	bool follows; /* another one is planned before it, that of slot `predecessor` */
	uint32_t predecessor;
	usec_t after_usec; /* so long before it */
	/* What it waits for: */
	enum waiting waiting;
	uint32_t other;
	uint32_t n_boot_failures; /* in a row */
	usec_t not_before_usec;
	/* Its memory: */
	uint64_t usage_bytes; /* as last believed; 0: not known */
	int64_t rate_bytes_per_sec;
	int64_t rate_error_bytes_per_sec; /* one standard deviation */
	usec_t reaches_usec; /* when it is at its limit, trims taken into account; may be past;
			      * USEC_NEVER: nothing says so */
	usec_t life_usec; /* from its readiness till then; USEC_NEVER until growth is established */
	uint64_t mark_bytes;  /* this slot's own trim mark after the spread */
	uint64_t limit_bytes; /* this slot's own limit, loans included */
	uint64_t loan_bytes;
	bool has_room; /* for one worker more, beside it and all others */
	bool held;
	usec_t held_since_usec; /* the last hold's, where it has ended */
	usec_t held_until_usec; /* at the latest */
	enum reason hold_ended; /* how the last one did; REASON_NONE: there was none */
	/* Its trims: */
	usec_t pause_usec;	  /* longest hold of a lock expected of a trim now */
	uint32_t n_skipped_trims; /* of this worker, by trim_max_pause */
	usec_t next_trim_usec;	  /* not before; USEC_NEVER: no trim planned */
	uint32_t futile_trims;	  /* in a row */
	uint32_t n_trims;	  /* that were learned from */
	uint32_t
		kept_permyriad; /* of what it had grown by, what they left; where n_trims > 0 */
};

struct pool_outlook {
	usec_t gap_usec;	  /* between planned restarts, as it applies now */
	bool gap_shrunk;	  /* min_gap cannot be kept */
	uint32_t n_planned;	  /* restarts with a date */
	usec_t last_restart_usec; /* 0: none yet */
	usec_t lead_usec;	  /* what a replacement takes, with a margin */
	usec_t host_since_usec; /* since when the host reports a shortage; 0: it does not */
	usec_t life_usec; /* mean life that the workers' growth allows; USEC_NEVER: not known */
	uint64_t footprint_bytes; /* learned, of a fresh worker; 0: not known */
	uint64_t used_bytes;
	uint64_t lent_bytes;
	uint32_t n_lent;
	uint32_t n_held;
	uint32_t n_trims;      /* that were learned from */
	uint32_t futile_trims; /* in a row */
	uint32_t kept_permyriad;
};

/* What is planned for a slot as of the last decide(). Returns 0, or -EINVAL for a slot out of range. */
int policy_outlook(const struct policy *p, uint32_t slot, struct outlook *ret);

/* The same of the pool as a whole. */
void policy_pool_outlook(const struct policy *p, struct pool_outlook *ret);

/* True once trimming has repeatedly yielded nothing anywhere in the pool. */
bool policy_trimming_is_futile(const struct policy *p);

/* "forecast to reach its limit" and the like: static, lower case, no full stop. */
const char *reason_text(enum reason reason);
/* "gap", "worker", "backoff", "boots"; NULL for none. */
const char *waiting_name(enum waiting waiting);
/* "start", "trim", ...: the journal's TRIMTAB_ACTION. */
const char *action_name(enum action_kind kind);

/* ---- feasibility, for start, reload and `trimtab check` ---- */

enum infeasible {
	INFEASIBLE_FOOTPRINT, /* limit below 1.2 x a fresh worker's footprint */
	INFEASIBLE_LIMITS,    /* worker_max x workers + reserve exceed the budget */
	INFEASIBLE_GAP,	      /* gap x workers exceed the life expected of a worker */
	N_INFEASIBILITIES,
};

struct infeasibility {
	enum infeasible what;
	uint64_t
		would_do; /* for the setting that is wrong: worker_max in bytes, worker_max in
			    * bytes, min_gap in microseconds */
	uint64_t workers_would_do; /* or so many workers; 0: no number of them would */
};

/* Everything that contradicts itself, the gravest first. life_usec: expected life of a worker,
 * USEC_NEVER when not known; footprint_bytes: of a fresh worker, 0 when not known. Writes to ret
 * and returns how many there are. */
size_t policy_infeasible(const struct limits *limits, size_t n_workers, usec_t life_usec,
			 uint64_t footprint_bytes,
			 struct infeasibility ret[N_INFEASIBILITIES]);
