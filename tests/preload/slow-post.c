/* A library that makes Ruby's queue of jobs slow: whoever puts one there waits for as long as the file
 * that $GUEST_SLOW names exists, and says so by a second one. For Ruby before 3.3. */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

typedef int register_fn(unsigned flags, void (*job)(void *data), void *data);

register_fn rb_postponed_job_register_one;

int rb_postponed_job_register_one(unsigned flags, void (*job)(void *data), void *data)
{
	register_fn *next =
		(register_fn *)dlsym(RTLD_NEXT, "rb_postponed_job_register_one");
	const struct timespec pause = { .tv_nsec = 1000000 };
	const char *path = getenv("GUEST_SLOW");
	char here[256];

	if (path && access(path, F_OK) == 0) {
		(void)snprintf(here, sizeof here, "%s.here", path);
		(void)close(open(here, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
		while (access(path, F_OK) == 0)
			(void)nanosleep(&pause, NULL);
	}
	return next(flags, job, data);
}
