/* The control server and clients of every kind: quick, slow, half-closed, mute, gone. Each test
 * turns the loop by hand and counts the turns: what makes it spin fails. */
#include "control/server.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "trimtab/control.h"
#include "util/cleanup.h"

static char directory[64], path[108];
static sd_event *event;
static struct control_server *server;

/* What the handler saw, and what it is to do. */
static struct {
	struct control_client *kept[64];
	unsigned n_kept, n_handled, n_forgotten;
	size_t reply_size; /* of status: bytes of padding */
} seen;

static struct json_object *handle(void *userdata, const struct request *request,
				  struct control_client *client)
{
	struct json_object *reply;

	cr_assert_eq(userdata, (void *)&seen);
	seen.n_handled++;
	if (request->verb == VERB_RECYCLE || request->verb == VERB_STOP) {
		seen.kept[seen.n_kept++] = client;
		return NULL;
	}
	if (request->verb == VERB_TRIM)
		return control_error("worker %u: \"no\"\n", request->worker);
	reply = control_ok();
	if (seen.reply_size > 0) {
		auto_free char *padding = calloc(seen.reply_size + 1, 1);

		memset(padding, 'x', seen.reply_size);
		json_object_object_add(reply, "padding", json_object_new_string(padding));
	}
	return reply;
}

static void forget(void *userdata, struct control_client *client)
{
	cr_assert_eq(userdata, (void *)&seen);
	for (unsigned i = 0; i < seen.n_kept; i++)
		if (seen.kept[i] == client)
			seen.kept[i] = seen.kept[--seen.n_kept];
	seen.n_forgotten++;
}

static const struct control_handler handler = { handle, forget, &seen };

static void start(void)
{
	(void)snprintf(directory, sizeof(directory), "/tmp/trimtab-control-XXXXXX");
	cr_assert_not_null(mkdtemp(directory));
	(void)snprintf(path, sizeof(path), "%s/pool.sock", directory);
	cr_assert_geq(sd_event_new(&event), 0);
	cr_assert_eq(control_new(event, path, &handler, &server), 0);
}

static void end(void)
{
	server = control_free(server);
	event = sd_event_unref(event);
	cr_assert_lt(access(path, F_OK), 0, "the socket stays behind");
	(void)rmdir(directory);
}

TestSuite(server, .init = start, .fini = end);

/* Everything that is due. */
static void turn(void)
{
	for (int i = 0; i < 20000; i++)
		if (sd_event_run(event, 0) == 0)
			return;
	cr_assert_fail("the loop spins");
}

/* One that waits in the queue until the loop turns. */
static int caller(void)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)snprintf(un.sun_path, sizeof(un.sun_path), "%s", path);
	cr_assert_eq(connect(fd, (struct sockaddr *)&un, sizeof(un)), 0, "%m");
	return fd;
}

static int client(void)
{
	int fd = caller();

	turn();
	return fd;
}

static void say_bytes(int fd, const void *text, size_t n)
{
	cr_assert_eq(send(fd, text, n, MSG_NOSIGNAL), (ssize_t)n, "%m");
	turn();
}

static void say(int fd, const char *text)
{
	say_bytes(fd, text, strlen(text));
}

static char heard_text[1 << 20];

/* What has come so far; NULL at the end of the connection. */
static const char *heard(int fd)
{
	size_t n = 0;
	ssize_t got;

	while (n < sizeof(heard_text) - 1 &&
	       (got = recv(fd, heard_text + n, sizeof(heard_text) - 1 - n,
			   MSG_DONTWAIT)) > 0) {
		n += (size_t)got;
		turn();
	}
	heard_text[n] = '\0';
	if (n == 0 && got == 0)
		return NULL;
	cr_assert(got >= 0 || errno == EAGAIN || errno == ECONNRESET, "%m");
	return n == 0 && got < 0 && errno == ECONNRESET ? NULL : heard_text;
}

#define OK_LINE "{\"ok\":true}\n"

/* ---- one client ---- */

Test(server, is_private)
{
	struct stat st;

	cr_assert_eq(stat(path, &st), 0);
	cr_assert_eq(st.st_mode & 07777, 0600);
}

Test(server, a_line_and_a_line_back)
{
	auto_close int fd = client();

	say(fd, "status\n");
	cr_assert_str_eq(heard(fd), OK_LINE);
	say(fd, "status\r\n");
	cr_assert_str_eq(heard(fd), OK_LINE);
	cr_assert_eq(seen.n_handled, 2);
}

Test(server, an_error_is_a_reply_of_one_line)
{
	auto_close int fd = client();
	struct json_object *reply, *error = NULL;
	const char *text;

	say(fd, "trim 3\n");
	text = heard(fd);
	cr_assert_eq(strcspn(text, "\n"), strlen(text) - 1, "%s", text);
	reply = json_tokener_parse(text);
	cr_assert(json_object_object_get_ex(reply, "error", &error));
	cr_assert_str_eq(json_object_get_string(error), "worker 3: \"no\"\n");
	json_object_put(reply);
	say(fd, "nonsense\n");
	cr_assert_eq(strncmp(heard(fd), "{\"ok\":false,\"error\":\"", 21), 0);
	cr_assert_eq(seen.n_handled, 1, "nonsense reached the handler");
	/* And the next is served. */
	say(fd, "\nstatus\n");
	cr_assert_not_null(strstr(heard(fd), OK_LINE));
}

Test(server, a_line_in_pieces)
{
	static const char line[] = "status\n";
	auto_close int fd = client();

	for (size_t i = 0; i < sizeof(line) - 1; i++) {
		cr_assert_eq(seen.n_handled, 0);
		say_bytes(fd, line + i, 1);
	}
	cr_assert_str_eq(heard(fd), OK_LINE);
}

Test(server, many_lines_at_once)
{
	auto_close int fd = client();
	char lines[7 * 30 + 1] = "";

	for (int i = 0; i < 30; i++)
		strcat(lines, "status\n");
	say(fd, lines);
	cr_assert_eq(strlen(heard(fd)), 30 * strlen(OK_LINE));
	cr_assert_eq(seen.n_handled, 30);
}

Test(server, more_lines_than_it_reads_at_once)
{
	auto_close int fd = client();
	auto_free char *lines = calloc(7 * 2000 + 1, 1);

	for (int i = 0; i < 2000; i++)
		memcpy(lines + 7 * i, "status\n", 7);
	say(fd, lines);
	cr_assert_eq(strlen(heard(fd)), 2000 * strlen(OK_LINE));
	cr_assert_eq(seen.n_handled, 2000);
}

Test(server, a_line_that_just_fits_and_one_that_does_not)
{
	auto_close int fits = client(), longer = client();
	char line[TRIMTAB_CONTROL_REQUEST_MAX + 1];

	memset(line, ' ', sizeof(line));
	memcpy(line, "status", 6);
	line[TRIMTAB_CONTROL_REQUEST_MAX - 1] = '\n';
	say_bytes(fits, line, TRIMTAB_CONTROL_REQUEST_MAX);
	cr_assert_str_eq(heard(fits), OK_LINE);

	line[TRIMTAB_CONTROL_REQUEST_MAX - 1] = ' ';
	line[TRIMTAB_CONTROL_REQUEST_MAX] = '\n';
	say_bytes(longer, line, sizeof(line));
	cr_assert_null(heard(longer), "a line without end is served");
	cr_assert_eq(seen.n_handled, 1);
	say(fits, "status\n");
	cr_assert_str_eq(heard(fits), OK_LINE);
}

Test(server, bytes_of_any_kind)
{
	unsigned char noise[200];
	uint32_t seed = 1;

	for (int round = 0; round < 300; round++) {
		int fd = client();

		for (size_t i = 0; i < sizeof(noise); i++) {
			seed = seed * 1664525 + 1013904223;
			noise[i] = (unsigned char)(seed >> 24);
			if (noise[i] % 16 == 0)
				noise[i] = '\n';
		}
		(void)send(fd, noise, sizeof(noise), MSG_NOSIGNAL);
		turn();
		(void)close(fd);
		turn();
	}
	cr_assert_eq(seen.n_handled, 0);
}

/* A NUL ends what request_parse() sees: it must not make a request of its first half. */
Test(server, a_nul_in_a_line)
{
	auto_close int fd = client();

	say_bytes(fd, "status\0 with more\n", 18);
	cr_assert_eq(seen.n_handled, 0, "%s", heard(fd));
}

/* ---- clients that behave oddly ---- */

Test(server, a_half_closed_client_gets_its_replies)
{
	auto_close int fd = client();

	say(fd, "status\nstatus\n");
	cr_assert_eq(shutdown(fd, SHUT_WR), 0);
	turn();
	cr_assert_str_eq(heard(fd), OK_LINE OK_LINE);
	cr_assert_null(heard(fd));
}

/* As `echo status | socat`: both at once. */
Test(server, a_line_and_the_end_in_one)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	auto_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)snprintf(un.sun_path, sizeof(un.sun_path), "%s", path);
	cr_assert_eq(connect(fd, (struct sockaddr *)&un, sizeof(un)), 0);
	cr_assert_eq(send(fd, "status\n", 7, 0), 7);
	cr_assert_eq(shutdown(fd, SHUT_WR), 0);
	turn();
	cr_assert_str_eq(heard(fd), OK_LINE);
	cr_assert_null(heard(fd));
}

Test(server, a_half_closed_client_gets_a_large_reply)
{
	auto_close int fd = client();
	size_t n = 0;
	ssize_t got;

	seen.reply_size = 4 << 20;
	say(fd, "status\n");
	cr_assert_eq(shutdown(fd, SHUT_WR), 0);
	turn();
	while ((got = recv(fd, heard_text, sizeof(heard_text), MSG_DONTWAIT)) > 0) {
		n += (size_t)got;
		turn();
	}
	cr_assert_eq(got, 0, "%m");
	cr_assert_gt(n, seen.reply_size);
}

/* Whoever replies must not find another request handled behind his back. */
Test(server, the_next_line_waits_for_the_loop)
{
	int fd = client();

	say(fd, "recycle 1\nstatus\n");
	cr_assert_eq(seen.n_handled, 1);
	control_reply(seen.kept[0], control_ok());
	cr_assert_eq(seen.n_handled, 1, "handled from within control_reply()");
	turn();
	cr_assert_str_eq(heard(fd), "{\"ok\":true}\n{\"ok\":true}\n");
	cr_assert_eq(seen.n_handled, 2);
	(void)close(fd);
}

Test(server, a_half_closed_client_waits_for_a_reply_kept_back)
{
	auto_close int fd = client();

	say(fd, "recycle 1\n");
	cr_assert_eq(shutdown(fd, SHUT_WR), 0);
	turn();
	turn();
	cr_assert_eq(seen.n_kept, 1, "it was taken for gone");
	control_reply(seen.kept[0], control_ok());
	turn();
	cr_assert_str_eq(heard(fd), OK_LINE);
	cr_assert_null(heard(fd));
}

Test(server, a_client_that_never_says_anything)
{
	auto_close int mute = client(), fd = client();

	(void)mute;
	say(fd, "status\n");
	cr_assert_str_eq(heard(fd), OK_LINE);
}

/* It asks and asks and reads nothing: what is kept for it is bounded, and others are served. */
Test(server, a_client_that_does_not_read)
{
	auto_close int deaf = client(), fd = client();

	seen.reply_size = 1 << 20;
	for (int i = 0; i < 100; i++) {
		if (send(deaf, "status\n", 7, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
			break;
		turn();
	}
	cr_assert_lt(seen.n_handled, 20, "%u replies of a MiB are kept", seen.n_handled);
	seen.reply_size = 0;
	say(fd, "status\n");
	cr_assert_str_eq(heard(fd), OK_LINE);
}

Test(server, a_slow_reader_gets_all_of_it)
{
	auto_close int fd = client();
	size_t n = 0;
	ssize_t got;

	seen.reply_size = 3 << 20;
	say(fd, "status\nstatus\n");
	do {
		got = recv(fd, heard_text, 1000, MSG_DONTWAIT);
		n += got > 0 ? (size_t)got : 0;
		turn();
	} while (got > 0);
	cr_assert_eq(errno, EAGAIN);
	cr_assert_eq(n,
		     2 * (seen.reply_size + strlen("{\"ok\":true,\"padding\":\"\"}\n")));
	seen.reply_size = 0;
	say(fd, "status\n");
	cr_assert_str_eq(heard(fd), OK_LINE);
}

Test(server, a_client_that_goes_in_the_middle_of_a_reply)
{
	auto_close int fd = client();
	int other = client();

	seen.reply_size = 4 << 20;
	say(other, "status\n");
	(void)close(other);
	turn();
	seen.reply_size = 0;
	say(fd, "status\n");
	cr_assert_str_eq(heard(fd), OK_LINE);
}

/* ---- replies kept back ---- */

Test(server, nothing_is_read_while_a_reply_is_kept_back)
{
	auto_close int fd = client();

	say(fd, "recycle 1\nstatus\n");
	say(fd, "status\n");
	cr_assert_eq(seen.n_handled, 1);
	control_reply(seen.kept[0], control_ok());
	turn();
	cr_assert_eq(seen.n_handled, 3);
	cr_assert_str_eq(heard(fd), OK_LINE OK_LINE OK_LINE);
	cr_assert_eq(seen.n_forgotten, 0);
}

/* Lines beyond the buffer while nothing is read: they wait in the socket, not in us. */
Test(server, a_flood_while_a_reply_is_kept_back)
{
	auto_close int fd = client();
	auto_free char *lines = calloc(7 * 1000 + 1, 1);

	say(fd, "recycle 1\n");
	for (int i = 0; i < 1000; i++)
		memcpy(lines + 7 * i, "status\n", 7);
	say(fd, lines);
	control_reply(seen.kept[0], control_ok());
	turn();
	cr_assert_eq(strlen(heard(fd)), 1001 * strlen(OK_LINE));
	cr_assert_eq(seen.n_handled, 1001);
}

Test(server, kept_back_again_and_again)
{
	auto_close int fd = client();

	say(fd, "recycle 1\nrecycle 2\nrecycle 3\n");
	for (int i = 0; i < 3; i++) {
		struct control_client *kept = seen.kept[0];

		cr_assert_eq(seen.n_kept, 1);
		seen.n_kept = 0;
		control_reply(kept, control_ok());
		turn();
	}
	cr_assert_str_eq(heard(fd), OK_LINE OK_LINE OK_LINE);
}

Test(server, a_client_that_goes_while_its_reply_is_kept_back)
{
	int fd = client();

	say(fd, "recycle 1\n");
	cr_assert_eq(seen.n_kept, 1);
	(void)close(fd);
	turn();
	cr_assert_eq(seen.n_forgotten, 1);
	cr_assert_eq(seen.n_kept, 0);
}

/* It is gone, but nobody has noticed yet. */
Test(server, a_reply_to_one_that_has_just_gone)
{
	int fd = client();
	struct control_client *kept;

	say(fd, "recycle 1\n");
	kept = seen.kept[0];
	(void)close(fd);
	seen.n_kept = 0;
	control_reply(kept, control_ok());
	turn();
	cr_assert_eq(seen.n_forgotten, 0, "forgotten after it was answered");
}

Test(server, a_reply_that_could_not_be_made)
{
	auto_close int fd = client();

	say(fd, "recycle 1\n");
	control_reply(seen.kept[0], NULL);
	turn();
	cr_assert_null(heard(fd), "it would wait for ever");
}

/* ---- many ---- */

Test(server, many_clients_and_then_no_more)
{
	enum { N = 40 };
	int fds[N];
	unsigned served = 0;

	for (int i = 0; i < N; i++)
		fds[i] = client();
	for (int i = 0; i < N; i++) {
		const char *text;

		(void)send(fds[i], "status\n", 7, MSG_NOSIGNAL);
		turn();
		text = heard(fds[i]);
		served += text && strcmp(text, OK_LINE) == 0;
	}
	cr_assert_eq(served, 32);
	for (int i = 0; i < N; i++)
		(void)close(fds[i]);
	turn();
	/* Places are given again. */
	auto_close int fd = client();

	say(fd, "status\n");
	cr_assert_str_eq(heard(fd), OK_LINE);
}

Test(server, a_thousand_that_come_and_go)
{
	for (int i = 0; i < 1000; i++) {
		int fd = client();

		if (i % 3 == 0)
			say(fd, "status\n");
		if (i % 3 == 1)
			say(fd, "stat");
		(void)close(fd);
		if (i % 7 == 0)
			turn();
	}
	turn();
	auto_close int fd = client();

	say(fd, "status\n");
	cr_assert_str_eq(heard(fd), OK_LINE);
}

/* ---- life ---- */

Test(server, another_on_the_same_path)
{
	struct control_server *second = NULL;
	auto_close int fd = -1;

	cr_assert_eq(control_new(event, path, &handler, &second), -EADDRINUSE);
	cr_assert_null(second);
	fd = client();
	say(fd, "status\n");
	cr_assert_str_eq(heard(fd), OK_LINE);
}

Test(server, a_stale_path_is_replaced)
{
	char stale[108];
	struct control_server *second = NULL;
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)snprintf(stale, sizeof(stale), "%s/stale", directory);
	(void)snprintf(un.sun_path, sizeof(un.sun_path), "%s", stale);
	cr_assert_eq(bind(fd, (struct sockaddr *)&un, sizeof(un)), 0);
	(void)close(fd);
	cr_assert_eq(control_new(event, stale, &handler, &second), 0);
	second = control_free(second);
	cr_assert_lt(access(stale, F_OK), 0);
}

Test(server, paths_that_cannot_be)
{
	struct control_server *second = NULL;
	auto_close int fd = -1;
	char longer[200], file[108];

	memset(longer, 'x', sizeof(longer));
	longer[sizeof(longer) - 1] = '\0';
	cr_assert_eq(control_new(event, longer, &handler, &second), -ENAMETOOLONG);
	(void)snprintf(file, sizeof(file), "%s/file", directory);
	fd = open(file, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	cr_assert_eq(control_new(event, file, &handler, &second), -EEXIST);
	cr_assert_eq(unlink(file), 0);
	cr_assert_null(second);
}

Test(server, the_end_with_clients_of_every_kind)
{
	auto_close int waiting = client(), mute = client(), deaf = client(),
		       half = client();

	say(waiting, "recycle 1\n");
	seen.reply_size = 4 << 20;
	say(deaf, "status\n");
	say(half, "stat");
	server = control_free(server);
	cr_assert_eq(seen.n_forgotten, 0, "the handler ends too");
	cr_assert_null(heard(waiting));
	cr_assert_null(heard(mute));
	cr_assert_null(control_free(NULL));
}

/* Idle clients cost no turn of the loop. */
Test(server, idle_clients_cost_nothing)
{
	auto_close int a = client(), b = client(), c = client();

	say(a, "recycle 1\n");
	say(b, "status\n");
	(void)heard(b);
	cr_assert_eq(shutdown(a, SHUT_WR), 0);
	say(c, "half a li");
	turn();
	for (int i = 0; i < 100; i++)
		cr_assert_eq(sd_event_run(event, 0), 0);
}

/* ---- taken over ---- */

Test(server, goes_on_in_another_program)
{
	int waiting = client(), early, fd, kept;
	struct control_client *adopted;

	say(waiting, "stop\n");
	turn();
	cr_assert_eq(seen.n_kept, 1);
	fd = dup(control_fd(server));
	kept = dup(control_client_fd(seen.kept[0]));
	cr_expect_str_eq(control_path(server), path);
	early = caller();
	cr_assert_eq(send(early, "status\n", 7, 0), 7);
	server = control_free(server);
	cr_assert_eq(control_resume(event, path, fd, &handler, &server), 0);
	adopted = control_adopt(server, kept);
	cr_assert_not_null(adopted);
	turn();
	cr_expect(strstr(heard(early), "\"ok\":true"));
	control_reply(adopted, control_ok());
	turn();
	cr_expect(strstr(heard(waiting), "\"ok\":true"));
	(void)close(early);
	(void)close(waiting);
	turn();
}
