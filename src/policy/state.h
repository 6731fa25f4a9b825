/* What the policy remembers between two decisions. One block of memory that holds no pointer:
 * it survives being copied into a memfd and back, as an upgrade in place does. */
#pragma once

#include "policy/decide.h"
#include "policy/forecast.h"

/* Why a slot has no worker. */
enum absence {
	ABSENT_NEW, /* none was ever wanted before */
	ABSENT_CRASHED,
	ABSENT_REPLACED, /* drained on purpose */
};

/* Trims of one worker, or of all in the pool. */
struct trim_record {
	uint64_t grown_bytes; /* before trims, since the trim before; older ones fade */
	uint64_t kept_bytes;  /* what was left of that */
	uint32_t n_learned;   /* trims behind them */
	uint32_t n_futile;    /* in a row */
};

struct trim_memory {
	struct trim_record record;
	usec_t next_usec;     /* not before */
	usec_t last_usec;     /* when the last one ended; 0: none yet */
	usec_t interval_usec; /* the draw behind next_usec, for the next doubling */
	uint64_t after_bytes; /* usage after the last one, or the footprint */
	uint64_t tooth_bytes; /* what the last one gave back */
	/* Quiet after a burst. */
	usec_t still_usec; /* since when usage has not moved; 0: not watched */
	uint64_t still_bytes;
	usec_t quiet_wait_usec; /* stillness asked for; doubles while it keeps growing */
	/* Pauses. */
	usec_t hold_usec_per_gib; /* longest hold of a lock, learned; 0: nothing yet */
	uint32_t n_skipped;	  /* for being expected to hold one for too long */
	/* Waiting for the worker to be idle. */
	usec_t waits_usec;    /* since when; 0: it does not */
	usec_t cpu_seen_usec; /* start of the window; 0: none yet */
	usec_t cpu_usec;      /* used by then */
};

struct hold_memory {
	bool active;
	bool spent;	   /* ended without help: not again for this worker */
	enum reason ended; /* how the last one did; REASON_NONE: there was none */
	usec_t since_usec;
	usec_t checked_usec;  /* start of the current progress window */
	uint64_t high_events; /* at checked_usec */
	uint64_t scanned_pages;
	uint64_t freed_pages;
	uint64_t usage_bytes;
};

struct slot_memory {
	/* Life cycle */
	bool known; /* phase below was seen at least once */
	bool can_trim;
	enum slot_phase phase;
	enum absence absence;
	bool restarting;	  /* a planned restart is under way */
	bool drain_asked;	  /* and this is how it began, as far as is known */
	uint32_t n_parting;	  /* old workers that drain while the slot serves */
	uint32_t n_boot_failures; /* in a row */
	uint32_t
		n_cramped_kills; /* by the kernel, in a row, at a limit its footprint fills */
	usec_t not_before_usec; /* end of the backoff */
	usec_t started_usec;
	usec_t ready_usec;

	/* Memory */
	struct forecast growth;	 /* since it started, or since a trim gave memory back */
	struct forecast troughs; /* what trims left, over its whole life */
	uint64_t usage_bytes;	 /* last sample */
	uint64_t charged_bytes;
	usec_t sampled_usec;	   /* 0: never */
	uint64_t footprint_bytes;  /* usage when it became ready; 0: not known */
	uint64_t spread_permyriad; /* this slot's place in the spread, 0..PERMYRIAD */

	struct trim_memory trim;

	/* Tripwire and limit: what was last asked for; 0: nothing yet. */
	uint64_t tripwire_bytes;
	uint64_t limit_bytes;
	uint64_t brake_bytes; /* tripwire_brake_line() of brake_limit_bytes, kept */
	uint64_t brake_limit_bytes;
	usec_t brake_usec;
	uint64_t crossed_bytes; /* charged at the last crossing, and when */
	usec_t crossed_usec;
	uint64_t high_events; /* at the last look */
	struct hold_memory hold;
	bool limit_given; /* in this decision */
	uint64_t loan_bytes;
	uint64_t parting_bytes; /* loan of an old worker that still drains */

	usec_t due_usec; /* since when its memory calls for a restart; 0: it does not */
	struct outlook outlook; /* as of the last decide() */
};

struct plan_entry {
	usec_t deadline_usec; /* planned for: on the safe side of the forecast */
	usec_t last_call_usec; /* not before the deadline: the gap is not shrunk for less */
	usec_t doom_usec; /* a start later than this is a kernel kill; USEC_NEVER: none near */
	usec_t start_usec; /* latest start; written by plan_make() */
	uint32_t slot;
	bool hard;    /* missing it costs a kernel kill, not just lateness */
	bool patient; /* takes its turn at the full gap; nothing shrinks for it */
	enum reason reason;
};

struct policy {
	size_t n_slots;
	uint64_t random;
	usec_t now_usec;      /* the latest time ever seen: time does not run back */
	struct limits limits; /* as of the last decide() */

	bool restarted;		  /* last_restart_usec is valid */
	usec_t last_restart_usec; /* start of the last restart, whatever its cause */
	usec_t boot_usec;	  /* learned: a slowly falling maximum; 0: not known */
	usec_t drain_usec;
	uint64_t footprint_bytes;    /* same, of a fresh worker */
	struct trim_record trims;    /* of all workers together */
	usec_t last_trim_usec;	     /* when the last one in the pool ended */
	usec_t last_release_usec;    /* when a hold last ended without its turn */
	usec_t host_since_usec;	     /* first report of the present shortage; 0: none */
	usec_t host_last_usec;	     /* last one */
	struct pool_outlook outlook; /* as of the last decide() */

	struct slot_memory slots[]; /* n_slots, then 2 x n_slots struct plan_entry */
};

/* The scratch space of plan_make(): 2 x n_slots entries behind the slots. */
static inline struct plan_entry *policy_entries(struct policy *p)
{
	return (struct plan_entry *)(void *)&p->slots[p->n_slots];
}
