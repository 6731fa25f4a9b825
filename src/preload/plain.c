/* Owns one disposition, for as long as nobody else wants it.
 *
 * Not set before the application is up: an interpreter takes stock of dispositions when it starts
 * (CPython then answers None for one that it cannot name), and servers reset them. From there on
 * it replaces the default one alone, which is to die, and whoever sets another replaces ours.
 * Nothing is interposed. The handler runs on any thread of the application, at any moment: it
 * stores a flag and wakes the helper. */
#include "preload/plain.h"

#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Atomic, as the handler may run while the helper arms again: once the application has set the
 * default disposition in between, one thread of it may still be on its way into ours. */
static struct {
	_Atomic pid_t pid;
	_Atomic pid_t helper;
	atomic_bool wanted;
} plain;

/* After our return, when the signal is no longer blocked. */
static void die_of(int number)
{
	struct sigaction standard = { .sa_handler = SIG_DFL };

	(void)sigaction(number, &standard, NULL);
	(void)syscall(SYS_tgkill, getpid(), (pid_t)syscall(SYS_gettid), number);
}

static void on_plain_signal(int number)
{
	int saved_errno = errno;

	if (getpid() != plain.pid) {
		die_of(number); /* a forked child has our handler, but nobody to serve it */
	} else {
		atomic_store(&plain.wanted, true);
		(void)syscall(SYS_tgkill, plain.pid, plain.helper, number);
	}
	errno = saved_errno;
}

bool plain_is_ours(const struct sigaction *action)
{
	return action->sa_handler == on_plain_signal;
}

void plain_arm(int number, pid_t helper)
{
	/* On the other stack where there is one: Go's are too small for any handler. */
	struct sigaction ours = {
		.sa_handler = on_plain_signal,
		.sa_flags = SA_RESTART | SA_ONSTACK,
	};
	struct sigaction before;

	if (sigaction(number, NULL, &before) < 0)
		return;
	if (plain_is_ours(&before)) {
		/* Of the process that forked this one, or armed before. */
		plain.pid = getpid();
		plain.helper = helper;
		return;
	}
	if (before.sa_handler != SIG_DFL)
		return;
	plain.pid = getpid();
	plain.helper = helper;
	if (sigaction(number, &ours, &before) < 0)
		return;
	/* The application was quicker. */
	if (before.sa_handler != SIG_DFL)
		(void)sigaction(number, &before, NULL);
}

void plain_want(void)
{
	atomic_store(&plain.wanted, true);
}

bool plain_take(void)
{
	return atomic_exchange(&plain.wanted, false);
}
