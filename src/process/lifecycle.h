/* The life of one worker process as a table: state x event -> state and step. */
#pragma once

enum worker_state {
	WORKER_NONE, /* no state: an empty cell of the table */
	WORKER_BOOTING,
	WORKER_SERVING,
	WORKER_DRAINING, /* asked to go; finishes what it has */
	WORKER_ABORTING, /* SIGABRT sent: a moment to dump */
	WORKER_DYING,	 /* SIGKILL sent to its whole leaf */
	/* Last, since an upgrade hands these numbers over: */
	WORKER_KEPT,   /* in quarantine: out of service, alive for a debugger */
	WORKER_ENDING, /* that is over: SIGTERM sent */
	N_WORKER_STATES,
};

enum worker_event {
	WORKER_IS_READY,  /* READY=1, or alive long enough */
	WORKER_ASKED,	  /* drain, retire, stop */
	WORKER_TIMEOUT,	  /* the state's own deadline passed */
	WORKER_SILENT,	  /* watchdog: no beat */
	WORKER_CONDEMNED, /* not a moment more: its memory is needed */
	WORKER_STAYS, /* it is to be kept, and has drained or been given its time to */
	N_WORKER_EVENTS,
};

enum worker_step {
	STEP_NONE,
	STEP_SERVE, /* tell the policy; a surge's old worker is asked to go */
	STEP_TERM,  /* SIGTERM, arm graceful-timeout */
	STEP_ABORT, /* SIGABRT, arm the dump time */
	STEP_KILL,  /* kill the whole leaf */
	STEP_KEEP,  /* nobody's worker any more; arm the end of the quarantine */
	STEP_END,   /* SIGTERM, arm graceful-timeout */
};

struct transition {
	enum worker_state next;
	enum worker_step step;
};

/* An empty cell (WORKER_NONE) is ignored: the event has no meaning in that state. The end of the
 * process is no event here: it ends the object, whatever its state. */
extern const struct transition lifecycle[N_WORKER_STATES][N_WORKER_EVENTS];

/* "booting", "serving", ...; static. */
const char *worker_state_name(enum worker_state state);
