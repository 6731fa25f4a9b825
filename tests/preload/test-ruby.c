/* Of src/preload/ruby.c: Ruby collects where it is safe, in bounded time, and only then gives
 * memory back; no harm to an interpreter that starts or ends. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "driver.h"

#define MIB (1024.0 * 1024.0)

enum {
	N_EXITS = 6,
	N_TRIES = 20,
};

static struct driver start_with(const struct driver_setup *setup, const char *mode)
{
	char *arguments[] = { "/usr/bin/ruby", (char *)TRIMTAB_GUEST_RUBY, (char *)mode,
			      NULL };
	struct driver driver;

	if (access(arguments[0], X_OK) < 0)
		cr_skip_test("ruby is not installed");
	cr_assert_eq(driver_start(&driver, setup, arguments), 0);
	cr_assert(driver_await_hello(&driver), "no hello");
	return driver;
}

static struct driver start(const char *mode)
{
	return start_with(&(struct driver_setup){ 0 }, mode);
}

static uint32_t collect_and_trim(struct driver *driver, uint32_t wait_msec)
{
	atomic_store(&driver->page->gc_wait_msec, wait_msec);
	cr_assert(driver_trim(driver, TRIMTAB_OP_GC | TRIMTAB_OP_TRIM));
	return driver->page->gc_result;
}

Test(ruby, collects_first)
{
	struct driver driver = start("busy");
	uint64_t before, trimmed;

	cr_assert_gt(driver_ask(&driver, "burst"), 0);
	before = driver_rss_bytes(&driver);
	cr_assert(driver_trim(&driver, TRIMTAB_OP_TRIM));
	trimmed = driver_rss_bytes(&driver);
	/* Ruby takes what it finds on old stacks for references, until something goes over them. */
	for (int i = 0; i < N_TRIES && driver_rss_bytes(&driver) > trimmed / 2; i++) {
		cr_assert_eq(driver_ask(&driver, "check"), 1);
		/* The thread that obeys may be the one that is asked to, and fall asleep first. */
		(void)collect_and_trim(&driver, 500);
	}
	cr_log_info("%.0f MiB, trimmed %.0f, collected and trimmed %.0f in %.0f ms",
		    (double)before / MIB, (double)trimmed / MIB,
		    (double)driver_rss_bytes(&driver) / MIB,
		    (double)(driver.page->ended_nsec - driver.page->began_nsec) / 1e6);
	cr_assert_lt(driver_rss_bytes(&driver), trimmed / 2);
	cr_assert_eq(driver_ask(&driver, "check"), 1);
	driver_stop(&driver);
}

/* False: of the burst too much was found on old stacks. */
static bool collects_late(struct driver *driver)
{
	uint64_t between;

	cr_assert_gt(driver_ask(driver, "burst"), 0);
	cr_assert_eq(driver_ask(driver, "check"), 1);
	cr_assert(driver_await_reading(driver));
	cr_assert_eq(collect_and_trim(driver, 100), TRIMTAB_GC_TIMEOUT);
	between = driver_rss_bytes(driver);
	driver->heard_late = false;
	cr_assert_eq(driver_ask(driver, "check"), 1);
	cr_assert(driver_await_late(driver), "no trim after the collection");
	return driver_rss_bytes(driver) < between / 2;
}

/* Asleep it has nobody who could collect: trimmed without, and again once a line has woken it. */
Test(ruby, asleep_it_collects_late)
{
	struct driver driver = start("quiet");
	int n = 0;

	while (!collects_late(&driver))
		cr_assert_lt(n++, N_TRIES);
	cr_assert_eq(driver_ask(&driver, "check"), 1);
	driver_stop(&driver);
}

static void touch(const char *path)
{
	(void)close(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
}

/* It has the words that the library's thread is at work, but not that thread, to wait for at its end. */
Test(ruby, child_forked_while_it_is_asked_ends)
{
	char directory[] = "/tmp/trimtab-ruby-XXXXXX", slow[64], here[80], variable[128];
	const char *const environment[] = { variable, NULL };
	struct driver_setup setup = { .environment = environment,
				      .preload_before = TRIMTAB_SLOW_POST };
	struct driver driver;

	cr_assert_not_null(mkdtemp(directory));
	(void)snprintf(slow, sizeof slow, "%s/slow", directory);
	(void)snprintf(here, sizeof here, "%s.here", slow);
	(void)snprintf(variable, sizeof variable, "GUEST_SLOW=%s", slow);
	driver = start_with(&setup, "busy");
	cr_assert_eq(driver_ask(&driver, "check"), 1);
	/* From the first collection on the end is waited for. */
	for (int n = 0; collect_and_trim(&driver, 500) != TRIMTAB_GC_DONE; n++) {
		cr_assert_lt(n, N_TRIES);
		cr_assert_eq(driver_ask(&driver, "check"), 1);
	}
	touch(slow);
	cr_assert_eq(driver_request(&driver, TRIMTAB_OP_GC | TRIMTAB_OP_TRIM), 0);
	while (access(here, F_OK) < 0) {
		if (atomic_load(&driver.page->done) == atomic_load(&driver.page->request))
			cr_skip_test("Ruby 3.3 and later have another queue of jobs");
		(void)sched_yield();
	}
	cr_assert_eq(driver_ask(&driver, "fork"), 0, "it does not end");
	(void)unlink(slow);
	(void)unlink(here);
	(void)rmdir(directory);
	cr_assert(driver_await_done(&driver));
	driver_stop(&driver);
}

/* From before the interpreter is there to the end of it. */
Test(ruby, any_moment_is_good)
{
	for (int i = 0; i < N_EXITS; i++) {
		struct driver driver = start(i % 2 ? "quiet" : "busy");

		atomic_store(&driver.page->gc_wait_msec, 5);
		for (int n = 0; n < i; n++)
			cr_assert(driver_trim(&driver, TRIMTAB_OP_GC | TRIMTAB_OP_TRIM));
		close(driver.in_fd);
		driver.in_fd = -1;
		while (driver_request(&driver, TRIMTAB_OP_GC | TRIMTAB_OP_TRIM) == 0 &&
		       driver_await_done(&driver))
			;
		cr_assert_eq(driver_await_end(&driver), 0, "exit %d", i);
		driver_stop(&driver);
	}
}
