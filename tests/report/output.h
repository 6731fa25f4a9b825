/* Standard error as a pipe that the test reads. Each test is a process of its own, so it has a
 * writer of its own. */
#pragma once

#include <criterion/criterion.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#include "report/record.h"
#include "util/cleanup.h"

static int output_fd = -1;
static char output_text[4 << 20];
static size_t output_used;

static inline void output_redirect(void)
{
	int fds[2];

	cr_assert_eq(pipe2(fds, O_CLOEXEC), 0);
	cr_assert_eq(dup2(fds[1], STDERR_FILENO), STDERR_FILENO);
	(void)close(fds[1]);
	output_fd = fds[0];
}

static inline void output_open(enum record_format format)
{
	output_redirect();
	cr_assert_eq(record_open("shop", RECORD_STDERR, format, LOG_INFO), 0);
}

/* Reads until the text holds so many lines, in all. */
static inline void output_await_lines(size_t n_lines)
{
	size_t n = 0;

	for (const char *p = output_text; (p = strchr(p, '\n')); p++)
		n++;
	while (n < n_lines) {
		struct pollfd p = { .fd = output_fd, .events = POLLIN };
		char *end = output_text + output_used;
		ssize_t got;

		cr_assert_eq(poll(&p, 1, 60000), 1, "line %zu of %zu does not come",
			     n + 1, n_lines);
		got = read(output_fd, end, sizeof(output_text) - 1 - output_used);
		cr_assert_gt(got, 0);
		output_used += (size_t)got;
		output_text[output_used] = '\0';
		for (char *q = end; (q = strchr(q, '\n')); q++)
			n++;
	}
}

/* Ends the writer and reads what is left. */
static inline void output_finish(void)
{
	char c;

	record_close();
	(void)close(STDERR_FILENO);
	for (;;) {
		ssize_t got = read(output_fd, output_text + output_used,
				   sizeof(output_text) - 1 - output_used);

		if (got <= 0)
			break;
		output_used += (size_t)got;
	}
	output_text[output_used] = '\0';
	cr_assert_eq(read(output_fd, &c, 1), 0);
}

/* Line n, from 0 on, without its newline; cut out of the text (call once for each). */
static inline char *output_line(size_t n)
{
	char *line = output_text, *end;

	while (n-- > 0) {
		line = strchr(line, '\n');
		cr_assert_not_null(line);
		line++;
	}
	end = strchr(line, '\n');
	cr_assert_not_null(end, "the line has no end: %s", line);
	return strndup(line, (size_t)(end - line));
}

static inline struct json_object *output_object(size_t n)
{
	auto_free char *line = output_line(n);
	struct json_object *o = json_tokener_parse(line);

	cr_assert(json_object_is_type(o, json_type_object), "no object: %s", line);
	return o;
}

/* The text of a field; "(none)" when it is not there. */
static inline const char *output_field(struct json_object *o, const char *key)
{
	struct json_object *value;

	return json_object_object_get_ex(o, key, &value) ? json_object_get_string(value)
							 : "(none)";
}
