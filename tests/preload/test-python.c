/* Of src/preload/python.c: a collection where the application expects it, in bounded time, and
 * no harm to an interpreter that starts or ends. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <unistd.h>

#include "driver.h"

#define MIB (1024.0 * 1024.0)

enum {
	N_NODES = 5000,
	N_EXITS = 40,
};

/* Another interpreter can be tested with $TRIMTAB_PYTHON. */
static struct driver start(const char *mode)
{
	const char *python = getenv("TRIMTAB_PYTHON");
	char *arguments[] = { (char *)(python ? python : "/usr/bin/python3"),
			      (char *)TRIMTAB_GUEST_PYTHON, (char *)mode, NULL };
	struct driver driver;

	cr_assert_eq(driver_start(&driver, &(struct driver_setup){ 0 }, arguments), 0);
	cr_assert(driver_await_hello(&driver), "no hello");
	return driver;
}

static uint32_t collect_and_trim(struct driver *driver, uint32_t wait_msec)
{
	atomic_store(&driver->page->gc_wait_msec, wait_msec);
	cr_assert(driver_trim(driver, TRIMTAB_OP_GC | TRIMTAB_OP_TRIM));
	return driver->page->gc_result;
}

/* The main thread never lets go of the GIL by itself: the nudge is what makes it look. */
Test(python, busy_main_thread_collects)
{
	struct driver driver = start("busy");
	uint64_t before;

	cr_assert_eq(driver_ask(&driver, "cycles"), 0);
	before = driver_rss_bytes(&driver);
	cr_assert_eq(collect_and_trim(&driver, 60000), TRIMTAB_GC_DONE);
	cr_log_info("%.0f -> %.0f MiB in %.0f ms", (double)before / MIB,
		    (double)driver_rss_bytes(&driver) / MIB,
		    (double)(driver.page->ended_nsec - driver.page->began_nsec) / 1e6);
	cr_assert_lt(driver_rss_bytes(&driver), before / 2);
	cr_assert_eq(driver_ask(&driver, "finalized main"), N_NODES);
	cr_assert_eq(driver_ask(&driver, "finalized elsewhere"), 0);
	cr_assert_eq(driver_ask(&driver, "threads"), 2);
	driver_stop(&driver);
}

/* Asleep in read(2): trimmed without, and again when a line has woken it. */
Test(python, quiet_main_thread_collects_late)
{
	struct driver driver = start("quiet");
	uint64_t before, between;

	cr_assert_eq(driver_ask(&driver, "cycles"), 0);
	cr_assert(driver_await_reading(&driver));
	before = driver_rss_bytes(&driver);
	cr_assert_eq(collect_and_trim(&driver, 50), TRIMTAB_GC_TIMEOUT);
	between = driver_rss_bytes(&driver);
	cr_assert_gt(between, before / 2);
	cr_assert_eq(driver_ask(&driver, "finalized elsewhere"), 0);
	cr_assert(driver_await_late(&driver), "no trim after the collection");
	cr_assert_eq(driver.page->n_late_trims, 1);
	cr_assert_lt(driver_rss_bytes(&driver), before / 2);
	cr_assert_eq(driver_ask(&driver, "finalized main"), N_NODES);
	cr_assert_eq(driver_ask(&driver, "finalized elsewhere"), 0);
	driver_stop(&driver);
}

Test(python, one_late_collection_serves_many_requests)
{
	struct driver driver = start("quiet");

	cr_assert_eq(driver_ask(&driver, "cycles"), 0);
	cr_assert(driver_await_reading(&driver));
	for (int i = 0; i < 100; i++)
		cr_assert_eq(collect_and_trim(&driver, 1), TRIMTAB_GC_TIMEOUT);
	cr_assert_eq(driver_ask(&driver, "threads"), 1);
	cr_assert(driver_await_late(&driver));
	cr_assert_eq(driver_ask(&driver, "finalized main"), N_NODES);
	driver_stop(&driver);
}

/* From before the interpreter is there, right through its start, and to the end of it. */
Test(python, any_moment_is_good)
{
	static const uint32_t all = TRIMTAB_OP_GC | TRIMTAB_OP_PYMALLOC | TRIMTAB_OP_TRIM;

	for (int i = 0; i < N_EXITS; i++) {
		struct driver driver = start(i % 2 ? "quiet" : "busy");

		atomic_store(&driver.page->gc_wait_msec, 5);
		for (int n = 0; n < i % 8; n++)
			cr_assert(driver_trim(&driver, all), "request %d", n);
		close(driver.in_fd);
		driver.in_fd = -1;
		while (driver_request(&driver, all) == 0 && driver_await_done(&driver))
			;
		cr_assert_eq(driver_await_end(&driver), 0, "exit %d", i);
		driver_stop(&driver);
	}
}

Test(python, no_interpreter_is_a_refusal)
{
	char *arguments[] = { (char *)TRIMTAB_GUEST, NULL };
	struct driver driver;

	cr_assert_eq(driver_start(&driver, &(struct driver_setup){ 0 }, arguments), 0);
	cr_assert(driver_await_hello(&driver));
	cr_assert_eq(collect_and_trim(&driver, 60000), TRIMTAB_GC_REFUSED);
	driver_stop(&driver);
}
