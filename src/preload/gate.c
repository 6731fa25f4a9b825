/* Owns the handlers of pthread_atfork(3). They run in whichever thread of the application forks, and
 * must do no more than to look at two words and to wait for a moment: no lock, since the application's
 * own handlers may hold any while they wait for ours. */
#include "preload/gate.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <time.h>

#include "preload/thread.h"

enum {
	PAUSE_NSEC = 50000,
	MAX_PAUSES = 2000,
};

/* Each side says first what it is about to do, and looks for the other then. */
static atomic_uint n_forking;
static atomic_bool inside;

static void pause_shortly(void)
{
	const struct timespec pause = { .tv_nsec = PAUSE_NSEC };

	(void)nanosleep(&pause, NULL);
}

static void before_fork(void)
{
	atomic_fetch_add(&n_forking, 1);
	for (int i = 0; i < MAX_PAUSES && atomic_load(&inside); i++)
		pause_shortly();
}

static void after_fork_in_parent(void)
{
	atomic_fetch_sub(&n_forking, 1);
}

/* The one thread that is left here has just forked, and none of ours is. */
static void after_fork_in_child(void)
{
	atomic_store(&n_forking, 0);
	atomic_store(&inside, false);
}

void gate_prepare(void)
{
	thread_follow_forks(before_fork, after_fork_in_parent, after_fork_in_child);
}

void gate_enter(void)
{
	atomic_store(&inside, true);
	for (int i = 0; i < MAX_PAUSES && atomic_load(&n_forking) > 0; i++) {
		atomic_store(&inside, false);
		pause_shortly();
		atomic_store(&inside, true);
	}
}

void gate_leave(void)
{
	atomic_store(&inside, false);
}
