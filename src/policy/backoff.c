/* The restart schedule of workers that do not come up. Owns the curve alone; which deaths
 * count is decided where they are noted. */
#include "policy/backoff.h"

#include "policy/arith.h"

usec_t backoff_usec(uint32_t n_failures, usec_t max_usec)
{
	usec_t wait = USEC_PER_SEC;

	if (n_failures == 0)
		return 0;
	/* The loop ends with the ceiling, so a large count costs nothing. */
	for (uint32_t i = 0; i < n_failures && wait < max_usec; i++)
		wait = u64_mul_div(wait, 3, 2);
	return u64_min(wait, max_usec);
}
