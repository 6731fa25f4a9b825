/* Owns how a thread of ours is made.
 *
 * It is an ordinary pthread, never a raw clone: glibc skips its locks in a process that it
 * believes to be single-threaded, and a trim then runs on a half-edited heap. No handler of the
 * application may ever run on its small stack, so it blocks all signals, by way of the C
 * library, which keeps those out that it needs itself for setuid(2) and cancellation. */
#include "preload/thread.h"

#include <errno.h>
#include <linux/sched.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef CLOSE_RANGE_UNSHARE
#define CLOSE_RANGE_UNSHARE (1U << 1)
#endif

/* Address space, of which a trim touches 8 KiB. The larger step is for programs whose static
 * TLS alone fills the smaller. */
static const size_t stack_sizes[] = { 128 * 1024, 1024 * 1024 };

static int create(void *(*function)(void *), size_t stack_size)
{
	pthread_attr_t attributes;
	pthread_t thread;
	int r = pthread_attr_init(&attributes);

	if (r != 0)
		return -r;
	(void)pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	(void)pthread_attr_setstacksize(&attributes, stack_size);
	r = pthread_create(&thread, &attributes, function, NULL);
	(void)pthread_attr_destroy(&attributes);
	return -r;
}

int thread_start(void *(*function)(void *))
{
	sigset_t all, before;
	int r = -EINVAL;

	/* The new thread inherits the mask, so it is never without one. */
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before);
	for (size_t i = 0; r == -EINVAL && i < sizeof stack_sizes / sizeof *stack_sizes;
	     i++)
		r = create(function, stack_sizes[i]);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	return r;
}

void thread_settle(const char *name)
{
	(void)prctl(PR_SET_NAME, name);
	(void)syscall(SYS_close_range, 0U, ~0U, CLOSE_RANGE_UNSHARE);
	/* Filters that kill for unshare(2) are common. */
	if (prctl(PR_GET_SECCOMP) == 0)
		(void)syscall(SYS_unshare, CLONE_FS);
}
