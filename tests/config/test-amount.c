/* Every way to write a number with a unit, and every way to get it wrong. */
#include "config/amount.h"

#include <criterion/criterion.h>
#include <inttypes.h>

#include "config/value.h"

struct row {
	const char *text;
	int outcome;
	uint64_t value;
};

static void check(const struct amount_unit *units, const struct row *rows, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		uint64_t value = 4711;
		int r = amount_parse(rows[i].text, units, &value);

		cr_expect_eq(r, rows[i].outcome, "'%s' answered %d, not %d", rows[i].text,
			     r, rows[i].outcome);
		cr_expect_eq(value, r == VALUE_OK ? rows[i].value : 4711,
			     "'%s' left %" PRIu64, rows[i].text, value);
	}
}

#define CHECK(units, rows) check(units, rows, sizeof(rows) / sizeof((rows)[0]))

Test(amount, sizes)
{
	static const struct row rows[] = {
		{ "0", VALUE_OK, 0 },
		{ "1", VALUE_OK, 1 },
		{ "010", VALUE_OK, 10 },
		{ "4096", VALUE_OK, 4096 },
		{ "1K", VALUE_OK, 1024 },
		{ "512M", VALUE_OK, 512ULL << 20 },
		{ "512m", VALUE_OK, 512ULL << 20 },
		{ "1.5G", VALUE_OK, 3ULL << 29 },
		{ "1.50000000000000G", VALUE_OK, 3ULL << 29 },
		{ "1.0", VALUE_OK, 1 },
		{ "0.3K", VALUE_OK, 307 },
		{ "2t", VALUE_OK, 2ULL << 40 },
		{ "0.000000001T", VALUE_OK, 1099 },
		{ "9223372036854775807", VALUE_OK, INT64_MAX },
		{ "8388607T", VALUE_OK, 8388607ULL << 40 },
		{ "9223372036854775808", VALUE_ABOVE, 0 },
		{ "8388608T", VALUE_ABOVE, 0 },
		{ "8388607.9999999999T", VALUE_TOO_FINE, 0 },
		{ "18446744073709551615", VALUE_ABOVE, 0 },
		{ "18446744073709551616", VALUE_ABOVE, 0 },
		{ "18446744073709551626", VALUE_ABOVE, 0 },
		{ "16777216T", VALUE_ABOVE, 0 },
		{ "99999999999999999999999999999999999999999999", VALUE_ABOVE, 0 },
		{ "1.5", VALUE_TOO_FINE, 0 },
		{ "0.0001K", VALUE_TOO_FINE, 0 },
		{ "1.0000000001G", VALUE_TOO_FINE, 0 },
		{ "", VALUE_MALFORMED, 0 },
		{ "G", VALUE_MALFORMED, 0 },
		{ ".5G", VALUE_MALFORMED, 0 },
		{ "5.G", VALUE_MALFORMED, 0 },
		{ "1.5.5", VALUE_MALFORMED, 0 },
		{ "1.5.5G", VALUE_MALFORMED, 0 },
		{ "1,5G", VALUE_MALFORMED, 0 },
		{ "-1", VALUE_MALFORMED, 0 },
		{ "+1", VALUE_MALFORMED, 0 },
		{ "1 G", VALUE_MALFORMED, 0 },
		{ " 1G", VALUE_MALFORMED, 0 },
		{ "1G ", VALUE_MALFORMED, 0 },
		{ "1GB", VALUE_MALFORMED, 0 },
		{ "1GiB", VALUE_MALFORMED, 0 },
		{ "1P", VALUE_MALFORMED, 0 },
		{ "0x10", VALUE_MALFORMED, 0 },
		{ "1e3", VALUE_MALFORMED, 0 },
		{ "inf", VALUE_MALFORMED, 0 },
		{ "80%", VALUE_MALFORMED, 0 },
		{ "\xd9\xa1", VALUE_MALFORMED, 0 }, /* a digit, but not one of ours */
	};

	CHECK(amount_sizes, rows);
}

Test(amount, times)
{
	static const struct row rows[] = {
		{ "0", VALUE_OK, 0 },
		{ "30", VALUE_OK, 30 * USEC_PER_SEC },
		{ "1.5", VALUE_OK, 1500 * USEC_PER_MSEC },
		{ "7us", VALUE_OK, 7 },
		{ "500ms", VALUE_OK, 500 * USEC_PER_MSEC },
		{ "0.5ms", VALUE_OK, 500 },
		{ "30s", VALUE_OK, 30 * USEC_PER_SEC },
		{ "5m", VALUE_OK, 5 * USEC_PER_MIN },
		{ "1h", VALUE_OK, USEC_PER_HOUR },
		{ "1.5h", VALUE_OK, 90 * USEC_PER_MIN },
		{ "2d", VALUE_OK, 48 * USEC_PER_HOUR },
		{ "0.0000001s", VALUE_TOO_FINE, 0 },
		{ "0.1us", VALUE_TOO_FINE, 0 },
		{ "106751991167d", VALUE_ABOVE, 0 },
		{ "9223372036855", VALUE_ABOVE, 0 },
		{ "1h30m", VALUE_MALFORMED, 0 },
		{ "30 s", VALUE_MALFORMED, 0 },
		{ "30S", VALUE_MALFORMED, 0 },
		{ "5min", VALUE_MALFORMED, 0 },
		{ "-1s", VALUE_MALFORMED, 0 },
		{ "s", VALUE_MALFORMED, 0 },
	};

	CHECK(amount_times, rows);
}

Test(amount, percentages)
{
	static const struct row rows[] = {
		{ "0%", VALUE_OK, 0 },
		{ "80%", VALUE_OK, 8000 },
		{ "12.5%", VALUE_OK, 1250 },
		{ "0.01%", VALUE_OK, 1 },
		{ "33.3300%", VALUE_OK, 3333 },
		{ "101%", VALUE_OK, 10100 }, /* who uses it sets the limit */
		{ "0.001%", VALUE_TOO_FINE, 0 },
		{ "12.345%", VALUE_TOO_FINE, 0 },
		{ "80", VALUE_MALFORMED, 0 },
		{ "80 %", VALUE_MALFORMED, 0 },
		{ "%", VALUE_MALFORMED, 0 },
		{ "80%%", VALUE_MALFORMED, 0 },
		{ "-1%", VALUE_MALFORMED, 0 },
	};

	CHECK(amount_percents, rows);
}

/* Any amount comes back from its own text. */
Test(amount, text_reads_back)
{
	static const struct amount_unit *const tables[] = { amount_sizes, amount_times,
							    amount_plain };
	uint64_t n = 1;
	char buf[VALUE_TEXT_MAX];

	for (unsigned i = 0; i < 200000; i++) {
		/* Bare seconds read back as seconds, so the formatter must name the unit. */
		for (size_t t = 0; t < sizeof(tables) / sizeof(tables[0]); t++) {
			uint64_t back = 0;
			uint64_t value = (n >> (i % 63)) & INT64_MAX;
			const char *text = amount_format(value, tables[t], buf);

			cr_assert_eq(amount_parse(text, tables[t], &back), VALUE_OK, "%s",
				     text);
			cr_assert_eq(back, value, "%s", text);
		}
		n = n * 6364136223846793005ULL + 1442695040888963407ULL;
	}
}
