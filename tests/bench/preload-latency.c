/* What the preload library costs and how fast it answers, beside the same program without it:
 *
 *   TRIMTAB_PRELOAD_LIBRARY=... preload-latency [ROUNDS]
 *
 * Starting a program, memory and wake-ups of an idle worker, the price of malloc in a process
 * that has become multi-threaded, and the time from the request to the start of the trim by
 * each way of asking: the signal to the library's thread, the futex, and a plain kill -USR2 of
 * the process. (Pressure by systemd's protocol waits on purpose, so that workers that hear it
 * together do not trim together.) tests/bench/run --preload builds and runs it. Read it on a
 * quiet machine; nothing here asserts a figure. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "driver.h"
#include "util/cleanup.h"
#include "util/time.h"

enum {
	DEFAULT_ROUNDS = 1000,
	MAX_ROUNDS = 100000,
};

static double samples[MAX_ROUNDS];
static int n_rounds = DEFAULT_ROUNDS;

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* Of the sorted samples. */
static double quantile(double q)
{
	return samples[(int)(q * (n_rounds - 1))];
}

static uint64_t now_nsec(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void die(const char *what)
{
	fprintf(stderr, "preload-latency: %s\n", what);
	exit(1);
}

static struct driver start(const struct driver_setup *setup, char *const arguments[])
{
	struct driver driver;

	if (driver_start(&driver, setup, arguments) < 0)
		die("cannot start; is TRIMTAB_PRELOAD_LIBRARY set?");
	return driver;
}

struct variant {
	const char *name;
	struct driver_setup setup;
};

/* The C library itself stands for "nothing preloaded": the driver always sets LD_PRELOAD. */
static const struct variant variants[] = {
	{ "without", { .library = TRIMTAB_NO_LIBRARY, .fault = FAULT_NO_VARIABLE } },
	{ "inert", { .fault = FAULT_NO_VARIABLE } },
	{ "active", { .fault = FAULT_NONE } },
};

static double time_one_start(const struct variant *variant)
{
	char *arguments[] = { "/bin/true", NULL };
	uint64_t begin = now_nsec(), end;
	struct driver driver = start(&variant->setup, arguments);

	(void)driver_await_end(&driver);
	end = now_nsec();
	driver_stop(&driver);
	return (double)(end - begin) / 1e3;
}

/* By turns, so that whatever else the machine does falls on all alike. */
static void time_starts(void)
{
	static double by_variant[ELEMENTS(variants)][MAX_ROUNDS];

	for (int i = 0; i < n_rounds; i++)
		for (size_t v = 0; v < ELEMENTS(variants); v++)
			by_variant[v][i] = time_one_start(&variants[v]);
	for (size_t v = 0; v < ELEMENTS(variants); v++) {
		memcpy(samples, by_variant[v], sizeof samples);
		qsort(samples, (size_t)n_rounds, sizeof *samples, compare);
		printf("start to end of /bin/true, %-8s %7.0f us p10 %7.0f us p50\n",
		       variants[v].name, quantile(0.1), quantile(0.5));
	}
}

static unsigned long kib_of(pid_t pid, const char *key)
{
	char path[64], line[256];
	unsigned long kib = 0;
	auto_file FILE *f = NULL;

	(void)snprintf(path, sizeof path, "/proc/%d/smaps_rollup", (int)pid);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof line, f))
		if (strncmp(line, key, strlen(key)) == 0)
			kib += strtoul(strchr(line, ':') + 1, NULL, 10);
	return kib;
}

static unsigned long switches_of_helper(const struct driver *driver)
{
	char path[64], line[256];
	unsigned long n = 0;
	auto_file FILE *f = NULL;

	(void)snprintf(path, sizeof path, "/proc/%d/task/%d/status", (int)driver->pid,
		       (int)driver->page->helper_tid);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof line, f))
		if (strncmp(line, "voluntary_ctxt_switches", 23) == 0)
			n = strtoul(strchr(line, ':') + 1, NULL, 10);
	return n;
}

static void weigh(const struct variant *variant)
{
	char *arguments[] = { (char *)TRIMTAB_GUEST, NULL };
	struct driver driver = start(&variant->setup, arguments);
	bool active = variant->setup.fault == FAULT_NONE;
	unsigned long switches;

	if (active && !driver_await_hello(&driver))
		die("no hello");
	/* An answer says that the program has settled. */
	(void)driver_ask(&driver, "presence");
	printf("idle program, %-8s private dirty %4lu KiB, clean %4lu KiB, pss %4lu "
	       "KiB\n",
	       variant->name, kib_of(driver.pid, "Private_Dirty:"),
	       kib_of(driver.pid, "Private_Clean:"), kib_of(driver.pid, "Pss:"));
	for (int size = 256; size <= 16384; size *= 8) {
		char line[32];

		(void)snprintf(line, sizeof line, "speed %d", size);
		printf("  malloc and free of %5d bytes: %5.1f ns\n", size,
		       (double)driver_ask(&driver, line) / 1e3);
	}
	if (active) {
		switches = switches_of_helper(&driver);
		(void)sleep(3);
		printf("  wake-ups of the helper in 3 idle seconds: %lu\n",
		       switches_of_helper(&driver) - switches);
	}
	driver_stop(&driver);
}

static void pause_a_moment(void)
{
	const struct timespec pause = { .tv_nsec = 1000000 };

	(void)nanosleep(&pause, NULL);
}

static void print_quantiles(const char *what)
{
	qsort(samples, (size_t)n_rounds, sizeof *samples, compare);
	printf("  %s %6.1f us p50 %6.1f us p99", what, quantile(0.5), quantile(0.99));
}

static void time_requests(enum trimtab_wake wake, const char *name)
{
	char *arguments[] = { (char *)TRIMTAB_GUEST, NULL };
	struct driver_setup setup = { .wake = wake };
	struct driver driver = start(&setup, arguments);
	static double whole[MAX_ROUNDS];

	if (!driver_await_hello(&driver))
		die("no hello");
	for (int i = 0; i < n_rounds; i++) {
		uint64_t sent;

		pause_a_moment();
		sent = now_nsec();
		if (!driver_trim(&driver, TRIMTAB_OP_TRIM))
			die("not served");
		whole[i] = (double)(now_nsec() - sent) / 1e3;
		samples[i] = (double)(driver.page->began_nsec - sent) / 1e3;
	}
	printf("request by %s\n", name);
	print_quantiles("to start of trim");
	memcpy(samples, whole, sizeof samples);
	print_quantiles("to the answer");
	printf("\n");
	driver_stop(&driver);
}

/* The page says when a request began to be served; nobody wants to know of this one. */
static void time_plain_signals(void)
{
	char *arguments[] = { (char *)TRIMTAB_GUEST, NULL };
	struct driver driver = start(&(struct driver_setup){ 0 }, arguments);

	/* From the first request on the process survives such a signal. */
	if (!driver_await_hello(&driver) || !driver_trim(&driver, TRIMTAB_OP_TRIM))
		die("not served");
	for (int i = 0; i < n_rounds; i++) {
		uint64_t sent;

		pause_a_moment();
		sent = now_nsec();
		if (kill(driver.pid, SIGUSR2) < 0 || !driver_await_plain(&driver))
			die("not served");
		samples[i] = (double)(now_nsec() - sent) / 1e3;
	}
	printf("kill -USR2 of the process\n");
	print_quantiles("                                          to the answer");
	printf("\n");
	driver_stop(&driver);
}

int main(int argc, char **argv)
{
	if (argc > 1)
		n_rounds = atoi(argv[1]);
	if (n_rounds < 1 || n_rounds > MAX_ROUNDS)
		die("1 to 100000 rounds");
	time_starts();
	for (size_t i = 0; i < ELEMENTS(variants); i++)
		weigh(&variants[i]);
	time_requests(TRIMTAB_WAKE_SIGNAL, "signal to the library's thread");
	time_requests(TRIMTAB_WAKE_FUTEX, "futex");
	time_plain_signals();
	return 0;
}
