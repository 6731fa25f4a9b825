/* What survives an upgrade in place, as plain data and as the text that crosses the exec.
 *
 * The text is a list of records, [worker] and the like, each followed by NAME=VALUE lines, under a
 * first line that names the version and with a last one that says it is whole. It is read by another
 * version of the program than wrote it, so every length, range and name is checked: what is not
 * understood in full is refused, and the old program goes on. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum {
	STATE_VERSION = 1,
	STATE_MAX = 1 << 16,	   /* records of one kind, slots, and numbers of them */
	STATE_SIZE_MAX = 64 << 20, /* bytes of text */
};

#define RECORD(record)		  struct state_##record {
#define NUMBER(record, name, max) uint64_t name;
#define FLAG(record, name)	  bool name;
#define FD(record, name)	  int name;
#define TEXT(record, name, size)  char name[size];
/* clang-format off */
#define END(record)		  };
/* clang-format on */
#include "process/state.def"

/* All of them: s.worker[0] to s.worker[s.n_worker - 1], and so on. */
struct state {
#define RECORD(record)                 \
	struct state_##record *record; \
	size_t n_##record;
#include "process/state.def"
};

struct state_error {
	char text[160]; /* one line without newline */
};

/* Adds an empty record, descriptors -1, and returns it: good until the next one of its kind is
 * added. NULL without memory, or beyond STATE_MAX. */
#define RECORD(record) struct state_##record *state_add_##record(struct state *s);
#include "process/state.def"

void state_done(struct state *s);

/* Writes the text. Returns 0 or -errno of the stream. */
int state_write(const struct state *s, FILE *out);

/* Reads it; text need not end in NUL. On success every number and text is within the range of its
 * row, there is one pool, slots are numbered 1 to n_slots in order, and workers, listeners and
 * outputs name slots that exist. Descriptors are 3 or above, or -1, and none occurs twice. Returns 0
 * and *ret (state_done() is the caller's), -EBADMSG with err->text, or -ENOMEM. */
int state_read(const char *text, size_t n, struct state *ret, struct state_error *err);

/* Calls visit for every descriptor in it but -1.
 * Returns 0, or what visit returned when that was not 0, and stops there. */
int state_each_fd(const struct state *s, int (*visit)(int fd, void *userdata),
		  void *userdata);
