/* Records to text and back, by the table that process/state.def expands to. Knows no supervisor:
 * what the records mean is supervisor/carry.c's. It must never trust the text. */
#include "process/state.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "process/cause.h"
#include "process/lifecycle.h"
#include "process/socket.h"
#include "util/cleanup.h"

enum {
	FD_MIN = 3,
	FD_MAX = 1 << 20,
	LINE_MAX_LENGTH =
		2048, /* the longest text, every character escaped, and its name */
};

#define FIRST_LINE "trimtab state "
#define LAST_LINE  "[end]"

struct field {
	const char *name;
	enum { KIND_NUMBER, KIND_FLAG, KIND_FD, KIND_TEXT } kind;
	size_t offset, size;
	uint64_t max;
};

#define FIELD(record, name, kind, max)                        \
	{ #name, kind, offsetof(struct state_##record, name), \
	  sizeof(((struct state_##record *)NULL)->name), max },

#define RECORD(record)		  static const struct field fields_of_##record[] = {
#define NUMBER(record, name, max) FIELD(record, name, KIND_NUMBER, max)
#define FLAG(record, name)	  FIELD(record, name, KIND_FLAG, 1)
#define FD(record, name)	  FIELD(record, name, KIND_FD, FD_MAX)
#define TEXT(record, name, size)  FIELD(record, name, KIND_TEXT, 0)
#define END(record) \
	}           \
	;
#include "process/state.def"

static const struct kind {
	const char *name;
	const struct field *fields;
	size_t n_fields, size;
	size_t items, n_items; /* where struct state has them */
} kinds[] = {
#define RECORD(record)                    \
	{ #record,                        \
	  fields_of_##record,             \
	  ELEMENTS(fields_of_##record),   \
	  sizeof(struct state_##record),  \
	  offsetof(struct state, record), \
	  offsetof(struct state, n_##record) },
#include "process/state.def"
};

enum {
#define RECORD(record) STATE_##record,
#include "process/state.def"
};

/* ---- lists ---- */

static char **items_of(const struct kind *k, const struct state *s)
{
	return (char **)(void *)((char *)s + k->items);
}

static size_t *count_of(const struct kind *k, const struct state *s)
{
	return (size_t *)(void *)((char *)s + k->n_items);
}

static void *add(struct state *s, const struct kind *k)
{
	char **items = items_of(k, s), *grown, *item;
	size_t *n = count_of(k, s);

	if (*n >= STATE_MAX)
		return NULL;
	/* Powers of two: 64 Ki records are copied sixteen times, not 64 Ki times. */
	if ((*n & (*n - 1)) == 0) {
		grown = realloc(*items, (*n ? *n * 2 : 1) * k->size);
		if (!grown)
			return NULL;
		*items = grown;
	}
	item = *items + *n * k->size;
	(*n)++;
	memset(item, 0, k->size);
	for (size_t i = 0; i < k->n_fields; i++)
		if (k->fields[i].kind == KIND_FD)
			*(int *)(void *)(item + k->fields[i].offset) = -1;
	return item;
}

#define RECORD(record)                                             \
	struct state_##record *state_add_##record(struct state *s) \
	{                                                          \
		return add(s, &kinds[STATE_##record]);             \
	}
#include "process/state.def"

void state_done(struct state *s)
{
	for (size_t i = 0; i < ELEMENTS(kinds); i++)
		free(*items_of(&kinds[i], s));
	*s = (struct state){ 0 };
}

int state_each_fd(const struct state *s, int (*visit)(int fd, void *userdata),
		  void *userdata)
{
	for (const struct kind *k = kinds; k < kinds + ELEMENTS(kinds); k++)
		for (size_t n = 0; n < *count_of(k, s); n++)
			for (size_t i = 0; i < k->n_fields; i++) {
				const char *item = *items_of(k, s) + n * k->size;
				int fd, r;

				if (k->fields[i].kind != KIND_FD)
					continue;
				memcpy(&fd, item + k->fields[i].offset, sizeof(fd));
				r = fd < 0 ? 0 : visit(fd, userdata);
				if (r != 0)
					return r;
			}
	return 0;
}

/* ---- writing ---- */

static void put_text(const char *text, FILE *out)
{
	for (const unsigned char *p = (const unsigned char *)text; *p; p++)
		if (*p > ' ' && *p < 127 && *p != '%')
			(void)fputc(*p, out);
		else
			(void)fprintf(out, "%%%02x", *p);
}

static void put_field(const struct field *f, const char *item, FILE *out)
{
	const void *value = item + f->offset;

	(void)fprintf(out, "%s=", f->name);
	switch (f->kind) {
	case KIND_NUMBER:
		(void)fprintf(out, "%" PRIu64, *(const uint64_t *)value);
		break;
	case KIND_FLAG:
		(void)fprintf(out, "%d", *(const bool *)value);
		break;
	case KIND_FD:
		(void)fprintf(out, "%d", *(const int *)value);
		break;
	case KIND_TEXT:
		put_text(value, out);
		break;
	}
	(void)fputc('\n', out);
}

int state_write(const struct state *s, FILE *out)
{
	(void)fprintf(out, FIRST_LINE "%d\n", STATE_VERSION);
	for (const struct kind *k = kinds; k < kinds + ELEMENTS(kinds); k++)
		for (size_t n = 0; n < *count_of(k, s); n++) {
			(void)fprintf(out, "[%s]\n", k->name);
			for (size_t i = 0; i < k->n_fields; i++)
				put_field(&k->fields[i], *items_of(k, s) + n * k->size,
					  out);
		}
	(void)fprintf(out, LAST_LINE "\n");
	if (fflush(out) != 0)
		return -errno;
	return ferror(out) ? -EIO : 0;
}

/* ---- reading ---- */

struct reader {
	const char *next, *end;
	unsigned number; /* of the line */
	struct state_error *err;
	const struct kind *kind; /* of the record that is being read */
	char *item;
	uint64_t seen; /* its fields, a bit each */
	char line[LINE_MAX_LENGTH + 1];
};

#define RECORD(record)                                     \
	_Static_assert(ELEMENTS(fields_of_##record) <= 64, \
		       "reader.seen has a bit for each field");
#include "process/state.def"

__attribute__((format(printf, 2, 3))) static int refuse(struct state_error *err,
							const char *format, ...)
{
	va_list args;

	va_start(args, format);
	(void)vsnprintf(err->text, sizeof(err->text), format, args);
	va_end(args);
	return -EBADMSG;
}

static int refuse_line(const struct reader *r, const char *problem)
{
	return refuse(r->err, "line %u of the state, %.60s: %s", r->number, r->line,
		      problem);
}

/* Returns 1 and a line, or 0 where there is no whole and plain one. */
static int next_line(struct reader *r)
{
	const char *newline = r->next < r->end
				      ? memchr(r->next, '\n', (size_t)(r->end - r->next))
				      : NULL;
	size_t length = newline ? (size_t)(newline - r->next) : 0;

	if (!newline || length > LINE_MAX_LENGTH || memchr(r->next, '\0', length))
		return 0;
	memcpy(r->line, r->next, length);
	r->line[length] = '\0';
	r->next = newline + 1;
	r->number++;
	return 1;
}

/* Plain decimals only: no sign, no blank, no leading zero that another base might take up. */
static bool parse_decimal(const char *text, uint64_t *ret)
{
	char *end;

	if (text[0] < '0' || text[0] > '9' || (text[0] == '0' && text[1]))
		return false;
	errno = 0;
	*ret = strtoull(text, &end, 10);
	return errno == 0 && *end == '\0';
}

static int hex_digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool parse_text(const char *text, char *to, size_t size)
{
	for (size_t n = 0;; n++, text++) {
		int high, low;

		if (n == size)
			return false;
		to[n] = *text;
		if (*text == '\0')
			return true;
		if (*text != '%')
			continue;
		high = hex_digit(text[1]);
		low = high < 0 ? -1 : hex_digit(text[2]);
		if (low < 0 || (high == 0 && low == 0))
			return false;
		to[n] = (char)(high << 4 | low);
		text += 2;
	}
}

static bool parse_value(const struct field *f, const char *text, char *item)
{
	void *value = item + f->offset;
	uint64_t number = 0;

	if (f->kind == KIND_TEXT)
		return parse_text(text, value, f->size);
	if (f->kind == KIND_FD && strcmp(text, "-1") == 0) {
		*(int *)value = -1;
		return true;
	}
	if (!parse_decimal(text, &number) || number > f->max ||
	    (f->kind == KIND_FD && number < FD_MIN))
		return false;
	if (f->kind == KIND_NUMBER)
		*(uint64_t *)value = number;
	else if (f->kind == KIND_FLAG)
		*(bool *)value = number == 1;
	else
		*(int *)value = (int)number;
	return true;
}

static int read_field(struct reader *r)
{
	char *equals = strchr(r->line, '=');

	if (!r->item || !equals)
		return refuse_line(r, "not understood");
	for (size_t i = 0; i < r->kind->n_fields; i++) {
		const struct field *f = &r->kind->fields[i];

		if (strlen(f->name) != (size_t)(equals - r->line) ||
		    memcmp(f->name, r->line, strlen(f->name)) != 0)
			continue;
		if (r->seen & UINT64_C(1) << i)
			return refuse_line(r, "given twice");
		r->seen |= UINT64_C(1) << i;
		return parse_value(f, equals + 1, r->item)
			       ? 0
			       : refuse_line(r, "out of range");
	}
	return refuse_line(r, "a later version's");
}

static int begin_record(struct reader *r, struct state *s)
{
	size_t length = strlen(r->line);

	for (const struct kind *k = kinds; k < kinds + ELEMENTS(kinds); k++) {
		if (strlen(k->name) + 2 != length || r->line[length - 1] != ']' ||
		    memcmp(r->line + 1, k->name, length - 2) != 0)
			continue;
		r->kind = k;
		r->seen = 0;
		r->item = add(s, k);
		if (r->item)
			return 0;
		return *count_of(k, s) >= STATE_MAX ? refuse_line(r, "too many")
						    : -ENOMEM;
	}
	return refuse_line(r, "a later version's");
}

static int read_records(struct reader *r, struct state *s)
{
	char first[sizeof(FIRST_LINE) + 12];
	int error = 0;

	(void)snprintf(first, sizeof(first), FIRST_LINE "%d", STATE_VERSION);
	if (!next_line(r) || strncmp(r->line, FIRST_LINE, strlen(FIRST_LINE)) != 0)
		return refuse(r->err, "this is no state of trimtab");
	if (strcmp(r->line, first) != 0)
		return refuse(r->err,
			      "the state is of version %.20s, and %d is understood here",
			      r->line + strlen(FIRST_LINE), STATE_VERSION);
	while (error == 0 && next_line(r)) {
		if (strcmp(r->line, LAST_LINE) == 0)
			return r->next == r->end ? 0
						 : refuse_line(r, "something follows");
		error = r->line[0] == '[' ? begin_record(r, s) : read_field(r);
	}
	return error ? error
		     : refuse(r->err, "the state breaks off after line %u", r->number);
}

/* ---- checking ---- */

static int check_slots(const struct state *s, struct state_error *err)
{
	const struct state_pool *p = s->pool;

	if (s->n_pool != 1)
		return refuse(err, "the state is of %zu pools", s->n_pool);
	if (p->n_slots != s->n_slot || p->n_slots > p->capacity ||
	    p->target > p->capacity || p->target == 0)
		return refuse(err,
			      "the state has %zu slots, says %" PRIu64
			      ", and room for %" PRIu64,
			      s->n_slot, p->n_slots, p->capacity);
	for (size_t i = 0; i < s->n_slot; i++)
		if (s->slot[i].number != i + 1)
			return refuse(err, "slot %zu of the state has another number",
				      i + 1);
	return 0;
}

static bool is_slot(const struct state *s, uint64_t number)
{
	return number >= 1 && number <= s->n_slot;
}

static int check_workers(const struct state *s, struct state_error *err)
{
	auto_free unsigned char *taken = calloc(s->n_slot + 1, 1);

	if (!taken)
		return -ENOMEM;
	for (size_t i = 0; i < s->n_worker; i++) {
		const struct state_worker *w = &s->worker[i];
		unsigned char role = (unsigned char)(w->serves << 1 | w->comes);

		if (!is_slot(s, w->slot) || role == 3 ||
		    (role && taken[w->slot] & role) || w->state == WORKER_NONE)
			return refuse(err, "worker %zu of the state has no place", i + 1);
		taken[w->slot] |= role;
		if (w->forking ? w->pidfd >= 0 : w->pidfd < 0 || w->pid <= 1)
			return refuse(err, "worker %zu of the state has no process",
				      i + 1);
	}
	return 0;
}

static bool has_worker(const struct state *s, uint64_t pid)
{
	for (size_t i = 0; i < s->n_worker; i++)
		if (s->worker[i].pid == pid)
			return true;
	return false;
}

static int check_rest(const struct state *s, struct state_error *err)
{
	for (size_t i = 0; i < s->n_listener; i++)
		if (!is_slot(s, s->listener[i].slot) || s->listener[i].fd < 0)
			return refuse(err, "listener %zu of the state has no slot",
				      i + 1);
	for (size_t i = 0; i < s->n_output; i++)
		if (s->output[i].worker > s->n_slot || s->output[i].fd < 0)
			return refuse(err, "output %zu of the state has no slot", i + 1);
	for (size_t i = 0; i < s->n_socket; i++)
		if (s->socket[i].fd < 0)
			return refuse(err, "socket %zu of the state is not there", i + 1);
	for (size_t i = 0; i < s->n_leaf; i++)
		if (s->leaf[i].dir_fd < 0 || !s->leaf[i].name[0] ||
		    strchr(s->leaf[i].name, '/'))
			return refuse(err, "leaf %zu of the state is not there", i + 1);
	for (size_t i = 0; i < s->n_template; i++)
		if (s->template[i].pid <= 1 || s->template[i].pidfd < 0 ||
		    s->template[i].fd < 0)
			return refuse(err, "template %zu of the state has no process",
				      i + 1);
	if (s->n_trim > 1 || s->n_template > 1 || s->n_quarantine > 1)
		return refuse(err, "the state has more trims, templates or quarantines "
				   "than there can be");
	for (size_t i = 0; i < s->n_quarantine; i++)
		if (!has_worker(s, s->quarantine[i].pid))
			return refuse(err, "the quarantine of the state is nobody's");
	return 0;
}

static int meet(int fd, void *userdata)
{
	unsigned char *byte = (unsigned char *)userdata + fd / 8;
	unsigned char bit = (unsigned char)(1 << fd % 8);

	if (*byte & bit)
		return fd;
	*byte |= bit;
	return 0;
}

static int check_descriptors(const struct state *s, struct state_error *err)
{
	auto_free unsigned char *met = calloc(FD_MAX / 8 + 1, 1);
	int fd;

	if (!met)
		return -ENOMEM;
	fd = state_each_fd(s, meet, met);
	return fd > 0 ? refuse(err, "descriptor %d is in the state twice", fd) : 0;
}

int state_read(const char *text, size_t n, struct state *ret, struct state_error *err)
{
	auto_free struct reader *r = calloc(1, sizeof(*r));
	CLEANUP(state_done) struct state s = { 0 };
	int error;

	*err = (struct state_error){ "" };
	if (!r)
		return -ENOMEM;
	if (n > STATE_SIZE_MAX)
		return refuse(err, "the state is too long");
	*r = (struct reader){ .next = text, .end = text + n, .err = err };
	error = read_records(r, &s);
	if (error == 0)
		error = check_slots(&s, err);
	if (error == 0)
		error = check_workers(&s, err);
	if (error == 0)
		error = check_rest(&s, err);
	if (error == 0)
		error = check_descriptors(&s, err);
	if (error == 0) {
		*ret = s;
		s = (struct state){ 0 };
	}
	return error;
}
