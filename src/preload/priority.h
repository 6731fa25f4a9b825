/* The calling thread's priority for as long as it holds locks that others wait for. On a loaded
 * machine a helper was seen to lose its CPU in the middle of a trim for two seconds, and every
 * thread that called malloc waited with it. */
#pragma once

/* Raises it where that is allowed (CAP_SYS_NICE, RLIMIT_NICE) and no system call filter is in
 * force, which might kill for it. Returns what to hand to priority_restore. */
int priority_raise(void);

void priority_restore(int before);
