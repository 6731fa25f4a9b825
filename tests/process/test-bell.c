/* Bells: who hears them, who is turned away, and that nobody can make them wait. */
#include "process/bell.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "util/cleanup.h"

static char directory[64], path[108];
static sd_event *event;
static struct bell *bell;

static void hang(void)
{
	(void)snprintf(directory, sizeof(directory), "/tmp/trimtab-bell-XXXXXX");
	cr_assert_not_null(mkdtemp(directory));
	(void)snprintf(path, sizeof(path), "%s/pressure-1", directory);
	cr_assert_geq(sd_event_new(&event), 0);
	cr_assert_eq(bell_new(event, path, (uid_t)-1, (gid_t)-1, &bell), 0);
}

static void take_down(void)
{
	bell = bell_free(bell);
	event = sd_event_unref(event);
	cr_assert_lt(access(path, F_OK), 0, "the socket file stays behind");
	(void)rmdir(directory);
}

TestSuite(bell, .init = hang, .fini = take_down);

/* Everything that is due, and how many turns of the loop that took. */
static unsigned turn(void)
{
	unsigned n = 0;

	while (n < 1000 && sd_event_run(event, 0) > 0)
		n++;
	cr_assert_lt(n, 1000, "the loop spins");
	return n;
}

static int listener(void)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	(void)snprintf(un.sun_path, sizeof(un.sun_path), "%s", path);
	cr_assert_eq(connect(fd, (struct sockaddr *)&un, sizeof(un)), 0, "%m");
	(void)turn();
	return fd;
}

static size_t rings(int fd)
{
	char bytes[4096];
	ssize_t n = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);

	return n > 0 ? (size_t)n : 0;
}

Test(bell, is_private)
{
	struct stat st;

	cr_assert_eq(stat(path, &st), 0);
	cr_assert_eq(st.st_mode & 07777, 0600);
}

Test(bell, nobody_listens)
{
	cr_assert_not(bell_is_heard(bell));
	bell_ring(bell);
	cr_assert_not(bell_is_heard(NULL));
	bell_ring(NULL);
	cr_assert_null(bell_free(NULL));
}

Test(bell, one_byte_a_ring_to_each)
{
	auto_close int a = listener(), b = listener();

	cr_assert(bell_is_heard(bell));
	bell_ring(bell);
	cr_assert_eq(rings(a), 1);
	cr_assert_eq(rings(b), 1);
	bell_ring(bell);
	bell_ring(bell);
	cr_assert_eq(rings(a), 2);
}

Test(bell, a_listener_that_goes)
{
	int a = listener();
	auto_close int b = listener();

	(void)close(a);
	(void)turn();
	cr_assert(bell_is_heard(bell));
	bell_ring(bell);
	cr_assert_eq(rings(b), 1);
}

Test(bell, the_last_listener_goes)
{
	(void)close(listener());
	(void)turn();
	cr_assert_not(bell_is_heard(bell));
}

Test(bell, what_listeners_say_is_thrown_away)
{
	static const char noise[100000] = { 1 };
	auto_close int a = listener();
	ssize_t said = 0, n;

	while ((n = send(a, noise, sizeof(noise), MSG_DONTWAIT)) > 0) {
		said += n;
		if (said > 1 << 20)
			break;
		(void)turn();
	}
	cr_assert_gt(said, 1 << 20);
	bell_ring(bell);
	cr_assert_eq(rings(a), 1);
}

/* systemd's sd_event_add_memory_pressure() may shut down what it never writes to. */
static int on_other(sd_event_source *source, void *userdata)
{
	(void)source;
	*(bool *)userdata = true;
	return 0;
}

/* The plan's step comes after everything else; it must come. */
static void check_others_turn(void)
{
	sd_event_source *other = NULL;
	bool came = false;

	cr_assert_geq(sd_event_add_defer(event, &other, on_other, &came), 0);
	cr_assert_geq(sd_event_source_set_priority(other, SD_EVENT_PRIORITY_NORMAL + 5),
		      0);
	for (unsigned i = 0; i < 200 && !came; i++)
		(void)sd_event_run(event, 0);
	cr_assert(came, "the bell has every turn");
	sd_event_source_disable_unref(other);
}

Test(bell, a_listener_that_talks_delays_nobody)
{
	static const char words[4096] = { 0 };
	int fd = listener(), room = 1 << 20;
	size_t said = 0;
	ssize_t n;

	(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	while ((n = send(fd, words, sizeof(words), MSG_DONTWAIT)) > 0)
		said += (size_t)n;
	cr_assert_gt(said, 200 * 256, "no more than is read in that many turns");
	check_others_turn();
	(void)close(fd);
}

/* A caller that cannot be accepted stays where it is. */
Test(bell, without_a_descriptor_the_loop_does_not_spin)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	auto_close int fd =
		socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct rlimit limit, low;
	int spare[64];
	size_t n = 0;

	(void)snprintf(un.sun_path, sizeof(un.sun_path), "%s", path);
	cr_assert_eq(connect(fd, (struct sockaddr *)&un, sizeof(un)), 0, "%m");
	cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	low = limit;
	low.rlim_cur = 32;
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &low), 0);
	while (n < ELEMENTS(spare) && (spare[n] = fcntl(fd, F_DUPFD_CLOEXEC, 0)) >= 0)
		n++;
	cr_assert_lt(n, ELEMENTS(spare));
	(void)turn();
	cr_assert_not(bell_is_heard(bell));
	while (n > 0)
		(void)close(spare[--n]);
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

Test(bell, a_half_closed_listener_does_not_spin)
{
	auto_close int a = listener();

	cr_assert_eq(shutdown(a, SHUT_WR), 0);
	(void)turn();
	cr_assert_eq(turn(), 0);
	bell_ring(bell);
	cr_assert_leq(rings(a), 1);
}

Test(bell, more_than_a_few_are_turned_away)
{
	int fds[20];
	size_t heard = 0;

	for (size_t i = 0; i < ELEMENTS(fds); i++)
		fds[i] = listener();
	bell_ring(bell);
	for (size_t i = 0; i < ELEMENTS(fds); i++)
		heard += rings(fds[i]);
	cr_assert_eq(heard, 8);
	/* A place that became free is given again. */
	(void)close(fds[0]);
	(void)turn();
	fds[0] = listener();
	bell_ring(bell);
	cr_assert_eq(rings(fds[0]), 1);
	for (size_t i = 0; i < ELEMENTS(fds); i++)
		(void)close(fds[i]);
}

Test(bell, a_deaf_listener_delays_nobody)
{
	auto_close int deaf = listener(), b = listener();
	size_t heard = 0;

	for (int i = 0; i < 100000; i++) {
		bell_ring(bell);
		heard += rings(b);
	}
	cr_assert_eq(heard, 100000);
	cr_assert_gt(rings(deaf), 0);
}

Test(bell, a_stale_file_is_replaced_and_another_is_not)
{
	struct bell *second = NULL;
	auto_close int fd = -1;
	char other[108];

	cr_assert_eq(bell_new(event, path, (uid_t)-1, (gid_t)-1, &second), -EADDRINUSE);
	cr_assert_null(second);
	cr_assert_eq(access(path, F_OK), 0, "the failed one took the path of the living");
	(void)snprintf(other, sizeof(other), "%s/file", directory);
	fd = open(other, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	cr_assert_eq(bell_new(event, other, (uid_t)-1, (gid_t)-1, &second), -EEXIST);
	cr_assert_eq(unlink(other), 0);
}

/* ---- taken over ---- */

Test(bell, goes_on_in_another_program)
{
	int heard = listener(), fds[8], fd = dup(bell_fd(bell));

	cr_assert_eq(bell_listeners(bell, fds, ELEMENTS(fds)), 1);
	cr_assert_eq(bell_listeners(bell, fds, 0), 0);
	fds[0] = dup(fds[0]);
	bell = bell_free(bell);
	cr_assert_eq(bell_resume(event, path, fd, &bell), 0);
	cr_assert_not(bell_is_heard(bell));
	cr_assert_eq(bell_adopt(bell, fds[0]), 0);
	cr_assert(bell_is_heard(bell));
	bell_ring(bell);
	cr_expect_eq(rings(heard), 1);
	(void)close(heard);
	(void)turn();
	cr_expect_not(bell_is_heard(bell));
}

Test(bell, none_has_no_descriptors)
{
	int fd;

	cr_expect_eq(bell_fd(NULL), -1);
	cr_expect_eq(bell_listeners(NULL, &fd, 1), 0);
}
