/* Kernel text files, read into memory that the caller owns: no heap, so that a supervisor whose
 * host is out of memory can still look. For use inside kernel/ only. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* Reads a file that the kernel prints in one piece (nearly all of cgroupfs; not the lists) and
 * ends it with NUL. Returns 0 or -errno: -EMSGSIZE when it does not fit. */
int text_read(int dir_fd, const char *file, char *text, size_t size);

/* As above from an open descriptor, by pread at 0. */
int text_read_fd(int fd, char *text, size_t size);

/* A reader for files of any length. It is as large as memory.stat twice over; put it on the
 * stack. A line that does not fit is cut, and its rest left out. */
struct text_lines {
	int fd;		   /* borrowed */
	size_t start, end; /* what of the buffer is unread */
	bool ended;
	bool skipping; /* the rest of a line that was cut */
	char buffer[8192];
};

void text_lines_init(struct text_lines *lines, int fd);

/* Returns 1 and a line without its newline, good until the next call; 0 at the end; -errno. */
int text_lines_next(struct text_lines *lines, char **ret_line);
