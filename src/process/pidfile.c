/* The pidfile. Owns nothing between calls; must never remove or overwrite what a living process of
 * somebody else wrote. */
#include "process/pidfile.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/cleanup.h"

/* The pid that the file names, 0 for none: garbage is a left-over, not an error, as in gunicorn. */
static pid_t read_pid(const char *path)
{
	auto_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	char text[32], *end;
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	long pid;

	if (n <= 0)
		return 0;
	text[n] = '\0';
	errno = 0;
	pid = strtol(text, &end, 10);
	return errno == 0 && end != text && strspn(end, " \n") == strlen(end) &&
			       pid > 0 && pid <= INT32_MAX
		       ? (pid_t)pid
		       : 0;
}

int pidfile_write(const char *path, pid_t pid, pid_t *ret_other)
{
	auto_free char *fresh = NULL;
	pid_t other = read_pid(path);
	int r = 0;

	/* EPERM: it lives, as somebody else. */
	if (other > 0 && other != pid && (kill(other, 0) == 0 || errno == EPERM)) {
		*ret_other = other;
		return -EEXIST;
	}
	if (asprintf(&fresh, "%s.XXXXXX", path) < 0)
		return -ENOMEM;

	auto_close int fd = mkostemp(fresh, O_CLOEXEC);

	if (fd < 0)
		return -errno;
	if (dprintf(fd, "%d\n", (int)pid) < 0 || fchmod(fd, 0644) < 0 ||
	    rename(fresh, path) < 0) {
		r = -errno;
		(void)unlink(fresh);
	}
	return r;
}

void pidfile_remove(const char *path, pid_t pid)
{
	if (read_pid(path) == pid)
		(void)unlink(path);
}
