/* The way of a record: form, order, bounds, and above all that the loop never waits. */
#include "report/record.h"

#include <criterion/criterion.h>
#include <ctype.h>
#include <errno.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "output.h"

enum { RING = 56 }; /* records that wait at most; record.c */

static void write_simple(int priority, const char *text)
{
	struct record *r = record_begin(EVENT_PROBLEM, priority, "%s", text);

	record_commit(r);
}

/* ---- form ---- */

Test(record, text)
{
	output_open(RECORD_TEXT);
	write_simple(LOG_INFO, "all is well");
	write_simple(LOG_WARNING, "100%s of it");
	write_simple(LOG_ERR, "no more");
	output_await_lines(3);
	output_finish();

	auto_free char *first = output_line(0), *second = output_line(1),
		       *third = output_line(2);

	for (size_t i = 0; i < strlen("00:00:00.000"); i++)
		cr_assert(isdigit((unsigned char)first[i]) || strchr(":.", first[i]),
			  "%s", first);
	cr_assert_str_eq(first + 12, " trimtab  | all is well");
	cr_assert_str_eq(second + 12, " trimtab  | warning: 100%s of it");
	cr_assert_str_eq(third + 12, " trimtab  | error: no more");
}

Test(record, json)
{
	struct json_object *o;
	struct record *r;

	output_open(RECORD_JSON);
	r = record_begin(EVENT_TRIM, LOG_INFO, "Worker %u: \"%s\"\n\\\x01\t", 3,
			 "quoted");
	record_add(r, "TRIMTAB_WORKER=%u", 3);
	record_add(r, "TRIMTAB_REASON=a=b=");
	record_add(r, "TRIMTAB_EMPTY=");
	record_add(r, "no equals sign");
	record_commit(r);
	output_await_lines(1);
	output_finish();
	o = output_object(0);
	cr_assert_str_eq(output_field(o, "MESSAGE"), "Worker 3: \"quoted\"\n\\\x01\t");
	cr_assert_str_eq(output_field(o, "MESSAGE_ID"),
			 "a578e3f0714445d398b7ceb31802c119");
	cr_assert_str_eq(output_field(o, "PRIORITY"), "6");
	cr_assert_str_eq(output_field(o, "SYSLOG_IDENTIFIER"), "trimtab");
	cr_assert_str_eq(output_field(o, "TRIMTAB_EVENT"), "trim");
	cr_assert_str_eq(output_field(o, "TRIMTAB_POOL"), "shop");
	cr_assert_str_eq(output_field(o, "TRIMTAB_WORKER"), "3");
	cr_assert_str_eq(output_field(o, "TRIMTAB_REASON"), "a=b=");
	cr_assert_str_eq(output_field(o, "TRIMTAB_EMPTY"), "");
	cr_assert_eq(strlen(output_field(o, "TIME")),
		     strlen("2026-01-01T00:00:00.000000Z"));
	cr_assert_eq(json_object_object_length(o), 10);
	json_object_put(o);
}

Test(record, less_important_ones_are_left_out)
{
	output_redirect();
	cr_assert_eq(record_open("shop", RECORD_STDERR, RECORD_TEXT, LOG_NOTICE), 0);
	cr_assert_null(record_begin(EVENT_POOL, LOG_INFO, "info"));
	cr_assert_null(record_begin(EVENT_POOL, LOG_DEBUG, "debug"));
	write_simple(LOG_NOTICE, "notice");
	write_simple(LOG_ERR, "error");
	output_await_lines(2);
	output_finish();
	cr_assert_null(strstr(output_text, "info"));
}

Test(record, level_and_form_can_be_changed)
{
	output_redirect();
	cr_assert_eq(record_open("shop", RECORD_STDERR, RECORD_TEXT, LOG_ERR), 0);
	write_simple(LOG_WARNING, "unheard");
	record_change(RECORD_JSON, LOG_DEBUG);
	write_simple(LOG_DEBUG, "heard");
	output_await_lines(1);
	output_finish();

	struct json_object *o = output_object(0);

	cr_assert_str_eq(output_field(o, "MESSAGE"), "heard");
	json_object_put(o);
}

Test(record, none_before_and_after)
{
	cr_assert_null(record_begin(EVENT_POOL, LOG_ERR, "too early"));
	record_add(NULL, "A=%d", 1);
	record_commit(NULL);
	record_notify_manager("READY=1");
	record_close();
	output_open(RECORD_TEXT);
	record_close();
	record_close();
	cr_assert_null(record_begin(EVENT_POOL, LOG_ERR, "too late"));
}

/* ---- bounds ---- */

Test(record, a_long_message_is_cut_and_not_lost)
{
	auto_free char *longer = malloc(5000);
	struct json_object *o;
	struct record *r;

	memset(longer, 'm', 4999);
	longer[4999] = '\0';
	output_open(RECORD_JSON);
	r = record_begin(EVENT_PROBLEM, LOG_WARNING, "start %s", longer);
	record_add(r, "TRIMTAB_LATE=1");
	record_commit(r);
	write_simple(LOG_INFO, "the next");
	output_await_lines(2);
	output_finish();
	o = output_object(0);
	cr_assert_eq(strncmp(output_field(o, "MESSAGE"), "start mmm", 9), 0);
	cr_assert_gt(strlen(output_field(o, "MESSAGE")), 1000);
	cr_assert_lt(strlen(output_field(o, "MESSAGE")), 2000);
	json_object_put(o);
	o = output_object(1);
	cr_assert_str_eq(output_field(o, "MESSAGE"), "the next");
	json_object_put(o);
}

/* What a record is found by stands before what may be long. */
Test(record, a_long_field_leaves_the_others)
{
	auto_free char *longer = malloc(5000);
	struct json_object *o;
	struct record *r;

	memset(longer, 'f', 4999);
	longer[4999] = '\0';
	output_open(RECORD_JSON);
	r = record_begin(EVENT_PROBLEM, LOG_WARNING, "short");
	record_add(r, "TRIMTAB_WORKER=1");
	record_add(r, "TRIMTAB_REASON=%s", longer);
	record_add(r, "TRIMTAB_LEFT_OUT=1");
	record_commit(r);
	output_await_lines(1);
	output_finish();
	o = output_object(0);
	cr_assert_str_eq(output_field(o, "MESSAGE"), "short");
	cr_assert_str_eq(output_field(o, "TRIMTAB_WORKER"), "1");
	cr_assert_str_eq(output_field(o, "TRIMTAB_EVENT"), "problem");
	cr_assert_eq(strncmp(output_field(o, "TRIMTAB_REASON"), "ffff", 4), 0);
	cr_assert_str_eq(output_field(o, "TRIMTAB_LEFT_OUT"), "(none)");
	json_object_put(o);
}

Test(record, more_fields_than_fit)
{
	struct json_object *o;
	struct record *r;

	output_open(RECORD_JSON);
	r = record_begin(EVENT_PROBLEM, LOG_WARNING, "fields");
	for (int i = 0; i < 200; i++)
		record_add(r, "F%d=%d", i, i);
	record_commit(r);
	output_await_lines(1);
	output_finish();
	o = output_object(0);
	cr_assert_str_eq(output_field(o, "F0"), "0");
	cr_assert_str_eq(output_field(o, "F21"), "21");
	cr_assert_str_eq(output_field(o, "F22"), "(none)");
	json_object_put(o);
}

Test(record, a_pools_name_is_cut_to_its_room)
{
	char name[200];
	struct json_object *o;

	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	output_redirect();
	cr_assert_eq(record_open(name, RECORD_STDERR, RECORD_JSON, LOG_INFO), 0);
	write_simple(LOG_INFO, "x");
	output_await_lines(1);
	output_finish();
	o = output_object(0);
	cr_assert_eq(strlen(output_field(o, "TRIMTAB_POOL")), 63);
	json_object_put(o);
}

/* ---- order and overflow ---- */

static size_t number_in(const char *line)
{
	const char *p = strstr(line, "number ");

	cr_assert_not_null(p, "%s", line);
	return strtoul(p + 7, NULL, 10);
}

Test(record, many_in_their_order)
{
	enum { N = 5000 };

	output_open(RECORD_TEXT);
	for (size_t i = 0; i < N; i++) {
		write_simple(LOG_INFO, "");
		record_commit(record_begin(EVENT_POOL, LOG_INFO, "number %zu", i));
		/* Never more than the ring holds: nothing may be dropped. */
		if (i % (RING / 4) == 0)
			output_await_lines(2 * (i + 1));
	}
	output_await_lines(2 * N);
	output_finish();
	char *line = output_text;

	for (size_t i = 0; i < N; i++) {
		line = strchr(line, '\n') + 1;
		cr_assert_eq(number_in(line), i);
		line = strchr(line, '\n') + 1;
	}
	cr_assert_eq(*line, '\0');
}

static void fill_stderr(void)
{
	static const char junk[4096] = { 0 };
	int flags = fcntl(STDERR_FILENO, F_GETFL);

	cr_assert_eq(fcntl(STDERR_FILENO, F_SETFL, flags | O_NONBLOCK), 0);
	while (write(STDERR_FILENO, junk, sizeof(junk)) > 0)
		;
	while (write(STDERR_FILENO, junk, 1) > 0)
		;
	cr_assert_eq(fcntl(STDERR_FILENO, F_SETFL, flags), 0);
}

static void drain_junk(void)
{
	size_t left;
	char byte[4096];

	for (left = (size_t)fcntl(output_fd, F_GETPIPE_SZ); left > 0;) {
		ssize_t n =
			read(output_fd, byte, left < sizeof(byte) ? left : sizeof(byte));

		cr_assert_gt(n, 0);
		for (ssize_t i = 0; i < n; i++)
			cr_assert_eq(byte[i], 0);
		left -= (size_t)n;
	}
}

/* A terminal that was stopped: the loop goes on, what does not fit is counted and told. */
static void check_overflow(enum record_format format)
{
	enum { N = 10 * RING };
	size_t n_dropped = 0, n_seen = 0, last = 0;

	output_redirect();
	fill_stderr();
	cr_assert_eq(record_open("shop", RECORD_STDERR, format, LOG_INFO), 0);
	for (size_t i = 1; i <= N; i++)
		record_commit(record_begin(EVENT_POOL, LOG_INFO, "number %zu", i));
	drain_junk();
	/* Those that fit at least, and the report. */
	output_await_lines(RING + 1);
	record_commit(record_begin(EVENT_POOL, LOG_INFO, "number %d", N + 1));
	output_finish();
	for (char *line = strtok(output_text, "\n"); line; line = strtok(NULL, "\n")) {
		const char *told = strstr(line, " records were dropped");

		if (told) {
			while (told > line && isdigit((unsigned char)told[-1]))
				told--;
			n_dropped += strtoul(told, NULL, 10);
			continue;
		}
		cr_assert_gt(number_in(line), last, "out of order");
		last = number_in(line);
		n_seen++;
	}
	cr_assert_geq(n_seen, RING);
	cr_assert_eq(n_seen + n_dropped, N + 1, "%zu seen, %zu dropped", n_seen,
		     n_dropped);
	cr_assert_eq(last, N + 1);
}

Test(record, overflow_is_counted)
{
	check_overflow(RECORD_TEXT);
}

Test(record, overflow_is_counted_in_json)
{
	check_overflow(RECORD_JSON);
}

Test(record, the_end_does_not_wait_for_a_stopped_terminal)
{
	output_redirect();
	fill_stderr();
	cr_assert_eq(record_open("shop", RECORD_STDERR, RECORD_TEXT, LOG_INFO), 0);
	for (int i = 0; i < 10; i++)
		write_simple(LOG_INFO, "never read");
	record_close();
}

Test(record, nobody_reads_any_more)
{
	(void)signal(SIGPIPE, SIG_IGN);
	output_open(RECORD_TEXT);
	(void)close(output_fd);
	for (int i = 0; i < 1000; i++)
		write_simple(LOG_INFO, "into nothing");
	record_close();
}

Test(record, what_was_committed_is_written_at_the_end)
{
	output_open(RECORD_TEXT);
	for (int i = 0; i < RING / 2; i++)
		write_simple(LOG_INFO, "x");
	output_finish();
	for (int i = 0; i < RING / 2; i++)
		free(output_line((size_t)i));
}

/* ---- the service manager ---- */

static struct sockaddr_un manager = { .sun_family = AF_UNIX };
static char manager_directory[] = "/tmp/trimtab-record-XXXXXX";

static int manager_open(void)
{
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	cr_assert_not_null(mkdtemp(manager_directory));
	(void)snprintf(manager.sun_path, sizeof(manager.sun_path), "%s/notify",
		       manager_directory);
	cr_assert_eq(bind(fd, (struct sockaddr *)&manager, sizeof(manager)), 0);
	cr_assert_eq(setenv("NOTIFY_SOCKET", manager.sun_path, 1), 0);
	return fd;
}

static void manager_hears(int fd, const char *expected)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char text[256];
	ssize_t n;

	cr_assert_eq(poll(&p, 1, 60000), 1, "%s does not come", expected);
	n = recv(fd, text, sizeof(text) - 1, 0);
	cr_assert_gt(n, 0);
	text[n] = '\0';
	cr_assert_str_eq(text, expected);
}

static void manager_close(int fd)
{
	(void)close(fd);
	(void)unlink(manager.sun_path);
	(void)rmdir(manager_directory);
}

Test(record, notifications_go_to_the_manager_in_order)
{
	int fd = manager_open();

	output_redirect();
	cr_assert_eq(record_open("shop", RECORD_STDERR, RECORD_TEXT, LOG_ERR), 0);
	record_notify_manager("STATUS=%d of %d", 1, 4);
	record_notify_manager("READY=1");
	manager_hears(fd, "STATUS=1 of 4");
	manager_hears(fd, "READY=1");
	output_finish();
	cr_assert_eq(output_used, 0, "%s", output_text);
	manager_close(fd);
}

/* A log that is stuck loses records, and no word that the manager waits for. */
Test(record, notifications_are_kept_when_records_are_dropped)
{
	int fd = manager_open();

	output_redirect();
	fill_stderr();
	cr_assert_eq(record_open("shop", RECORD_STDERR, RECORD_TEXT, LOG_INFO), 0);
	for (int i = 0; i < 10 * RING; i++)
		write_simple(LOG_INFO, "x");
	record_notify_manager("RELOADING=1");
	for (int i = 0; i < 10 * RING; i++) {
		write_simple(LOG_INFO, "x");
		record_notify_manager("STATUS=%d", i);
	}
	record_notify_manager("READY=1");
	drain_junk();
	manager_hears(fd, "RELOADING=1");
	manager_hears(fd, "READY=1");
	output_finish();
	manager_close(fd);
}

/* ---- what workers write ---- */

static int output_of(unsigned worker)
{
	int fd = record_open_output(worker);

	cr_assert_geq(fd, 0, "%s", strerror(-fd));
	return fd;
}

static void put(int fd, const char *text)
{
	cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
}

Test(record, lines_of_workers_have_their_names)
{
	int one, twelve, template;

	output_open(RECORD_TEXT);
	one = output_of(1);
	twelve = output_of(12);
	template = output_of(0);
	cr_assert(fcntl(one, F_GETFD) & FD_CLOEXEC);
	cr_assert_not(fcntl(one, F_GETFL) & O_NONBLOCK,
		      "a worker must wait, not lose lines");
	put(one, "hello\n");
	output_await_lines(1);
	put(twelve, "100%s\n\n");
	output_await_lines(3);
	put(template, "loading\n");
	output_await_lines(4);
	output_finish();
	cr_assert_str_eq(output_text, "worker-1 | hello\n"
				      "worker-12| 100%s\n"
				      "worker-12| \n"
				      "template | loading\n");
}

Test(record, lines_in_pieces_are_one_line)
{
	int one, two;

	output_open(RECORD_TEXT);
	one = output_of(1);
	two = output_of(2);
	put(one, "a");
	put(two, "x");
	put(one, "b\nc");
	put(two, "y\n");
	put(one, "d\n");
	output_await_lines(3);
	output_finish();
	cr_assert_not_null(strstr(output_text, "worker-1 | ab\n"));
	cr_assert_not_null(strstr(output_text, "worker-1 | cd\n"));
	cr_assert_not_null(strstr(output_text, "worker-2 | xy\n"));
}

Test(record, a_line_longer_than_the_buffer_comes_in_pieces)
{
	auto_free char *longer = malloc(10001);
	int one;
	size_t n = 0;

	memset(longer, 'x', 10000);
	longer[10000] = '\0';
	output_open(RECORD_TEXT);
	one = output_of(1);
	put(one, longer);
	put(one, "\nnext\n");
	output_await_lines(4);
	output_finish();
	for (const char *p = output_text; *p; p++)
		n += *p == 'x';
	cr_assert_eq(n, 10001, "one x is in next: %zu", n);
	cr_assert_str_eq(strrchr(output_text, '|'), "| next\n");
}

Test(record, the_last_words_without_a_newline)
{
	int one;

	output_open(RECORD_TEXT);
	one = output_of(1);
	put(one, "first\nfatal: out of lu");
	put(one, "ck");
	output_finish();
	cr_assert_str_eq(output_text,
			 "worker-1 | first\nworker-1 | fatal: out of luck\n");
}

Test(record, the_last_words_of_an_output_that_is_closed)
{
	int one;

	output_open(RECORD_TEXT);
	one = output_of(1);
	put(one, "last");
	(void)close(one);
	output_await_lines(1);
	cr_assert_str_eq(output_text, "worker-1 | last\n");
}

/* A crash's message has no newline often enough: it belongs before the record of the end, and not
 * in front of what the successor says first. */
Test(record, last_words_come_before_the_end_they_explain)
{
	int one, two;
	struct record *r;

	output_open(RECORD_TEXT);
	one = output_of(1);
	two = output_of(2);
	put(two, "half ");
	put(one, "Segmentation fault");
	r = record_begin(EVENT_EXIT, LOG_ERR, "Worker 1 died");
	record_add(r, "TRIMTAB_WORKER=%u", 1);
	record_commit(r);
	output_await_lines(2);
	put(one, "hello\n");
	put(two, "a line\n");
	output_await_lines(4);
	output_finish();
	cr_assert_eq(strncmp(output_text, "worker-1 | Segmentation fault\n", 30), 0, "%s",
		     output_text);
	cr_assert_not_null(strstr(output_text, "error: Worker 1 died\n"));
	cr_assert_not_null(strstr(output_text, "worker-1 | hello\n"));
	cr_assert_not_null(strstr(output_text, "worker-2 | half a line\n"));
}

/* Whatever a worker writes, a line of the log is one object that a strict reader takes. */
Test(record, json_of_bytes_of_any_kind)
{
	static const char bytes[] = "a\0b\xff\xc3(\x80 \xc3\xa4 \xf0\x9f\x98\x80 "
				    "\xed\xa0\x80 \x1b[1m\t\"\\\n";
	struct json_object *o;
	const char *text;
	int one;

	output_open(RECORD_JSON);
	one = output_of(1);
	cr_assert_eq(write(one, bytes, sizeof(bytes) - 1), (ssize_t)sizeof(bytes) - 1);
	output_await_lines(1);
	output_finish();
	/* Valid UTF-8 in, valid UTF-8 out; the rest is marked as what it is. */
	for (const char *p = output_text; *p; p++)
		cr_assert_neq((unsigned char)*p, 0xff, "a byte that no UTF-8 text has");
	cr_assert_null(strstr(output_text, "\xed\xa0\x80"), "a surrogate");
	o = output_object(0);
	text = output_field(o, "MESSAGE");
	cr_assert_not_null(strstr(output_text, "\xc3\xa4 \xf0\x9f\x98\x80"));
	cr_assert_eq(text[0], 'a');
	json_object_put(o);
}

Test(record, a_flood_of_a_worker_is_whole)
{
	enum { N = 20000 };
	int one;
	pid_t pid;

	output_open(RECORD_TEXT);
	one = output_of(1);
	pid = fork();
	if (pid == 0) {
		char line[32];

		for (int i = 0; i < N; i++) {
			int n = snprintf(line, sizeof(line), "number %d\n", i);

			if (write(one, line, (size_t)n) != n)
				_exit(1);
		}
		_exit(0);
	}
	output_await_lines(N);
	output_finish();
	size_t i = 0;

	for (char *line = strtok(output_text, "\n"); line; line = strtok(NULL, "\n"))
		cr_assert_eq(number_in(line), i++);
	cr_assert_eq(i, N);
}

/* ---- where to ---- */

Test(record, knows_the_journal_by_its_stream)
{
	struct stat st;
	char text[64];

	output_redirect();
	cr_assert_eq(unsetenv("JOURNAL_STREAM"), 0);
	cr_assert_not(record_stderr_is_journal());
	cr_assert_eq(fstat(STDERR_FILENO, &st), 0);
	(void)snprintf(text, sizeof(text), "%lu:%lu", (unsigned long)st.st_dev,
		       (unsigned long)st.st_ino);
	cr_assert_eq(setenv("JOURNAL_STREAM", text, 1), 0);
	cr_assert(record_stderr_is_journal());
	(void)snprintf(text, sizeof(text), "%lu:%lu", (unsigned long)st.st_dev,
		       (unsigned long)st.st_ino + 1);
	cr_assert_eq(setenv("JOURNAL_STREAM", text, 1), 0);
	cr_assert_not(record_stderr_is_journal(), "stderr went elsewhere since");
	cr_assert_eq(setenv("JOURNAL_STREAM", "nonsense", 1), 0);
	cr_assert_not(record_stderr_is_journal());
}

/* ---- held, for another program to take over ---- */

Test(record, held_when_all_is_written)
{
	unsigned worker = 0;
	int write_end, read_end = -1;

	output_open(RECORD_TEXT);
	write_end = record_open_output(7);
	cr_assert_geq(write_end, 0);
	for (int i = 0; i < 20; i++)
		write_simple(LOG_INFO, "before");
	cr_assert_eq(write(write_end, "whole\nhalf", 10), 10);
	output_await_lines(1);
	/* Until the writer has taken the line, half of it may still be in the pipe: then it stays. */
	cr_assert_eq(record_hold(), 0);
	output_await_lines(20);
	cr_assert(record_each_output(0, &worker, &read_end));
	cr_expect_eq(worker, 7);
	cr_expect_geq(read_end, 0);
	cr_expect_not(record_each_output(1, &worker, &read_end));
	record_release();
	write_simple(LOG_INFO, "after");
	output_await_lines(21);
	(void)close(write_end);
	output_finish();
	cr_expect(strstr(output_text, "after"));
	cr_expect(strstr(output_text, "worker-7 | whole\n"));
	cr_expect(strstr(output_text, "worker-7 | half\n"));
}

Test(record, a_pipe_taken_over_is_read_on)
{
	int fds[2];

	output_open(RECORD_TEXT);
	cr_assert_eq(pipe2(fds, O_CLOEXEC), 0);
	cr_assert_eq(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
	cr_assert_eq(write(fds[1], "left there\n", 11), 11);
	cr_assert_eq(record_adopt_output(3, fds[0]), 0);
	output_await_lines(1);
	(void)close(fds[1]);
	output_finish();
	cr_expect(strstr(output_text, "worker-3 | left there\n"), "%s", output_text);
}

Test(record, a_log_that_does_not_keep_up_is_not_held)
{
	output_open(RECORD_TEXT);
	/* More than the pipe to the test takes, which reads nothing meanwhile. */
	(void)fcntl(output_fd, F_SETPIPE_SZ, 4096);
	for (int i = 0; i < RING; i++)
		write_simple(LOG_INFO,
			     "0123456789 0123456789 0123456789 0123456789 0123456789 "
			     "0123456789 0123456789 0123456789 0123456789 0123456789");
	cr_expect_eq(record_hold(), -ETIMEDOUT);
	output_await_lines(RING);
	cr_expect_eq(record_hold(), 0, "it keeps up again");
	record_release();
	output_finish();
}
