/* Of src/preload/preload.c, page.c and leave.c: where the library comes alive, and that nobody
 * notices where it does not. */
#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "driver.h"

enum {
	ABSENT = 1,   /* the guest's word for: one thread, no page */
	PRESENT = 12, /* two threads and the page */
};

static char *guest_arguments[] = { (char *)TRIMTAB_GUEST, NULL };

static struct driver start(const struct driver_setup *setup)
{
	struct driver driver;
	int r = driver_start(&driver, setup, guest_arguments);

	cr_assert_eq(r, 0, "cannot start %s: %d", TRIMTAB_GUEST, r);
	return driver;
}

static void assert_serves(struct driver *driver)
{
	cr_assert(driver_await_hello(driver), "no hello");
	cr_assert_eq(driver->page->state, TRIMTAB_STATE_READY);
	cr_assert_gt(driver->page->helper_tid, 0);
	cr_assert(driver_trim(driver, TRIMTAB_OP_TRIM), "not served");
	cr_assert_eq(driver->page->n_served, 1);
	cr_assert_geq(driver->page->ended_nsec, driver->page->began_nsec);
	cr_assert_gt(driver->page->rss_before_bytes, 0);
	cr_assert_gt(driver->page->rss_after_bytes, 0);
}

Test(life, says_hello_and_serves_by_signal)
{
	struct driver driver = start(&(struct driver_setup){ 0 });

	assert_serves(&driver);
	cr_assert_eq(driver.page->waits, TRIMTAB_WAKE_SIGNAL);
	cr_assert_eq(driver.page->allocator, TRIMTAB_ALLOCATOR_GLIBC);
	cr_assert_eq(driver_ask(&driver, "presence"), PRESENT);
	driver_stop(&driver);
}

Test(life, serves_by_futex_and_abstract_socket)
{
	struct driver driver = start(&(struct driver_setup){ .wake = TRIMTAB_WAKE_FUTEX,
							     .abstract_socket = true });

	assert_serves(&driver);
	cr_assert_eq(driver.page->waits, TRIMTAB_WAKE_FUTEX);
	driver_stop(&driver);
}

Test(life, serves_by_realtime_signal)
{
	struct driver driver =
		start(&(struct driver_setup){ .signal_number = SIGRTMIN + 5 });

	assert_serves(&driver);
	driver_stop(&driver);
}

Test(life, serves_python)
{
	char *arguments[] = { "/usr/bin/python3", "-c", "import sys; sys.stdin.read()",
			      NULL };
	struct driver driver;

	cr_assert_eq(driver_start(&driver, &(struct driver_setup){ 0 }, arguments), 0);
	assert_serves(&driver);
	cr_assert_eq(driver.page->allocator, TRIMTAB_ALLOCATOR_GLIBC);
	close(driver.in_fd);
	driver.in_fd = -1;
	cr_assert_eq(driver_await_end(&driver), 0);
	driver_stop(&driver);
}

/* The shell is told first; then the program that it becomes, under the same pid. */
Test(life, follows_an_exec)
{
	char *arguments[] = { "/bin/sh", "-c", "exec \"$0\"", (char *)TRIMTAB_GUEST,
			      NULL };
	struct driver driver;

	cr_assert_eq(driver_start(&driver, &(struct driver_setup){ 0 }, arguments), 0);
	cr_assert_eq(driver_ask(&driver, "presence"), PRESENT);
	assert_serves(&driver);
	driver_stop(&driver);
}

Test(life, is_inert_where_anything_is_odd)
{
	for (int fault = FAULT_NONE + 1; fault < N_FAULTS; fault++) {
		struct driver_setup setup = { .fault = (enum driver_fault)fault };
		struct driver driver = start(&setup);
		long presence = driver_ask(&driver, "presence");

		cr_expect_eq(presence, ABSENT, "fault %d: presence %ld", fault, presence);
		cr_expect_eq(driver.page->state, TRIMTAB_STATE_NONE, "fault %d", fault);
		cr_expect_not(driver.heard_hello);
		driver_stop(&driver);
	}
}

Test(life, is_inert_in_children)
{
	struct driver driver = start(&(struct driver_setup){ 0 });

	cr_assert(driver_await_hello(&driver));
	cr_assert_eq(driver_ask(&driver, "fork"), ABSENT);
	cr_assert_eq(driver_ask(&driver, "spawn"), ABSENT);
	cr_assert_eq(driver_ask(&driver, "system"), ABSENT);
	cr_assert_eq(driver_ask(&driver, "presence"), PRESENT);
	assert_serves(&driver);
	driver_stop(&driver);
}

Test(life, child_of_a_template_adopts_its_page)
{
	struct driver driver = start(&(struct driver_setup){ .template = true });

	cr_assert_eq(driver_ask(&driver, "presence"), ABSENT);
	cr_assert_eq(driver_ask(&driver, "adopt"), 0);
	cr_assert_eq(driver_ask(&driver, "presence"), PRESENT);
	assert_serves(&driver);
	cr_assert_eq(driver_ask(&driver, "fork"), ABSENT);
	driver_stop(&driver);
}

Test(life, page_of_another_is_not_adopted)
{
	struct driver driver = start(&(struct driver_setup){ .template = true });

	atomic_fetch_add((_Atomic int32_t *)&driver.page->worker_pid, 1);
	cr_assert_eq(driver_ask(&driver, "adopt"), -1);
	cr_assert_eq(driver_ask(&driver, "presence"), ABSENT);
	driver_stop(&driver);
}

/* That of another version may have anything where we would write. */
Test(life, page_of_another_version_is_not_touched)
{
	struct driver_setup setup = { .template = true, .fault = FAULT_VERSION };
	struct driver driver = start(&setup);

	cr_assert_eq(driver_ask(&driver, "adopt"), -1);
	cr_assert_eq(driver.page->worker_pid, 0);
	cr_assert_eq(driver_ask(&driver, "presence"), ABSENT);
	driver_stop(&driver);
}

Test(life, static_program_runs_without_it)
{
	char *arguments[] = { (char *)TRIMTAB_GUEST_STATIC, NULL };
	struct driver driver;

	cr_assert_eq(driver_start(&driver, &(struct driver_setup){ 0 }, arguments), 0);
	cr_assert_eq(driver_ask(&driver, "presence"), ABSENT);
	cr_assert_eq(driver.page->state, TRIMTAB_STATE_NONE);
	driver_stop(&driver);
}

/* Descriptors that only the helper opens are in a table of its own. */
Test(life, application_may_close_everything)
{
	struct driver driver = start(&(struct driver_setup){ 0 });

	cr_assert(driver_await_hello(&driver));
	cr_assert_eq(driver_ask(&driver, "close-all"), 0);
	assert_serves(&driver);
	driver_stop(&driver);
}

static long count_descriptors(const char *path)
{
	DIR *directory = opendir(path);
	long n = 0;

	cr_assert_not_null(directory, "%s", path);
	while (readdir(directory))
		n++;
	closedir(directory);
	return n - 2;
}

Test(life, helper_holds_no_descriptor_of_the_application)
{
	char path[64];
	struct driver driver = start(&(struct driver_setup){ 0 });

	cr_assert(driver_await_hello(&driver));
	(void)snprintf(path, sizeof path, "/proc/%d/task/%d/fd", (int)driver.pid,
		       (int)driver.page->helper_tid);
	/* The socket of the hello goes a moment after the hello. */
	for (int i = 0; i < 100000 && count_descriptors(path) > 0; i++)
		(void)sched_yield();
	cr_assert_eq(count_descriptors(path), 0);
	(void)snprintf(path, sizeof path, "/proc/%d/fd", (int)driver.pid);
	cr_assert_geq(count_descriptors(path), 3);
	driver_stop(&driver);
}

Test(life, process_ends_after_its_last_own_thread)
{
	struct driver driver = start(&(struct driver_setup){ 0 });

	cr_assert(driver_await_hello(&driver));
	driver_say(&driver, "exit-main-thread");
	cr_assert_eq(driver_await_end(&driver), 0);
	cr_assert_str_eq(driver_hear(&driver), "goodbye", "exit handlers did not run");
	driver_stop(&driver);
}

/* It may live on without its main thread, and nobody may wake for it all the time. */
Test(life, process_without_its_main_thread_sleeps)
{
	struct driver driver = start(&(struct driver_setup){ 0 });
	long before;

	cr_assert(driver_await_hello(&driver));
	cr_assert_eq(driver_ask(&driver, "leave-main-thread"), 0);
	before = driver_ask(&driver, "sleeps");
	for (int i = 0; i < 10; i++) /* of 300 ms, in which nothing is to happen */
		cr_assert_eq(driver_ask(&driver, "wait"), 1);
	cr_assert_lt(driver_ask(&driver, "sleeps") - before, 20);
	assert_serves(&driver);
	close(driver.in_fd);
	driver.in_fd = -1;
	cr_assert_eq(driver_await_end(&driver), 0);
	driver_stop(&driver);
}

Test(life, process_returns_from_main_while_asked)
{
	for (int i = 0; i < 50; i++) {
		struct driver driver = start(&(struct driver_setup){ 0 });

		cr_assert(driver_await_hello(&driver));
		close(driver.in_fd);
		driver.in_fd = -1;
		for (int n = 0; n < 20; n++)
			(void)driver_request(&driver, TRIMTAB_OP_TRIM);
		cr_assert_eq(driver_await_end(&driver), 0);
		driver_stop(&driver);
	}
}

/* The C library changes the user of every thread by a signal of its own, which a helper that
 * blocked simply everything would never see. */
Test(life, application_may_change_its_user)
{
	struct driver driver;
	char path[64], line[256];
	unsigned uid = 0;
	FILE *f;

	if (geteuid() != 0)
		cr_skip_test("only root may change its user");
	driver = start(&(struct driver_setup){ 0 });
	cr_assert(driver_await_hello(&driver));
	cr_assert_eq(driver_ask(&driver, "setuid 65534"), 0);
	(void)snprintf(path, sizeof path, "/proc/%d/task/%d/status", (int)driver.pid,
		       (int)driver.page->helper_tid);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof line, f))
		(void)sscanf(line, "Uid: %u", &uid);
	fclose(f);
	cr_assert_eq(uid, 65534);
	assert_serves(&driver);
	driver_stop(&driver);
}

/* Some of its calls are refused, and for what others want it would be killed. */
Test(life, serves_behind_a_filter)
{
	struct driver driver = start(&(struct driver_setup){ 0 });

	cr_assert(driver_await_hello(&driver));
	driver_say(&driver, "filter-exec " TRIMTAB_GUEST);
	cr_assert_eq(driver_ask(&driver, "presence"), PRESENT, "killed by its filter");
	for (int i = 0; i < 20; i++) {
		int r;

		/* The new image's helper is about to say its number. */
		while ((r = driver_request(&driver, TRIMTAB_OP_TRIM)) == -ESRCH)
			(void)sched_yield();
		cr_assert_eq(r, 0);
		cr_assert(driver_await_done(&driver), "request %d", i);
	}
	cr_assert_eq(driver.page->waits, TRIMTAB_WAKE_FUTEX,
		     "it may not wait for signals");
	driver_stop(&driver);
}

/* A freed block of 128 KiB or more raises the limit from which blocks are mapped by themselves. */
Test(life, limit_of_mapped_blocks_is_as_without)
{
	struct driver driver = start(&(struct driver_setup){ 0 });

	assert_serves(&driver);
	cr_assert_eq(driver_ask(&driver, "mapped 140000"), 1, "the library raised it");
	/* That one did. */
	cr_assert_eq(driver_ask(&driver, "mapped 135000"), 0);
	driver_stop(&driver);
}

static uint64_t trimmed_behind(const char *filter)
{
	struct driver driver = start(&(struct driver_setup){ 0 });
	uint64_t left;

	cr_assert(driver_await_hello(&driver));
	cr_assert_eq(driver_ask(&driver, "bloat"), 0);
	cr_assert_eq(driver_ask(&driver, "shrink"), 0);
	cr_assert_eq(driver_ask(&driver, filter), 0);
	cr_assert(driver_trim(&driver, TRIMTAB_OP_TRIM));
	left = driver_rss_bytes(&driver);
	cr_assert_eq(driver_ask(&driver, "presence"), PRESENT);
	driver_stop(&driver);
	return left;
}

/* A filter is a thread's own, unless it says otherwise. */
Test(life, filters_of_the_application)
{
	uint64_t own = trimmed_behind("refuse-madvise");
	uint64_t all = trimmed_behind("refuse-madvise-everywhere");

	cr_assert_lt(own, all / 2, "%lu and %lu", own, all);
}

/* Where the process may do so at all. Its user name space is another matter: only a process of one
 * thread may leave that. */
Test(life, application_may_change_its_mount_name_space)
{
	struct driver driver = start(&(struct driver_setup){ 0 });

	cr_assert(driver_await_hello(&driver));
	/* The thread settles before it says hello. */
	cr_assert_neq(driver_ask(&driver, "setns"), EINVAL,
		      "it shares its root with a thread");
	cr_assert_eq(driver_ask(&driver, "unshare-user"), EINVAL);
	driver_stop(&driver);
}

static int errno_at_start(enum driver_fault fault)
{
	char *arguments[] = { (char *)TRIMTAB_GUEST, "errno", NULL };
	struct driver driver;
	int code;

	cr_assert_eq(driver_start(&driver, &(struct driver_setup){ .fault = fault },
				  arguments),
		     0);
	code = driver_await_end(&driver);
	driver_stop(&driver);
	return code;
}

Test(life, errno_is_as_without)
{
	cr_assert_eq(errno_at_start(FAULT_NONE), errno_at_start(FAULT_NO_VARIABLE));
}
