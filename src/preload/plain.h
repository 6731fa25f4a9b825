/* An operator's plain `kill -USR2 PID`, which kills a process that is not prepared for it: where
 * the application leaves the signal alone it asks for a trim instead. */
#pragma once

#include <signal.h>
#include <stdbool.h>
#include <sys/types.h>

/* Handles the signal from now on, if its disposition is the default one; does nothing otherwise, so
 * it may be called at any time and again. helper: the thread to wake, which blocks the signal.
 * A process forked from this one, and a program that it executes, die of the signal as before. */
void plain_arm(int number, pid_t helper);

/* Whether that is the disposition that plain_arm set. */
bool plain_is_ours(const struct sigaction *action);

/* Remembers one that reached the helper itself. */
void plain_want(void);

/* True once for all that came since the last call. */
bool plain_take(void);
