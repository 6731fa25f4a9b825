/* The estimator on curves of which the answer is known. */
#include "policy/forecast.h"

#include <stdlib.h>

#include "pool.h"

Test(forecast, steady_growth_is_foreseen)
{
	struct forecast f;
	usec_t at;

	forecast_reset(&f);
	for (usec_t t = 0; t <= 1800 * SEC; t += 60 * SEC)
		forecast_add(&f, t, 100 * MIB + t / SEC * 40 * KIB, true);
	cr_assert_eq(f.rate, 40 * 1024);
	at = forecast_reaches(&f, 300 * MIB, 0);
	cr_assert_gt(at, 5000 * SEC);
	cr_assert_lt(at, 5200 * SEC);
}

Test(forecast, no_growth_has_no_deadline)
{
	struct forecast f;

	forecast_reset(&f);
	for (usec_t t = 0; t <= 1800 * SEC; t += 10 * SEC)
		forecast_add(&f, t, 100 * MIB + (t / SEC % 20) * MIB, false);
	cr_assert_eq(forecast_reaches(&f, 300 * MIB, 0), USEC_NEVER);
}

/* The first looks at requests of 80 MiB: rates of MiB per second, and none of them growth. */
Test(forecast, growth_is_told_from_noise_and_no_further_than_history)
{
	struct forecast f;

	forecast_reset(&f);
	forecast_add(&f, 10 * SEC, 70 * MIB, true);
	forecast_add(&f, 12 * SEC, 90 * MIB, true);
	cr_assert_gt(f.rate, 0);
	cr_assert_eq(forecast_growth(&f, 100 * SEC), 0, "of two points");
	forecast_add(&f, 14 * SEC, 60 * MIB, true);
	forecast_add(&f, 16 * SEC, 85 * MIB, true);
	cr_assert_gt(f.rate, 0);
	cr_assert_eq(forecast_growth(&f, 100 * SEC), 0, "of noise");

	forecast_reset(&f);
	for (usec_t t = 0; t <= 10 * SEC; t += SEC)
		forecast_add(&f, t, 100 * MIB + t / SEC * MIB, true);
	cr_assert_eq(forecast_growth(&f, 20 * SEC), 20 * MIB);
	cr_assert_eq(forecast_growth(&f, 3600 * SEC), 80 * MIB, "8 times the past");
}

Test(forecast, what_a_trim_took_back_was_not_growth)
{
	struct forecast f;

	forecast_reset(&f);
	for (usec_t t = 0; t <= 600 * SEC; t += 10 * SEC)
		forecast_add(&f, t, 100 * MIB + t / SEC * 100 * KIB, true);
	forecast_fell(&f, 40 * MIB);
	cr_assert_leq(f.level_bytes, 119 * MIB);
	for (usec_t t = 610 * SEC; t <= 800 * SEC; t += 10 * SEC)
		forecast_add(&f, t, 60 * MIB + t / SEC * 100 * KIB, true);
	cr_assert_eq(f.rate, 100 * 1024);
	cr_assert_geq(f.span_usec, 700 * SEC, "what was before it still counts");
}

Test(forecast, nothing_is_said_far_beyond_what_was_seen)
{
	struct forecast f;
	usec_t t;

	forecast_reset(&f);
	for (t = 0; t <= 100 * SEC; t += 10 * SEC)
		forecast_add(&f, t, 100 * MIB + t / SEC * 100 * KIB, true);
	cr_assert_neq(forecast_reaches(&f, 160 * MIB, 0), USEC_NEVER);
	cr_assert_eq(forecast_reaches(&f, 400 * MIB, 0), USEC_NEVER,
		     "50 min, after 100 s");
	for (; t <= 600 * SEC; t += 10 * SEC)
		forecast_add(&f, t, 100 * MIB + t / SEC * 100 * KIB, true);
	cr_assert_neq(forecast_reaches(&f, 400 * MIB, 0), USEC_NEVER);
}

Test(forecast, nonsense_is_survived)
{
	struct forecast f;

	forecast_reset(&f);
	srand(3);
	for (unsigned int i = 0; i < 20000; i++) {
		uint64_t v = (uint64_t)rand() << (rand() % 40);

		forecast_add(&f, (usec_t)rand() << (rand() % 33), v, i % 2);
		cr_assert_leq(f.n_points, FORECAST_POINTS);
		(void)forecast_reaches(&f, v, 2);
	}
}

Test(forecast, a_lie_has_to_be_told_three_times)
{
	struct forecast f;
	uint64_t level;
	int64_t rate;

	forecast_reset(&f);
	for (usec_t t = 0; t <= 600 * SEC; t += 10 * SEC)
		cr_assert(forecast_add(&f, t, 100 * MIB + t / SEC * KIB, false));
	level = f.level_bytes;
	rate = f.rate;
	cr_assert_not(forecast_add(&f, 610 * SEC, 900 * MIB, false));
	cr_assert_eq(f.level_bytes, level);
	cr_assert_eq(f.rate, rate);
	cr_assert_not(forecast_add(&f, 612 * SEC, 901 * MIB, false));
	cr_assert_eq(f.level_bytes, level);
	cr_assert(forecast_add(&f, 620 * SEC, 100 * MIB + 620 * KIB, false));
	cr_assert_lt(f.level_bytes, 102 * MIB);
	/* What the kernel's own counter vouches for needs no second look. */
	cr_assert(forecast_add(&f, 630 * SEC, 300 * MIB, true));
	cr_assert_geq(f.level_bytes, 300 * MIB);
	cr_assert_not(forecast_add(&f, 640 * SEC, UINT64_MAX, true));
}

Test(forecast, what_was_doubted_is_believed_in_the_end)
{
	struct forecast f;

	forecast_reset(&f);
	for (usec_t t = 0; t <= 600 * SEC; t += 10 * SEC)
		cr_assert(forecast_add(&f, t, 100 * MIB, false));
	cr_assert_not(forecast_add(&f, 601 * SEC, 400 * MIB, false));
	cr_assert_not(forecast_add(&f, 602 * SEC, 401 * MIB, false));
	cr_assert(forecast_add(&f, 603 * SEC, 402 * MIB, false));
	cr_assert_geq(f.level_bytes, 402 * MIB);
	/* Wild ones that never agree are how the worker is. */
	for (usec_t i = 1; i <= 5; i++)
		cr_assert_not(forecast_add(&f, (603 + i) * SEC, i * 1000 * MIB, false));
	cr_assert(forecast_add(&f, 609 * SEC, 7000 * MIB, false));
}
