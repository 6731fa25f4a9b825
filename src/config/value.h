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
