/* Any bytes as limits, events, samples and clocks of a pool under the policy; the promises are
 * those of tests/policy/driver.h. */
#include "../policy/driver.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	(void)driver_run(data, size);
	return 0;
}
