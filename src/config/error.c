/* Composes the one line that an operator reads when something is wrong. Writes to the caller's
 * buffer alone, and never fails: a text that does not fit is cut at its end. */
#include "config/error.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

/* Paths and values are whatever the operator typed; a message is one line all the same. */
static void make_printable(char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < ' ' || *text == 0x7f)
			*text = '?';
}

void error_vadd(struct config_error *err, const char *format, va_list args)
{
	size_t at = strlen(err->text);

	(void)vsnprintf(err->text + at, sizeof(err->text) - at, format, args);
	make_printable(err->text + at);
}

int error_set(struct config_error *err, const char *format, ...)
{
	va_list args;

	err->text[0] = '\0';
	va_start(args, format);
	error_vadd(err, format, args);
	va_end(args);
	return CONFIG_BAD;
}

void error_add(struct config_error *err, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	error_vadd(err, format, args);
	va_end(args);
}

int error_memory(struct config_error *err)
{
	(void)error_set(err, "Out of memory");
	return -ENOMEM;
}

const char *error_quote(const char *text, char buf[ERROR_QUOTE_MAX])
{
	size_t n = strlen(text), keep = n;

	if (n >= ERROR_QUOTE_MAX) {
		keep = ERROR_QUOTE_MAX - 4;
		/* Not in the middle of a character of UTF-8. */
		while (keep > 0 && ((unsigned char)text[keep] & 0xc0) == 0x80)
			keep--;
	}
	memcpy(buf, text, keep);
	(void)strcpy(buf + keep, keep < n ? "..." : "");
	make_printable(buf);
	return buf;
}

int error_at(struct config_error *err, const char *where, const char *section,
	     const char *key, const char *value)
{
	char quoted[ERROR_QUOTE_MAX];

	(void)error_set(err, "%s: [%s] %s", where, section, key);
	if (value)
		error_add(err, " = %s", error_quote(value, quoted));
	error_add(err, ": ");
	return CONFIG_BAD;
}
