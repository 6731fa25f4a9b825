/* Decimal numbers with units. All arithmetic is on unsigned integers with overflow checked, so
 * 1.5G is exact and nothing wraps. */
#include "config/amount.h"

#include <inttypes.h>
#include <string.h>

#include "config/value.h"

/* clang-format off */

/* Largest first, down to 1: the formatter takes the first that divides. What comes after is
 * for reading only. */
const struct amount_unit amount_sizes[] = {
	{ "T", 1ULL << 40 },
	{ "G", 1ULL << 30 },
	{ "M", 1ULL << 20 },
	{ "K", 1ULL << 10 },
	{ "", 1 },
	{ "t", 1ULL << 40 },
	{ "g", 1ULL << 30 },
	{ "m", 1ULL << 20 },
	{ "k", 1ULL << 10 },
	{ NULL, 0 },
};

const struct amount_unit amount_times[] = {
	{ "d", 24 * USEC_PER_HOUR },
	{ "h", USEC_PER_HOUR },
	{ "m", USEC_PER_MIN },
	{ "s", USEC_PER_SEC },
	{ "ms", USEC_PER_MSEC },
	{ "us", 1 },
	{ "", USEC_PER_SEC },
	{ NULL, 0 },
};

/* clang-format on */

const struct amount_unit amount_percents[] = { { "%", 100 }, { NULL, 0 } };
const struct amount_unit amount_plain[] = { { "", 1 }, { NULL, 0 } };

static const struct amount_unit *find_unit(const struct amount_unit *units,
					   const char *name)
{
	for (; units->name; units++)
		if (strcmp(units->name, name) == 0)
			return units;
	return NULL;
}

/* Saturates at a value that the caller refuses. */
static uint64_t number(const char *digits, size_t n)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < n; i++)
		if (__builtin_mul_overflow(sum, 10, &sum) ||
		    __builtin_add_overflow(sum, (unsigned)(digits[i] - '0'), &sum))
			return UINT64_MAX;
	return sum;
}

/* The part of a unit that the digits behind the point stand for. What would come out as nothing
 * is not quietly turned into 0, which means "off" to many options. */
static int fraction(const char *digits, size_t n, uint64_t unit, uint64_t *ret)
{
	uint64_t sum, scale = 1;
	unsigned __int128 product;

	while (n > 0 && digits[n - 1] == '0')
		n--;
	if (n > 9)
		return VALUE_TOO_FINE;
	for (size_t i = 0; i < n; i++)
		scale *= 10;
	sum = number(digits, n);
	product = (unsigned __int128)sum * unit; /* 1 ns of a T takes 70 bits */
	if (unit <= 100 && product % scale)
		return VALUE_TOO_FINE;
	*ret = (uint64_t)(product / scale);
	return sum > 0 && *ret == 0 ? VALUE_TOO_FINE : VALUE_OK;
}

int amount_parse(const char *text, const struct amount_unit *units, uint64_t *ret)
{
	size_t n_whole = strspn(text, "0123456789"), n_part = 0;
	const char *part = NULL, *rest = text + n_whole;
	uint64_t whole, below = 0;
	const struct amount_unit *unit;
	int r;

	if (*rest == '.') {
		part = rest + 1;
		n_part = strspn(part, "0123456789");
		rest = part + n_part;
	}
	unit = find_unit(units, rest);
	if (n_whole == 0 || !unit || (part && n_part == 0))
		return VALUE_MALFORMED;
	r = part ? fraction(part, n_part, unit->amount, &below) : VALUE_OK;
	if (r != VALUE_OK)
		return r;
	if (__builtin_mul_overflow(number(text, n_whole), unit->amount, &whole) ||
	    __builtin_add_overflow(whole, below, &whole) || whole > (uint64_t)INT64_MAX)
		return VALUE_ABOVE;
	*ret = whole;
	return VALUE_OK;
}

const char *amount_format(uint64_t n, const struct amount_unit *units, char *buf)
{
	while (units->amount > 1 && (n == 0 || n % units->amount))
		units++;
	(void)snprintf(buf, VALUE_TEXT_MAX, "%" PRIu64 "%s", n / units->amount,
		       units->name);
	return buf;
}
