/* The loop and the writer of src/report/record.c in a hurry: records faster than they can be written,
 * workers' output, pipes that end, the form changed, the writer held and let go. For ThreadSanitizer,
 * and it counts: each record is written or reported as dropped.
 *
 *   race-record [SECONDS] */
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#include "report/record.h"
#include "util/cleanup.h"
#include "util/time.h"

enum {
	DEFAULT_SECONDS = 5,
	N_WORKERS = 8,
	N_OUTPUTS = 64, /* the rest begin and end on the way */
	CHANGE_EVERY = 50,
	LOOK_EVERY = 20,
	HOLD_EVERY = 400,
	OUTPUT_EVERY = 1000,
	PAUSE_EVERY = 200, /* or the ring is never empty, and the writer never held */
};

#define MARK "one of many"

/* The ring's own words alone must give the order, not the descriptor that wakes the writer. The sanitizer
 * does not know pthread_clockjoin_np(3), by which the writer's end is awaited, and would call it a leak.
 * And what is found must not go where records go. */
const char *__tsan_default_options(void);
__attribute__((weak)) void __sanitizer_set_report_fd(void *fd);

const char *__tsan_default_options(void)
{
	return "io_sync=0:report_thread_leaks=0";
}

static int worker_fds[N_WORKERS];
static atomic_bool stopping;

static struct {
	unsigned long written, dropped, lines;
} seen;

/* ---- the reader at the end of standard error ---- */

static void note_dropped(const char *line, const char *text)
{
	const char *number = text;

	while (number > line && number[-1] >= '0' && number[-1] <= '9')
		number--;
	seen.dropped += strtoul(number, NULL, 10);
}

static void *read_all(void *stream)
{
	auto_free char *line = NULL;
	size_t size = 0;

	while (getline(&line, &size, stream) > 0) {
		const char *dropped = strstr(line, " records were dropped");

		seen.lines++;
		if (dropped)
			note_dropped(line, dropped);
		else if (strstr(line, MARK))
			seen.written++;
	}
	return NULL;
}

/* ---- workers ---- */

static void *write_lines(void *unused)
{
	static const char text[] = "a worker's line\nand one without its end";

	(void)unused;
	for (unsigned i = 0; !atomic_load(&stopping); i++) {
		ssize_t n = write(worker_fds[i % N_WORKERS], text, sizeof(text) - 1);

		(void)n; /* full: the writer is busy elsewhere */
	}
	return NULL;
}

/* ---- the loop ---- */

static void write_one(unsigned long n)
{
	enum event event = n % 8 == 0 ? EVENT_EXIT : EVENT_PROBLEM;
	struct record *r = record_begin(event, LOG_INFO, MARK ", number %lu", n);

	record_add(r, "TRIMTAB_WORKER=%lu", 1 + n % N_WORKERS);
	record_commit(r);
}

/* What an upgrade asks before it is sure, and again when it is. */
static void look_at_outputs(void)
{
	unsigned worker;
	int fd;

	for (unsigned i = 0; record_each_output(i, &worker, &fd); i++)
		;
}

static unsigned long run(unsigned seconds, unsigned long *ret_holds)
{
	usec_t end = time_now_usec() + seconds * USEC_PER_SEC;
	unsigned n_outputs = N_WORKERS;
	unsigned long n = 0, holds = 0;

	for (; time_now_usec() < end; n++) {
		write_one(n);
		if (n % CHANGE_EVERY == 0)
			record_change(n % (2 * CHANGE_EVERY) ? RECORD_JSON : RECORD_TEXT,
				      LOG_DEBUG);
		if (n % LOOK_EVERY == 0)
			look_at_outputs();
		if (n % OUTPUT_EVERY == 0 && n_outputs < N_OUTPUTS)
			(void)close_fd(record_open_output(++n_outputs));
		if (n % HOLD_EVERY == 0 && record_hold() == 0) {
			holds++;
			look_at_outputs();
			record_release();
		}
		if (n % PAUSE_EVERY == 0)
			(void)usleep(1000);
	}
	*ret_holds = holds;
	return n;
}

static int redirect(FILE **ret)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) < 0 || dup2(fds[1], STDERR_FILENO) < 0)
		return -1;
	(void)close(fds[1]);
	*ret = fdopen(fds[0], "r");
	return *ret ? 0 : -1;
}

int main(int argc, char **argv)
{
	unsigned seconds = argc > 1 ? (unsigned)atoi(argv[1]) : DEFAULT_SECONDS;
	auto_close int old_stderr = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
	unsigned long made, holds;
	pthread_t reader, workers;
	auto_file FILE *output = NULL;

	if (__sanitizer_set_report_fd)
		__sanitizer_set_report_fd((void *)(intptr_t)old_stderr);
	if (redirect(&output) < 0 ||
	    record_open("race", RECORD_STDERR, RECORD_TEXT, LOG_DEBUG) < 0)
		return 2;
	for (unsigned i = 0; i < N_WORKERS; i++) {
		worker_fds[i] = record_open_output(i + 1);
		(void)fcntl(worker_fds[i], F_SETFL, O_NONBLOCK);
	}
	if (pthread_create(&reader, NULL, read_all, output) != 0 ||
	    pthread_create(&workers, NULL, write_lines, NULL) != 0)
		return 2;
	made = run(seconds, &holds);
	atomic_store(&stopping, true);
	(void)pthread_join(workers, NULL);
	for (unsigned i = 0; i < N_WORKERS; i++)
		(void)close(worker_fds[i]);
	record_close();
	(void)dup2(old_stderr, STDERR_FILENO);
	(void)pthread_join(reader, NULL);
	(void)printf("%lu records, %lu written, %lu dropped, %lu lines, held %lu times\n",
		     made, seen.written, seen.dropped, seen.lines, holds);
	return made != seen.written + seen.dropped || holds == 0;
}
