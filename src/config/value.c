/* Text of one value <-> plain data, kind by kind.
 *
 * Must never accept half a value: each parser consumes the whole text or refuses it, and never
 * goes through strtol and friends, which skip blanks, take signs, and cut at a NUL. All
 * arithmetic is on unsigned integers with overflow checked, so 1.5G is exact. */
#include "config/value.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "config/words.h"

/* As far as the int64_t ranges of options.def reach; CONFIG_TIME_AUTO lies above. */
#define AMOUNT_MAX ((uint64_t)INT64_MAX)

struct unit {
	const char *name;
	uint64_t amount;
};

static const struct unit size_units[] = {
	{ "T", 1ULL << 40 }, { "G", 1ULL << 30 }, { "M", 1ULL << 20 },
	{ "K", 1ULL << 10 }, { "t", 1ULL << 40 }, { "g", 1ULL << 30 },
	{ "m", 1ULL << 20 }, { "k", 1ULL << 10 }, { "", 1 },
	{ NULL, 0 },
};

/* Largest first, as the formatter takes the first that divides. */
static const struct unit time_units[] = {
	{ "d", 24 * USEC_PER_HOUR }, { "h", USEC_PER_HOUR },
	{ "m", USEC_PER_MIN },	     { "s", USEC_PER_SEC },
	{ "ms", USEC_PER_MSEC },     { "us", 1 },
	{ "", USEC_PER_SEC },	     { NULL, 0 },
};

static const struct unit percent_units[] = { { "%", 100 }, { NULL, 0 } };
static const struct unit plain_units[] = { { "", 1 }, { NULL, 0 } };

/* ---- numbers ---- */

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Digits at *text, moved past them. Saturates: the caller checks against AMOUNT_MAX. */
static uint64_t take_digits(const char **text, unsigned base)
{
	uint64_t n = 0;

	for (; is_digit(**text) && (unsigned)(**text - '0') < base; (*text)++)
		if (__builtin_mul_overflow(n, base, &n) ||
		    __builtin_add_overflow(n, (unsigned)(**text - '0'), &n))
			n = UINT64_MAX;
	return n;
}

static int find_unit(const struct unit *units, const char *name, uint64_t *ret)
{
	for (; units->name; units++) {
		if (strcmp(units->name, name) == 0) {
			*ret = units->amount;
			return VALUE_OK;
		}
	}
	return VALUE_MALFORMED;
}

/* The part of a unit that the digits behind the point stand for, rounded down: 0.3K is 307
 * bytes. A unit that cannot be cut that finely says so, and what would come out as nothing is
 * not quietly turned into 0, which means "off" to many options. */
static int fraction(const char *digits, size_t n, uint64_t unit, uint64_t *ret)
{
	uint64_t sum = 0, scale = 1;

	while (n > 0 && digits[n - 1] == '0')
		n--;
	if (n > 9 || (n > 0 && unit == 1))
		return VALUE_TOO_FINE;
	for (size_t i = 0; i < n; i++) {
		sum = sum * 10 + (uint64_t)(digits[i] - '0');
		scale *= 10;
	}
	/* unit / scale before the product would lose bits; 2^40 x 10^9 needs 70 of them. */
	*ret = (uint64_t)((unsigned __int128)sum * unit / scale);
	if (sum > 0 && *ret == 0)
		return VALUE_TOO_FINE;
	return VALUE_OK;
}

/* "1.5G": digits, maybe a point and digits, a unit; in the smallest unit. */
static int parse_amount(const char *text, const struct unit *units, uint64_t *ret)
{
	uint64_t whole, unit, part = 0;
	const char *point = NULL;
	size_t n_decimals = 0;
	int r;

	if (!is_digit(*text))
		return VALUE_MALFORMED;
	whole = take_digits(&text, 10);
	if (*text == '.') {
		point = ++text;
		while (is_digit(*text))
			text++;
		n_decimals = (size_t)(text - point);
		if (n_decimals == 0)
			return VALUE_MALFORMED;
	}
	r = find_unit(units, text, &unit);
	if (r == VALUE_OK && point)
		r = fraction(point, n_decimals, unit, &part);
	if (r != VALUE_OK)
		return r;
	if (__builtin_mul_overflow(whole, unit, &whole) ||
	    __builtin_add_overflow(whole, part, &whole) || whole > AMOUNT_MAX)
		return VALUE_ABOVE;
	*ret = whole;
	return VALUE_OK;
}

static int check_range(const struct value_spec *spec, uint64_t n)
{
	if (n < (uint64_t)spec->min)
		return VALUE_BELOW;
	if (n > (uint64_t)spec->max)
		return VALUE_ABOVE;
	return VALUE_OK;
}

static int parse_in_range(const struct value_spec *spec, const char *text,
			  const struct unit *units, uint64_t *ret)
{
	uint64_t n;
	int r = parse_amount(text, units, &n);

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
	r = parse_in_range(spec, text, plain_units, &n);
	if (r == VALUE_OK)
		*ret = (int64_t)n;
	return r;
}

/* Hundredths of a per cent are exact, finer is refused. */
static int parse_permyriad(const char *text, uint64_t *ret)
{
	const char *point = strchr(text, '.');
	size_t n_decimals = point ? strspn(point + 1, "0123456789") : 0;
	int r = parse_amount(text, percent_units, ret);

	if (r == VALUE_OK && n_decimals > 2)
		r = VALUE_TOO_FINE;
	return r;
}

static int parse_percent(const struct value_spec *spec, const char *text, uint32_t *ret)
{
	uint64_t n;
	int r = parse_permyriad(text, &n);

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
		r = parse_permyriad(text, &size.value);
		if (r == VALUE_OK)
			r = check_range(&percent, size.value);
	} else {
		r = parse_in_range(spec, text, size_units, &size.value);
	}
	if (r == VALUE_OK)
		*ret = size;
	return r;
}

static int parse_time(const struct value_spec *spec, const char *text, usec_t *ret)
{
	bool may_be_off =
		spec->kind == KIND_TIME_OR_OFF || spec->kind == KIND_TIME_OR_AUTO;
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
	r = parse_amount(text, time_units, &t);
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
	r = parse_amount(first, time_units, ret_first);
	if (r == VALUE_OK)
		r = parse_amount(cut + strlen(separator), time_units, ret_second);
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
		r = parse_amount(text, time_units, &range.min);
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
	uint64_t n;
	int r;

	if (!is_digit(*text))
		return VALUE_MALFORMED;
	n = take_digits(&text, 8);
	if (*text)
		return VALUE_MALFORMED;
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
	return *text == sign ? parse_amount(text + 1, plain_units, ret) : VALUE_MALFORMED;
}

static int find_signal(const char *text, uint64_t *ret)
{
	uint64_t offset;
	int r;

	if (is_digit(*text))
		return parse_amount(text, plain_units, ret);
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
		return parse_in_range(spec, text, size_units, ret);
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

/* ---- back to text ---- */

/* n in the largest unit that divides it. */
static const char *format_amount(const struct unit *units, uint64_t n, char *buf)
{
	while (units->amount > 1 && n % units->amount)
		units++;
	(void)snprintf(buf, VALUE_TEXT_MAX, "%" PRIu64 "%s", n / units->amount,
		       units->name);
	return buf;
}

static const char *format_bytes(uint64_t n, char *buf)
{
	/* Lower-case letters come after; 0 divides by everything and reads best bare. */
	for (const struct unit *u = size_units;
	     n > 0 && *u->name >= 'A' && *u->name <= 'Z'; u++) {
		if (n % u->amount == 0) {
			(void)snprintf(buf, VALUE_TEXT_MAX, "%" PRIu64 "%s",
				       n / u->amount, u->name);
			return buf;
		}
	}
	(void)snprintf(buf, VALUE_TEXT_MAX, "%" PRIu64, n);
	return buf;
}

static const char *format_time(usec_t t, char *buf)
{
	return t == 0 ? "0s" : format_amount(time_units, t, buf);
}

static const char *format_permyriad(uint64_t n, char *buf)
{
	const char *places = n % 100 == 0 ? "" : ".";

	if (!*places)
		(void)snprintf(buf, VALUE_TEXT_MAX, "%" PRIu64 "%%", n / 100);
	else
		(void)snprintf(buf, VALUE_TEXT_MAX, "%" PRIu64 ".%02" PRIu64 "%%",
			       n / 100, n % 100);
	return buf;
}

static const char *format_size(const struct config_size *size, char *buf)
{
	switch (size->kind) {
	case SIZE_AUTO:
		return "auto";
	case SIZE_BYTES:
		return format_bytes(size->value, buf);
	case SIZE_PERMYRIAD:
		return format_permyriad(size->value, buf);
	}
	return "";
}

static const char *format_two_times(usec_t first, const char *separator, usec_t second,
				    char *buf)
{
	char a[VALUE_TEXT_MAX], b[VALUE_TEXT_MAX];

	(void)snprintf(buf, VALUE_TEXT_MAX, "%.28s%s%.28s", format_time(first, a),
		       separator, format_time(second, b));
	return buf;
}

static const char *format_signal(int sig, char *buf)
{
	if (sig >= SIGRTMIN)
		(void)snprintf(buf, VALUE_TEXT_MAX, "SIGRTMIN+%d", sig - SIGRTMIN);
	else
		(void)snprintf(buf, VALUE_TEXT_MAX, "SIG%s", sigabbrev_np(sig));
	return buf;
}

static const char *format_count(const struct value_spec *spec, int64_t n, char *buf)
{
	if (spec->kind == KIND_COUNT_OR_AUTO && n == 0)
		return "auto";
	(void)snprintf(buf, VALUE_TEXT_MAX, "%" PRId64, n);
	return buf;
}

static const char *format_time_or_word(const struct value_spec *spec, usec_t t, char *buf)
{
	if (spec->kind == KIND_TIME_OR_AUTO && t == CONFIG_TIME_AUTO)
		return "auto";
	if (spec->kind != KIND_TIME && t == 0)
		return "off";
	return format_time(t, buf);
}

const char *value_format(const struct value_spec *spec, const void *value,
			 char buf[VALUE_TEXT_MAX])
{
	const struct config_range *range;
	const struct config_pressure *pressure;
	const char *text;

	switch (spec->kind) {
	case KIND_COUNT:
	case KIND_COUNT_OR_AUTO:
		return format_count(spec, *(const int64_t *)value, buf);
	case KIND_BYTES:
		return format_bytes(*(const uint64_t *)value, buf);
	case KIND_SIZE:
	case KIND_SIZE_OR_AUTO:
		return format_size(value, buf);
	case KIND_PERCENT:
		return format_permyriad(*(const uint32_t *)value, buf);
	case KIND_TIME:
	case KIND_TIME_OR_OFF:
	case KIND_TIME_OR_AUTO:
		return format_time_or_word(spec, *(const usec_t *)value, buf);
	case KIND_RANGE:
		range = value;
		return format_two_times(range->min, "..", range->max, buf);
	case KIND_PRESSURE:
		pressure = value;
		if (pressure->window_usec == 0)
			return "off";
		return format_two_times(pressure->stall_usec, "/", pressure->window_usec,
					buf);
	case KIND_BOOL:
		return *(const bool *)value ? "yes" : "no";
	case KIND_CHOICE:
		return spec->words[*(const unsigned *)value];
	case KIND_STRING:
	case KIND_NAME:
	case KIND_COMMAND:
	case KIND_LIST:
	case KIND_ENV:
		text = *(char *const *)value;
		return text ? text : "";
	case KIND_SIGNAL:
		return format_signal(*(const int *)value, buf);
	case KIND_OCTAL:
		(void)snprintf(buf, VALUE_TEXT_MAX, "%04" PRIo32,
			       *(const uint32_t *)value);
		return buf;
	}
	return "";
}

/* ---- what is allowed ---- */

/* " from 1M to 2G", " of at least 1M", or nothing where neither end is worth naming. */
static void range_text(const struct value_spec *spec,
		       const char *(*format)(uint64_t n, char *buf),
		       char buf[VALUE_TEXT_MAX])
{
	char low[VALUE_TEXT_MAX], high[VALUE_TEXT_MAX];
	const char *min = format((uint64_t)spec->min, low);
	const char *max = format((uint64_t)spec->max, high);

	buf[0] = '\0';
	if (spec->max != INT64_MAX)
		(void)snprintf(buf, VALUE_TEXT_MAX, " from %.24s to %.24s", min, max);
	else if (spec->min > 1)
		(void)snprintf(buf, VALUE_TEXT_MAX, " of at least %.24s", min);
}

static const char *format_plain(uint64_t n, char *buf)
{
	return format_amount(plain_units, n, buf);
}

static const char *format_octal(uint64_t n, char *buf)
{
	(void)snprintf(buf, VALUE_TEXT_MAX, "%04" PRIo64, n);
	return buf;
}

/* "auto, always or never" */
static void words_text(const char *const *words, char buf[VALUE_ALLOWED_MAX])
{
	size_t at = 0;

	buf[0] = '\0';
	for (size_t i = 0; words[i] && at < VALUE_ALLOWED_MAX; i++) {
		const char *before = i == 0 ? "" : words[i + 1] ? ", " : " or ";
		int n = snprintf(buf + at, VALUE_ALLOWED_MAX - at, "%s%s", before,
				 words[i]);

		at += n > 0 ? (size_t)n : 0;
	}
}

#define ALLOWED(...) (void)snprintf(buf, VALUE_ALLOWED_MAX, __VA_ARGS__)

void value_allowed(const struct value_spec *spec, char buf[VALUE_ALLOWED_MAX])
{
	char range[VALUE_TEXT_MAX] = "";

	switch (spec->kind) {
	case KIND_COUNT:
	case KIND_COUNT_OR_AUTO:
		range_text(spec, format_plain, range);
		ALLOWED("%sa whole number%s",
			spec->kind == KIND_COUNT_OR_AUTO ? "auto, or " : "", range);
		break;
	case KIND_BYTES:
		range_text(spec, format_bytes, range);
		ALLOWED("a size such as 4096, 512M or 1.5G%s", range);
		break;
	case KIND_SIZE:
	case KIND_SIZE_OR_AUTO:
		range_text(spec, format_bytes, range);
		ALLOWED("%sa size such as 512M or 1.5G%s, or a percentage up to 100%%",
			spec->kind == KIND_SIZE_OR_AUTO ? "auto, " : "", range);
		break;
	case KIND_PERCENT:
		range_text(spec, format_permyriad, range);
		ALLOWED("a percentage%s", range);
		break;
	case KIND_TIME:
	case KIND_TIME_OR_OFF:
	case KIND_TIME_OR_AUTO:
		range_text(spec, format_time, range);
		ALLOWED("%sa time such as 500ms, 30s, 5m or 1h,%s",
			spec->kind == KIND_TIME		 ? ""
			: spec->kind == KIND_TIME_OR_OFF ? "off, or "
							 : "auto, off, or ",
			range);
		break;
	case KIND_RANGE:
		range_text(spec, format_time, range);
		ALLOWED("two times such as 30s..60s, or one,%s", range);
		break;
	case KIND_PRESSURE:
		ALLOWED("off, or STALL/WINDOW such as 200ms/2s, with a window from 500ms "
			"to 10s");
		break;
	case KIND_BOOL:
		ALLOWED("yes or no");
		break;
	case KIND_CHOICE:
		words_text(spec->words, buf);
		break;
	case KIND_STRING:
	case KIND_LIST:
		ALLOWED("one line of text");
		break;
	case KIND_NAME:
		ALLOWED("at most 48 of the characters A-Z a-z 0-9 _ . - with no dot or "
			"dash first");
		break;
	case KIND_COMMAND:
		ALLOWED("words, quoted as in a shell");
		break;
	case KIND_ENV:
		ALLOWED("NAME=VALUE");
		break;
	case KIND_SIGNAL:
		ALLOWED("SIGUSR1, SIGUSR2, or SIGRTMIN+0 to SIGRTMIN+%d",
			SIGRTMAX - SIGRTMIN);
		break;
	case KIND_OCTAL:
		range_text(spec, format_octal, range);
		ALLOWED("octal permissions%s", range);
		break;
	}
}

const char *value_problem(enum value_outcome outcome)
{
	switch (outcome) {
	case VALUE_OK:
		break;
	case VALUE_EMPTY:
		return "has no value";
	case VALUE_CONTROL:
		return "contains a control character";
	case VALUE_MALFORMED:
		return "cannot be read";
	case VALUE_BELOW:
		return "is too small";
	case VALUE_ABOVE:
		return "is too large";
	case VALUE_TOO_FINE:
		return "has too many digits behind the point";
	case VALUE_BACKWARDS:
		return "runs from more to less";
	case VALUE_STALL:
		return "has a stall that is zero or longer than its window";
	case VALUE_WINDOW:
		return "has a window that the kernel refuses";
	case VALUE_WORD:
		return "is not one of the choices";
	case VALUE_OPEN_QUOTE:
		return "has a quote that is never closed (a ; after a blank begins a "
		       "comment: "
		       "write \\; for the character)";
	case VALUE_OPEN_BACKSLASH:
		return "ends in a backslash that has nothing to escape";
	case VALUE_SIGNAL_TAKEN:
		return "is a signal that has another meaning";
	}
	return "is fine";
}
