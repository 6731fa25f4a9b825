/* Attribution of a worker's end. The order of the questions matters: a kernel kill is told by
 * the leaf's counters and never guessed from a SIGKILL alone. */
#include "process/cause.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

/* In the leaf, `oom` counts kills at its own limit; a kill at a limit above shows only as the
 * leaf's oom_kill, with `oom` at the level whose limit was hit (measured on 6.1, 6.12 and 7.3). */
static enum cause kernel_kill(const struct death *d)
{
	if (d->leaf_oom > 0)
		return CAUSE_OOM_WORKER;
	return d->pool_oom > 0 ? CAUSE_OOM_POOL : CAUSE_OOM_HOST;
}

enum cause cause_of(const struct death *d)
{
	if (d->exec_failed)
		return CAUSE_EXEC_FAILED;
	if (d->signaled && d->status == SIGKILL && d->leaf_oom_kill > 0)
		return kernel_kill(d);

	switch (d->hand) {
	case HAND_WATCHDOG:
		return CAUSE_WATCHDOG;
	case HAND_BOOT_TIMEOUT:
		return CAUSE_BOOT_TIMEOUT;
	case HAND_DRAIN_TIMEOUT:
		return CAUSE_DRAIN_TIMEOUT;
	case HAND_ASKED:
		/* A crash on the way out is still a crash. */
		if (!d->signaled || d->status == SIGTERM || d->status == SIGINT)
			return CAUSE_ASKED;
		break;
	case HAND_STOP:
		return CAUSE_ASKED;
	case HAND_NONE:
		break;
	}
	if (!d->was_ready)
		return CAUSE_BOOT_FAILED;
	return d->signaled ? CAUSE_SIGNAL : CAUSE_EXITED;
}

bool cause_is_expected(enum cause cause)
{
	return cause == CAUSE_ASKED;
}

const char *cause_name(enum cause cause)
{
	static const char *const names[N_CAUSES] = {
		[CAUSE_ASKED] = "asked",
		[CAUSE_EXITED] = "exited",
		[CAUSE_BOOT_FAILED] = "boot-failed",
		[CAUSE_EXEC_FAILED] = "exec-failed",
		[CAUSE_SIGNAL] = "signal",
		[CAUSE_OOM_WORKER] = "oom-worker",
		[CAUSE_OOM_POOL] = "oom-pool",
		[CAUSE_OOM_HOST] = "oom-host",
		[CAUSE_WATCHDOG] = "watchdog",
		[CAUSE_BOOT_TIMEOUT] = "boot-timeout",
		[CAUSE_DRAIN_TIMEOUT] = "drain-timeout",
	};

	return names[cause];
}

/* "exited with status 3" or "died of SIGSEGV". */
static void plain_sentence(const struct death *d, char *text, size_t size)
{
	const char *name = d->signaled ? sigabbrev_np(d->status) : NULL;

	if (!d->signaled)
		(void)snprintf(text, size, "exited with status %d", d->status);
	else if (name)
		(void)snprintf(text, size, "died of SIG%s", name);
	else
		(void)snprintf(text, size, "died of signal %d", d->status);
}

void cause_sentence(enum cause cause, const struct death *d, char *text, size_t size)
{
	static const char *const sentences[N_CAUSES] = {
		[CAUSE_OOM_WORKER] =
			"was killed by the kernel: it reached its own memory limit",
		[CAUSE_OOM_POOL] =
			"was killed by the kernel: the pool reached its memory limit",
		[CAUSE_OOM_HOST] =
			"was killed by the kernel: memory ran out above the pool",
		[CAUSE_WATCHDOG] = "was ended because it gave no sign of life",
		[CAUSE_BOOT_TIMEOUT] = "was ended because it was not ready in time",
		[CAUSE_DRAIN_TIMEOUT] = "was killed because it did not finish in time",
	};
	char plain[64];

	if (sentences[cause]) {
		(void)snprintf(text, size, "%s", sentences[cause]);
		return;
	}
	plain_sentence(d, plain, sizeof(plain));
	if (cause == CAUSE_ASKED)
		(void)snprintf(text, size, "ended as asked (%s)", plain);
	else if (cause == CAUSE_BOOT_FAILED)
		(void)snprintf(text, size, "%s before it was ready", plain);
	else if (cause == CAUSE_SIGNAL && d->status == SIGKILL)
		(void)snprintf(text, size,
			       "%s, sent by somebody else: the kernel counts no "
			       "out-of-memory kill here",
			       plain);
	else
		(void)snprintf(text, size, "%s", plain);
}
