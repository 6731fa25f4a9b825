/* Owns nothing: reads /proc/self with open and read into the caller's buffer.
 *
 * It must never allocate, print, or keep a descriptor open, and it must do without errno: what
 * cannot be read counts as 0, which every caller treats as "unknown". */
#include "preload/self.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

uint64_t self_now_nsec(void)
{
	struct timespec ts = { 0 };

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

int self_read_file(const char *path, char *buffer, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t length = 0;
	ssize_t n = 0;

	if (fd < 0)
		return -errno;
	while (length < size - 1) {
		n = read(fd, buffer + length, size - 1 - length);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		length += (size_t)n;
	}
	buffer[length] = '\0';
	if (n < 0)
		n = -errno;
	(void)close(fd);
	return n < 0 ? (int)n : (int)length;
}

static int digit_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

bool self_parse_number(const char **text, unsigned base, uint64_t *ret)
{
	const char *p = *text;
	uint64_t value = 0;

	for (;; p++) {
		int digit = digit_value(*p);

		if (digit < 0 || (unsigned)digit >= base)
			break;
		if (value > (UINT64_MAX - (unsigned)digit) / base)
			return false;
		value = value * base + (unsigned)digit;
	}
	if (p == *text)
		return false;
	*text = p;
	*ret = value;
	return true;
}

/* The start of a field counted from 1, or NULL. */
static const char *stat_field(const char *text, unsigned field)
{
	/* The name may itself hold ") ", so only the last bracket ends it. */
	const char *p = strrchr(text, ')');

	for (unsigned at = 2; p && at < field; at++) {
		p = strchr(p, ' ');
		if (p)
			p++;
	}
	return p;
}

bool self_parse_stat(const char *text, unsigned field, uint64_t *ret)
{
	const char *p = stat_field(text, field);

	return p && self_parse_number(&p, 10, ret);
}

bool self_parse_statm_resident(const char *text, uint64_t *ret_pages)
{
	const char *p = strchr(text, ' ');

	return p && (p++, self_parse_number(&p, 10, ret_pages));
}

uint64_t self_rss_bytes(void)
{
	char text[128];
	uint64_t pages = 0;

	/* Not /proc/self, which has no memory any more once the main thread has left. */
	if (self_read_file("/proc/thread-self/statm", text, sizeof text) < 0 ||
	    !self_parse_statm_resident(text, &pages))
		return 0;
	return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

uint64_t self_start_ticks(void)
{
	char text[1024];
	uint64_t ticks = 0;

	if (self_read_file("/proc/self/stat", text, sizeof text) < 0 ||
	    !self_parse_stat(text, 22, &ticks))
		return 0;
	return ticks;
}

bool self_main_ended(unsigned n_threads)
{
	char text[1024];
	uint64_t n = 0;
	const char *state;

	if (self_read_file("/proc/self/stat", text, sizeof text) < 0 ||
	    !self_parse_stat(text, 20, &n))
		return false;
	state = stat_field(text, 3);
	return state && *state == 'Z' && n == n_threads;
}

bool self_parse_blocked(const char *text, uint64_t *ret_mask)
{
	static const char key[] = "\nSigBlk:\t";
	const char *p = strstr(text, key);

	return p && (p += sizeof key - 1, self_parse_number(&p, 16, ret_mask));
}

bool self_main_blocks(int signal_number)
{
	char text[4096];
	uint64_t mask = 0;

	return self_read_file("/proc/self/status", text, sizeof text) >= 0 &&
	       self_parse_blocked(text, &mask) && (mask >> (signal_number - 1) & 1);
}
