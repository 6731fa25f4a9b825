/* What must not be done, to see that the stress test would find it: malloc_trim(3) in a signal
 * handler, as a library that takes the idea at its word would do it. Built for tests alone. */
#include <malloc.h>
#include <signal.h>

static void trim_here(int number)
{
	(void)number;
	(void)malloc_trim(0);
}

__attribute__((constructor)) static void install(void)
{
	struct sigaction action = { .sa_handler = trim_here, .sa_flags = SA_RESTART };

	(void)sigaction(SIGUSR2, &action, NULL);
}
