/* The kinds of option values: text of one value <-> plain data. Pure: no file, no log; only
 * strings and lists allocate.
 *
 * A kind is a pair of functions. The parser takes the whole text, already stripped of blanks
 * and comments, and accepts nothing but a complete value: no sign, no blank inside, no
 * rounding that the reader could not have meant. The formatter writes text that the parser
 * reads back to the same value. */
#pragma once

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "util/time.h"

/* ---- what the fields of struct config are made of ---- */

enum config_size_kind {
	SIZE_AUTO,
	SIZE_BYTES,
	SIZE_PERMYRIAD, /* of what, the option says */
};

struct config_size {
	enum config_size_kind kind;
	uint64_t value; /* bytes or permyriad; 0 for SIZE_AUTO */
};

struct config_range {
	usec_t min, max; /* min <= max */
};

/* Both 0: off. Otherwise 0 < stall <= window, 500 ms <= window <= 10 s, as the kernel has it
 * (kernel/sched/psi.c, psi_trigger_create). */
struct config_pressure {
	usec_t stall_usec, window_usec;
};

struct config_list {
	char **items;
	char **where; /* origin of each item, as struct config has it for single values */
	size_t n;
};

/* A TIME_OR_AUTO of "auto". */
#define CONFIG_TIME_AUTO USEC_NEVER

/* Kind and the C type behind it. */
#define CONFIG_TYPE_COUNT	  int64_t
#define CONFIG_TYPE_COUNT_OR_AUTO int64_t	     /* 0: auto */
#define CONFIG_TYPE_BYTES	  uint64_t	     /* "512M", "1.5G", "4096" */
#define CONFIG_TYPE_SIZE	  struct config_size /* bytes, or "80%" */
#define CONFIG_TYPE_SIZE_OR_AUTO  struct config_size
#define CONFIG_TYPE_PERCENT	  uint32_t /* permyriad */
#define CONFIG_TYPE_TIME	  usec_t /* "500ms", "30s", "5m", "1h", "2d"; "30" is seconds */
#define CONFIG_TYPE_TIME_OR_OFF	  usec_t	      /* 0: off */
#define CONFIG_TYPE_TIME_OR_AUTO  usec_t	      /* 0: off; CONFIG_TIME_AUTO */
#define CONFIG_TYPE_RANGE	  struct config_range /* "30s..60s", or "30s" for both */
#define CONFIG_TYPE_PRESSURE	  struct config_pressure /* "200ms/2s", "off" */
#define CONFIG_TYPE_BOOL	  bool
#define CONFIG_TYPE_STRING	  char * /* NULL: unset */
#define CONFIG_TYPE_NAME	  char * /* [A-Za-z0-9_.-], at most 48, no dot or dash first */
#define CONFIG_TYPE_COMMAND	  char * /* config_split_words() accepts it */
#define CONFIG_TYPE_LIST	  struct config_list
#define CONFIG_TYPE_ENV		  struct config_list /* NAME=VALUE each */
#define CONFIG_TYPE_SIGNAL	  int
#define CONFIG_TYPE_OCTAL	  uint32_t

/* ---- kinds at run time ---- */

enum value_kind {
	KIND_COUNT,
	KIND_COUNT_OR_AUTO,
	KIND_BYTES,
	KIND_SIZE,
	KIND_SIZE_OR_AUTO,
	KIND_PERCENT,
	KIND_TIME,
	KIND_TIME_OR_OFF,
	KIND_TIME_OR_AUTO,
	KIND_RANGE,
	KIND_PRESSURE,
	KIND_BOOL,
	KIND_CHOICE, /* unsigned, an index into words */
	KIND_STRING,
	KIND_NAME,
	KIND_COMMAND,
	KIND_LIST,
	KIND_ENV,
	KIND_SIGNAL,
	KIND_OCTAL,
};

struct value_spec {
	enum value_kind kind;
	int64_t min, max; /* in the unit of the kind; INT64_MAX: no limit worth naming */
	const char *const *words; /* KIND_CHOICE: ends in NULL */
};

/* What can be wrong with a value; value_problem() has the sentence. */
enum value_outcome {
	VALUE_OK,
	VALUE_EMPTY,
	VALUE_CONTROL,	 /* a control character: it could not be written back */
	VALUE_MALFORMED, /* not of this kind at all */
	VALUE_BELOW,
	VALUE_ABOVE,
	VALUE_TOO_FINE,	 /* more digits behind the point than the unit has */
	VALUE_BACKWARDS, /* a range from more to less */
	VALUE_STALL,	 /* a stall of nothing, or longer than its window */
	VALUE_WINDOW,
	VALUE_WORD, /* not one of the words */
	VALUE_OPEN_QUOTE,
	VALUE_OPEN_BACKSLASH,
	VALUE_SIGNAL_TAKEN,
};

static inline bool value_is_list(enum value_kind kind)
{
	return kind == KIND_LIST || kind == KIND_ENV;
}

static inline bool value_is_string(enum value_kind kind)
{
	return kind == KIND_STRING || kind == KIND_NAME || kind == KIND_COMMAND;
}

/* Reads text as spec says into *ret, whose type is CONFIG_TYPE_<kind>, except that a list kind
 * reads one item into a char *. A string is a copy that the caller owns; "" becomes NULL for
 * string kinds and is VALUE_EMPTY for all others. An outcome above, or -ENOMEM. */
int value_parse(const struct value_spec *spec, const char *text, void *ret);

#define VALUE_TEXT_MAX 64

/* The value as text that value_parse() reads back: static, in buf, or the string itself ("" for
 * NULL). A list kind formats one item, a char *. */
const char *value_format(const struct value_spec *spec, const void *value,
			 char buf[VALUE_TEXT_MAX]);

#define VALUE_ALLOWED_MAX 200

/* "auto, or a whole number from 1 to 4096": what value_parse() takes, for a message or a list
 * of options. */
void value_allowed(const struct value_spec *spec, char buf[VALUE_ALLOWED_MAX]);

/* "is too small": static; for positive outcomes. */
const char *value_problem(enum value_outcome outcome);
