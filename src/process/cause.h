/* Why a worker ended, from what is known when it is reaped: pure. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum cause {
	CAUSE_ASKED,	   /* it was asked to go and went */
	CAUSE_EXITED,	   /* by itself, whatever the status */
	CAUSE_BOOT_FAILED, /* before it was ready */
	CAUSE_EXEC_FAILED, /* before its program ran */
	CAUSE_SIGNAL,	   /* killed by a signal that nobody here sent */
	CAUSE_OOM_WORKER,  /* by the kernel, at its own limit */
	CAUSE_OOM_POOL,	   /* by the kernel, at the pool's limit */
	CAUSE_OOM_HOST, /* by the kernel, at a limit above the pool or the host's memory */
	CAUSE_WATCHDOG,	     /* silent for too long: aborted or killed by us */
	CAUSE_BOOT_TIMEOUT,  /* not ready in time: killed by us */
	CAUSE_DRAIN_TIMEOUT, /* did not finish its requests in time: killed by us */
	N_CAUSES,
};

/* Why we sent the last signal, if we did. */
enum our_hand {
	HAND_NONE,
	HAND_ASKED, /* TERM or INT: please go */
	HAND_WATCHDOG,
	HAND_BOOT_TIMEOUT,
	HAND_DRAIN_TIMEOUT,
	HAND_STOP, /* KILL for no fault of its own: a quick stop, the end of a quarantine */
};

struct death {
	bool signaled; /* status is a signal number, else an exit status */
	int status;
	bool was_ready;
	bool exec_failed;
	enum our_hand hand;
	/* Growth of the counters of memory.events.local since the worker started. The kernel counts
	 * oom_kill before it sends SIGKILL, so they are final when the exit is seen; a group kill
	 * counts its first victim twice, so only zero or not is meaningful. */
	uint64_t leaf_oom, leaf_oom_kill;
	uint64_t pool_oom;
};

enum cause cause_of(const struct death *d);

/* Whether the worker ended the way it was meant to. */
bool cause_is_expected(enum cause cause);

/* TRIMTAB_CAUSE: "exited", "oom-worker", ...; static. */
const char *cause_name(enum cause cause);

/* "was killed by the kernel at its own memory limit" and the like, into text. */
void cause_sentence(enum cause cause, const struct death *d, char *text, size_t size);
