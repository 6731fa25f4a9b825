/* Any bytes as a configuration file, as --set and as a command line. Either may be refused, with
 * one bounded line of text; what is accepted must survive being written and read again. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/option.h"
#include "config/words.h"

#define CHECK(condition)          \
	do {                      \
		if (!(condition)) \
			abort();  \
	} while (0)

static void check_message(int r, const struct config_error *err)
{
	if (r == 0)
		return;
	CHECK(r == CONFIG_BAD);
	CHECK(err->text[0] && strlen(err->text) < sizeof(err->text) - 1);
	for (const char *p = err->text; *p; p++)
		CHECK((unsigned char)*p >= ' ' && *p != 0x7f);
}

static struct config *new_config(void)
{
	struct config *c = NULL;

	CHECK(config_new(&c) == 0);
	return c;
}

static bool same_value(const struct config_option *o, const struct config *a,
		       const struct config *b)
{
	const struct config_list *x = option_value(o, a), *y = option_value(o, b);
	char left[VALUE_TEXT_MAX], right[VALUE_TEXT_MAX];

	if (!value_is_list(o->spec.kind))
		return strcmp(value_format(&o->spec, x, left),
			      value_format(&o->spec, y, right)) == 0;
	if (x->n != y->n)
		return false;
	for (size_t i = 0; i < x->n; i++)
		if (strcmp(x->items[i], y->items[i]) != 0)
			return false;
	return true;
}

static void check_round_trip(const struct config *c)
{
	struct config *back = new_config();
	struct config_error err;
	char *text = NULL;
	size_t n = 0;
	FILE *out = open_memstream(&text, &n);

	CHECK(out && config_dump(c, out) == 0 && fclose(out) == 0);
	CHECK(config_load_text(back, "dump.ini", text, n, &err) == 0);
	for (size_t i = 0; i < N_KEYS; i++) {
		CHECK(!c->where[i] == !back->where[i]);
		CHECK(same_value(&config_options[i], c, back));
	}
	free(text);
	config_free(back);
}

static void file(const char *text, size_t size)
{
	struct config *c = new_config();
	struct config_error err = { "" };
	int r = config_load_text(c, "fuzz.ini", text, size, &err);

	check_message(r, &err);
	if (r == 0) {
		check_round_trip(c);
		r = config_validate(c, &err);
		check_message(r, &err);
		if (r == 0)
			check_round_trip(c);
	}
	config_free(c);
}

/* Each line by itself. A refusal leaves a config as good as it was. */
static void assignments(char *text)
{
	struct config *c = new_config();
	char *rest = NULL;

	for (char *line = strtok_r(text, "\n", &rest); line;
	     line = strtok_r(NULL, "\n", &rest)) {
		struct config_error err = { "" };

		check_message(config_set(c, line, &err), &err);
	}
	check_round_trip(c);
	config_free(c);
}

static void words(const char *text)
{
	char **once, **twice, *joined;
	size_t n, m;

	if (config_split_words(text, &once, &n) != 0)
		return;
	CHECK(config_join_words((const char *const *)once, n, &joined) == 0);
	CHECK(config_split_words(joined, &twice, &m) == 0 && m == n);
	for (size_t i = 0; i < n; i++)
		CHECK(strcmp(once[i], twice[i]) == 0);
	config_free_words(twice);
	config_free_words(once);
	free(joined);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* Two blocks: the file has no NUL at its end to lean on. */
	char *bytes = malloc(size ? size : 1), *text = malloc(size + 1);

	CHECK(bytes && text);
	if (size > 0) {
		memcpy(bytes, data, size);
		memcpy(text, data, size);
	}
	text[size] = '\0';

	file(bytes, size);
	words(text);
	assignments(text);
	free(bytes);
	free(text);
	return 0;
}
