/* Of src/preload/allocator.c: what a trim gives back, by the figures of the kernel. */
#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "driver.h"
#include "util/cleanup.h"

#define MIB (1024.0 * 1024.0)

static char *guest_arguments[] = { (char *)TRIMTAB_GUEST, NULL };

struct outcome {
	enum trimtab_allocator allocator;
	uint64_t peak, before, after;
	uint64_t released;   /* as the library says */
	uint64_t heap, live; /* as the allocator says, before */
};

static struct outcome bloat_and_trim(const struct driver_setup *setup)
{
	struct outcome outcome;
	struct driver driver;
	pid_t pid;

	cr_assert_eq(driver_start(&driver, setup, guest_arguments), 0);
	cr_assert(driver_await_hello(&driver));
	pid = driver.pid;
	cr_assert_eq(driver_ask(&driver, "bloat"), 0);
	outcome.peak = driver_rss_bytes(&driver);
	cr_assert_eq(driver_ask(&driver, "shrink"), 0);
	outcome.before = driver_rss_bytes(&driver);
	cr_assert(driver_trim(&driver, TRIMTAB_OP_TRIM));
	outcome.after = driver_rss_bytes(&driver);
	outcome.allocator = (enum trimtab_allocator)driver.page->allocator;
	outcome.released = driver.page->released_bytes;
	outcome.heap = driver.page->heap_bytes;
	outcome.live = driver.page->heap_live_bytes;
	cr_log_info(
		"allocator %d: %.0f MiB at its peak, %.0f before, %.0f after, %.1f ms; "
		"the worker says %.0f -> %.0f",
		outcome.allocator, (double)outcome.peak / MIB,
		(double)outcome.before / MIB, (double)outcome.after / MIB,
		(double)(driver.page->ended_nsec - driver.page->began_nsec) / 1e6,
		(double)driver.page->rss_before_bytes / MIB,
		(double)driver.page->rss_after_bytes / MIB);
	cr_assert_eq(driver_ask(&driver, "presence"), 12);
	cr_assert_eq(driver.pid, pid);
	driver_stop(&driver);
	return outcome;
}

Test(trim, glibc_gives_back_more_than_half)
{
	struct outcome outcome = bloat_and_trim(&(struct driver_setup){ 0 });

	cr_assert_eq(outcome.allocator, TRIMTAB_ALLOCATOR_GLIBC);
	cr_assert_gt(outcome.before, outcome.peak / 2, "freed memory went by itself");
	cr_assert_lt(outcome.after, outcome.before / 2);
	cr_assert_gt(outcome.released, (outcome.before - outcome.after) / 10 * 9);
	cr_assert_eq(outcome.heap, 0, "it has no counter that predicts anything");
}

/* What is resident less what is in use, before, is about what comes. */
static void assert_foretold(const struct outcome *outcome)
{
	uint64_t foretold = outcome->heap - outcome->live;
	uint64_t came = outcome->before - outcome->after;

	cr_log_info("%.0f MiB foretold, %.0f came", (double)foretold / MIB,
		    (double)came / MIB);
	cr_assert_gt(outcome->heap, outcome->live);
	cr_expect_gt(came, foretold / 2);
	cr_expect_lt(came, foretold + foretold / 4);
}

/* Field 19 of the helper's stat: its nice value. */
static int helper_nice(const struct driver *driver)
{
	char path[64];
	auto_file FILE *f = NULL;
	int nice = 100;

	(void)snprintf(path, sizeof path, "/proc/%d/task/%d/stat", (int)driver->pid,
		       (int)driver->page->helper_tid);
	f = fopen(path, "re");
	cr_assert_not_null(f);
	/* Its name has no blank. */
	cr_assert_eq(fscanf(f,
			    "%*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s "
			    "%*s %*s %*s %d",
			    &nice),
		     1);
	return nice;
}

Test(trim, helper_has_priority_while_it_holds_locks)
{
	struct driver driver;
	int usual, lowest = 100;

	if (setpriority(PRIO_PROCESS, 0, -1) < 0)
		cr_skip_test("no priority may be raised here");
	(void)setpriority(PRIO_PROCESS, 0, 0);
	cr_assert_eq(driver_start(&driver, &(struct driver_setup){ 0 }, guest_arguments),
		     0);
	cr_assert(driver_await_hello(&driver));
	usual = helper_nice(&driver);
	/* Looked at from outside, so it may be missed once, but not every time. */
	for (int round = 0; round < 100 && lowest >= usual; round++) {
		cr_assert_eq(driver_ask(&driver, "bloat"), 0);
		cr_assert_eq(driver_ask(&driver, "shrink"), 0);
		cr_assert_eq(driver_request(&driver, TRIMTAB_OP_TRIM), 0);
		while (atomic_load(&driver.page->done) !=
		       atomic_load(&driver.page->request)) {
			int nice = helper_nice(&driver);

			lowest = nice < lowest ? nice : lowest;
		}
	}
	cr_assert_lt(lowest, usual);
	cr_assert_eq(helper_nice(&driver), usual, "not restored");
	cr_assert_gt(driver.page->longest_hold_nsec, 0);
	driver_stop(&driver);
}

static void with_allocator(const char *path, enum trimtab_allocator kind, bool gives_back)
{
	for (int order = 0; order < 2; order++) {
		struct driver_setup setup = { 0 };
		struct outcome outcome;

		*(order ? &setup.preload_before : &setup.preload_after) = path;
		outcome = bloat_and_trim(&setup);
		cr_expect_eq(outcome.allocator, kind, "%s: kind %d", path,
			     outcome.allocator);
		/* Some give back part of it by themselves while it is freed. */
		if (gives_back)
			cr_expect_lt(outcome.after, outcome.peak / 2, "%s kept it", path);
		if (gives_back && outcome.before > outcome.after + (32 << 20))
			assert_foretold(&outcome);
	}
}

static bool installed(const char *path)
{
	if (access(path, R_OK) == 0)
		return true;
	fprintf(stderr, "skipped: %s is not installed\n", path);
	return false;
}

Test(trim, jemalloc_is_known_and_purged)
{
	if (installed(TRIMTAB_JEMALLOC))
		with_allocator(TRIMTAB_JEMALLOC, TRIMTAB_ALLOCATOR_JEMALLOC, true);
	else
		cr_skip_test("%s is not installed", TRIMTAB_JEMALLOC);
}

Test(trim, tcmalloc_is_known_and_released)
{
	if (installed(TRIMTAB_TCMALLOC))
		with_allocator(TRIMTAB_TCMALLOC, TRIMTAB_ALLOCATOR_TCMALLOC, true);
	else
		cr_skip_test("%s is not installed", TRIMTAB_TCMALLOC);
}

/* Its heaps belong to threads, so a helper can do little: only the kind is promised. */
Test(trim, mimalloc_is_known)
{
	if (installed(TRIMTAB_MIMALLOC))
		with_allocator(TRIMTAB_MIMALLOC, TRIMTAB_ALLOCATOR_MIMALLOC, false);
	else
		cr_skip_test("%s is not installed", TRIMTAB_MIMALLOC);
}

/* A program that is not position independent: its PLT answers for malloc. */
Test(trim, python_beside_jemalloc_is_known)
{
	char *arguments[] = { "/usr/bin/python3", "-c", "import sys; sys.stdin.read()",
			      NULL };

	if (!installed(TRIMTAB_JEMALLOC))
		cr_skip_test("%s is not installed", TRIMTAB_JEMALLOC);
	for (int order = 0; order < 2; order++) {
		struct driver_setup setup = { 0 };
		struct driver driver;

		*(order ? &setup.preload_before : &setup.preload_after) =
			TRIMTAB_JEMALLOC;
		cr_assert_eq(driver_start(&driver, &setup, arguments), 0);
		cr_assert(driver_await_hello(&driver));
		cr_expect_eq(driver.page->allocator, TRIMTAB_ALLOCATOR_JEMALLOC);
		cr_expect(driver_trim(&driver, TRIMTAB_OP_TRIM));
		driver_stop(&driver);
	}
}
