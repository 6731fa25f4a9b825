/* Numbers with a unit, as people write them: "1.5G", "30s", "12.5%", "8". Pure. */
#pragma once

#include <stdint.h>

struct amount_unit {
	const char *name;
	uint64_t amount;
};

extern const struct amount_unit
	amount_sizes[]; /* bytes; K, M, G, T of 1024, either case */
extern const struct amount_unit
	amount_times[]; /* microseconds; a bare number is seconds */
extern const struct amount_unit amount_percents[]; /* permyriad */
extern const struct amount_unit amount_plain[];

/* Digits, maybe a point and digits, a unit, and nothing else. What does not come out even is
 * rounded down, except for plain numbers and percentages, and except to 0: those are
 * VALUE_TOO_FINE. At most INT64_MAX. enum value_outcome. */
int amount_parse(const char *text, const struct amount_unit *units, uint64_t *ret);

/* n in the largest unit that divides it, at most 24 characters; in buf, which holds
 * VALUE_TEXT_MAX. */
const char *amount_format(uint64_t n, const struct amount_unit *units, char *buf);
