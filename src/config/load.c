/* Reads an INI file into a config.
 *
 * Three parts meet: source.c yields numbered lines of any length, inih tells sections from
 * keys, config_set_value() takes the value. inih is handed each line only up to its = or :, so
 * that its buffer (200 bytes in Debian's build) never cuts anything, and so that the rules for
 * comments are ours however a build of inih was configured. It never sees leading blanks
 * either: to its default build an indented line silently continues the value above. */
#include <errno.h>
#include <fcntl.h>
#include <ini.h>
#include <stdlib.h>
#include <string.h>

#include "config/config.h"
#include "config/error.h"
#include "config/option.h"
#include "config/source.h"

#define FILE_MAX (1U << 20)

struct load {
	struct config *c;
	struct config_error *err;
	const char *name; /* of the file, in messages */
	int result;	  /* the first failure; nothing is read after it */
	bool at_end;
	int n_handed;	       /* lines handed to inih, which counts them likewise */
	int explained;	       /* the one of them that on_key() refused; 0: none */
	unsigned seen[N_KEYS]; /* the line that set a key; 0: none yet */
	const char *value;     /* within source.line, of the line inih is looking at */
	struct source source;
};

/* "shop.ini:12", for messages and for the origin of a value; 0 or -ENOMEM. */
static int place(struct load *l, char **ret)
{
	if (asprintf(ret, "%s:%u", l->name, l->source.number) < 0)
		return error_memory(l->err);
	return 0;
}

static int fail_line(struct load *l, const char *problem)
{
	char quoted[ERROR_QUOTE_MAX];

	return error_set(l->err, "%s:%u: %s: %s", l->name, l->source.number,
			 error_quote(l->source.line, quoted), problem);
}

/* ---- lines to inih ---- */

/* inih would take a section that nobody asks for, and skip what stands behind the ]. */
static int check_section(struct load *l)
{
	char section[ERROR_QUOTE_MAX];
	auto_free char *where = NULL;
	const char *line = l->source.line;
	const char *end = strchr(line, ']');
	int r;

	if (!end || end[1])
		return fail_line(l, "a section is [NAME] on a line of its own");
	r = place(l, &where);
	if (r != 0)
		return r;
	(void)snprintf(section, sizeof(section), "%.*s", (int)(end - line - 1), line + 1);
	return option_find_section(section, where, l->err);
}

static int next_line(struct load *l)
{
	switch (source_next(&l->source)) {
	case SOURCE_TOO_LONG:
		return error_set(l->err, "%s:%u: the line is too long; allowed: %d bytes",
				 l->name, l->source.number, SOURCE_LINE_MAX);
	case SOURCE_NUL:
		return error_set(l->err,
				 "%s:%u: the line contains a NUL byte: no text file",
				 l->name, l->source.number);
	case SOURCE_LINE:
		/* inih takes form feeds and the like for blanks; here they mean nothing. */
		for (const char *p = l->source.line; *p; p++)
			if (((unsigned char)*p < ' ' && *p != '\t') || *p == 0x7f)
				return fail_line(l, "contains a control character");
		return *l->source.line == '[' ? check_section(l) : 0;
	default:
		l->at_end = true;
		return 0;
	}
}

/* inih's fgets. Ends the file at the first failure, so that only that one is reported. */
static char *on_line(char *buffer, int size, void *userdata)
{
	struct load *l = userdata;
	const char *line = l->source.line;
	size_t n, room = (size_t)size - 2;

	if (l->result == 0)
		l->result = next_line(l);
	if (l->result != 0 || l->at_end)
		return NULL;
	l->n_handed++;
	l->value = "";
	n = *line == '[' ? strlen(line) : strcspn(line, "=:");
	if (*line != '[' && line[n])
		l->value = line + ++n;
	/* What is longer is no key of ours, and without its = no key to inih. */
	if (n > room)
		n = room;
	memcpy(buffer, line, n);
	memcpy(buffer + n, "\n", 2);
	return buffer;
}

/* ---- keys from inih ---- */

static int take_value(struct load *l, const char *section, const char *key)
{
	auto_free char *where = NULL;
	enum config_key k;
	int r = place(l, &where);

	if (r == 0)
		r = option_find(section, key, l->value, where, l->err, &k);
	if (r != 0)
		return r;
	if (l->seen[k] && !value_is_list(config_options[k].spec.kind)) {
		(void)error_at(l->err, where, section, key, l->value);
		error_add(l->err, "already set at %s:%u; allowed: once; remove one",
			  l->name, l->seen[k]);
		return CONFIG_BAD;
	}
	l->seen[k] = l->source.number;
	return config_set_value(l->c, k, l->value, where, l->err);
}

/* inih's handler; the value it found is not the whole one. */
static int on_key(void *userdata, const char *section, const char *key,
		  const char *value_in_short)
{
	struct load *l = userdata;

	(void)value_in_short;
	while (*l->value == ' ' || *l->value == '\t')
		l->value++;
	if (!*section)
		l->result = fail_line(l, "comes before any [SECTION]; put it below one");
	else
		l->result = take_value(l, section, key);
	if (l->result != 0)
		l->explained = l->n_handed;
	return l->result == 0;
}

/* ---- files ---- */

/* inih met a line that is neither section nor key, and told nobody but its caller, who learns
 * how many lines it had been handed by then. */
static int fail_syntax(struct load *l, const char *text, size_t n, int n_lines)
{
	source_init(&l->source, text, n);
	while (n_lines-- > 0)
		(void)source_next(&l->source);
	return fail_line(l, "cannot be read; allowed: [SECTION], KEY = VALUE, # comment");
}

int config_load_text(struct config *c, const char *name, const char *text, size_t n,
		     struct config_error *err)
{
	auto_free struct load *l = calloc(1, sizeof(*l));
	char *path = strdup(name);
	int bad_line;

	if (!l || !path) {
		free(path);
		return error_memory(err);
	}
	free(c->path);
	c->path = path;
	l->c = c;
	l->err = err;
	l->name = name;
	source_init(&l->source, text, n);

	bad_line = ini_parse_stream(on_line, l, on_key, l);
	if (bad_line == -2)
		return error_memory(err);
	if (bad_line > 0 && bad_line != l->explained)
		return fail_syntax(l, text, n, bad_line);
	return l->result;
}

/* Up to FILE_MAX + 1 bytes of whatever the path leads to: a pipe will do. */
static int read_all(const char *path, char **ret_text, size_t *ret_n)
{
	auto_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	auto_free char *text = NULL;
	size_t n = 0;

	if (fd < 0)
		return -errno;
	text = malloc(FILE_MAX + 1);
	if (!text)
		return -ENOMEM;
	for (;;) {
		ssize_t got = read(fd, text + n, FILE_MAX + 1 - n);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		n += (size_t)got;
		if (got == 0 || n > FILE_MAX)
			break;
	}
	*ret_text = TAKE(text);
	*ret_n = n;
	return 0;
}

int config_load(struct config *c, const char *path, struct config_error *err)
{
	auto_free char *text = NULL;
	size_t n = 0;
	int r = read_all(path, &text, &n);

	if (r == -ENOMEM)
		return error_memory(err);
	if (r < 0)
		return error_set(err, "%s: cannot be read: %s", path, strerror(-r));
	if (n > FILE_MAX)
		return error_set(err, "%s: the file is too large; allowed: %u bytes",
				 path, FILE_MAX);
	return config_load_text(c, path, text, n, err);
}
