/* Owns reading: how bytes get from a kernel file into a buffer.
 *
 * It must never allocate and never interpret. seq_file hands out a list (cgroup.procs, mountinfo)
 * in pieces of whole records, so a short read is not the end there; a file with a single record
 * comes whole in the first read, which saves the second. */
#include "kernel/text.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "util/cleanup.h"

int text_read_fd(int fd, char *text, size_t size)
{
	ssize_t n = pread(fd, text, size, 0);

	if (n < 0)
		return -errno;
	if ((size_t)n == size)
		return -EMSGSIZE;
	text[n] = '\0';
	return 0;
}

int text_read(int dir_fd, const char *file, char *text, size_t size)
{
	auto_close int fd = openat(dir_fd, file, O_RDONLY | O_CLOEXEC | O_NOCTTY);

	if (fd < 0)
		return -errno;
	return text_read_fd(fd, text, size);
}

void text_lines_init(struct text_lines *lines, int fd)
{
	lines->fd = fd;
	lines->start = lines->end = 0;
	lines->ended = lines->skipping = false;
}

/* Moves what is unread to the front and reads more behind it; one byte stays free for NUL. */
static int refill(struct text_lines *lines)
{
	ssize_t n;

	memmove(lines->buffer, lines->buffer + lines->start, lines->end - lines->start);
	lines->end -= lines->start;
	lines->start = 0;

	do
		n = read(lines->fd, lines->buffer + lines->end,
			 sizeof(lines->buffer) - 1 - lines->end);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	lines->ended = n == 0;
	lines->end += (size_t)n;
	return 0;
}

/* Takes length bytes as a line; the terminator, where there is one, is used up too. */
static char *cut_line(struct text_lines *lines, size_t length, bool terminated)
{
	char *line = lines->buffer + lines->start;

	lines->start += length + terminated;
	line[length] = '\0';
	return line;
}

int text_lines_next(struct text_lines *lines, char **ret_line)
{
	for (;;) {
		char *unread = lines->buffer + lines->start;
		size_t n_unread = lines->end - lines->start;
		char *newline = memchr(unread, '\n', n_unread);
		bool full = n_unread == sizeof(lines->buffer) - 1;

		if (newline || full || (lines->ended && n_unread > 0)) {
			size_t length = newline ? (size_t)(newline - unread) : n_unread;
			bool rest_of_cut = lines->skipping;
			char *line = cut_line(lines, length, newline != NULL);

			lines->skipping = !newline && !lines->ended;
			if (rest_of_cut)
				continue;
			*ret_line = line;
			return 1;
		}
		if (lines->ended)
			return 0;

		int r = refill(lines);
		if (r < 0)
			return r;
	}
}
