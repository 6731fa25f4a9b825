/* The configuration as an object: defaults, single values, rules that span keys, dump.
 *
 * Owns every string of struct config. Must never log, and must never leave a key half set: a
 * value that is refused changes nothing. Every message goes through error_at(), so that it
 * names where the value was read, the section, the key and the value. */
#include "config/config.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "config/error.h"
#include "config/option.h"
#include "config/suggest.h"

/* A line of a file holds 64 KiB; config_dump() may have to escape every other character. */
#define VALUE_LENGTH_MAX 32768

/* ---- life ---- */

static void list_clear(struct config_list *list)
{
	for (size_t i = 0; i < list->n; i++) {
		free(list->items[i]);
		free(list->where[i]);
	}
	free(list->items);
	free(list->where);
	*list = (struct config_list){ 0 };
}

/* Takes item and where over, also on failure. */
static int list_append(struct config_list *list, char *item, char *where)
{
	char **items = realloc(list->items, (list->n + 1) * sizeof(*items));
	char **origins;

	if (items)
		list->items = items;
	origins = realloc(list->where, (list->n + 1) * sizeof(*origins));
	if (origins)
		list->where = origins;
	if (!items || !origins) {
		free(item);
		free(where);
		return -ENOMEM;
	}
	list->items[list->n] = item;
	list->where[list->n] = where;
	list->n++;
	return 0;
}

void config_free(struct config *c)
{
	if (!c)
		return;
	for (size_t i = 0; i < N_KEYS; i++) {
		const struct config_option *o = &config_options[i];

		if (value_is_list(o->spec.kind))
			list_clear(option_field(o, c));
		else if (value_is_string(o->spec.kind))
			free(*(char **)option_field(o, c));
		free(c->where[i]);
	}
	free(c->path);
	free(c);
}

int config_new(struct config **ret)
{
	auto_config struct config *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	for (size_t i = 0; i < N_KEYS; i++) {
		const struct config_option *o = &config_options[i];
		int r;

		/* No list has a default; the tests parse all others. */
		if (value_is_list(o->spec.kind))
			continue;
		r = value_parse(&o->spec, o->default_text, option_field(o, c));
		if (r < 0)
			return r;
	}
	*ret = TAKE(c);
	return 0;
}

/* ---- single values ---- */

static int fail_value(const struct config_option *o, int outcome, const char *value,
		      const char *where, struct config_error *err)
{
	char allowed[VALUE_ALLOWED_MAX];
	const char *nearest = NULL;

	if (outcome < 0)
		return error_memory(err);
	if (o->spec.kind == KIND_CHOICE)
		nearest = suggest_word(value, o->spec.words);
	value_allowed(&o->spec, allowed);
	(void)error_at(err, where, o->section, option_key(o).text, value);
	error_add(err, "%s; ", value_problem((enum value_outcome)outcome));
	if (nearest)
		error_add(err, "did you mean %s? ", nearest);
	error_add(err, "allowed: %s", allowed);
	return CONFIG_BAD;
}

/* An empty string is the default again, which may be unset. */
static int set_string(const struct config_option *o, char **field, const char *value)
{
	char *copy = NULL;
	int r = value_parse(&o->spec, *value ? value : o->default_text, &copy);

	if (r != VALUE_OK)
		return r;
	free(*field);
	*field = copy;
	return 0;
}

static int set_list(const struct config_option *o, struct config_list *list,
		    const char *value, const char *where)
{
	char *item, *origin;
	int r;

	if (!*value) {
		list_clear(list);
		return 0;
	}
	r = value_parse(&o->spec, value, &item);
	if (r != VALUE_OK)
		return r;
	origin = strdup(where);
	if (!origin) {
		free(item);
		return -ENOMEM;
	}
	return list_append(list, item, origin);
}

static int set_trimmed(struct config *c, enum config_key key, const char *value,
		       const char *where, struct config_error *err)
{
	const struct config_option *o = &config_options[key];
	void *field = option_field(o, c);
	auto_free char *origin = strdup(where);
	int r;

	if (!origin)
		return error_memory(err);
	if (value_is_list(o->spec.kind))
		r = set_list(o, field, value, where);
	else if (value_is_string(o->spec.kind))
		r = set_string(o, field, value);
	else
		r = value_parse(&o->spec, value, field);
	if (r != 0)
		return fail_value(o, r, value, where, err);
	free(c->where[key]);
	c->where[key] = TAKE(origin);
	return 0;
}

int config_set_value(struct config *c, enum config_key key, const char *value,
		     const char *where, struct config_error *err)
{
	const struct config_option *o = &config_options[key];
	auto_free char *trimmed = NULL;
	size_t n;

	value += strspn(value, " \t");
	n = strlen(value);
	while (n > 0 && (value[n - 1] == ' ' || value[n - 1] == '\t'))
		n--;
	if (n > VALUE_LENGTH_MAX) {
		(void)error_at(err, where, o->section, option_key(o).text, value);
		error_add(err, "is too long; allowed: %d bytes", VALUE_LENGTH_MAX);
		return CONFIG_BAD;
	}
	trimmed = strndup(value, n);
	if (!trimmed)
		return error_memory(err);
	return set_trimmed(c, key, trimmed, where, err);
}

int config_set(struct config *c, const char *assignment, struct config_error *err)
{
	static const char where[] = "--set";
	const char *equals = strchr(assignment, '=');
	const char *dot = strchr(assignment, '.');
	size_t n;
	char quoted[ERROR_QUOTE_MAX];
	enum config_key key;
	int r;

	if (!equals || !dot || dot > equals)
		return error_set(err,
				 "%s: %s: cannot be read; allowed: SECTION.KEY=VALUE",
				 where, error_quote(assignment, quoted));

	n = (size_t)(equals - dot - 1);
	while (n > 0 && (dot[n] == ' ' || dot[n] == '\t'))
		n--;

	auto_free char *section = strndup(assignment, (size_t)(dot - assignment));
	auto_free char *name = strndup(dot + 1, n);

	if (!section || !name)
		return error_memory(err);
	r = option_find(section, name, equals + 1, where, err, &key);
	if (r != 0)
		return r;
	return config_set_value(c, key, equals + 1, where, err);
}

bool config_is(const char *value, const char *word)
{
	return value && strcmp(value, word) == 0;
}

static bool same_list(const struct config_list *a, const struct config_list *b)
{
	if (a->n != b->n)
		return false;
	for (size_t i = 0; i < a->n; i++)
		if (strcmp(a->items[i], b->items[i]) != 0)
			return false;
	return true;
}

bool config_same(const struct config *a, const struct config *b, enum config_key key)
{
	const struct config_option *o = &config_options[key];
	char text_a[VALUE_TEXT_MAX], text_b[VALUE_TEXT_MAX];

	if (value_is_list(o->spec.kind))
		return same_list(option_value(o, a), option_value(o, b));
	return strcmp(value_format(&o->spec, option_value(o, a), text_a),
		      value_format(&o->spec, option_value(o, b), text_b)) == 0;
}

/* ---- rules that span keys ---- */

static const char *origin(const struct config *c, enum config_key key, size_t item)
{
	const struct config_option *o = &config_options[key];
	const char *where = c->where[key];

	if (value_is_list(o->spec.kind)) {
		const struct config_list *list = option_value(o, c);

		if (item < list->n)
			where = list->where[item];
	}
	return where ? where : "default";
}

int config_blame(const struct config *c, enum config_key key, size_t item,
		 struct config_error *err, const char *format, ...)
{
	const struct config_option *o = &config_options[key];
	const void *value = option_value(o, c);
	char buf[VALUE_TEXT_MAX];
	va_list args;

	if (value_is_list(o->spec.kind)) {
		const struct config_list *list = value;

		value = item < list->n ? &list->items[item] : NULL;
	}
	(void)error_at(err, origin(c, key, item), o->section, option_key(o).text,
		       value ? value_format(&o->spec, value, buf) : NULL);
	va_start(args, format);
	error_vadd(err, format, args);
	va_end(args);
	return CONFIG_BAD;
}

/* Notes where a value that nobody wrote comes from, so that config_dump() writes it out: a
 * default that was worked out is not what a dump would be read back to. */
static int note_origin(struct config *c, enum config_key key, const char *where,
		       struct config_error *err)
{
	free(c->where[key]);
	c->where[key] = strdup(where);
	return c->where[key] ? 0 : error_memory(err);
}

/* The name is that of the file: /etc/trimtab/shop.ini is shop. */
static int name_pool(struct config *c, struct config_error *err)
{
	const char *slash = c->path ? strrchr(c->path, '/') : NULL;
	const char *base = slash ? slash + 1 : c->path ? c->path : "trimtab";
	const char *dot = strrchr(base, '.');
	const char *where = c->path ? c->path : "default";
	const struct config_option *o = &config_options[KEY_pool_name];
	auto_free char *name = NULL;
	char allowed[VALUE_ALLOWED_MAX];
	int r;

	if (c->pool_name)
		return 0;
	name = strndup(base, dot && dot > base ? (size_t)(dot - base) : strlen(base));
	if (!name)
		return error_memory(err);
	r = value_parse(&o->spec, name, &c->pool_name);
	if (r < 0)
		return error_memory(err);
	if (r == VALUE_OK && c->pool_name)
		return note_origin(c, KEY_pool_name, where, err);
	value_allowed(&o->spec, allowed);
	(void)error_at(err, where, o->section, "name", name);
	error_add(
		err,
		"the name of the file cannot be that of the pool; set name; allowed: %s",
		allowed);
	return CONFIG_BAD;
}

static int check_program(const struct config *c, struct config_error *err)
{
	if (c->pool_gunicorn && c->pool_command)
		return config_blame(
			c, KEY_pool_command, 0, err,
			"gunicorn is set as well, at %s; allowed: one of the two; "
			"remove one",
			origin(c, KEY_pool_gunicorn, 0));
	if (!c->pool_gunicorn && !c->pool_command)
		return error_set(
			err,
			"%s: [pool]: nothing to run; set gunicorn (its arguments) or "
			"command (a program), or name one on the command line",
			c->path ? c->path : "trimtab");
	return 0;
}

/* A default never stands in the way of what the operator set: min-gap = 10s alone is fine. */
static int check_gaps(struct config *c, struct config_error *err)
{
	if (c->restart_min_gap_floor <= c->restart_min_gap)
		return 0;
	if (!c->where[KEY_restart_min_gap_floor]) {
		c->restart_min_gap_floor = c->restart_min_gap;
		return note_origin(c, KEY_restart_min_gap_floor,
				   origin(c, KEY_restart_min_gap, 0), err);
	}
	return config_blame(c, KEY_restart_min_gap_floor, 0, err,
			    "is longer than min-gap (%s), which it is the lower end of",
			    origin(c, KEY_restart_min_gap, 0));
}

static int check_boot(const struct config *c, struct config_error *err)
{
	enum config_key key = c->where[KEY_restart_ready_after]
				      ? KEY_restart_ready_after
				      : KEY_restart_boot_timeout;

	if (c->restart_ready_after < c->restart_boot_timeout)
		return 0;
	return config_blame(
		c, key, 0, err,
		"ready-after must be shorter than boot-timeout, or every program "
		"that never says READY=1 is killed before it counts as ready");
}

/* Only where both are bytes: what a percentage comes to is known later. */
static int check_size_order(const struct config *c, enum config_key less,
			    enum config_key more, struct config_error *err)
{
	const struct config_size *a = option_value(&config_options[less], c);
	const struct config_size *b = option_value(&config_options[more], c);
	char buf[VALUE_TEXT_MAX];

	if (a->kind != SIZE_BYTES || b->kind != SIZE_BYTES || a->value <= b->value)
		return 0;
	return config_blame(c, less, 0, err, "is more than %s = %s (%s)",
			    option_key(&config_options[more]).text,
			    value_format(&config_options[more].spec, b, buf),
			    origin(c, more, 0));
}

static int check_sizes(const struct config *c, struct config_error *err)
{
	int r = check_size_order(c, KEY_memory_worker_max, KEY_memory_budget, err);

	if (r == 0)
		r = check_size_order(c, KEY_memory_reserve, KEY_memory_budget, err);
	if (r == 0)
		r = check_size_order(c, KEY_memory_trim_at, KEY_memory_worker_max, err);
	if (r == 0)
		r = check_size_order(c, KEY_memory_trim_at, KEY_memory_budget, err);
	return r;
}

/* No library, no trims: refused where both were asked for. */
static int check_trim(const struct config *c, struct config_error *err)
{
	if (c->trim_mode == CONFIG_TRIM_OFF || !c->where[KEY_trim_mode] ||
	    !config_is(c->trim_preload_library, "off"))
		return 0;
	return config_blame(c, KEY_trim_mode, 0, err,
			    "nothing can be trimmed while preload-library is off (%s)",
			    origin(c, KEY_trim_preload_library, 0));
}

int config_validate(struct config *c, struct config_error *err)
{
	int r = name_pool(c, err);

	if (r == 0)
		r = check_program(c, err);
	if (r == 0)
		r = check_gaps(c, err);
	if (r == 0)
		r = check_boot(c, err);
	if (r == 0)
		r = check_sizes(c, err);
	if (r == 0)
		r = check_trim(c, err);
	return r;
}

/* ---- dump ---- */

/* As source.c reads it back: a ; after a blank would begin a comment. */
static void put_value(const char *text, FILE *out)
{
	bool after_blank = true;

	for (; *text; text++) {
		if (after_blank && text[strspn(text, "\\")] == ';')
			(void)fputc('\\', out);
		(void)fputc(*text, out);
		after_blank = *text == ' ' || *text == '\t';
	}
}

/* The comment is more than a courtesy: behind it, a value may end in a backslash. */
static void put_key(const struct config_option *o, const char *value, const char *where,
		    FILE *out)
{
	char quoted[ERROR_QUOTE_MAX];

	(void)fprintf(out, "%s%s = ", where ? "" : ";", option_key(o).text);
	put_value(value, out);
	if (where)
		(void)fprintf(out, "\t; %s", error_quote(where, quoted));
	(void)fputc('\n', out);
}

static void dump_option(const struct config *c, enum config_key key, FILE *out)
{
	const struct config_option *o = &config_options[key];
	const void *value = option_value(o, c);
	char buf[VALUE_TEXT_MAX];

	if (value_is_list(o->spec.kind)) {
		const struct config_list *list = value;

		if (list->n == 0)
			put_key(o, "", c->where[key], out);
		for (size_t i = 0; i < list->n; i++)
			put_key(o, list->items[i], list->where[i], out);
		return;
	}
	put_key(o, value_format(&o->spec, value, buf), c->where[key], out);
}

int config_dump(const struct config *c, FILE *out)
{
	(void)fprintf(out, "# trimtab " TRIMTAB_VERSION "; what is commented out is the "
			   "default.\n");
	for (const struct config_section *s = config_sections; s->name; s++) {
		(void)fprintf(out, "\n[%s]\n", s->name);
		for (size_t i = 0; i < N_KEYS; i++)
			if (strcmp(config_options[i].section, s->name) == 0)
				dump_option(c, (enum config_key)i, out);
	}
	if (fflush(out) != 0)
		return -errno;
	return ferror(out) ? -EIO : 0;
}
