/* Runs any program under a supervisor that never lets it rest:
 *
 *   preload-torment [-o OPERATIONS] [-i USEC] [-w WAIT_MSEC] [-f] [-b LIBRARY] -- COMMAND...
 *
 * Asks for OPERATIONS (a sum of enum trimtab_operation; 7: all) every USEC from the hello to the
 * end, by futex with -f; LIBRARY is preloaded before ours. Ends as the program did, 128 + signal
 * where one killed it, and 125 when a request was not served in a minute. How a test suite or a
 * server fares under it is the question that it answers. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "driver.h"
#include "util/time.h"

struct totals {
	unsigned long n_served, n_gone;
	uint64_t purged_bytes, collected;
};

static void pause_usec(long usec)
{
	const struct timespec pause = {
		.tv_sec = usec / 1000000,
		.tv_nsec = usec % 1000000 * 1000,
	};

	(void)nanosleep(&pause, NULL);
}

static bool has_ended(struct driver *driver)
{
	if (!driver->ended)
		driver->ended =
			waitpid(driver->pid, &driver->status, WNOHANG) == driver->pid;
	return driver->ended;
}

/* Not served: the program has ended or become another, or the library hangs. */
static bool ask(struct driver *driver, uint32_t operations, struct totals *totals)
{
	const struct trimtab_page *page = driver->page;

	if (driver_request(driver, operations) < 0) {
		totals->n_gone++;
		return true;
	}
	if (!driver_await_done(driver))
		return atomic_load(&page->waits) == 0 || has_ended(driver) ||
		       kill(driver->pid, 0) < 0;
	totals->n_served++;
	totals->purged_bytes += page->purged_bytes;
	totals->collected += page->gc_result == TRIMTAB_GC_DONE;
	return true;
}

static void report(const struct driver *driver, const struct totals *totals)
{
	const struct trimtab_page *page = driver->page;

	fprintf(stderr,
		"preload-torment: %lu served, %lu without a thread, %lu collections, %lu "
		"late "
		"trims, %.2f MiB purged, pymalloc %u, longest hold %.1f ms\n",
		totals->n_served, totals->n_gone, (unsigned long)totals->collected,
		(unsigned long)page->n_late_trims,
		(double)totals->purged_bytes / (1 << 20), page->pymalloc,
		(double)page->longest_hold_nsec / 1e6);
}

int main(int argc, char **argv)
{
	struct driver_setup setup = { .own_streams = true };
	uint32_t operations = TRIMTAB_OP_TRIM, wait_msec = 10;
	struct totals totals = { 0 };
	struct driver driver;
	long interval_usec = 1000;
	int option, code;

	while ((option = getopt(argc, argv, "+o:i:w:fb:")) != -1)
		switch (option) {
		case 'o':
			operations = (uint32_t)atoi(optarg);
			break;
		case 'i':
			interval_usec = atol(optarg);
			break;
		case 'w':
			wait_msec = (uint32_t)atoi(optarg);
			break;
		case 'f':
			setup.wake = TRIMTAB_WAKE_FUTEX;
			break;
		case 'b':
			setup.preload_before = optarg;
			break;
		default:
			return 2;
		}
	if (optind == argc || driver_start(&driver, &setup, argv + optind) < 0)
		return 2;
	atomic_store(&driver.page->gc_wait_msec, wait_msec);
	if (!driver_await_hello(&driver))
		fprintf(stderr, "preload-torment: no hello\n");
	while (!has_ended(&driver)) {
		if (!ask(&driver, operations, &totals)) {
			fprintf(stderr, "preload-torment: not served\n");
			return 125;
		}
		pause_usec(interval_usec);
	}
	report(&driver, &totals);
	code = driver_await_end(&driver);
	driver_stop(&driver);
	return code < 0 ? 128 - code : code;
}
