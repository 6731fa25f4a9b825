/* Lets a process end whose main thread left by pthread_exit(3).
 *
 * Such a process ends when its last thread does, and the C library counts the helper as one: it
 * would stay for ever. */
#pragma once

/* Called before a thread of ours that is to live as long as the process is started; in the main
 * thread, in each process that gets one. Costs nothing until that thread calls pthread_exit. */
void leave_prepare(void);

/* That thread ends after all, or was not started. */
void leave_not_needed(void);
