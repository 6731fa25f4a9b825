/* Of src/preload/pymalloc.c with a real interpreter: what comes back, that objects survive, and
 * where it keeps its hands off. $TRIMTAB_PYTHON names another interpreter than Debian's. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "driver.h"
#include "util/time.h"

#define MIB (1024.0 * 1024.0)

enum {
	PURGE = TRIMTAB_OP_PYMALLOC,
	WAIT_MSEC = 60000,
};

static const char *python(void)
{
	const char *path = getenv("TRIMTAB_PYTHON");

	return path ? path : "/usr/bin/python3";
}

static struct driver start_with(const char *const *environment, const char *mode)
{
	char *arguments[] = { (char *)python(), (char *)TRIMTAB_GUEST_PYTHON,
			      (char *)mode, NULL };
	struct driver_setup setup = { .environment = environment };
	struct driver driver;

	cr_assert_eq(driver_start(&driver, &setup, arguments), 0);
	cr_assert(driver_await_hello(&driver), "no hello");
	atomic_store(&driver.page->gc_wait_msec, WAIT_MSEC);
	return driver;
}

static struct driver start(const char *mode)
{
	struct driver driver = start_with(NULL, mode);

	/* An answer says that the interpreter is up. */
	cr_assert_eq(driver_ask(&driver, "check"), 1);
	return driver;
}

static void report(const struct driver *driver, uint64_t before)
{
	const struct trimtab_page *page = driver->page;

	cr_log_info("%.1f -> %.1f MiB, %.1f purged, %.1f live of %.0f in arenas, %u odd; "
		    "%.1f ms, longest hold %.1f ms",
		    (double)before / MIB, (double)driver_rss_bytes(driver) / MIB,
		    (double)page->purged_bytes / MIB, (double)page->live_bytes / MIB,
		    (double)page->arena_bytes / MIB, page->n_odd_arenas,
		    (double)(page->ended_nsec - page->began_nsec) / 1e6,
		    (double)page->hold_nsec / 1e6);
}

Test(pymalloc, burst_of_small_objects_is_given_back)
{
	struct driver driver = start("quiet");
	uint64_t before;

	cr_assert_gt(driver_ask(&driver, "small"), 0);
	before = driver_rss_bytes(&driver);
	cr_assert(driver_trim(&driver, TRIMTAB_OP_TRIM));
	report(&driver, before);
	before = driver_rss_bytes(&driver);
	cr_assert(driver_trim(&driver, PURGE | TRIMTAB_OP_TRIM));
	report(&driver, before);
	cr_assert_eq(driver.page->pymalloc, TRIMTAB_PYMALLOC_ON);
	cr_assert_lt(driver_rss_bytes(&driver), before * 7 / 10);
	cr_assert_gt(driver.page->purged_bytes, (before - driver_rss_bytes(&driver)) / 2);
	cr_assert_eq(driver_ask(&driver, "check"), 1, "an object has changed");
	cr_assert_eq(driver_ask(&driver, "fork-check"), 1, "... in a child");
	/* The memory is used again, and goes again. */
	cr_assert_gt(driver_ask(&driver, "small"), 0);
	before = driver_rss_bytes(&driver);
	cr_assert(driver_trim(&driver, PURGE));
	report(&driver, before);
	cr_assert_eq(driver_ask(&driver, "check"), 1);
	driver_stop(&driver);
}

/* The estimate is what pools that are wholly free hold: no more than comes, and most of it. */
Test(pymalloc, look_foretells_and_gives_nothing_back)
{
	struct driver driver = start("quiet");
	uint64_t before, foretold, live;

	cr_assert_gt(driver_ask(&driver, "small"), 0);
	cr_assert(driver_await_reading(&driver));
	before = driver_rss_bytes(&driver);
	cr_assert(driver_trim(&driver, PURGE | TRIMTAB_OP_TRIM | TRIMTAB_OP_LOOK));
	cr_assert_eq(driver.page->pymalloc, TRIMTAB_PYMALLOC_ON);
	cr_assert_eq(driver.page->purged_bytes, 0);
	cr_assert_gt(driver_rss_bytes(&driver), before - (1 << 20));
	foretold = driver.page->free_pool_bytes;
	live = driver.page->live_bytes;
	cr_assert(driver_trim(&driver, PURGE));
	cr_log_info("%.1f MiB foretold, %.1f purged; %.1f live", (double)foretold / MIB,
		    (double)driver.page->purged_bytes / MIB, (double)live / MIB);
	cr_assert_leq(foretold, driver.page->purged_bytes + 65536);
	cr_assert_geq(foretold, driver.page->purged_bytes / 4);
	cr_assert_lt(driver.page->live_bytes, live + 65536);
	cr_assert_gt(driver.page->live_bytes, live - 65536);
	driver_stop(&driver);
}

/* What the template allocated before the fork is in arenas that its child knows too. */
Test(pymalloc, child_of_a_template_purges)
{
	char *arguments[] = { (char *)python(), (char *)TRIMTAB_GUEST_PYTHON, "quiet",
			      NULL };
	struct driver_setup setup = { .template = true };
	struct driver driver;

	cr_assert_eq(driver_start(&driver, &setup, arguments), 0);
	cr_assert_gt(driver_ask(&driver, "small"), 0);
	cr_assert_eq(driver_ask(&driver, "adopt"), 0);
	cr_assert(driver_await_hello(&driver));
	atomic_store(&driver.page->gc_wait_msec, WAIT_MSEC);
	cr_assert(driver_trim(&driver, PURGE));
	cr_assert_eq(driver.page->pymalloc, TRIMTAB_PYMALLOC_ON, "%u",
		     driver.page->pymalloc);
	cr_assert_gt(driver.page->purged_bytes, 1 << 20);
	cr_assert_eq(driver_ask(&driver, "check"), 1);
	close(driver.in_fd);
	driver.in_fd = -1;
	cr_assert_eq(driver_await_end(&driver), 0);
	driver_stop(&driver);
}

/* A worker that became a template: its children have the flags of its threads, not the threads. */
Test(pymalloc, child_of_a_worker_that_was_asked_is_purged)
{
	char *arguments[] = { (char *)python(), (char *)TRIMTAB_GUEST_PYTHON, "quiet",
			      NULL };
	struct driver_setup setup = { .template = true };
	struct driver driver;

	cr_assert_eq(driver_start(&driver, &setup, arguments), 0);
	cr_assert_eq(driver_ask(&driver, "adopt"), 0);
	cr_assert(driver_await_hello(&driver));
	atomic_store(&driver.page->gc_wait_msec, WAIT_MSEC);
	cr_assert_eq(driver_ask(&driver, "adopt-while-asked"), 0);
	cr_assert_eq(driver_request(&driver, PURGE), 0);
	cr_assert_str_eq(driver_hear(&driver), "0", "the child could not adopt the page");
	cr_assert(driver_await_done(&driver), "it waits for a thread that is not there");
	cr_assert_eq(driver.page->pymalloc, TRIMTAB_PYMALLOC_ON);
	cr_assert(driver_trim(&driver, PURGE));
	cr_assert_eq(driver_ask(&driver, "check"), 1);
	driver_stop(&driver);
}

Test(pymalloc, second_purge_finds_nothing)
{
	struct driver driver = start("quiet");

	cr_assert_gt(driver_ask(&driver, "small"), 0);
	cr_assert(driver_await_reading(&driver));
	cr_assert(driver_trim(&driver, PURGE));
	cr_assert_gt(driver.page->purged_bytes, 1 << 20);
	cr_assert(driver_trim(&driver, PURGE));
	/* Our thread itself makes an object or two in between. */
	cr_assert_leq(driver.page->purged_bytes, 65536, "%lu", driver.page->purged_bytes);
	driver_stop(&driver);
}

static void purge_during(const char *mode, const char *line)
{
	struct driver driver = start(mode);
	uint64_t n_purges = 0, purged = 0;
	usec_t end = time_now_usec() + 3 * USEC_PER_SEC;

	driver_say(&driver, line);
	while (time_now_usec() < end) {
		cr_assert(driver_trim(&driver, PURGE), "after %lu", n_purges);
		purged += driver.page->purged_bytes;
		n_purges++;
	}
	cr_assert_str_eq(driver_hear(&driver), "1", "an object has changed");
	cr_log_info("%lu purges, %.0f MiB, longest hold %.1f ms", n_purges,
		    (double)purged / MIB, (double)driver.page->longest_hold_nsec / 1e6);
	cr_assert_eq(driver.page->pymalloc, TRIMTAB_PYMALLOC_ON);
	cr_assert_eq(driver.page->n_odd_arenas, 0);
	cr_assert_eq(driver_ask(&driver, "check"), 1);
	driver_stop(&driver);
}

Test(pymalloc, objects_survive_purges_all_the_time)
{
	purge_during("quiet", "churn 3");
}

Test(pymalloc, objects_survive_beside_a_busy_thread)
{
	purge_during("busy", "churn 3");
}

static void assert_kept_off(const char *variable, enum trimtab_pymalloc why)
{
	const char *const environment[] = { variable, NULL };
	struct driver driver = start_with(environment, "quiet");

	cr_assert_eq(driver_ask(&driver, "check"), 1);
	cr_assert(driver_trim(&driver, PURGE));
	cr_expect_eq(driver.page->pymalloc, why, "%s: %u", variable,
		     driver.page->pymalloc);
	cr_expect_eq(driver.page->purged_bytes, 0);
	cr_expect_eq(driver_ask(&driver, "check"), 1);
	driver_stop(&driver);
}

Test(pymalloc, other_allocators_are_left_alone)
{
	assert_kept_off("PYTHONMALLOC=malloc", TRIMTAB_PYMALLOC_NOT_USED);
	/* Its blocks are moved and padded by what the debug hooks add. */
	assert_kept_off("PYTHONMALLOC=pymalloc_debug", TRIMTAB_PYMALLOC_SELF_TEST);
}

Test(pymalloc, sub_interpreters_are_left_alone)
{
	char *arguments[] = { (char *)python(), "-c",
			      "import sys\n"
			      "try: import _xxsubinterpreters as module\n"
			      "except ImportError: import _interpreters as module\n"
			      "kept = module.create()\n"
			      "print(1, flush=True)\n"
			      "sys.stdin.read()",
			      NULL };
	struct driver driver;

	cr_assert_eq(driver_start(&driver, &(struct driver_setup){ 0 }, arguments), 0);
	cr_assert_str_eq(driver_hear(&driver), "1");
	cr_assert(driver_await_hello(&driver));
	atomic_store(&driver.page->gc_wait_msec, WAIT_MSEC);
	cr_assert(driver_trim(&driver, PURGE));
	cr_assert_eq(driver.page->pymalloc, TRIMTAB_PYMALLOC_INTERPRETERS, "%u",
		     driver.page->pymalloc);
	driver_stop(&driver);
}

Test(pymalloc, no_interpreter_is_said)
{
	char *arguments[] = { (char *)TRIMTAB_GUEST, NULL };
	struct driver driver;

	cr_assert_eq(driver_start(&driver, &(struct driver_setup){ 0 }, arguments), 0);
	cr_assert(driver_await_hello(&driver));
	cr_assert(driver_trim(&driver, PURGE));
	cr_assert_eq(driver.page->pymalloc, TRIMTAB_PYMALLOC_NO_PYTHON);
	driver_stop(&driver);
}
