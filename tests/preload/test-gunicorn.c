/* Of the library in gunicorn's own worker classes, which reset SIGUSR2 to its default: they serve
 * every request while they are trimmed, collected and purged all the time. */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "driver.h"
#include "util/cleanup.h"

enum {
	N_REQUESTS = 300,
	EVERYTHING = TRIMTAB_OP_TRIM | TRIMTAB_OP_GC | TRIMTAB_OP_PYMALLOC,
};

/* The whole answer to one request, in a static buffer. */
static const char *get(uint16_t port)
{
	static const char request[] = "GET / HTTP/1.0\r\nHost: x\r\n\r\n";
	static char text[4096];
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(port) };
	auto_close int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	size_t length = 0;
	ssize_t n;

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
		return "no connection";
	if (send(fd, request, sizeof request - 1, MSG_NOSIGNAL) < 0)
		return "not sent";
	while ((n = recv(fd, text + length, sizeof text - 1 - length, 0)) > 0)
		length += (size_t)n;
	text[length] = '\0';
	return n < 0 ? "broken off" : text;
}

static bool can_import_gunicorn(void)
{
	return system("/usr/bin/python3 -c 'import gunicorn' 2>/dev/null") == 0;
}

static void serve_while_trimmed(const char *class)
{
	char *arguments[] = { "/usr/bin/python3", (char *)TRIMTAB_GUNICORN_WORKER,
			      (char *)class, NULL };
	struct driver driver;
	const char *line;
	uint16_t port;

	if (!can_import_gunicorn())
		cr_skip_test("gunicorn is not installed");
	cr_assert_eq(driver_start(&driver, &(struct driver_setup){ 0 }, arguments), 0);
	cr_assert(driver_await_hello(&driver));
	line = driver_hear(&driver);
	cr_assert_not_null(line, "it did not start");
	port = (uint16_t)atoi(line);
	atomic_store(&driver.page->gc_wait_msec, 2);
	for (int i = 0; i < N_REQUESTS; i++) {
		const char *answer;

		cr_assert_eq(driver_request(&driver, EVERYTHING), 0);
		answer = get(port);
		cr_assert(strstr(answer, "200 OK") && strstr(answer, "good\n"),
			  "request %d: %s", i, answer);
		cr_assert(driver_await_done(&driver), "trim %d", i);
	}
	cr_log_info("%s: %lu trims, %u of them late, pymalloc %u", class,
		    (unsigned long)driver.page->n_served, driver.page->n_late_trims,
		    driver.page->pymalloc);
	cr_assert_eq(driver.page->pymalloc, TRIMTAB_PYMALLOC_ON);
	cr_assert_eq(kill(driver.pid, SIGTERM), 0);
	cr_assert_eq(driver_await_end(&driver), 0);
	driver_stop(&driver);
}

Test(gunicorn, sync_worker_serves_while_trimmed)
{
	serve_while_trimmed("sync");
}

Test(gunicorn, gthread_worker_serves_while_trimmed)
{
	serve_while_trimmed("gthread");
}
