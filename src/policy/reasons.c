/* The words for what the policy decides. Owns no state. */
#include "policy/decide.h"

#include <stddef.h>

const char *reason_text(enum reason reason)
{
	static const char *const texts[N_REASONS] = {
		[REASON_NONE] = "nothing is due",
		[REASON_FIRST_START] = "first start",
		[REASON_CRASHED] = "its last worker died",
		[REASON_REPLACED] = "its last worker was drained on purpose",
		[REASON_MEMORY] = "forecast to reach its limit",
		[REASON_LIFETIME] = "reached its lifetime",
		[REASON_REQUESTS] = "reached its number of requests",
		[REASON_RELOAD] = "reload",
		[REASON_OPERATOR] = "asked for by the operator",
		[REASON_HOST] = "the host or container is short of memory",
		[REASON_SURPLUS] = "more workers than wanted",
		[REASON_MARK] = "crossed its trim mark",
		[REASON_PERIODIC] = "periodic trim",
		[REASON_PRESSURE] = "memory pressure",
		[REASON_QUIET] = "idle after growth",
		[REASON_ARMED] = "set at the next mark",
		[REASON_CROSSED] = "raised out of the worker's way",
		[REASON_HELD] = "slowed until its turn comes",
		[REASON_RELEASED] = "slowed for as long as it may be",
		[REASON_STUCK] = "slowing it led nowhere",
		[REASON_FELL] = "it came down",
		[REASON_LENT] = "headroom lent until its turn comes",
		[REASON_REPAID] = "headroom given back",
		[REASON_CONFIGURED] = "as configured",
		[REASON_ROOM] = "another worker needs its memory",
		[REASON_REFORK] = "its memory is the template's now",
	};

	return (unsigned int)reason < N_REASONS ? texts[reason] : "unknown reason";
}

const char *waiting_name(enum waiting waiting)
{
	switch (waiting) {
	case WAITING_NONE:
		return NULL;
	case WAITING_GAP:
		return "gap";
	case WAITING_OTHER:
		return "worker";
	case WAITING_BACKOFF:
		return "backoff";
	case WAITING_BOOTS:
		return "boots";
	}
	return NULL;
}

const char *action_name(enum action_kind kind)
{
	switch (kind) {
	case ACTION_START:
		return "start";
	case ACTION_SURGE:
		return "surge";
	case ACTION_DRAIN:
		return "drain";
	case ACTION_RETIRE:
		return "retire";
	case ACTION_TRIM:
		return "trim";
	case ACTION_TRIPWIRE:
		return "tripwire";
	case ACTION_LIMIT:
		return "limit";
	}
	return "unknown action";
}
