/* Lines of a file in memory. Knows comments and continuation, nothing of sections and keys.
 *
 * It exists because inih's own line buffer is 200 bytes in Debian's build (INI_MAX_LINE) and
 * cuts what is longer, because it does not tell a handler the number of a line, and because
 * the gunicorn command line of a real deployment is longer than that. Must never shorten a
 * line: it is handed on whole or refused. */
#include "config/source.h"

#include <stdbool.h>
#include <string.h>

void source_init(struct source *s, const char *text, size_t n)
{
	static const char mark[3] = "\xef\xbb\xbf";

	if (n >= sizeof(mark) && memcmp(text, mark, sizeof(mark)) == 0) {
		text += sizeof(mark);
		n -= sizeof(mark);
	}
	s->next = text;
	s->end = text + n;
	s->n_lines = 0;
	s->number = 0;
	s->length = 0;
	s->line[0] = '\0';
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

/* Cuts the next line of the file off, without its end and the blanks around it. */
static void take_line(struct source *s, const char **ret_from, const char **ret_to)
{
	const char *from = s->next;
	const char *newline = memchr(from, '\n', (size_t)(s->end - from));
	const char *to = newline ? newline : s->end;

	s->next = newline ? newline + 1 : s->end;
	s->n_lines++;
	if (to > from && to[-1] == '\r')
		to--;
	while (from < to && is_blank(*from))
		from++;
	while (to > from && is_blank(to[-1]))
		to--;
	*ret_from = from;
	*ret_to = to;
}

/* Appends a line without its comment. ret_cut: there was one. */
static int append(struct source *s, const char *from, const char *to, bool *ret_cut)
{
	bool after_blank = true;

	*ret_cut = false;
	for (; from < to; from++) {
		if (after_blank && *from == ';') {
			*ret_cut = true;
			break;
		}
		if (after_blank && *from == '\\') {
			const char *p = from;

			while (p < to && *p == '\\')
				p++;
			if (p < to && *p == ';')
				from++; /* one backslash less, and the ; is no comment */
		}
		if (s->length == SOURCE_LINE_MAX)
			return SOURCE_TOO_LONG;
		s->line[s->length++] = *from;
		after_blank = is_blank(*from);
	}
	while (s->length > 0 && is_blank(s->line[s->length - 1]))
		s->length--;
	return 0;
}

/* An odd number of backslashes at the end: the last one escapes the end of the line. */
static bool continues(const struct source *s)
{
	size_t n = 0;

	while (n < s->length && s->line[s->length - 1 - n] == '\\')
		n++;
	return n % 2 == 1;
}

/* One blank between two parts, whatever stood before the backslash. */
static size_t join(char *line, size_t n)
{
	while (n > 0 && is_blank(line[n - 1]))
		n--;
	if (n > 0)
		line[n++] = ' ';
	return n;
}

int source_next(struct source *s)
{
	bool more = true;

	if (s->next == s->end)
		return 0;
	s->number = s->n_lines + 1;
	s->length = 0;

	for (bool first = true; more && s->next < s->end; first = false) {
		const char *from, *to;
		bool cut;

		take_line(s, &from, &to);
		if (memchr(from, '\0', (size_t)(to - from))) {
			s->number = s->n_lines;
			return SOURCE_NUL;
		}
		/* A comment between the parts of a line does not end it, as in systemd's files. */
		if (from < to && (*from == '#' || *from == ';')) {
			more = !first;
			continue;
		}
		if (append(s, from, to, &cut) != 0)
			return SOURCE_TOO_LONG;
		more = !cut && from < to && continues(s);
		if (more)
			s->length = join(s->line, s->length - 1);
	}
	while (s->length > 0 && is_blank(s->line[s->length - 1]))
		s->length--;
	s->line[s->length] = '\0';
	return SOURCE_LINE;
}
