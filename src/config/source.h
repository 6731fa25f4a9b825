/* The lines of an INI file as the operator means them: numbered, joined, without comments. */
#pragma once

#include <stddef.h>

/* Longest line, with the lines it continues on. */
#define SOURCE_LINE_MAX 65536

enum {
	SOURCE_LINE = 1, /* a line is ready; it may be empty */
	SOURCE_TOO_LONG,
	SOURCE_NUL, /* a NUL byte: this is no text */
};

struct source {
	const char *next, *end;
	unsigned n_lines; /* lines of the file read so far */

	unsigned number; /* of the line below, where it begins; counts from 1 */
	size_t length;
	char line[SOURCE_LINE_MAX + 1];
};

/* text stays the caller's and must live as long. Skips a UTF-8 byte order mark. */
void source_init(struct source *s, const char *text, size_t n);

/* Reads the next line into s->line: without the blanks around it, LF or CRLF, without a
 * comment line (; or # first) or a comment at its end (a ; after a blank), and joined by a
 * blank with the next where it ends in a backslash. After a blank, \; is the character ;
 * itself. SOURCE_* above, 0 at the end. */
int source_next(struct source *s);
