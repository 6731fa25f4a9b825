/* Of the whole library: a thousand trims a second into a process that does everything at once.
 *
 * $TRIMTAB_STRESS_SECONDS says for how long each variant runs; a few seconds by default. */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "driver.h"
#include "util/time.h"

enum {
	DEFAULT_SECONDS = 2,
	STUCK_MSEC = 5000,
};

static char *hammer[] = { (char *)TRIMTAB_HAMMER, NULL };

static usec_t duration(void)
{
	const char *text = getenv("TRIMTAB_STRESS_SECONDS");

	return (text ? strtoull(text, NULL, 10) : DEFAULT_SECONDS) * USEC_PER_SEC;
}

static void pause_usec(long usec)
{
	const struct timespec pause = { .tv_nsec = usec * 1000 };

	(void)nanosleep(&pause, NULL);
}

static void stress(const struct driver_setup *setup, char *const arguments[],
		   bool foreign)
{
	struct driver driver;
	usec_t end = time_now_usec() + duration();
	unsigned long n_asked = 0;
	long bad;

	cr_assert_eq(driver_start(&driver, setup, arguments), 0);
	cr_assert(driver_await_hello(&driver), "no hello");
	while (time_now_usec() < end) {
		pause_usec(1000);
		cr_assert_eq(driver_request(&driver, TRIMTAB_OP_TRIM), 0,
			     "dead after %lu", n_asked);
		if (foreign && n_asked % 16 == 0)
			(void)driver_queue_signal(&driver, driver.page->helper_tid,
						  (int)driver.page->signal_number, 1);
		n_asked++;
	}
	cr_assert(driver_await_done(&driver),
		  "the last request is not served; it ended with %d",
		  driver_await_end(&driver));
	bad = driver_ask(&driver, "stop");
	cr_assert_eq(bad, 0, "%ld children went wrong", bad);
	cr_assert_eq(driver_await_end(&driver), 0);
	cr_log_info("%lu asked, %lu served, %lu foreign", n_asked,
		    (unsigned long)driver.page->n_served,
		    (unsigned long)driver.page->n_foreign_signals);
	driver_stop(&driver);
}

Test(stress, by_signal)
{
	stress(&(struct driver_setup){ 0 }, hammer, true);
}

Test(stress, by_futex)
{
	stress(&(struct driver_setup){ .wake = TRIMTAB_WAKE_FUTEX }, hammer, false);
}

static void stress_beside(const char *allocator)
{
	if (access(allocator, R_OK) < 0)
		cr_skip_test("%s is not installed", allocator);
	stress(&(struct driver_setup){ .preload_after = allocator }, hammer, true);
}

Test(stress, beside_jemalloc)
{
	stress_beside(TRIMTAB_JEMALLOC);
}

Test(stress, beside_tcmalloc)
{
	stress_beside(TRIMTAB_TCMALLOC);
}

Test(stress, beside_mimalloc)
{
	stress_beside(TRIMTAB_MIMALLOC);
}

/* False when it died or makes no more progress. */
static bool still_works(struct driver *driver, long *operations)
{
	usec_t since = time_now_usec();

	while (usec_sub(time_now_usec(), since) < STUCK_MSEC * USEC_PER_MSEC) {
		long now = driver_ask(driver, "ops");

		if (now < 0)
			return false;
		if (now != *operations) {
			*operations = now;
			return true;
		}
		pause_usec(1000);
	}
	return false;
}

/* Were the trim in a handler, this test would see a crash or a standstill: here it is. */
Test(stress, finds_a_trim_in_a_handler)
{
	char *arguments[] = { (char *)TRIMTAB_HAMMER, "no-fork", NULL };
	struct driver_setup setup = { .library = TRIMTAB_IN_HANDLER };
	struct driver driver;
	unsigned n = 0;
	long operations = 0;

	cr_assert_eq(driver_start(&driver, &setup, arguments), 0);
	cr_assert(still_works(&driver, &operations));
	driver.patience_msec = STUCK_MSEC;
	while (n < 100000 && still_works(&driver, &operations)) {
		(void)kill(driver.pid, SIGUSR2);
		pause_usec(1000);
		n++;
	}
	cr_log_info("it lived through %u signals", n);
	cr_assert_lt(n, 100000, "a trim in a handler did no harm");
	driver_stop(&driver);
}
