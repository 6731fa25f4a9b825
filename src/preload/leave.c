/* Owns a thread-specific key whose destructor runs when the main thread calls pthread_exit(3);
 * exit(3) and a return from main do not run it. The destructor starts an ordinary thread, which
 * polls, ever more rarely, until none but the helper and itself are left, and then ends the process
 * as the last thread would have.
 *
 * That is not the helper's business: it must run exit handlers of the application, on a stack of
 * their usual size and with the application's descriptors, which the helper gives up. */
#include "preload/leave.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "preload/self.h"

static pthread_key_t key;
static pid_t pid;
static sigset_t main_mask;
static atomic_uint n_ours;

/* Other threads of the application may go on for as long as it lives. */
enum {
	FIRST_PAUSE_MSEC = 20,
	LAST_PAUSE_MSEC = 1280,
};

static void *wait_and_exit(void *unused)
{
	long msec = FIRST_PAUSE_MSEC;

	(void)unused;
	/* Left: the main thread as a zombie, ours, and this one. */
	while (!self_main_ended(2 + atomic_load(&n_ours))) {
		const struct timespec pause = {
			.tv_sec = msec / 1000,
			.tv_nsec = msec % 1000 * 1000000L,
		};

		(void)nanosleep(&pause, NULL);
		if (msec < LAST_PAUSE_MSEC)
			msec *= 2;
	}
	(void)pthread_sigmask(SIG_SETMASK, &main_mask, NULL);
	exit(EXIT_SUCCESS); /* as glibc's and musl's last thread does */
}

static void main_thread_left(void *value)
{
	pthread_t thread;
	sigset_t all;

	(void)value;
	/* A forked child has no helper, so nothing keeps it. */
	if (getpid() != pid || atomic_load(&n_ours) == 0)
		return;
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &main_mask);
	if (pthread_create(&thread, NULL, wait_and_exit, NULL) == 0)
		(void)pthread_detach(thread);
	(void)pthread_sigmask(SIG_SETMASK, &main_mask, NULL);
}

void leave_prepare(void)
{
	/* In a forked child the key is there already, but perhaps not this thread's value. */
	if (pid == 0 && pthread_key_create(&key, main_thread_left) != 0)
		return;
	pid = getpid();
	atomic_store(&n_ours, 1);
	(void)pthread_setspecific(key, &key);
}

void leave_not_needed(void)
{
	atomic_store(&n_ours, 0);
}
