/* Request lines, as people and scripts type them. */
#include "control/verb.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "util/cleanup.h"

static int parsed(const char *line, struct request *ret, const char **ret_error)
{
	char text[512];

	(void)snprintf(text, sizeof(text), "%s", line);
	return request_parse(text, ret, ret_error);
}

Test(verb, every_one_is_parsed_by_its_name)
{
	for (unsigned i = 0; i < N_VERBS; i++) {
		bool takes_minutes = verbs[i].target == VERB_MINUTES;
		bool wants_worker = verbs[i].target == VERB_WORKER || takes_minutes;
		const char *error = NULL;
		struct request q;
		char line[64];

		(void)snprintf(line, sizeof(line), "%s%s", verbs[i].name,
			       wants_worker ? " 7" : "");
		cr_assert_eq(parsed(line, &q, &error), 0, "%s: %s", line, error);
		cr_assert_eq(q.verb, (enum verb)i);
		cr_assert_eq(q.worker, wants_worker ? 7 : 0);
		cr_assert_null(error);
		cr_assert_gt(strlen(verbs[i].help), 10);
		/* With one word too many, and with one too few. */
		(void)snprintf(line, sizeof(line), "%s 1 2%s", verbs[i].name,
			       takes_minutes ? " 3" : "");
		cr_assert_eq(parsed(line, &q, &error), -EINVAL, "%s", line);
		cr_assert_not_null(error);
		if (verbs[i].target == VERB_ANY)
			continue;
		(void)snprintf(line, sizeof(line), "%s%s", verbs[i].name,
			       wants_worker ? "" : " 1");
		cr_assert_eq(parsed(line, &q, &error), -EINVAL, "%s", line);
		cr_assert_not_null(error);
	}
}

Test(verb, a_worker_may_be_named)
{
	const char *error = NULL;
	struct request q;

	cr_assert_eq(parsed("explain", &q, &error), 0);
	cr_assert_eq(q.verb, VERB_EXPLAIN);
	cr_assert_eq(q.worker, 0);
	cr_assert_eq(parsed("explain 3", &q, &error), 0);
	cr_assert_eq(q.worker, 3);
	cr_assert_eq(parsed("explain 0", &q, &error), -EINVAL);
	cr_assert_eq(parsed("explain x", &q, &error), -EINVAL);
}

Test(verb, minutes_may_be_named)
{
	static const char *const wrong[] = {
		"0", "-1", "1441", "x", "1.5", "10m", "0x1"
	};
	const char *error = NULL;
	struct request q;
	char line[64];

	cr_assert_eq(parsed("quarantine 3", &q, &error), 0);
	cr_assert_eq(q.verb, VERB_QUARANTINE);
	cr_assert_eq(q.worker, 3);
	cr_assert_eq(q.minutes, 0);
	cr_assert_eq(parsed("quarantine 3 1440", &q, &error), 0);
	cr_assert_eq(q.worker, 3);
	cr_assert_eq(q.minutes, 1440);
	for (size_t i = 0; i < ELEMENTS(wrong); i++) {
		(void)snprintf(line, sizeof(line), "quarantine 3 %s", wrong[i]);
		cr_assert_eq(parsed(line, &q, &error), -EINVAL, "%s", line);
	}
	cr_assert_eq(parsed("quarantine", &q, &error), -EINVAL);
	cr_assert_eq(parsed("quarantine 1 2 3 4", &q, &error), -EINVAL);
}

Test(verb, blanks_do_not_matter)
{
	static const char *const lines[] = { "trim 3",	  " trim 3",	   "trim\t3",
					     "trim  3  ", "\ttrim \t 3\t", "trim 3\r",
					     "trim 003" };

	for (size_t i = 0; i < ELEMENTS(lines); i++) {
		const char *error = NULL;
		struct request q;

		cr_assert_eq(parsed(lines[i], &q, &error), 0, "\"%s\": %s", lines[i],
			     error);
		cr_assert_eq(q.verb, VERB_TRIM);
		cr_assert_eq(q.worker, 3);
	}
}

Test(verb, what_is_no_request)
{
	static const char *const lines[] = {
		"",
		" ",
		"\t \r",
		"\r",
		"STATUS",
		"statu",
		"status\v",
		"statuss",
		"status\x01",
		"trim 0",
		"trim -1",
		"trim +1",
		"trim x",
		"trim 1x",
		"trim 1.5",
		"trim 0x1",
		"trim one",
		"trim 1048577",
		"trim 4294967297",
		"trim 18446744073709551617",
		"trim 99999999999999999999999",
		"1 trim",
		"trim\n1",
		"\xff\xfe",
	};

	for (size_t i = 0; i < ELEMENTS(lines); i++) {
		struct request q = { .worker = 77 };
		const char *error = NULL;

		cr_assert_eq(parsed(lines[i], &q, &error), -EINVAL, "\"%s\"", lines[i]);
		cr_assert(error && *error, "\"%s\" gets no word of why", lines[i]);
		cr_assert_null(strchr(error, '\n'));
		cr_assert_eq(q.worker, 77, "\"%s\" leaves a trace", lines[i]);
	}
}

Test(verb, the_largest_number)
{
	const char *error = NULL;
	struct request q;

	cr_assert_eq(parsed("trim 1048576", &q, &error), 0);
	cr_assert_eq(q.worker, 1048576);
}
