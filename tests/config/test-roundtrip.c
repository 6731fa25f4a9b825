/* A dump reads back to the same config, whatever is in it. */
#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "config/config.h"
#include "config/option.h"

static uint64_t state = 88172645463325252ULL;

static uint64_t next_random(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

static uint64_t below(uint64_t n)
{
	return next_random() % n;
}

static char *dump(const struct config *c)
{
	char *text = NULL;
	size_t n = 0;
	FILE *out = open_memstream(&text, &n);

	cr_assert_not_null(out);
	cr_assert_eq(config_dump(c, out), 0);
	fclose(out);
	return text;
}

static void expect_same(const struct config *a, const struct config *b, const char *text)
{
	for (size_t i = 0; i < N_KEYS; i++) {
		const struct config_option *o = &config_options[i];
		const void *left = option_value(o, a), *right = option_value(o, b);
		char l[VALUE_TEXT_MAX], r[VALUE_TEXT_MAX];

		cr_assert_eq(!a->where[i], !b->where[i], "%s: set in one alone\n%s",
			     o->identifier, text);
		if (value_is_list(o->spec.kind)) {
			const struct config_list *x = left, *y = right;

			cr_assert_eq(x->n, y->n, "%s\n%s", o->identifier, text);
			for (size_t j = 0; j < x->n; j++)
				cr_assert_str_eq(x->items[j], y->items[j], "%s", text);
			continue;
		}
		cr_assert_str_eq(value_format(&o->spec, left, l),
				 value_format(&o->spec, right, r), "%s\n%s",
				 o->identifier, text);
	}
}

static void check(const struct config *c)
{
	auto_config struct config *back = NULL;
	struct config_error err;
	char *text = dump(c);

	cr_assert_eq(config_new(&back), 0);
	cr_assert_eq(config_load_text(back, "dump.ini", text, strlen(text), &err), 0,
		     "%s\n%s", err.text, text);
	expect_same(c, back, text);
	free(text);
}

Test(roundtrip, defaults)
{
	auto_config struct config *c = NULL;

	cr_assert_eq(config_new(&c), 0);
	check(c);
}

/* ---- random values of every kind ---- */

static const char *random_string(char *buf, size_t size)
{
	static const char letters[] = "aZ09 \t;;;\\\\\\#=:[]'\"%$-./\xc3\xbc";
	size_t n = below(size);

	for (size_t i = 0; i < n; i++)
		buf[i] = letters[below(sizeof(letters) - 1)];
	buf[n] = '\0';
	return buf;
}

static uint64_t within(const struct value_spec *spec)
{
	uint64_t span = (uint64_t)spec->max - (uint64_t)spec->min;
	uint64_t n = next_random() >> below(64);

	/* Round numbers are what people write, and what takes the largest units. */
	if (below(2))
		n &= ~((1ULL << below(40)) - 1);
	return (uint64_t)spec->min + (span == UINT64_MAX ? n : n % (span + 1));
}

static const char *random_value(const struct value_spec *spec, char *buf, size_t size)
{
	uint64_t a, b;

	switch (spec->kind) {
	case KIND_COUNT_OR_AUTO:
	case KIND_SIZE_OR_AUTO:
	case KIND_TIME_OR_AUTO:
		if (below(4) == 0)
			return "auto";
		break;
	case KIND_TIME_OR_OFF:
	case KIND_PRESSURE:
		if (below(4) == 0)
			return "off";
		break;
	default:
		break;
	}
	switch (spec->kind) {
	case KIND_COUNT:
	case KIND_COUNT_OR_AUTO:
	case KIND_BYTES:
		(void)snprintf(buf, size, "%" PRIu64, within(spec));
		break;
	case KIND_SIZE:
	case KIND_SIZE_OR_AUTO:
		if (below(2))
			(void)snprintf(buf, size, "%" PRIu64, within(spec));
		else
			(void)snprintf(buf, size, "%" PRIu64 ".%02" PRIu64 "%%",
				       below(100), 1 + below(99));
		break;
	case KIND_PERCENT:
		(void)snprintf(buf, size, "%" PRIu64 ".%02" PRIu64 "%%", below(50),
			       below(100));
		break;
	case KIND_TIME:
	case KIND_TIME_OR_OFF:
	case KIND_TIME_OR_AUTO:
		(void)snprintf(buf, size, "%" PRIu64 "us", within(spec));
		break;
	case KIND_RANGE:
		a = within(spec);
		b = within(spec);
		(void)snprintf(buf, size, "%" PRIu64 "us..%" PRIu64 "us", a < b ? a : b,
			       a < b ? b : a);
		break;
	case KIND_PRESSURE:
		b = 500000 + below(9500001);
		(void)snprintf(buf, size, "%" PRIu64 "us/%" PRIu64 "us", 1 + below(b), b);
		break;
	case KIND_BOOL:
		return below(2) ? "yes" : "no";
	case KIND_CHOICE:
		for (a = 0; spec->words[a]; a++)
			continue;
		return spec->words[below(a)];
	case KIND_STRING:
	case KIND_COMMAND:
	case KIND_LIST:
		return random_string(buf, size);
	case KIND_NAME:
		(void)snprintf(buf, size, "pool-%" PRIu64, below(1000));
		break;
	case KIND_ENV:
		(void)snprintf(buf, size, "NAME%" PRIu64 "=", below(10));
		random_string(buf + strlen(buf), size - strlen(buf));
		break;
	case KIND_SIGNAL:
		(void)snprintf(buf, size, "RTMIN+%" PRIu64, below(31));
		break;
	case KIND_OCTAL:
		(void)snprintf(buf, size, "%03" PRIo64, within(spec));
		break;
	}
	return buf;
}

Test(roundtrip, anything_that_can_be_set)
{
	unsigned n_set = 0;

	for (unsigned round = 0; round < 3000; round++) {
		auto_config struct config *c = NULL;

		cr_assert_eq(config_new(&c), 0);
		for (unsigned i = 0; i < 20; i++) {
			enum config_key key = (enum config_key)below(N_KEYS);
			struct config_error err;
			char buf[40];
			const char *value =
				random_value(&config_options[key].spec, buf, sizeof(buf));
			const char *where = below(2) ? "--set" : "a \\odd\\; origin\n\\";
			int r = config_set_value(c, key, value, where, &err);

			/* Random strings are no command lines at times; all else must do. */
			cr_assert(r == 0 || config_options[key].spec.kind == KIND_COMMAND,
				  "%s", err.text);
			n_set += r == 0;
		}
		check(c);
	}
	cr_assert_gt(n_set, 3000 * 15);
}

/* The longest value, with each second character in need of an escape. */
Test(roundtrip, long_values)
{
	auto_config struct config *c = NULL;
	struct config_error err;
	char *value = malloc(32769);

	for (size_t i = 0; i < 32768; i++)
		value[i] = i % 2 ? ';' : ' ';
	value[0] = 'x';
	value[32768] = '\0';
	cr_assert_eq(config_new(&c), 0);
	cr_assert_eq(config_set_value(c, KEY_pool_chdir, value, "--set", &err), 0);
	cr_assert_eq(strlen(c->pool_chdir), 32768);
	check(c);
	free(value);
}

Test(roundtrip, an_emptied_list_stays_empty)
{
	auto_config struct config *c = NULL;
	struct config_error err;

	cr_assert_eq(config_new(&c), 0);
	cr_assert_eq(config_set(c, "pool.bind=:80", &err), 0);
	cr_assert_eq(config_set(c, "pool.bind=", &err), 0);
	check(c);
}

Test(roundtrip, a_full_disk_is_reported)
{
	auto_config struct config *c = NULL;
	FILE *out = fopen("/dev/full", "w");

	cr_assert_eq(config_new(&c), 0);
	cr_assert_not_null(out);
	cr_expect_lt(config_dump(c, out), 0);
	fclose(out);
}
