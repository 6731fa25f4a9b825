/* Command-line parsing by hand: the words after the verb belong to gunicorn or to the program, so
 * getopt's reordering would steal them. */
#include "arguments.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "config/words.h"
#include "util/cleanup.h"

struct cursor {
	char *const *argv;
	int argc, at;
};

__attribute__((format(printf, 2, 3))) static int bad(struct config_error *err,
						     const char *format, ...)
{
	va_list args;

	va_start(args, format);
	(void)vsnprintf(err->text, sizeof(err->text), format, args);
	va_end(args);
	return CONFIG_BAD;
}

/* The value of an option given as "-x VALUE", "--name VALUE", "--name=VALUE" or "-xVALUE". Moves
 * past it. Returns 0 when the word is not this option, 1 with the value, or -1 without one. */
static int take_option(struct cursor *c, char letter, const char *name, const char **ret)
{
	const char *word = c->argv[c->at];
	size_t n = name ? strlen(name) : 0;
	const char *joined = NULL;

	if (letter && word[0] == '-' && word[1] == letter)
		joined = word + 2;
	else if (name && strncmp(word, "--", 2) == 0 && strncmp(word + 2, name, n) == 0 &&
		 (word[2 + n] == '\0' || word[2 + n] == '='))
		joined = word[2 + n] == '=' ? word + 3 + n : word + 2 + n;
	else
		return 0;

	if (*joined != '\0') {
		*ret = joined;
		c->at++;
		return 1;
	}
	if (c->at + 1 >= c->argc)
		return -1;
	*ret = c->argv[c->at + 1];
	c->at += 2;
	return 1;
}

static bool take_word(struct cursor *c, const char *word)
{
	if (c->at >= c->argc || strcmp(c->argv[c->at], word) != 0)
		return false;
	c->at++;
	return true;
}

static void override(struct arguments *a, enum config_key key, const char *value,
		     const char *where)
{
	a->overrides[a->n_overrides++] = (struct override){ key, value, where };
}

static int join_rest(struct arguments *a, const struct cursor *c, enum config_key key,
		     const char *where)
{
	int r = config_join_words((const char *const *)c->argv + c->at,
				  (size_t)(c->argc - c->at), &a->words);

	if (r == 0)
		override(a, key, a->words, where);
	return r;
}

static int parse_exec(struct cursor *c, struct arguments *a, struct config_error *err)
{
	const char *value;
	int r;

	while (c->at < c->argc && c->argv[c->at][0] == '-') {
		if (take_word(c, "--"))
			break;
		if ((r = take_option(c, 'w', "workers", &value)) != 0) {
			if (r > 0)
				override(a, KEY_pool_workers, value, "-w");
		} else if ((r = take_option(c, 'b', "bind", &value)) != 0) {
			if (r > 0)
				override(a, KEY_pool_bind, value, "-b");
		} else {
			return bad(
				err,
				"trimtab exec: unknown option %s; allowed: -w N, -b ADDRESS, then "
				"-- COMMAND",
				c->argv[c->at]);
		}
		if (r < 0)
			return bad(err, "trimtab exec: %s needs a value", c->argv[c->at]);
	}
	if (c->at >= c->argc)
		return bad(
			err,
			"trimtab exec: no command; write: trimtab exec -w 4 -b :8000 -- "
			"COMMAND...");
	return join_rest(a, c, KEY_pool_command, "the command line");
}

static int parse_gunicorn(const struct cursor *c, struct arguments *a)
{
	/* Nothing behind it: its own file may name the application (wsgi_app). An empty value would
	 * unset the key, and "--" means no more to gunicorn than nothing does. */
	static const char *const none[] = { "--" };
	int r;

	if (c->at < c->argc)
		return join_rest(a, c, KEY_pool_gunicorn, "the command line");
	r = config_join_words(none, 1, &a->words);
	if (r == 0)
		override(a, KEY_pool_gunicorn, a->words, "the command line");
	return r;
}

/* "-c FILE" and "--set" are also taken behind `check`, where people put them. */
static int parse_options(struct cursor *c, struct arguments *a, const char **sets,
			 struct config_error *err)
{
	const char *value;
	int r;

	while (c->at < c->argc && c->argv[c->at][0] == '-') {
		const char *word = c->argv[c->at];

		if (take_word(c, "-h") || take_word(c, "--help")) {
			a->mode = RUN_HELP;
		} else if (take_word(c, "-V") || take_word(c, "--version")) {
			a->mode = RUN_VERSION;
		} else if (take_word(c, "--dump-config")) {
			a->mode = RUN_DUMP;
		} else if ((r = take_option(c, '\0', "check-state", &value)) != 0) {
			if (r < 0)
				return bad(err, "%s needs a descriptor", word);
			a->mode = RUN_CHECK_STATE;
			a->state_fd = atoi(value);
		} else if ((r = take_option(c, 'c', "config", &value)) != 0) {
			if (r < 0)
				return bad(err, "%s needs a file", word);
			if (a->path)
				return bad(err, "%s %s: there is one file already, %s",
					   word, value, a->path);
			a->path = value;
		} else if ((r = take_option(c, 's', "set", &value)) != 0) {
			if (r < 0)
				return bad(err, "%s needs SECTION.KEY=VALUE", word);
			sets[a->n_sets++] = value;
		} else {
			return bad(err, "unknown option %s; see trimtab --help", word);
		}
	}
	return 0;
}

static int parse_verb(struct cursor *c, struct arguments *a, const char **sets,
		      struct config_error *err)
{
	int r;

	if (take_word(c, "gunicorn"))
		return parse_gunicorn(c, a);
	if (take_word(c, "exec"))
		return parse_exec(c, a, err);
	if (take_word(c, "check") || take_word(c, "doctor")) {
		a->mode =
			strcmp(c->argv[c->at - 1], "check") == 0 ? RUN_CHECK : RUN_DOCTOR;
		r = parse_options(c, a, sets, err);
		if (r == 0 && c->at < c->argc)
			return parse_verb(c, a, sets, err);
		return r;
	}
	if (c->at < c->argc)
		return bad(err, "unknown verb %s; allowed: gunicorn, exec, check, doctor",
			   c->argv[c->at]);
	return 0;
}

int arguments_parse(int argc, char *const *argv, struct arguments *ret,
		    struct config_error *err)
{
	struct cursor c = { argv, argc, 1 };
	struct arguments a = { .mode = RUN_POOL, .argv = argv };
	const char **sets = calloc((size_t)argc + 1, sizeof(*sets));
	int r;

	a.overrides = calloc((size_t)argc + 1, sizeof(*a.overrides));
	a.sets = sets;
	if (!a.sets || !a.overrides) {
		arguments_done(&a);
		return -ENOMEM;
	}
	r = parse_options(&c, &a, sets, err);
	if (r == 0 && a.mode != RUN_HELP && a.mode != RUN_VERSION)
		r = parse_verb(&c, &a, sets, err);
	if (r == 0 && !a.path && a.n_overrides == 0 &&
	    (a.mode == RUN_POOL || a.mode == RUN_CHECK))
		r = bad(err,
			"nothing to run; write: trimtab gunicorn ARGUMENTS, trimtab exec -- "
			"COMMAND, or trimtab -c FILE");
	if (r != 0) {
		arguments_done(&a);
		return r;
	}
	*ret = a;
	return 0;
}

void arguments_done(struct arguments *a)
{
	free((void *)a->sets);
	free(a->overrides);
	free(a->words);
	*a = (struct arguments){ 0 };
}

int arguments_configure(const struct arguments *a, struct config **ret,
			struct config_error *err)
{
	auto_config struct config *c = NULL;
	int r = config_new(&c);

	if (r == 0 && a->path)
		r = config_load(c, a->path, err);
	for (size_t i = 0; r == 0 && i < a->n_sets; i++)
		r = config_set(c, a->sets[i], err);
	for (size_t i = 0; r == 0 && i < a->n_overrides; i++)
		r = config_set_value(c, a->overrides[i].key, a->overrides[i].value,
				     a->overrides[i].where, err);
	if (r == 0)
		r = config_validate(c, err);
	if (r == 0)
		*ret = TAKE(c);
	return r;
}
