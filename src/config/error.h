/* The text of struct config_error, piece by piece. For the files of this folder. */
#pragma once

#include <stdarg.h>

#include "config/config.h"

/* Sets the text; what does not fit is cut, and control characters become ?. Answers CONFIG_BAD. */
int error_set(struct config_error *err, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* Adds to it. */
void error_add(struct config_error *err, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

void error_vadd(struct config_error *err, const char *format, va_list args)
	__attribute__((format(printf, 2, 0)));

/* "Out of memory"; answers -ENOMEM. */
int error_memory(struct config_error *err);

#define ERROR_QUOTE_MAX 160

/* What the operator wrote, fit for one line: control characters as ?, the end of a long text
 * as ... */
const char *error_quote(const char *text, char buf[ERROR_QUOTE_MAX]);

/* "FILE:12: [pool] workers = many: "; value NULL leaves " = many" out. */
int error_at(struct config_error *err, const char *where, const char *section,
	     const char *key, const char *value);
