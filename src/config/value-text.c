/* Values as text: one value in the syntax of the file, what a kind allows, what is wrong.
 *
 * What value_format() writes, value_parse() reads back to the same value. Owns nothing. */
#include <inttypes.h>
#include <string.h>

#include "config/amount.h"
#include "config/value.h"

static const char *format_plain(uint64_t n, char *buf)
{
	return amount_format(n, amount_plain, buf);
}

static const char *format_bytes(uint64_t n, char *buf)
{
	return amount_format(n, amount_sizes, buf);
}

static const char *format_time(uint64_t n, char *buf)
{
	return n == 0 ? "0s" : amount_format(n, amount_times, buf);
}

static const char *format_octal(uint64_t n, char *buf)
{
	(void)snprintf(buf, VALUE_TEXT_MAX, "%04" PRIo64, n);
	return buf;
}

static const char *format_permyriad(uint64_t n, char *buf)
{
	if (n % 100 == 0)
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
		return format_octal(*(const uint32_t *)value, buf);
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
