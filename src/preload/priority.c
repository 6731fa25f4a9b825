/* Owns nothing. It must leave the thread as it was, and must not call what a seccomp filter may
 * punish: units hardened with SystemCallFilter=~@resources die of setpriority(2). */
#include "preload/priority.h"

#include <errno.h>
#include <sys/prctl.h>
#include <sys/resource.h>

enum {
	RAISED_NICE = -10, /* ten times the weight of an ordinary thread */
	NOT_RAISED = 1000,
};

/* Linux gives each thread its own, and 0 means the caller alone, in spite of POSIX. */
static int set_nice(int nice)
{
	return setpriority(PRIO_PROCESS, 0, nice);
}

static int lowest_nice_allowed(void)
{
	struct rlimit limit;

	/* 20 - value, getrlimit(2) */
	if (getrlimit(RLIMIT_NICE, &limit) < 0 || limit.rlim_cur > 40)
		return RAISED_NICE;
	return 20 - (int)limit.rlim_cur;
}

int priority_raise(void)
{
	int before, lowest;

	if (prctl(PR_GET_SECCOMP) != 0)
		return NOT_RAISED;
	errno = 0;
	before = getpriority(PRIO_PROCESS, 0);
	if (errno != 0 || before <= RAISED_NICE)
		return NOT_RAISED;
	if (set_nice(RAISED_NICE) == 0)
		return before;
	lowest = lowest_nice_allowed();
	if (lowest < before && set_nice(lowest) == 0)
		return before;
	return NOT_RAISED;
}

void priority_restore(int before)
{
	if (before != NOT_RAISED)
		(void)set_nice(before);
}
