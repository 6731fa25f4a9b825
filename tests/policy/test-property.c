/* Random pools, random supervisors, random lies: no promise is ever broken. */
#include <criterion/criterion.h>

#include "driver.h"

static uint64_t next_random(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
	return z ^ (z >> 31);
}

Test(property, promises_hold_whatever_happens)
{
	static uint8_t data[16384];
	size_t n_decisions = 0;

	for (uint64_t seed = 1; seed <= 3000; seed++) {
		uint64_t state = seed * 1000003;

		for (size_t i = 0; i < sizeof(data); i++)
			data[i] = (uint8_t)next_random(&state);
		n_decisions += driver_run(data, 512 + next_random(&state) %
								(sizeof(data) - 512));
	}
	cr_assert_gt(n_decisions, 100000, "only %zu decisions", n_decisions);
}
