/* The command line: options, then a verb, then the verb's own words. */
#pragma once

#include <stddef.h>

#include "config/config.h"

enum run_mode {
	RUN_POOL, /* gunicorn, exec, or -c alone */
	RUN_CHECK,
	RUN_CHECK_STATE, /* --check-state: a trial before an upgrade */
	RUN_DOCTOR,
	RUN_DUMP,
	RUN_HELP,
	RUN_VERSION,
};

/* One "KEY=VALUE" of the command line, with what to call it in messages. */
struct override {
	enum config_key key;
	const char *value;
	const char *where;
};

struct arguments {
	enum run_mode mode;
	const char *path;	 /* -c FILE, or NULL */
	const char *const *sets; /* --set, in order */
	size_t n_sets;
	struct override *overrides; /* -w, -b and the words after the verb */
	size_t n_overrides;
	char *const *argv; /* all of it */
	int state_fd;	   /* of --check-state */
	char *words;	   /* gunicorn's or the command's words as one string */
};

/* Parses argv, which must outlive the result, and nothing else, so any thread may do it again.
 * Returns 0, or CONFIG_BAD with err->text. */
int arguments_parse(int argc, char *const *argv, struct arguments *ret,
		    struct config_error *err);
void arguments_done(struct arguments *a);

/* Defaults, file, --set, command line, checked: the same at start and on every reload.
 * Returns 0, CONFIG_BAD or -ENOMEM, with err->text. */
int arguments_configure(const struct arguments *a, struct config **ret,
			struct config_error *err);
