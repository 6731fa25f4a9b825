/* Owns one thread that sleeps in poll(2) on the pressure file.
 *
 * Everybody in a unit hears of pressure at the same moment, so each waits a little of its own
 * before it trims, and one whose trims bring nothing asks ever more rarely. It must never keep
 * trying to open or read what has failed: the thread just ends. */
#include "preload/pressure.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "preload/allocator.h"
#include "preload/leave.h"
#include "preload/self.h"
#include "preload/thread.h"

enum {
	MAX_SPREAD_MSEC = 500,
	MAX_WRITE_BYTES = 512,
};

#define MIN_INTERVAL_NSEC   UINT64_C(5000000000)
#define MAX_INTERVAL_NSEC   UINT64_C(600000000000)
#define MIN_YIELD_BYTES	    (UINT64_C(2) << 20)
#define MIN_YIELD_PERMYRIAD 200

/* From the environment, before main. */
static char path[PATH_MAX];
static unsigned char write_bytes[MAX_WRITE_BYTES];
static size_t n_write_bytes;

static int base64_value(char c)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const char *p = c ? strchr(digits, c) : NULL;

	return p ? (int)(p - digits) : -1;
}

/* RFC 4648; what follows the padding is ignored. False: not of that form, or too long. */
static bool decode(const char *text)
{
	uint32_t bits = 0;
	unsigned n_bits = 0;

	for (; *text && *text != '='; text++) {
		int value = base64_value(*text);

		if (value < 0 || n_write_bytes == sizeof write_bytes)
			return false;
		bits = bits << 6 | (uint32_t)value;
		n_bits += 6;
		if (n_bits >= 8) {
			n_bits -= 8;
			write_bytes[n_write_bytes++] = (unsigned char)(bits >> n_bits);
		}
	}
	return true;
}

static int open_socket(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd;

	if (strlen(path) >= sizeof address.sun_path)
		return -1;
	memcpy(address.sun_path, path, strlen(path));
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 &&
	    connect(fd, (const struct sockaddr *)&address, sizeof address) < 0) {
		(void)close(fd);
		fd = -1;
	}
	return fd;
}

/* Sets what poll(2) is to wait for. -1: nothing can be waited for. */
static int open_source(short *ret_events)
{
	struct stat st;
	int fd;

	if (stat(path, &st) < 0)
		return -1;
	*ret_events = S_ISREG(st.st_mode) ? POLLPRI : POLLIN;
	if (S_ISSOCK(st.st_mode))
		fd = open_socket();
	else if (S_ISFIFO(st.st_mode) || S_ISREG(st.st_mode))
		fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	else
		return -1;
	/* Short enough to be written in one piece, or not at all. */
	if (fd >= 0 && n_write_bytes > 0 &&
	    write(fd, write_bytes, n_write_bytes) != (ssize_t)n_write_bytes) {
		(void)close(fd);
		return -1;
	}
	return fd;
}

/* What is written to a FIFO or socket has no meaning but that something was. False: the end. */
static bool swallow(int fd)
{
	char unused[4096];
	ssize_t n = read(fd, unused, sizeof unused);

	return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
}

static bool wait_for_pressure(int fd, short events)
{
	struct pollfd watched = { .fd = fd, .events = events };

	if (poll(&watched, 1, -1) < 0)
		return errno == EINTR;
	/* PSI says POLLERR when the cgroup is gone, a socket POLLHUP when its listener is. */
	if (watched.revents & (POLLERR | POLLNVAL) || !(watched.revents & events))
		return false;
	return events == POLLPRI || swallow(fd);
}

static void wait_for_our_turn(void)
{
	uint32_t spread = (uint32_t)getpid() * 2654435761u >> 16;
	const struct timespec pause = {
		.tv_nsec = (long)(spread % MAX_SPREAD_MSEC) * 1000000L,
	};

	(void)nanosleep(&pause, NULL);
}

/* Whether it was worth it. */
static bool trim(void)
{
	uint64_t before = self_rss_bytes(), after;

	(void)allocator_release();
	after = self_rss_bytes();
	return before > after && before - after >= MIN_YIELD_BYTES &&
	       before - after >= before / 10000 * MIN_YIELD_PERMYRIAD;
}

static void *pressure_main(void *unused)
{
	uint64_t interval = MIN_INTERVAL_NSEC, not_before = 0;
	short events = 0;
	int fd;

	(void)unused;
	thread_settle("trimtab");
	fd = open_source(&events);
	while (fd >= 0 && wait_for_pressure(fd, events)) {
		if (self_now_nsec() < not_before)
			continue;
		wait_for_our_turn();
		if (trim())
			interval = MIN_INTERVAL_NSEC;
		else if (interval < MAX_INTERVAL_NSEC)
			interval *= 2;
		not_before = self_now_nsec() + interval;
	}
	if (fd >= 0)
		(void)close(fd);
	leave_not_needed();
	return NULL;
}

static int start_thread(void)
{
	int r;

	leave_prepare();
	r = thread_start(pressure_main);
	if (r < 0)
		leave_not_needed();
	return r;
}

/* The C library has put malloc in order for the child before it calls this. */
static void after_fork_in_child(void)
{
	int saved_errno = errno;

	(void)start_thread();
	errno = saved_errno;
}

static bool started_by_manager(void)
{
	const char *text = getenv("SYSTEMD_EXEC_PID");
	uint64_t pid;

	return !text || (self_parse_number(&text, 10, &pid) && *text == '\0' &&
			 pid == (uint64_t)getpid());
}

/* False: nothing to watch here. */
static bool capture_environment(void)
{
	const char *watch = getenv("MEMORY_PRESSURE_WATCH");
	const char *text = getenv("MEMORY_PRESSURE_WRITE");

	/* /dev/null is the manager's way to say no. */
	if (!watch || watch[0] != '/' || strcmp(watch, "/dev/null") == 0 ||
	    strlen(watch) >= sizeof path)
		return false;
	memcpy(path, watch, strlen(watch) + 1);
	return !text || decode(text);
}

void pressure_start(void)
{
	if (!capture_environment() || !started_by_manager())
		return;
	(void)allocator_detect();
	if (allocator_can_release() && start_thread() == 0)
		thread_follow_forks(NULL, NULL, after_fork_in_child);
}
