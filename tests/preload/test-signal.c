/* Of src/preload/helper.c: our signal never kills, is never seen by the application, and the
 * application's own signal of that number is never lost to us. */
#include <criterion/criterion.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "driver.h"

enum {
	PRESENT = 12,
	N_SIGNALS = 200,
};

static char *guest_arguments[] = { (char *)TRIMTAB_GUEST, NULL };

static struct driver start(void)
{
	struct driver driver;

	cr_assert_eq(driver_start(&driver, &(struct driver_setup){ 0 }, guest_arguments),
		     0);
	cr_assert(driver_await_hello(&driver), "no hello");
	/* The thread may say hello before the constructor that made it, with every signal blocked,
	 * has ended. */
	cr_assert_eq(driver_ask(&driver, "presence"), PRESENT);
	return driver;
}

static void say_about_signal(const struct driver *driver, const char *what)
{
	char line[64];

	(void)snprintf(line, sizeof line, "%s %d", what, SIGUSR2);
	cr_assert_eq(driver_ask(driver, line), 0, "%s", line);
}

static void trim_often(struct driver *driver)
{
	for (int i = 0; i < N_SIGNALS; i++)
		cr_assert(driver_trim(driver, TRIMTAB_OP_TRIM), "after %d", i);
}

Test(signal, no_disposition_matters)
{
	static const char *const changes[] = { "default", "ignore", "handler", "block" };
	struct driver driver = start();

	for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
		say_about_signal(&driver, changes[i]);
		trim_often(&driver);
	}
	cr_assert_eq(driver_ask(&driver, "count 0"), 0, "the application saw our signal");
	cr_assert_eq(driver_ask(&driver, "presence"), PRESENT);
	driver_stop(&driver);
}

Test(signal, no_wait_of_the_application_is_cut_short)
{
	struct driver driver = start();

	say_about_signal(&driver, "handler");
	for (int round = 0; round < 3; round++) {
		driver_say(&driver, "wait");
		trim_often(&driver);
		cr_assert_str_eq(driver_hear(&driver), "1", "interrupted");
	}
	driver_stop(&driver);
}

/* With the default disposition, which kills, and anything that a stale or hostile sender of the
 * same user could direct at the helper. */
Test(signal, nothing_directed_at_the_helper_kills)
{
	struct driver driver = start();
	pid_t tid = driver.page->helper_tid;

	for (int i = 0; i < N_SIGNALS; i++) {
		cr_assert_eq(driver_queue_signal(&driver, tid, SIGUSR2, (uint32_t)i), 0);
		cr_assert_eq(syscall(SYS_tgkill, driver.pid, tid, SIGUSR2), 0);
		cr_assert(driver_trim(&driver, TRIMTAB_OP_TRIM));
	}
	/* It looks at its signals only when there is no request; now there is none. */
	while (atomic_load(&driver.page->n_foreign_signals) == 0)
		(void)sched_yield();
	cr_assert_eq(driver.page->waits, TRIMTAB_WAKE_SIGNAL);
	cr_assert_eq(driver_ask(&driver, "presence"), PRESENT);
	driver_stop(&driver);
}

Test(signal, other_signals_directed_at_the_helper_wait_for_ever)
{
	struct driver driver = start();
	pid_t tid = driver.page->helper_tid;

	cr_assert_eq(syscall(SYS_tgkill, driver.pid, tid, SIGUSR1), 0);
	cr_assert_eq(syscall(SYS_tgkill, driver.pid, tid, SIGTERM), 0);
	cr_assert_eq(syscall(SYS_tgkill, driver.pid, tid, SIGPROF), 0);
	cr_assert(driver_trim(&driver, TRIMTAB_OP_TRIM));
	cr_assert_eq(driver_ask(&driver, "presence"), PRESENT);
	driver_stop(&driver);
}

Test(signal, exec_of_a_static_program_makes_it_fail)
{
	struct driver driver = start();

	driver_say(&driver, "exec " TRIMTAB_GUEST_STATIC);
	cr_assert_eq(driver_ask(&driver, "presence"), 1);
	cr_assert_eq(driver_request(&driver, TRIMTAB_OP_TRIM), -ESRCH);
	cr_assert_eq(driver_ask(&driver, "presence"), 1, "killed");
	driver_stop(&driver);
}

Test(signal, exec_without_the_page_makes_it_fail)
{
	struct driver driver = start();

	cr_assert_eq(driver_ask(&driver, "close-all"), 0);
	driver_say(&driver, "exec " TRIMTAB_GUEST);
	cr_assert_eq(driver_ask(&driver, "presence"), 1);
	cr_assert_eq(driver_request(&driver, TRIMTAB_OP_TRIM), -ESRCH);
	cr_assert_eq(driver_ask(&driver, "presence"), 1, "killed");
	driver_stop(&driver);
}

/* Signals all the time, while the program replaces itself again and again. */
Test(signal, storm_across_execs_never_kills)
{
	struct driver driver = start();
	unsigned n_sent = 0, n_gone = 0;
	int r;

	for (int i = 0; i < 60; i++) {
		driver_say(&driver, "exec " TRIMTAB_GUEST);
		driver_say(&driver, "presence");
		for (int n = 0; n < 300; n++) {
			r = driver_request(&driver, TRIMTAB_OP_TRIM);
			cr_assert(r == 0 || r == -ESRCH, "%d", r);
			n_sent += r == 0;
			n_gone += r == -ESRCH;
		}
		cr_assert_str_eq(driver_hear(&driver), "12", "exec %d: killed or inert",
				 i);
	}
	cr_log_info("%u sent, %u found no thread", n_sent, n_gone);
	while ((r = driver_request(&driver, TRIMTAB_OP_TRIM)) == -ESRCH)
		(void)sched_yield(); /* its helper is about to say its number */
	cr_assert_eq(r, 0);
	cr_assert(driver_await_done(&driver));
	driver_stop(&driver);
}

Test(signal, foreign_ones_in_between_lose_no_request)
{
	struct driver driver = start();
	pid_t tid = driver.page->helper_tid;

	for (int i = 0; i < N_SIGNALS; i++) {
		/* Of two pending signals of one number the kernel keeps the first alone. */
		(void)syscall(SYS_tgkill, driver.pid, tid, SIGUSR2);
		cr_assert_eq(driver_request(&driver, TRIMTAB_OP_TRIM), 0);
		(void)syscall(SYS_tgkill, driver.pid, tid, SIGUSR2);
		cr_assert(driver_await_done(&driver), "request %d is lost", i);
	}
	driver_stop(&driver);
}

Test(signal, requests_made_meanwhile_are_served)
{
	struct driver driver = start();

	cr_assert_eq(driver_ask(&driver, "bloat"), 0);
	cr_assert_eq(driver_ask(&driver, "shrink"), 0);
	for (int round = 0; round < N_SIGNALS; round++) {
		for (int i = 0; i < 5; i++)
			cr_assert_eq(driver_request(&driver, TRIMTAB_OP_TRIM), 0);
		cr_assert(driver_await_done(&driver), "round %d", round);
	}
	driver_stop(&driver);
}

/* Sent one by one, since the kernel itself merges those that are pending together. */
static void assert_application_gets_its_own(struct driver *driver)
{
	char line[32];

	for (long i = 1; i <= N_SIGNALS; i++) {
		cr_assert_eq(driver_request(driver, TRIMTAB_OP_TRIM), 0);
		cr_assert_eq(kill(driver->pid, SIGUSR2), 0);
		(void)snprintf(line, sizeof line, "count %ld", i);
		cr_assert_eq(driver_ask(driver, line), i, "signal %ld is lost", i);
	}
	cr_assert(driver_await_done(driver), "no longer served");
}

Test(signal, application_with_a_handler_gets_its_own)
{
	struct driver driver = start();

	say_about_signal(&driver, "restart-handler");
	assert_application_gets_its_own(&driver);
	driver_stop(&driver);
}

/* Then the kernel sends it without its value, as if from nobody. */
static void without_room_for_queued_signals(const char *application)
{
	const struct rlimit none = { 0 };
	struct driver driver = start();

	say_about_signal(&driver, application);
	cr_assert_eq(prlimit(driver.pid, RLIMIT_SIGPENDING, &none, NULL), 0);
	for (int i = 0; i < N_SIGNALS; i++) {
		/* One that comes while it is awake may be taken for the next request's. */
		cr_assert(driver_await_idle(&driver));
		cr_assert(driver_trim(&driver, TRIMTAB_OP_TRIM), "after %d", i);
	}
	cr_assert(driver_await_idle(&driver));
	cr_assert_eq(driver_ask(&driver, "count 0"), 0, "%s: it saw our signal",
		     application);
	cr_assert_eq(driver.page->waits, TRIMTAB_WAKE_SIGNAL);
	driver_stop(&driver);
}

Test(signal, request_is_known_without_what_was_queued_with_it)
{
	without_room_for_queued_signals("handler");
	without_room_for_queued_signals("block");
}

Test(signal, application_in_sigwait_gets_its_own)
{
	struct driver driver = start();

	say_about_signal(&driver, "sigwait");
	assert_application_gets_its_own(&driver);
	driver_stop(&driver);
}

Test(signal, application_with_signalfd_gets_its_own)
{
	struct driver driver = start();

	say_about_signal(&driver, "signalfd");
	assert_application_gets_its_own(&driver);
	driver_stop(&driver);
}

/* Blocked everywhere and taken by nobody yet: it must still be there when somebody comes. */
Test(signal, pending_one_is_kept_for_the_application)
{
	struct driver driver = start();

	say_about_signal(&driver, "block");
	cr_assert_eq(kill(driver.pid, SIGUSR2), 0);
	cr_assert(driver_trim(&driver, TRIMTAB_OP_TRIM));
	say_about_signal(&driver, "sigwait");
	cr_assert_eq(driver_ask(&driver, "count 1"), 1);
	driver_stop(&driver);
}

Test(signal, queued_to_the_process_with_a_value_is_handed_back)
{
	struct driver driver = start();

	say_about_signal(&driver, "sigwait");
	for (long i = 1; i <= N_SIGNALS; i++) {
		char line[32];

		cr_assert_eq(
			sigqueue(driver.pid, SIGUSR2, (union sigval){ .sival_int = 5 }),
			0);
		(void)snprintf(line, sizeof line, "count %ld", i);
		cr_assert_eq(driver_ask(&driver, line), i, "signal %ld is lost", i);
	}
	driver_stop(&driver);
}

/* As without the library: it kills where nobody asked for it, and nobody asked us yet. */
Test(signal, plain_kill_keeps_its_meaning_at_first)
{
	struct driver driver = start();

	cr_assert_eq(kill(driver.pid, SIGUSR2), 0);
	cr_assert_eq(driver_await_end(&driver), -SIGUSR2);
	driver_stop(&driver);
}

Test(signal, plain_kill_is_served)
{
	struct driver driver = start();
	uint64_t before;

	cr_assert(driver_trim(&driver, TRIMTAB_OP_TRIM));
	cr_assert_eq(driver_ask(&driver, "bloat"), 0);
	cr_assert_eq(driver_ask(&driver, "shrink"), 0);
	before = driver_rss_bytes(&driver);
	cr_assert_eq(kill(driver.pid, SIGUSR2), 0);
	cr_assert(driver_await_plain(&driver), "it ended with %d",
		  driver_await_end(&driver));
	cr_assert_lt(driver_rss_bytes(&driver), before / 2);
	for (int i = 0; i < N_SIGNALS; i++)
		cr_assert_eq(kill(driver.pid, SIGUSR2), 0);
	cr_assert(driver_await_plain(&driver));
	trim_often(&driver);
	cr_assert_eq(driver_ask(&driver, "presence"), PRESENT);
	driver_stop(&driver);
}

/* Children never were ours. */
Test(signal, plain_kill_of_a_child_keeps_its_meaning)
{
	struct driver driver = start();
	char line[32];

	cr_assert(driver_trim(&driver, TRIMTAB_OP_TRIM));
	(void)snprintf(line, sizeof line, "fork-signal %d", SIGUSR2);
	cr_assert_eq(driver_ask(&driver, line), SIGUSR2);
	cr_assert_eq(driver_ask(&driver, "presence"), PRESENT);
	driver_stop(&driver);
}

Test(signal, application_takes_the_signal_over)
{
	struct driver driver = start();

	cr_assert(driver_trim(&driver, TRIMTAB_OP_TRIM));
	say_about_signal(&driver, "restart-handler");
	assert_application_gets_its_own(&driver);
	cr_assert_eq(driver.page->n_plain_trims, 0);
	driver_stop(&driver);
}

/* Few, so that none comes to the helper while the main thread is busy with another: it would turn
 * to the futex, and arm nothing. */
Test(signal, application_ignores_the_signal_and_resets_it)
{
	struct driver driver = start();

	cr_assert(driver_trim(&driver, TRIMTAB_OP_TRIM));
	say_about_signal(&driver, "ignore");
	cr_assert_eq(kill(driver.pid, SIGUSR2), 0);
	trim_often(&driver);
	cr_assert_eq(driver.page->n_plain_trims, 0);
	/* Reset, as servers do that clean up after whoever started them. */
	say_about_signal(&driver, "default");
	cr_assert(driver_trim(&driver, TRIMTAB_OP_TRIM));
	cr_assert_eq(kill(driver.pid, SIGUSR2), 0);
	cr_assert(driver_await_plain(&driver));
	driver_stop(&driver);
}

Test(signal, plain_kill_is_not_served_by_futex)
{
	struct driver driver;
	struct driver_setup setup = { .wake = TRIMTAB_WAKE_FUTEX };

	cr_assert_eq(driver_start(&driver, &setup, guest_arguments), 0);
	cr_assert(driver_await_hello(&driver));
	cr_assert(driver_trim(&driver, TRIMTAB_OP_TRIM));
	cr_assert_eq(kill(driver.pid, SIGUSR2), 0);
	cr_assert_eq(driver_await_end(&driver), -SIGUSR2);
	driver_stop(&driver);
}

/* Blocked for a moment is not waited for: what goes back then kills when the moment is over. */
Test(signal, foreign_one_ends_here_while_all_are_blocked_for_a_moment)
{
	struct driver driver = start();
	char line[32];

	(void)snprintf(line, sizeof line, "block-briefly %d", SIGUSR2);
	for (int i = 0; i < 5; i++) {
		cr_assert_eq(driver_ask(&driver, line), 0);
		cr_assert_eq(
			driver_queue_signal(&driver, driver.page->helper_tid, SIGUSR2, 1),
			0);
		cr_assert_str_eq(driver_hear(&driver), "0");
		cr_assert_eq(driver_ask(&driver, "presence"), PRESENT, "it is dead");
	}
	cr_assert_eq(driver.page->waits, TRIMTAB_WAKE_SIGNAL);
	trim_often(&driver);
	driver_stop(&driver);
}
