/* Locals that release themselves. CLEANUP(fn) names a destructor that takes a pointer to
 * the variable; TAKE hands ownership over and leaves the variable empty. */
#pragma once

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define CLEANUP(fn) __attribute__((cleanup(fn)))

/* The value of a pointer, which is NULL afterwards. */
#define TAKE(ptr)                               \
	({                                      \
		__typeof__(ptr) taken_ = (ptr); \
		(ptr) = NULL;                   \
		taken_;                         \
	})

/* The value of a descriptor, which is -1 afterwards. */
#define TAKE_FD(fd)                \
	({                         \
		int taken_ = (fd); \
		(fd) = -1;         \
		taken_;            \
	})

/* Keeps errno: a destructor must not change what its function is about to report. */
static inline void cleanup_fd(int *fd)
{
	int saved = errno;

	if (*fd >= 0)
		(void)close(*fd);
	*fd = -1;
	errno = saved;
}

static inline void cleanup_free(void *p)
{
	free(*(void **)p);
}

static inline void cleanup_file(FILE **f)
{
	if (*f)
		(void)fclose(*f);
}

#define auto_close CLEANUP(cleanup_fd)
#define auto_free  CLEANUP(cleanup_free)
#define auto_file  CLEANUP(cleanup_file)

/* Closes a descriptor that may be -1; always answers -1, so `fd = close_fd(fd)` reads well. */
static inline int close_fd(int fd)
{
	cleanup_fd(&fd);
	return -1;
}

#define ELEMENTS(array) (sizeof(array) / sizeof((array)[0]))
