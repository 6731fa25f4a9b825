/* Every kind of value: what it takes, what it refuses, what it leaves alone when it refuses. */
#include "config/value.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <string.h>

#define M ((uint64_t)1 << 20)

static const char *const surges[] = { "auto", "always", "never", NULL };

/* A refused value must not touch the field. */
static int parse(const struct value_spec *spec, const char *text, void *field,
		 size_t size)
{
	unsigned char before[64];
	int r;

	cr_assert_leq(size, sizeof(before));
	memcpy(before, field, size);
	r = value_parse(spec, text, field);
	if (r != VALUE_OK)
		cr_expect_arr_eq(before, field, size, "'%s' was refused but stored",
				 text);
	return r;
}

#define EXPECT(spec, text, field, want)                                             \
	do {                                                                        \
		int r_ = parse(spec, text, &(field), sizeof(field));                \
		cr_expect_eq(r_, want, "'%s' answered %d, not %d", text, r_, want); \
	} while (0)

Test(value, counts)
{
	const struct value_spec spec = { KIND_COUNT, 1, 4096, NULL };
	const struct value_spec or_auto = { KIND_COUNT_OR_AUTO, 1, 4096, NULL };
	int64_t n = -7;

	EXPECT(&spec, "8", n, VALUE_OK);
	cr_expect_eq(n, 8);
	EXPECT(&spec, "4096", n, VALUE_OK);
	cr_expect_eq(n, 4096);
	EXPECT(&spec, "0", n, VALUE_BELOW);
	EXPECT(&spec, "4097", n, VALUE_ABOVE);
	EXPECT(&spec, "auto", n, VALUE_MALFORMED);
	EXPECT(&spec, "-1", n, VALUE_MALFORMED);
	EXPECT(&spec, "8 ", n, VALUE_MALFORMED);
	EXPECT(&spec, "1K", n, VALUE_MALFORMED);
	EXPECT(&spec, "1.5", n, VALUE_TOO_FINE);
	EXPECT(&spec, "", n, VALUE_EMPTY);
	EXPECT(&spec, "99999999999999999999", n, VALUE_ABOVE);
	EXPECT(&or_auto, "auto", n, VALUE_OK);
	cr_expect_eq(n, 0);
	EXPECT(&or_auto, "0", n, VALUE_BELOW);
	EXPECT(&or_auto, "Auto", n, VALUE_MALFORMED);
}

Test(value, sizes)
{
	const struct value_spec spec = { KIND_SIZE, 0, INT64_MAX, NULL };
	const struct value_spec from_1m = { KIND_SIZE_OR_AUTO, M, INT64_MAX, NULL };
	const struct value_spec bytes = { KIND_BYTES, 0, 1 << 30, NULL };
	struct config_size size = { SIZE_BYTES, 42 };
	uint64_t n = 42;

	EXPECT(&spec, "1.5G", size, VALUE_OK);
	cr_expect(size.kind == SIZE_BYTES && size.value == 1536 * M);
	EXPECT(&spec, "80%", size, VALUE_OK);
	cr_expect(size.kind == SIZE_PERMYRIAD && size.value == 8000);
	EXPECT(&spec, "0%", size, VALUE_OK);
	EXPECT(&spec, "100%", size, VALUE_OK);
	EXPECT(&spec, "0", size, VALUE_OK);
	EXPECT(&spec, "101%", size, VALUE_ABOVE);
	EXPECT(&spec, "100.01%", size, VALUE_ABOVE);
	EXPECT(&spec, "12.345%", size, VALUE_TOO_FINE);
	EXPECT(&spec, "%", size, VALUE_MALFORMED);
	EXPECT(&spec, "80 %", size, VALUE_MALFORMED);
	EXPECT(&spec, "auto", size, VALUE_MALFORMED);
	EXPECT(&spec, "-1", size, VALUE_MALFORMED);
	EXPECT(&spec, "1.5.5", size, VALUE_MALFORMED);
	EXPECT(&spec, "8388608T", size, VALUE_ABOVE);
	EXPECT(&from_1m, "auto", size, VALUE_OK);
	cr_expect(size.kind == SIZE_AUTO && size.value == 0);
	EXPECT(&from_1m, "1M", size, VALUE_OK);
	EXPECT(&from_1m, "1023K", size, VALUE_BELOW);
	EXPECT(&from_1m, "0%", size, VALUE_BELOW);
	EXPECT(&from_1m, "0.01%", size, VALUE_OK);
	EXPECT(&bytes, "2M", n, VALUE_OK);
	cr_expect_eq(n, 2 * M);
	EXPECT(&bytes, "10%", n, VALUE_MALFORMED);
	EXPECT(&bytes, "1025M", n, VALUE_ABOVE);
}

Test(value, percentages)
{
	const struct value_spec spec = { KIND_PERCENT, 0, 5000, NULL };
	uint32_t n = 42;

	EXPECT(&spec, "10%", n, VALUE_OK);
	cr_expect_eq(n, 1000);
	EXPECT(&spec, "0%", n, VALUE_OK);
	EXPECT(&spec, "50%", n, VALUE_OK);
	EXPECT(&spec, "50.01%", n, VALUE_ABOVE);
	EXPECT(&spec, "10", n, VALUE_MALFORMED);
	EXPECT(&spec, "429496730%", n, VALUE_ABOVE);
}

Test(value, times)
{
	const struct value_spec spec = { KIND_TIME, 1000, 3600000000, NULL };
	const struct value_spec or_off = { KIND_TIME_OR_OFF, 1000, 3600000000, NULL };
	const struct value_spec or_auto = { KIND_TIME_OR_AUTO, 1000, 3600000000, NULL };
	usec_t t = 42;

	EXPECT(&spec, "30s", t, VALUE_OK);
	cr_expect_eq(t, 30 * USEC_PER_SEC);
	EXPECT(&spec, "30", t, VALUE_OK);
	cr_expect_eq(t, 30 * USEC_PER_SEC);
	EXPECT(&spec, "1h", t, VALUE_OK);
	EXPECT(&spec, "0", t, VALUE_BELOW);
	EXPECT(&spec, "999us", t, VALUE_BELOW);
	EXPECT(&spec, "3601", t, VALUE_ABOVE);
	EXPECT(&spec, "off", t, VALUE_MALFORMED);
	EXPECT(&spec, "auto", t, VALUE_MALFORMED);
	EXPECT(&or_off, "off", t, VALUE_OK);
	cr_expect_eq(t, 0);
	EXPECT(&or_off, "0", t, VALUE_OK);
	EXPECT(&or_off, "0s", t, VALUE_OK);
	EXPECT(&or_off, "1us", t, VALUE_BELOW);
	EXPECT(&or_off, "auto", t, VALUE_MALFORMED);
	EXPECT(&or_auto, "auto", t, VALUE_OK);
	cr_expect_eq(t, CONFIG_TIME_AUTO);
	EXPECT(&or_auto, "off", t, VALUE_OK);
	cr_expect_eq(t, 0);
}

Test(value, ranges)
{
	const struct value_spec spec = { KIND_RANGE, 1000000, 3600000000, NULL };
	struct config_range range = { 1, 2 };

	EXPECT(&spec, "30s..60s", range, VALUE_OK);
	cr_expect(range.min == 30 * USEC_PER_SEC && range.max == 60 * USEC_PER_SEC);
	EXPECT(&spec, "1.5..2m", range, VALUE_OK);
	cr_expect(range.min == 1500 * USEC_PER_MSEC && range.max == 2 * USEC_PER_MIN);
	EXPECT(&spec, "45s", range, VALUE_OK);
	cr_expect(range.min == 45 * USEC_PER_SEC && range.max == range.min);
	EXPECT(&spec, "60s..30s", range, VALUE_BACKWARDS);
	EXPECT(&spec, "500ms..2s", range, VALUE_BELOW);
	EXPECT(&spec, "2s..2h", range, VALUE_ABOVE);
	EXPECT(&spec, "..60s", range, VALUE_MALFORMED);
	EXPECT(&spec, "30s..", range, VALUE_MALFORMED);
	EXPECT(&spec, "..", range, VALUE_MALFORMED);
	EXPECT(&spec, "30s...60s", range, VALUE_MALFORMED);
	EXPECT(&spec, "30s .. 60s", range, VALUE_MALFORMED);
	EXPECT(&spec, "30s-60s", range, VALUE_MALFORMED);
	EXPECT(&spec, "1s..2s..3s", range, VALUE_MALFORMED);
	EXPECT(&spec,
	       "0000000000000000000000000000000000000000000000000000000000000000001s..2s",
	       range, VALUE_MALFORMED);
}

Test(value, pressures)
{
	const struct value_spec spec = { .kind = KIND_PRESSURE };
	struct config_pressure p = { 1, 2 };

	EXPECT(&spec, "200ms/2s", p, VALUE_OK);
	cr_expect(p.stall_usec == 200 * USEC_PER_MSEC &&
		  p.window_usec == 2 * USEC_PER_SEC);
	EXPECT(&spec, "off", p, VALUE_OK);
	cr_expect(p.stall_usec == 0 && p.window_usec == 0);
	EXPECT(&spec, "2s/2s", p, VALUE_OK);
	EXPECT(&spec, "1us/500ms", p, VALUE_OK);
	EXPECT(&spec, "1s/10s", p, VALUE_OK);
	EXPECT(&spec, "3s/2s", p, VALUE_STALL);
	EXPECT(&spec, "0/2s", p, VALUE_STALL);
	EXPECT(&spec, "1ms/499ms", p, VALUE_WINDOW);
	EXPECT(&spec, "1ms/11s", p, VALUE_WINDOW);
	EXPECT(&spec, "200ms", p, VALUE_MALFORMED);
	EXPECT(&spec, "/", p, VALUE_MALFORMED);
	EXPECT(&spec, "200ms/2s/3s", p, VALUE_MALFORMED);
	EXPECT(&spec, "10%/2s", p, VALUE_MALFORMED);
}

Test(value, words)
{
	const struct value_spec yes_no = { .kind = KIND_BOOL };
	const struct value_spec choice = { KIND_CHOICE, 0, 0, surges };
	bool b = false;
	unsigned n = 42;

	for (const char *const *w =
		     (const char *const[]){ "yes", "true", "on", "1", NULL };
	     *w; w++) {
		b = false;
		EXPECT(&yes_no, *w, b, VALUE_OK);
		cr_expect(b, "%s", *w);
	}
	for (const char *const *w =
		     (const char *const[]){ "no", "false", "off", "0", NULL };
	     *w; w++) {
		b = true;
		EXPECT(&yes_no, *w, b, VALUE_OK);
		cr_expect(!b, "%s", *w);
	}
	EXPECT(&yes_no, "maybe", b, VALUE_MALFORMED);
	EXPECT(&yes_no, "YES", b, VALUE_MALFORMED);
	EXPECT(&yes_no, "", b, VALUE_EMPTY);
	EXPECT(&choice, "always", n, VALUE_OK);
	cr_expect_eq(n, 1);
	EXPECT(&choice, "allways", n, VALUE_WORD);
	EXPECT(&choice, "alway", n, VALUE_WORD);
	EXPECT(&choice, "", n, VALUE_EMPTY);
}

Test(value, signals)
{
	const struct value_spec spec = { .kind = KIND_SIGNAL };
	char text[VALUE_TEXT_MAX];
	int sig = 42;

	EXPECT(&spec, "SIGUSR2", sig, VALUE_OK);
	cr_expect_eq(sig, SIGUSR2);
	EXPECT(&spec, "USR1", sig, VALUE_OK);
	cr_expect_eq(sig, SIGUSR1);
	EXPECT(&spec, "SIGRTMIN", sig, VALUE_OK);
	cr_expect_eq(sig, SIGRTMIN);
	EXPECT(&spec, "SIGRTMIN+3", sig, VALUE_OK);
	cr_expect_eq(sig, SIGRTMIN + 3);
	EXPECT(&spec, "RTMAX-1", sig, VALUE_OK);
	cr_expect_eq(sig, SIGRTMAX - 1);
	EXPECT(&spec, "SIGRTMIN+30", sig, VALUE_OK);
	cr_expect_eq(sig, SIGRTMAX);
	EXPECT(&spec, "12", sig, VALUE_OK);
	cr_expect_eq(sig, SIGUSR2);
	EXPECT(&spec, "SIGRTMIN+31", sig, VALUE_ABOVE);
	EXPECT(&spec, "SIGRTMIN+18446744073709551615", sig, VALUE_ABOVE);
	EXPECT(&spec, "SIGRTMAX-31", sig, VALUE_BELOW);
	EXPECT(&spec, "SIGRTMIN-1", sig, VALUE_MALFORMED);
	EXPECT(&spec, "SIGRTMIN+", sig, VALUE_MALFORMED);
	EXPECT(&spec, "SIGRTMAX+1", sig, VALUE_MALFORMED);
	EXPECT(&spec, "sigusr2", sig, VALUE_MALFORMED);
	EXPECT(&spec, "SIG", sig, VALUE_MALFORMED);
	EXPECT(&spec, "SIGFOO", sig, VALUE_MALFORMED);
	EXPECT(&spec, "0", sig, VALUE_BELOW);
	EXPECT(&spec, "65", sig, VALUE_ABOVE);
	EXPECT(&spec, "4294967308", sig, VALUE_ABOVE); /* 12, were it cut to 32 bits */

	/* All that the kernel, the launcher or gunicorn give a meaning to, by number and name. */
	for (int n = 1; n < SIGRTMIN; n++) {
		const char *name = sigabbrev_np(n);

		if (n == SIGUSR1 || n == SIGUSR2)
			continue;
		(void)snprintf(text, sizeof(text), "%d", n);
		EXPECT(&spec, text, sig, VALUE_SIGNAL_TAKEN);
		if (!name)
			continue; /* 32 and 33 have none */
		(void)snprintf(text, sizeof(text), "SIG%s", name);
		EXPECT(&spec, text, sig, VALUE_SIGNAL_TAKEN);
	}
}

Test(value, permissions)
{
	const struct value_spec spec = { KIND_OCTAL, 0, 0777, NULL };
	uint32_t mode = 42;

	EXPECT(&spec, "0660", mode, VALUE_OK);
	cr_expect_eq(mode, 0660);
	EXPECT(&spec, "777", mode, VALUE_OK);
	EXPECT(&spec, "0", mode, VALUE_OK);
	EXPECT(&spec, "1777", mode, VALUE_ABOVE);
	EXPECT(&spec, "7777777777777777777777777777777", mode, VALUE_ABOVE);
	EXPECT(&spec, "0689", mode, VALUE_MALFORMED);
	EXPECT(&spec, "rw-rw----", mode, VALUE_MALFORMED);
	EXPECT(&spec, "0o660", mode, VALUE_MALFORMED);
	EXPECT(&spec, "-1", mode, VALUE_MALFORMED);
}

static void expect_string(enum value_kind kind, const char *text, int outcome)
{
	const struct value_spec spec = { .kind = kind };
	char *s = NULL;

	EXPECT(&spec, text, s, outcome);
	if (outcome == VALUE_OK)
		cr_expect_str_eq(s ? s : "", text);
	free(s);
}

Test(value, strings)
{
	expect_string(KIND_STRING, "/usr/bin/python3", VALUE_OK);
	expect_string(KIND_STRING, "with\ttab and \xc3\xbc", VALUE_OK);
	expect_string(KIND_STRING, "", VALUE_OK);
	expect_string(KIND_STRING, "two\nlines", VALUE_CONTROL);
	expect_string(KIND_STRING, "bell\a", VALUE_CONTROL);
	expect_string(KIND_STRING, "del\x7f", VALUE_CONTROL);
	expect_string(KIND_LIST, "unix:/run/shop.sock", VALUE_OK);
	expect_string(KIND_LIST, "", VALUE_EMPTY);
}

Test(value, names)
{
	expect_string(KIND_NAME, "shop", VALUE_OK);
	expect_string(KIND_NAME, "Shop_2.blue-green", VALUE_OK);
	expect_string(KIND_NAME, "123456789012345678901234567890123456789012345678",
		      VALUE_OK);
	expect_string(KIND_NAME, "1234567890123456789012345678901234567890123456789",
		      VALUE_ABOVE);
	expect_string(KIND_NAME, ".", VALUE_MALFORMED);
	expect_string(KIND_NAME, "..", VALUE_MALFORMED);
	expect_string(KIND_NAME, ".hidden", VALUE_MALFORMED);
	expect_string(KIND_NAME, "-c", VALUE_MALFORMED);
	expect_string(KIND_NAME, "my shop", VALUE_MALFORMED);
	expect_string(KIND_NAME, "a/b", VALUE_MALFORMED);
	expect_string(KIND_NAME, "\xc3\xbc", VALUE_MALFORMED);
}

Test(value, commands)
{
	expect_string(KIND_COMMAND, "./worker --fd 3", VALUE_OK);
	expect_string(KIND_COMMAND, "-k gthread --access-logformat '%(h)s' app:app",
		      VALUE_OK);
	expect_string(KIND_COMMAND, "sh -c 'exec", VALUE_OPEN_QUOTE);
	expect_string(KIND_COMMAND, "worker \\", VALUE_OPEN_BACKSLASH);
}

Test(value, environments)
{
	expect_string(KIND_ENV, "DJANGO_SETTINGS_MODULE=shop.settings", VALUE_OK);
	expect_string(KIND_ENV, "EMPTY=", VALUE_OK);
	expect_string(KIND_ENV, "A=b=c d", VALUE_OK);
	expect_string(KIND_ENV, "=x", VALUE_MALFORMED);
	expect_string(KIND_ENV, "NOVALUE", VALUE_MALFORMED);
	expect_string(KIND_ENV, "TWO WORDS=x", VALUE_MALFORMED);
	expect_string(KIND_ENV, "A = b", VALUE_MALFORMED);
}

Test(value, no_kind_takes_nothing_or_noise)
{
	for (unsigned kind = KIND_COUNT; kind <= KIND_OCTAL; kind++) {
		const struct value_spec spec = { (enum value_kind)kind, 1, 1000000,
						 surges };
		unsigned char field[64] = { 0 };

		if (value_is_string(spec.kind))
			continue;
		cr_expect_eq(parse(&spec, "", field, sizeof(field)), VALUE_EMPTY);
		cr_expect_eq(parse(&spec, "1\n", field, sizeof(field)), VALUE_CONTROL);
		cr_expect_eq(parse(&spec, "a\x1b[0m", field, sizeof(field)),
			     VALUE_CONTROL);
	}
}

/* Every message must be whole: what is allowed fits its buffer, and each outcome has a word. */
Test(value, says_what_is_allowed)
{
	for (unsigned kind = KIND_COUNT; kind <= KIND_OCTAL; kind++) {
		const struct value_spec spec = { (enum value_kind)kind, 1, INT64_MAX - 1,
						 surges };
		char allowed[VALUE_ALLOWED_MAX];

		value_allowed(&spec, allowed);
		cr_expect_gt(strlen(allowed), 5, "kind %u", kind);
		cr_expect_lt(strlen(allowed), VALUE_ALLOWED_MAX - 1, "kind %u is cut: %s",
			     kind, allowed);
	}
	for (unsigned o = VALUE_EMPTY; o <= VALUE_SIGNAL_TAKEN; o++)
		cr_expect_str_neq(value_problem((enum value_outcome)o), "is fine");
}

Test(value, says_ranges_in_the_unit_of_the_kind)
{
	char allowed[VALUE_ALLOWED_MAX];

	value_allowed(&(struct value_spec){ KIND_COUNT_OR_AUTO, 1, 4096, NULL }, allowed);
	cr_expect_str_eq(allowed, "auto, or a whole number from 1 to 4096");
	value_allowed(&(struct value_spec){ KIND_SIZE_OR_AUTO, M, INT64_MAX, NULL },
		      allowed);
	cr_expect_str_eq(allowed, "auto, a size such as 512M or 1.5G of at least 1M, "
				  "or a percentage up to 100%");
	value_allowed(&(struct value_spec){ KIND_TIME, 0, 3600000000, NULL }, allowed);
	cr_expect_str_eq(allowed, "a time such as 500ms, 30s, 5m or 1h, from 0s to 1h");
	value_allowed(&(struct value_spec){ KIND_CHOICE, 0, 0, surges }, allowed);
	cr_expect_str_eq(allowed, "auto, always or never");
	value_allowed(&(struct value_spec){ KIND_PERCENT, 0, 5000, NULL }, allowed);
	cr_expect_str_eq(allowed, "a percentage from 0% to 50%");
	value_allowed(&(struct value_spec){ KIND_OCTAL, 0, 0777, NULL }, allowed);
	cr_expect_str_eq(allowed, "octal permissions from 0000 to 0777");
}
