/* Owns the pressure files: the text of a trigger and the figures of an average.
 *
 * A trigger lives as long as its descriptor; whoever waits on it must never read to consume an
 * event (poll itself does), and must poll only after the trigger is written: an untriggered
 * descriptor answers PRI|ERR for ever, which is why psi_arm returns no half-armed one. */
#include "kernel/psi.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "kernel/parse.h"
#include "kernel/text.h"
#include "util/cleanup.h"

/* What a caller without CAP_SYS_RESOURCE must keep to, and the most that anybody gets. */
#define UNPRIVILEGED_STEP_USEC (2 * USEC_PER_SEC)
#define LONGEST_WINDOW_USEC    (10 * USEC_PER_SEC)

/* The final NUL is sent along: /proc/pressure overwrites the last byte it is given with NUL,
 * and would make 200000 out of 2000000. The files of a cgroup ignore it. */
static int write_trigger(int fd, usec_t stall_usec, usec_t window_usec)
{
	char text[64];
	int length = snprintf(text, sizeof(text), "some %" PRIu64 " %" PRIu64, stall_usec,
			      window_usec);
	ssize_t n;
	int tries = 0;

	/* A privileged trigger starts a kernel thread, which a signal may interrupt. */
	do
		n = write(fd, text, (size_t)length + 1);
	while (n < 0 && errno == EINTR && ++tries < 8);
	return n < 0 ? -errno : 0;
}

int psi_arm(int dir_fd, const char *file, usec_t stall_usec, usec_t window_usec,
	    int *ret_fd, usec_t *ret_window_usec)
{
	auto_close int fd = -1;
	usec_t rounded;
	int r;

	if (stall_usec == 0 || stall_usec > window_usec ||
	    window_usec > LONGEST_WINDOW_USEC)
		return -EINVAL;

	fd = openat(dir_fd, file, O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return -errno;

	r = write_trigger(fd, stall_usec, window_usec);
	rounded = (window_usec + UNPRIVILEGED_STEP_USEC - 1) / UNPRIVILEGED_STEP_USEC *
		  UNPRIVILEGED_STEP_USEC;
	if (r == -EINVAL && rounded != window_usec) {
		stall_usec = stall_usec * rounded / window_usec;
		window_usec = rounded;
		r = write_trigger(fd, stall_usec, window_usec);
	}
	if (r < 0)
		return r;

	*ret_fd = TAKE_FD(fd);
	*ret_window_usec = window_usec;
	return 0;
}

static int parse_psi(const char *text, struct psi *ret)
{
	struct psi psi = { 0 };
	int r;

	r = parse_pressure(text, "some", &psi.some_avg10_permyriad, &psi.some_total_usec);
	if (r < 0)
		return r == -ENOENT ? -EINVAL : r;
	/* cpu.pressure had no such line before 5.13; zero is what it means there. */
	r = parse_pressure(text, "full", &psi.full_avg10_permyriad, &psi.full_total_usec);
	if (r < 0 && r != -ENOENT)
		return r;
	*ret = psi;
	return 0;
}

int psi_read(int dir_fd, const char *file, struct psi *ret)
{
	char text[512];
	int r;

	r = text_read(dir_fd, file, text, sizeof(text));
	return r < 0 ? r : parse_psi(text, ret);
}

int psi_read_fd(int fd, struct psi *ret)
{
	char text[512];
	int r;

	r = text_read_fd(fd, text, sizeof(text));
	return r < 0 ? r : parse_psi(text, ret);
}
