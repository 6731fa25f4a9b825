/* Text of one value -> plain data, kind by kind.
 *
 * Must never accept half a value: each parser consumes the whole text or refuses it, and never
 * goes through strtol and friends, which skip blanks, take signs, and stop where they like. */
#include "config/value.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "config/amount.h"
#include "config/words.h"

static int check_range(const struct value_spec *spec, uint64_t n)
{
	if (n < (uint64_t)spec->min)
		return VALUE_BELOW;
	if (n > (uint64_t)spec->max)
		return VALUE_ABOVE;
	return VALUE_OK;
}

static int parse_in_range(const struct value_spec *spec, const char *text,
			  const struct amount_unit *units, uint64_t *ret)
{
	uint64_t n;
	int r = amount_parse(text, units, &n);

	if (r == VALUE_OK)
		r = check_range(spec, n);
	if (r == VALUE_OK)
		*ret = n;
	return r;
}

/* ---- kinds ---- */

static int parse_count(const struct value_spec *spec, const char *text, int64_t *ret)
{
	uint64_t n;
	int r;

	if (spec->kind == KIND_COUNT_OR_AUTO && strcmp(text, "auto") == 0) {
		*ret = 0;
		return VALUE_OK;
	}
	r = parse_in_range(spec, text, amount_plain, &n);
	if (r == VALUE_OK)
		*ret = (int64_t)n;
	return r;
}

static int parse_percent(const struct value_spec *spec, const char *text, uint32_t *ret)
{
	uint64_t n;
	int r = amount_parse(text, amount_percents, &n);

	if (r == VALUE_OK)
		r = check_range(spec, n);
	if (r == VALUE_OK)
		*ret = (uint32_t)n;
	return r;
}

/* The range of a SIZE is in bytes. A percentage ends at 100 %, and may be 0 where 0 bytes may. */
static int parse_size(const struct value_spec *spec, const char *text,
		      struct config_size *ret)
{
	size_t n = strlen(text);
	struct config_size size = { SIZE_BYTES, 0 };
	int r;

	if (spec->kind == KIND_SIZE_OR_AUTO && strcmp(text, "auto") == 0) {
		*ret = (struct config_size){ SIZE_AUTO, 0 };
		return VALUE_OK;
	}
	if (text[n - 1] == '%') {
		const struct value_spec percent = { .min = spec->min > 0, .max = 10000 };

		size.kind = SIZE_PERMYRIAD;
		r = amount_parse(text, amount_percents, &size.value);
		if (r == VALUE_OK)
			r = check_range(&percent, size.value);
	} else {
		r = parse_in_range(spec, text, amount_sizes, &size.value);
	}
	if (r == VALUE_OK)
		*ret = size;
	return r;
}

static int parse_time(const struct value_spec *spec, const char *text, usec_t *ret)
{
	bool may_be_off = spec->kind != KIND_TIME;
	usec_t t;
	int r;

	if (spec->kind == KIND_TIME_OR_AUTO && strcmp(text, "auto") == 0) {
		*ret = CONFIG_TIME_AUTO;
		return VALUE_OK;
	}
	if (may_be_off && strcmp(text, "off") == 0) {
		*ret = 0;
		return VALUE_OK;
	}
	r = amount_parse(text, amount_times, &t);
	if (r == VALUE_OK && !(may_be_off && t == 0))
		r = check_range(spec, t);
	if (r == VALUE_OK)
		*ret = t;
	return r;
}

/* Cuts text at the separator into two times. Neither part of a value that is valid is longer
 * than VALUE_TEXT_MAX. */
static int parse_two_times(const char *text, const char *separator, usec_t *ret_first,
			   usec_t *ret_second)
{
	const char *cut = strstr(text, separator);
	char first[VALUE_TEXT_MAX];
	int r;

	if (!cut || cut - text >= VALUE_TEXT_MAX)
		return VALUE_MALFORMED;
	(void)snprintf(first, sizeof(first), "%.*s", (int)(cut - text), text);
	r = amount_parse(first, amount_times, ret_first);
	if (r == VALUE_OK)
		r = amount_parse(cut + strlen(separator), amount_times, ret_second);
	return r;
}

static int parse_range(const struct value_spec *spec, const char *text,
		       struct config_range *ret)
{
	struct config_range range;
	int r;

	if (strstr(text, "..")) {
		r = parse_two_times(text, "..", &range.min, &range.max);
	} else {
		r = amount_parse(text, amount_times, &range.min);
		if (r == VALUE_OK)
			range.max = range.min;
	}
	if (r == VALUE_OK && range.min > range.max)
		r = VALUE_BACKWARDS;
	if (r == VALUE_OK)
		r = check_range(spec, range.min);
	if (r == VALUE_OK)
		r = check_range(spec, range.max);
	if (r == VALUE_OK)
		*ret = range;
	return r;
}

static int parse_pressure(const char *text, struct config_pressure *ret)
{
	struct config_pressure p = { 0, 0 };
	int r;

	if (strcmp(text, "off") == 0) {
		*ret = p;
		return VALUE_OK;
	}
	r = parse_two_times(text, "/", &p.stall_usec, &p.window_usec);
	if (r != VALUE_OK)
		return r;
	if (p.window_usec < 500 * USEC_PER_MSEC || p.window_usec > 10 * USEC_PER_SEC)
		return VALUE_WINDOW;
	if (p.stall_usec == 0 || p.stall_usec > p.window_usec)
		return VALUE_STALL;
	*ret = p;
	return VALUE_OK;
}

/* The words that systemd and Python's configparser take. */
static int parse_bool(const char *text, bool *ret)
{
	static const struct {
		const char *word;
		bool value;
	} words[] = {
		{ "yes", true }, { "true", true },   { "on", true },   { "1", true },
		{ "no", false }, { "false", false }, { "off", false }, { "0", false },
	};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (strcmp(words[i].word, text) == 0) {
			*ret = words[i].value;
			return VALUE_OK;
		}
	}
	return VALUE_MALFORMED;
}

static int parse_choice(const struct value_spec *spec, const char *text, unsigned *ret)
{
	for (unsigned i = 0; spec->words[i]; i++) {
		if (strcmp(spec->words[i], text) == 0) {
			*ret = i;
			return VALUE_OK;
		}
	}
	return VALUE_WORD;
}

static int parse_octal(const struct value_spec *spec, const char *text, uint32_t *ret)
{
	uint64_t n = 0;
	int r;

	for (const char *p = text; *p; p++) {
		if (*p < '0' || *p > '7')
			return VALUE_MALFORMED;
		n = n > UINT32_MAX ? n : n * 8 + (unsigned)(*p - '0');
	}
	r = check_range(spec, n);
	if (r == VALUE_OK)
		*ret = (uint32_t)n;
	return r;
}

/* A small number after a sign, "+3" or "-1"; "" is 0. */
static int parse_offset(const char *text, char sign, uint64_t *ret)
{
	*ret = 0;
	if (!*text)
		return VALUE_OK;
	return *text == sign ? amount_parse(text + 1, amount_plain, ret)
			     : VALUE_MALFORMED;
}

static int find_signal(const char *text, uint64_t *ret)
{
	uint64_t offset;
	int r;

	if (*text >= '0' && *text <= '9')
		return amount_parse(text, amount_plain, ret);
	if (strncmp(text, "SIG", 3) == 0)
		text += 3;
	if (strncmp(text, "RTMIN", 5) == 0) {
		r = parse_offset(text + 5, '+', &offset);
		if (r == VALUE_OK && offset > (uint64_t)(SIGRTMAX - SIGRTMIN))
			r = VALUE_ABOVE;
		if (r == VALUE_OK)
			*ret = (uint64_t)SIGRTMIN + offset;
		return r;
	}
	if (strncmp(text, "RTMAX", 5) == 0) {
		r = parse_offset(text + 5, '-', &offset);
		if (r == VALUE_OK && offset > (uint64_t)(SIGRTMAX - SIGRTMIN))
			r = VALUE_BELOW;
		if (r == VALUE_OK)
			*ret = (uint64_t)SIGRTMAX - offset;
		return r;
	}
	for (int sig = 1; sig < SIGSYS + 1; sig++) {
		const char *name = sigabbrev_np(sig);

		if (name && strcmp(name, text) == 0) {
			*ret = (uint64_t)sig;
			return VALUE_OK;
		}
	}
	return VALUE_MALFORMED;
}

/* Only signals that nobody else gives a meaning to: the rest belong to the kernel (SEGV), to
 * trimtab and gunicorn (TERM, HUP, CHLD, WINCH), or cannot be blocked (KILL, STOP). glibc
 * keeps 32 and 33, below its SIGRTMIN, to itself. */
static int parse_signal(const char *text, int *ret)
{
	uint64_t n;
	int r = find_signal(text, &n);

	if (r != VALUE_OK)
		return r;
	if (n > (uint64_t)SIGRTMAX)
		return VALUE_ABOVE;
	if (n == 0)
		return VALUE_BELOW;
	if (n != SIGUSR1 && n != SIGUSR2 && n < (uint64_t)SIGRTMIN)
		return VALUE_SIGNAL_TAKEN;
	*ret = (int)n;
	return VALUE_OK;
}

static int copy_string(const char *text, char **ret)
{
	char *copy = NULL;

	if (*text) {
		copy = strdup(text);
		if (!copy)
			return -ENOMEM;
	}
	*ret = copy;
	return VALUE_OK;
}

/* It becomes a directory, a cgroup and a field of the journal. */
static int parse_name(const char *text, char **ret)
{
	static const char allowed[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
		"0123456789_.-";

	if (text[strspn(text, allowed)] || *text == '.' || *text == '-')
		return VALUE_MALFORMED;
	if (strlen(text) > 48)
		return VALUE_ABOVE;
	return copy_string(text, ret);
}

static int parse_command(const char *text, char **ret)
{
	char **words;
	size_t n;
	int r = config_split_words(text, &words, &n);

	switch (r) {
	case WORDS_OPEN_QUOTE:
		return VALUE_OPEN_QUOTE;
	case WORDS_OPEN_BACKSLASH:
		return VALUE_OPEN_BACKSLASH;
	case 0:
		config_free_words(words);
		return copy_string(text, ret);
	default:
		return r;
	}
}

static int parse_env(const char *text, char **ret)
{
	const char *equals = strchr(text, '=');

	if (!equals || equals == text)
		return VALUE_MALFORMED;
	for (const char *p = text; p < equals; p++)
		if (*p == ' ' || *p == '\t')
			return VALUE_MALFORMED;
	return copy_string(text, ret);
}

int value_parse(const struct value_spec *spec, const char *text, void *ret)
{
	if (!*text && !value_is_string(spec->kind))
		return VALUE_EMPTY;
	for (const char *p = text; *p; p++)
		if (((unsigned char)*p < ' ' && *p != '\t') || *p == 0x7f)
			return VALUE_CONTROL;

	switch (spec->kind) {
	case KIND_COUNT:
	case KIND_COUNT_OR_AUTO:
		return parse_count(spec, text, ret);
	case KIND_BYTES:
		return parse_in_range(spec, text, amount_sizes, ret);
	case KIND_SIZE:
	case KIND_SIZE_OR_AUTO:
		return parse_size(spec, text, ret);
	case KIND_PERCENT:
		return parse_percent(spec, text, ret);
	case KIND_TIME:
	case KIND_TIME_OR_OFF:
	case KIND_TIME_OR_AUTO:
		return parse_time(spec, text, ret);
	case KIND_RANGE:
		return parse_range(spec, text, ret);
	case KIND_PRESSURE:
		return parse_pressure(text, ret);
	case KIND_BOOL:
		return parse_bool(text, ret);
	case KIND_CHOICE:
		return parse_choice(spec, text, ret);
	case KIND_STRING:
	case KIND_LIST:
		return copy_string(text, ret);
	case KIND_NAME:
		return parse_name(text, ret);
	case KIND_COMMAND:
		return parse_command(text, ret);
	case KIND_ENV:
		return parse_env(text, ret);
	case KIND_SIGNAL:
		return parse_signal(text, ret);
	case KIND_OCTAL:
		return parse_octal(spec, text, ret);
	}
	return -EINVAL;
}
