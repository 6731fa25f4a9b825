/* Verbs of the control protocol, as numbers. */
#pragma once

#include <stdbool.h>

enum verb {
#define VERB(id, name, target, is_long, help) VERB_##id,
#include "control/commands.def"
#undef VERB
	N_VERBS,
};

enum verb_target { VERB_POOL, VERB_WORKER, VERB_ANY, VERB_MINUTES };

#define REQUEST_MINUTES_MAX (24 * 60)

struct verb_row {
	const char *name;
	enum verb_target target;
	bool is_long;
	const char *help;
};

extern const struct verb_row verbs[N_VERBS];

struct request {
	enum verb verb;
	unsigned worker;  /* 0 where the verb names none */
	unsigned minutes; /* 0: not said */
};

/* Parses one request line without its newline; words are separated by blanks. text is cut.
 * Returns 0 or -EINVAL, and then what was wrong (static) in ret_error. */
int request_parse(char *text, struct request *ret, const char **ret_error);
