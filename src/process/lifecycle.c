/* The table, and nothing else. */
#include "process/lifecycle.h"

const struct transition lifecycle[N_WORKER_STATES][N_WORKER_EVENTS] = {
	[WORKER_BOOTING] = {
		[WORKER_IS_READY]  = { WORKER_SERVING,  STEP_SERVE },
		[WORKER_ASKED]     = { WORKER_DRAINING, STEP_TERM },
		/* Where it hangs is what its operator wants to know. */
		[WORKER_TIMEOUT]   = { WORKER_ABORTING, STEP_ABORT },
		[WORKER_CONDEMNED] = { WORKER_DYING,    STEP_KILL },
	},
	[WORKER_SERVING] = {
		[WORKER_ASKED]     = { WORKER_DRAINING, STEP_TERM },
		[WORKER_SILENT]    = { WORKER_ABORTING, STEP_ABORT },
		[WORKER_CONDEMNED] = { WORKER_DYING,    STEP_KILL },
	},
	/* A draining worker is not watched for silence: gthread does not beat while it drains. */
	[WORKER_DRAINING] = {
		[WORKER_STAYS]     = { WORKER_KEPT,     STEP_KEEP },
		[WORKER_TIMEOUT]   = { WORKER_DYING,    STEP_KILL },
		[WORKER_CONDEMNED] = { WORKER_DYING,    STEP_KILL },
	},
	/* Nothing that it does or leaves undone ends it: it may well be stopped in a debugger. */
	[WORKER_KEPT] = {
		[WORKER_ASKED]     = { WORKER_ENDING,   STEP_END },
		[WORKER_TIMEOUT]   = { WORKER_ENDING,   STEP_END },
		[WORKER_CONDEMNED] = { WORKER_DYING,    STEP_KILL },
	},
	[WORKER_ENDING] = {
		[WORKER_TIMEOUT]   = { WORKER_DYING,    STEP_KILL },
		[WORKER_CONDEMNED] = { WORKER_DYING,    STEP_KILL },
	},
	[WORKER_ABORTING] = {
		[WORKER_TIMEOUT]   = { WORKER_DYING,    STEP_KILL },
		[WORKER_CONDEMNED] = { WORKER_DYING,    STEP_KILL },
	},
	/* SIGKILL cannot fail, only be late (a task in an uninterruptible sleep): nothing to add. */
	[WORKER_DYING] = { { WORKER_NONE, STEP_NONE } },
};

const char *worker_state_name(enum worker_state state)
{
	static const char *const names[N_WORKER_STATES] = {
		[WORKER_NONE] = "none",		[WORKER_BOOTING] = "booting",
		[WORKER_SERVING] = "serving",	[WORKER_DRAINING] = "draining",
		[WORKER_ABORTING] = "aborting", [WORKER_DYING] = "dying",
		[WORKER_KEPT] = "kept",		[WORKER_ENDING] = "ending",
	};

	return names[state];
}
