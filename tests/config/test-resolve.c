/* Sizes against the whole they are a part of. */
#include "config/resolve.h"

#include <criterion/criterion.h>

#define PART(n) ((struct config_size){ SIZE_PERMYRIAD, n })

Test(resolve, sizes)
{
	cr_expect_eq(config_resolve_size((struct config_size){ SIZE_AUTO, 0 }, 100, 7),
		     7);
	cr_expect_eq(config_resolve_size((struct config_size){ SIZE_BYTES, 300 }, 100, 7),
		     300);
	cr_expect_eq(config_resolve_size(PART(8000), 1000, 7), 800);
	cr_expect_eq(config_resolve_size(PART(1), 9999, 7), 0);
	cr_expect_eq(config_resolve_size(PART(0), 1000, 7), 0);
	cr_expect_eq(config_resolve_size(PART(3333), 3, 7), 0);
}

Test(resolve, a_part_of_no_limit_is_no_limit)
{
	cr_expect_eq(config_resolve_size(PART(8000), UINT64_MAX, 7), UINT64_MAX);
	cr_expect_eq(config_resolve_size(PART(10000), UINT64_MAX - 1, 7), UINT64_MAX - 1);
	cr_expect_eq(config_resolve_size(PART(5000), UINT64_MAX - 1, 7), UINT64_MAX / 2);
}
