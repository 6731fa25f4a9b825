/* Of src/preload/pressure.c: trims by systemd's protocol, in the processes that it is meant for.
 * A FIFO and a socket stand for the kernel's pressure file, as the protocol allows. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "driver.h"
#include "util/cleanup.h"
#include "util/time.h"

#define MIB (1024.0 * 1024.0)

enum {
	ABSENT = 1,   /* one thread, no page */
	WATCHING = 2, /* two threads, no page */
};

static char directory[64], source[128], variable[256];

static void begin(void)
{
	(void)snprintf(directory, sizeof directory, "/tmp/trimtab-pressure-XXXXXX");
	cr_assert_not_null(mkdtemp(directory));
	(void)snprintf(source, sizeof source, "%s/source", directory);
	(void)snprintf(variable, sizeof variable, "MEMORY_PRESSURE_WATCH=%s", source);
}

static void end(void)
{
	(void)unlink(source);
	(void)rmdir(directory);
}

TestSuite(pressure, .init = begin, .fini = end);

static struct driver start(const char *const *environment, bool exec_pid)
{
	char *arguments[] = { (char *)TRIMTAB_GUEST, NULL };
	struct driver_setup setup = {
		.fault = FAULT_NO_VARIABLE,
		.environment = environment,
		.exec_pid = exec_pid,
	};
	struct driver driver;

	cr_assert_eq(driver_start(&driver, &setup, arguments), 0);
	return driver;
}

static void bloat(struct driver *driver)
{
	cr_assert_eq(driver_ask(driver, "bloat"), 0);
	cr_assert_eq(driver_ask(driver, "shrink"), 0);
}

/* Nothing tells us when it has trimmed but its size, which may be small before we look again. */
static bool shrinks_on_word(const struct driver *driver, int fd)
{
	uint64_t before = driver_rss_bytes(driver);
	usec_t since = time_now_usec();

	cr_assert_eq(write(fd, "x", 1), 1);
	while (usec_sub(time_now_usec(), since) < driver->patience_msec * USEC_PER_MSEC) {
		if (driver_rss_bytes(driver) < before / 2)
			return true;
		(void)sched_yield();
	}
	return false;
}

static bool presence_becomes(const struct driver *driver, long wanted)
{
	usec_t since = time_now_usec();

	while (usec_sub(time_now_usec(), since) < driver->patience_msec * USEC_PER_MSEC)
		if (driver_ask(driver, "presence") == wanted)
			return true;
	return false;
}

Test(pressure, word_by_fifo)
{
	const char *const environment[] = { variable, NULL };
	auto_close int fd = -1;
	struct driver driver;

	cr_assert_eq(mkfifo(source, 0600), 0);
	fd = open(source, O_RDWR | O_CLOEXEC);
	driver = start(environment, true);
	cr_assert_eq(driver_ask(&driver, "presence"), WATCHING);
	bloat(&driver);
	cr_assert(shrinks_on_word(&driver, fd));
	driver_stop(&driver);
}

static int listen_here(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	memcpy(address.sun_path, source, strlen(source));
	cr_assert_eq(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
	cr_assert_eq(listen(fd, 5), 0);
	return fd;
}

Test(pressure, word_by_socket)
{
	/* "some 150000 2000000" and a NUL, as systemd writes it */
	const char *const environment[] = {
		variable, "MEMORY_PRESSURE_WRITE=c29tZSAxNTAwMDAgMjAwMDAwMAA=", NULL
	};
	auto_close int listener = listen_here(), fd = -1;
	char text[64] = "?";
	struct driver driver = start(environment, true);

	fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	cr_assert_geq(fd, 0);
	cr_assert_eq(read(fd, text, sizeof text), 20);
	cr_assert_str_eq(text, "some 150000 2000000");
	bloat(&driver);
	cr_assert(shrinks_on_word(&driver, fd));
	/* The manager goes, and with it the thread. */
	fd = close_fd(fd);
	cr_assert(presence_becomes(&driver, ABSENT));
	driver_stop(&driver);
}

/* A prefork server's workers hear of it, programs that they run do not. */
Test(pressure, forked_processes_watch_and_executed_ones_do_not)
{
	const char *const environment[] = { variable, NULL };
	struct driver driver;

	cr_assert_eq(mkfifo(source, 0600), 0);
	driver = start(environment, true);
	cr_assert_eq(driver_ask(&driver, "presence"), WATCHING);
	cr_assert_eq(driver_ask(&driver, "fork"), WATCHING);
	cr_assert_eq(driver_ask(&driver, "spawn"), ABSENT);
	cr_assert_eq(driver_ask(&driver, "system"), ABSENT);
	driver_say(&driver, "exit-main-thread");
	cr_assert_eq(driver_await_end(&driver), 0);
	driver_stop(&driver);
}

static void assert_absent(const char *first, const char *second)
{
	const char *const environment[] = { first, second, NULL };
	struct driver driver = start(environment, false);

	cr_expect(presence_becomes(&driver, ABSENT), "%s", first);
	driver_stop(&driver);
}

Test(pressure, absent_where_it_is_not_wanted)
{
	cr_assert_eq(mkfifo(source, 0600), 0);
	assert_absent("MEMORY_PRESSURE_WATCH=/dev/null", NULL);
	assert_absent("MEMORY_PRESSURE_WATCH=relative", NULL);
	assert_absent("MEMORY_PRESSURE_WATCH=/nowhere/at/all", NULL);
	assert_absent("MEMORY_PRESSURE_WATCH=/tmp", NULL);
	assert_absent(variable, "SYSTEMD_EXEC_PID=1");
	assert_absent(variable, "SYSTEMD_EXEC_PID=x");
	assert_absent(variable, "MEMORY_PRESSURE_WRITE=?");
}

/* With our thread gone nothing keeps the process, and nothing may wait for that thread. */
Test(pressure, process_ends_where_the_thread_did)
{
	const char *const environment[] = { variable, NULL };
	struct driver driver = start(environment, true);

	cr_assert(presence_becomes(&driver, ABSENT));
	driver_say(&driver, "exit-main-thread");
	cr_assert_eq(driver_await_end(&driver), 0);
	driver_stop(&driver);
}

/* A child of one of our workers: its page names another process, and that says enough. */
Test(pressure, absent_in_children_of_a_worker)
{
	char *arguments[] = { (char *)TRIMTAB_GUEST, NULL };
	const char *const environment[] = { variable, NULL };
	struct driver_setup setup = { .fault = FAULT_PID, .environment = environment };
	struct driver driver;

	cr_assert_eq(mkfifo(source, 0600), 0);
	cr_assert_eq(driver_start(&driver, &setup, arguments), 0);
	cr_assert_eq(driver_ask(&driver, "presence"), ABSENT);
	driver_stop(&driver);
}
