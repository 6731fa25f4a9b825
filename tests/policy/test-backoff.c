/* The curve of waits for a worker that does not come up. */
#include "policy/backoff.h"

#include <criterion/criterion.h>

#define SEC USEC_PER_SEC

Test(backoff, a_worker_that_had_been_ready_does_not_wait)
{
	cr_assert_eq(backoff_usec(0, 30 * SEC), 0);
}

Test(backoff, grows_by_half_to_its_ceiling)
{
	cr_assert_eq(backoff_usec(1, 30 * SEC), 1500000);
	cr_assert_eq(backoff_usec(2, 30 * SEC), 2250000);
	cr_assert_eq(backoff_usec(3, 30 * SEC), 3375000);
	cr_assert_eq(backoff_usec(8, 30 * SEC), 25628905);
	cr_assert_eq(backoff_usec(9, 30 * SEC), 30 * SEC);
}

Test(backoff, never_falls_never_overflows_never_loops_long)
{
	usec_t last = 0;

	for (uint32_t n = 0; n < 300; n++) {
		cr_assert_geq(backoff_usec(n, USEC_NEVER), last);
		last = backoff_usec(n, USEC_NEVER);
	}
	cr_assert_eq(backoff_usec(UINT32_MAX, USEC_NEVER), USEC_NEVER);
	cr_assert_eq(backoff_usec(UINT32_MAX, 30 * SEC), 30 * SEC);
	cr_assert_eq(backoff_usec(3, 0), 0);
}
