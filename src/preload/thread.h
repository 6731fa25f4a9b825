/* The library's own threads. */
#pragma once

/* Starts a detached thread that blocks every signal from its first instruction. The caller's
 * mask is as before when it returns. Returns 0 or -errno. */
int thread_start(void *(*function)(void *));

/* pthread_atfork(3), wherever the C library has it; for good, as it cannot be undone. NULL: nothing. */
void thread_follow_forks(void (*before)(void), void (*in_parent)(void),
			 void (*in_child)(void));

/* To be called first in a thread that lives as long as the process: names it, and gives up the
 * process's descriptor table for an empty one of its own. From there on no descriptor of ours is
 * one that the application could close, or mistake for its own, and none of the application's is
 * kept open by us. Where a seccomp filter or a kernel before 5.9 refuses, the table stays
 * shared, as between any two threads. Likewise for its working directory and root, where no filter
 * is in force: setns(2) changes a mount name space only while no other thread shares them. */
void thread_settle(const char *name);
