/* A line -> a request. Pure. */
#include "control/verb.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "util/cleanup.h"

const struct verb_row verbs[N_VERBS] = {
#define VERB(id, name, target, is_long, help) \
	[VERB_##id] = { name, target, is_long, help },
#include "control/commands.def"
#undef VERB
};

static int find_verb(const char *name, enum verb *ret)
{
	for (unsigned i = 0; i < N_VERBS; i++)
		if (strcmp(verbs[i].name, name) == 0) {
			*ret = (enum verb)i;
			return 0;
		}
	return -EINVAL;
}

static int parse_number(const char *text, unsigned max, unsigned *ret)
{
	char *end;

	if (*text < '0' || *text > '9')
		return -EINVAL;
	errno = 0;

	unsigned long n = strtoul(text, &end, 10);

	if (errno != 0 || *end != '\0' || n == 0 || n > max)
		return -EINVAL;
	*ret = (unsigned)n;
	return 0;
}

/* How many words the verb takes, itself included. */
static void words_wanted(enum verb_target target, size_t *ret_min, size_t *ret_max)
{
	*ret_min = target == VERB_WORKER || target == VERB_MINUTES ? 2 : 1;
	*ret_max = target == VERB_POOL ? 1 : target == VERB_MINUTES ? 3 : 2;
}

int request_parse(char *text, struct request *ret, const char **ret_error)
{
	char *words[4] = { NULL }, *rest = text, *word;
	struct request request = { 0 };
	size_t n = 0, min, max;

	while ((word = strsep(&rest, " \t\r")))
		if (*word != '\0' && n < ELEMENTS(words))
			words[n++] = word;
	if (n == 0 || find_verb(words[0], &request.verb) < 0) {
		*ret_error =
			"unknown verb; try status, explain, trim, recycle, quarantine, release, "
			"reload, upgrade or stop";
		return -EINVAL;
	}

	enum verb_target target = verbs[request.verb].target;

	words_wanted(target, &min, &max);
	if (n < min || n > max) {
		*ret_error =
			target == VERB_POOL ? "this verb takes no argument"
			: target == VERB_MINUTES
				? "this verb takes the number of one worker, and perhaps "
				  "of minutes"
				: "this verb takes the number of one worker";
		return -EINVAL;
	}
	if (n >= 2 && parse_number(words[1], 1u << 20, &request.worker) < 0) {
		*ret_error = "a worker is a number from 1 on";
		return -EINVAL;
	}
	if (n == 3 && parse_number(words[2], REQUEST_MINUTES_MAX, &request.minutes) < 0) {
		*ret_error = "minutes are a whole number from 1 to 1440";
		return -EINVAL;
	}
	*ret = request;
	return 0;
}
