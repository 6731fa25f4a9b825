/* Lets a process end whose main thread left by pthread_exit(3).
 *
 * Such a process ends when its last thread does, and the C library counts the helper as one: it
 * would stay for ever. */
#pragma once

/* Called in the main thread of each process that gets a thread of ours. Costs nothing until that thread calls pthread_exit. */
void leave_prepare(void);
