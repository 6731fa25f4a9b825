/* Owns how a thread of ours is made.
 *
 * It is an ordinary pthread, never a raw clone: glibc skips its locks in a process that it
 * believes to be single-threaded, and a trim then runs on a half-edited heap. No handler of the
 * application may ever run on its small stack, so it blocks all signals, by way of the C
 * library, which keeps those out that it needs itself for setuid(2) and cancellation. */
#include "preload/thread.h"

#include <dlfcn.h>
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

/* glibc's pthread_atfork(3) is linked statically and calls this; other libcs have only that. */
void thread_follow_forks(void (*before)(void), void (*in_parent)(void),
			 void (*in_child)(void))
{
	int (*register_atfork)(void (*)(void), void (*)(void), void (*)(void), void *) =
		dlsym(RTLD_DEFAULT, "__register_atfork");
	int (*atfork)(void (*)(void), void (*)(void), void (*)(void)) =
		dlsym(RTLD_DEFAULT, "pthread_atfork");

	if (register_atfork)
		(void)register_atfork(before, in_parent, in_child, NULL);
	else if (atfork)
		(void)atfork(before, in_parent, in_child);
}

void thread_settle(const char *name)
{
	(void)prctl(PR_SET_NAME, name);
	(void)syscall(SYS_close_range, 0U, ~0U, CLOSE_RANGE_UNSHARE);
	/* Filters that kill for unshare(2) are common. */
	if (prctl(PR_GET_SECCOMP) == 0)
		(void)syscall(SYS_unshare, CLONE_FS);
}
