/* The life of one worker process as a table: state x event -> state and step. */
#pragma once

enum worker_state {
	WORKER_NONE, /* no state: an empty cell of the table */
	WORKER_BOOTING,
	WORKER_SERVING,
	WORKER_DRAINING, /* asked to go; finishes what it has */
	WORKER_ABORTING, /* SIGABRT sent: a moment to dump */
	WORKER_DYING,	 /* SIGKILL sent to its whole leaf */
	N_WORKER_STATES,
};

enum worker_event {
	WORKER_IS_READY,  /* READY=1, or alive long enough */
	WORKER_ASKED,	  /* drain, retire, stop */
	WORKER_TIMEOUT,	  /* the state's own deadline passed */
	WORKER_SILENT,	  /* watchdog: no beat */
	WORKER_CONDEMNED, /* no more patience: quick stop */
	N_WORKER_EVENTS,
};

enum worker_step {
	STEP_NONE,
	STEP_SERVE, /* tell the policy; a surge's old worker is asked to go */
	STEP_TERM,  /* SIGTERM, arm graceful-timeout */
	STEP_ABORT, /* SIGABRT, arm the dump time */
	STEP_KILL,  /* kill the whole leaf */
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
