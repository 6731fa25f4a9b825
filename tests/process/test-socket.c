/* Addresses as gunicorn's --bind takes them, listening sockets as workers get them, and the end:
 * what waits in a queue is served, what comes later is not refused. Loopback only. */
#include "process/socket.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "util/cleanup.h"

/* ---- parsing ---- */

Test(socket_parse, tcp)
{
	static const struct {
		const char *text, *host;
		unsigned port;
	} rows[] = {
		{ "127.0.0.1:80", "127.0.0.1", 80 },
		{ "127.0.0.1", "127.0.0.1", 8000 },
		{ ":9000", "", 9000 },
		{ "0.0.0.0:0", "0.0.0.0", 0 },
		{ "localhost:65535", "localhost", 65535 },
		{ "www.example.com", "www.example.com", 8000 },
		{ "[::1]:81", "::1", 81 },
		{ "[::]", "::", 8000 },
		{ "[fe80::1%eth0]:80", "fe80::1%eth0", 80 },
		{ "tcp://127.0.0.1:82", "127.0.0.1", 82 },
		{ "tcp://[::1]:83", "::1", 83 },
		{ "tcp://:84", "", 84 },
		{ "tcp://", "", 8000 },
		{ "[]:85", "", 85 },
	};

	for (size_t i = 0; i < ELEMENTS(rows); i++) {
		struct socket_address a;

		cr_assert_eq(socket_parse(rows[i].text, &a), 0, "%s", rows[i].text);
		cr_assert_eq(a.kind, SOCKET_TCP, "%s", rows[i].text);
		cr_assert_str_eq(a.host, rows[i].host, "%s", rows[i].text);
		cr_assert_eq(a.port, rows[i].port, "%s: %u", rows[i].text, a.port);
	}
}

Test(socket_parse, unix_paths)
{
	static const struct {
		const char *text, *path;
	} rows[] = {
		{ "unix:/run/shop.sock", "/run/shop.sock" },
		{ "unix:///run/shop.sock", "/run/shop.sock" },
		{ "unix:shop.sock", "shop.sock" },
		{ "unix://shop.sock", "shop.sock" },
		{ "unix:@shop", "@shop" },
		{ "unix:/run/a:b", "/run/a:b" },
	};

	for (size_t i = 0; i < ELEMENTS(rows); i++) {
		struct socket_address a;

		cr_assert_eq(socket_parse(rows[i].text, &a), 0, "%s", rows[i].text);
		cr_assert_eq(a.kind, SOCKET_UNIX);
		cr_assert_str_eq(a.path, rows[i].path);
	}
}

Test(socket_parse, descriptors)
{
	struct socket_address a;

	cr_assert_eq(socket_parse("fd://3", &a), 0);
	cr_assert_eq(a.kind, SOCKET_FD);
	cr_assert_eq(a.fd, 3);
	cr_assert_eq(socket_parse("fd://0", &a), 0);
	cr_assert_eq(a.fd, 0);
	cr_assert_eq(socket_parse("fd://2147483647", &a), 0);
}

Test(socket_parse, what_is_no_address)
{
	static const char *const texts[] = {
		"",
		":",
		"127.0.0.1:",
		"127.0.0.1:http",
		"127.0.0.1:65536",
		"127.0.0.1:-1",
		"127.0.0.1:+1",
		"127.0.0.1: 80",
		"127.0.0.1:80 ",
		"127.0.0.1:99999999999999999999",
		"::1",
		"::1:80",
		"1:2:3",
		"[::1",
		"[::1]80",
		"[::1]:",
		"[::1]:x",
		"unix:",
		"unix://",
		"fd://",
		"fd://x",
		"fd://-1",
		"fd://3x",
		"fd://2147483648",
	};

	for (size_t i = 0; i < ELEMENTS(texts); i++) {
		struct socket_address a = { .fd = -77 };

		cr_assert_eq(socket_parse(texts[i], &a), -EINVAL, "\"%s\"", texts[i]);
		cr_assert_eq(a.fd, -77, "\"%s\" leaves a trace", texts[i]);
	}
}

Test(socket_parse, names_that_are_too_long)
{
	char text[400];
	struct socket_address a;

	(void)snprintf(text, sizeof(text), "unix:%0107d", 0);
	cr_assert_eq(socket_parse(text, &a), 0);
	(void)snprintf(text, sizeof(text), "unix:%0108d", 0);
	cr_assert_eq(socket_parse(text, &a), -EINVAL);
	(void)snprintf(text, sizeof(text), "%0255d:80", 0);
	cr_assert_eq(socket_parse(text, &a), 0);
	(void)snprintf(text, sizeof(text), "%0256d:80", 0);
	cr_assert_eq(socket_parse(text, &a), -EINVAL);
}

/* ---- opening ---- */

static char directory[64];

static void make_directory(void)
{
	(void)snprintf(directory, sizeof(directory), "/tmp/trimtab-socket-XXXXXX");
	cr_assert_not_null(mkdtemp(directory));
}

static void remove_directory(void)
{
	char command[128];

	(void)snprintf(command, sizeof(command), "rm -rf %s", directory);
	cr_assert_eq(system(command), 0);
}

TestSuite(socket, .init = make_directory, .fini = remove_directory);

static const struct socket_options options = {
	.backlog = 16,
	.mode = 0640,
	.uid = (uid_t)-1,
	.gid = (gid_t)-1,
};

static int open_text(const char *text, struct socket *s)
{
	struct socket_address a;

	cr_assert_eq(socket_parse(text, &a), 0, "%s", text);
	return socket_open(&a, &options, s);
}

static struct socket opened(const char *text)
{
	struct socket s;
	int r = open_text(text, &s);

	cr_assert_eq(r, 0, "%s: %s", text, strerror(-r));
	return s;
}

static struct socket opened_unix(const char *name)
{
	char text[200];

	(void)snprintf(text, sizeof(text), "unix:%s/%s", directory, name);
	return opened(text);
}

static struct sockaddr_storage address_of(int fd, socklen_t *ret_length)
{
	struct sockaddr_storage ss = { 0 };

	*ret_length = sizeof(ss);
	cr_assert_eq(getsockname(fd, (struct sockaddr *)&ss, ret_length), 0);
	return ss;
}

static unsigned port_of(int fd)
{
	socklen_t n;
	struct sockaddr_storage ss = address_of(fd, &n);

	return ntohs(((struct sockaddr_in *)&ss)
			     ->sin_port); /* the same place in both families */
}

/* A connection to wherever fd listens; -errno when it is not had. */
static int connected(int fd)
{
	socklen_t n;
	struct sockaddr_storage ss = address_of(fd, &n);
	int client = socket(ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (connect(client, (struct sockaddr *)&ss, n) < 0) {
		int r = -errno;

		(void)close(client);
		return r;
	}
	return client;
}

static int connected_to(const char *host, unsigned port)
{
	struct sockaddr_in sin = { .sin_family = AF_INET,
				   .sin_port = htons((uint16_t)port) };
	int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	cr_assert_eq(inet_pton(AF_INET, host, &sin.sin_addr), 1);
	if (connect(client, (struct sockaddr *)&sin, sizeof(sin)) < 0) {
		int r = -errno;

		(void)close(client);
		return r;
	}
	return client;
}

Test(socket, tcp_listens_where_it_says)
{
	struct socket s = opened("127.0.0.1:0");
	auto_close int client = connected(s.fd);
	char name[64];

	(void)snprintf(name, sizeof(name), "127.0.0.1:%u", port_of(s.fd));
	cr_assert_str_eq(s.name, name);
	cr_assert_geq(client, 0);
	cr_assert(fcntl(s.fd, F_GETFD) & FD_CLOEXEC);
	cr_assert(fcntl(s.fd, F_GETFL) & O_NONBLOCK);
	cr_assert_not(s.inherited);
	socket_close(&s, true);
	cr_assert_eq(s.fd, -1);
}

Test(socket, no_host_is_every_ipv4_address)
{
	struct socket s = opened(":0");
	auto_close int client = connected_to("127.0.0.2", port_of(s.fd));

	cr_assert_geq(client, 0);
	cr_assert_eq(strncmp(s.name, "0.0.0.0:", 8), 0, "%s", s.name);
	socket_close(&s, true);
}

static bool has_ipv6(void)
{
	struct sockaddr_in6 sin6 = { .sin6_family = AF_INET6,
				     .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	auto_close int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);

	return fd >= 0 && bind(fd, (struct sockaddr *)&sin6, sizeof(sin6)) == 0;
}

Test(socket, ipv6)
{
	char name[64];

	if (!has_ipv6())
		cr_skip("no IPv6 here");

	struct socket s = opened("[::1]:0");
	auto_close int client = connected(s.fd);

	cr_assert_geq(client, 0);
	(void)snprintf(name, sizeof(name), "[::1]:%u", port_of(s.fd));
	cr_assert_str_eq(s.name, name);
	socket_close(&s, true);
}

/* As gunicorn's: whether [::] takes IPv4 too is the host's choice (net.ipv6.bindv6only). */
Test(socket, every_ipv6_address_takes_ipv4_as_the_host_says)
{
	auto_file FILE *f = fopen("/proc/sys/net/ipv6/bindv6only", "re");
	int only = 0;

	if (!has_ipv6() || !f || fscanf(f, "%d", &only) != 1)
		cr_skip("no IPv6 here");

	struct socket s = opened("[::]:0");
	auto_close int client = connected_to("127.0.0.1", port_of(s.fd));

	cr_assert_eq(client >= 0, only == 0, "connect: %d", client);
	socket_close(&s, true);
}

/* As gunicorn's: a name means its IPv4 address, where it has one. Bound to ::1 alone, localhost
 * would refuse every proxy that is told 127.0.0.1. */
Test(socket, localhost_is_ipv4)
{
	struct socket s = opened("localhost:0");
	auto_close int client = connected_to("127.0.0.1", port_of(s.fd));

	cr_assert_geq(client, 0, "%s", s.name);
	socket_close(&s, true);
}

Test(socket, what_cannot_be_had)
{
	struct socket first = opened("127.0.0.1:0"), s = { .fd = -77 };
	char text[64];

	(void)snprintf(text, sizeof(text), "127.0.0.1:%u", port_of(first.fd));
	cr_assert_eq(open_text(text, &s), -EADDRINUSE);
	cr_assert_eq(open_text("192.0.2.1:0", &s), -EADDRNOTAVAIL);
	cr_assert_eq(open_text("no.such.host.invalid:80", &s), -EHOSTUNREACH);
	cr_assert_eq(open_text("unix:/nonexistent/dir/s", &s), -ENOENT);
	cr_assert_eq(s.fd, -77);
	socket_close(&first, true);
}

/* A port that was just in use: connections in TIME_WAIT must not keep a restart from binding. */
Test(socket, a_port_is_had_again_at_once)
{
	struct socket s = opened("127.0.0.1:0"), again;
	char text[64];
	int client = connected(s.fd), served = -1;
	struct pollfd p = { .fd = s.fd, .events = POLLIN };

	cr_assert_eq(poll(&p, 1, 30000), 1);
	served = accept4(s.fd, NULL, NULL, SOCK_CLOEXEC);
	(void)snprintf(text, sizeof(text), "127.0.0.1:%u", port_of(s.fd));
	(void)close(served); /* the serving side closes first: TIME_WAIT is here */
	(void)close(client);
	socket_close(&s, true);
	again = opened(text);
	socket_close(&again, true);
}

Test(socket, unix_has_its_mode_and_goes_with_its_owner)
{
	struct socket s = opened_unix("s");
	auto_close int client = connected(s.fd);
	struct stat st;

	cr_assert_geq(client, 0);
	cr_assert_eq(stat(s.address.path, &st), 0);
	cr_assert_eq(st.st_mode & 07777, 0640);
	cr_assert_eq(strncmp(s.name, "unix:/tmp/", 10), 0, "%s", s.name);
	cr_assert(fcntl(s.fd, F_GETFD) & FD_CLOEXEC);
	socket_close(&s, true);
	cr_assert_lt(stat(s.address.path, &st), 0);
}

Test(socket, unix_mode_does_not_depend_on_the_umask)
{
	mode_t old = umask(0777);
	struct socket s = opened_unix("s");
	struct stat st;

	(void)umask(old);
	cr_assert_eq(stat(s.address.path, &st), 0);
	cr_assert_eq(st.st_mode & 07777, 0640);
	socket_close(&s, true);
}

Test(socket, unix_owner)
{
	struct socket_options owned = options;
	struct socket_address a;
	struct socket s;
	struct stat st;
	char text[200];

	if (geteuid() != 0)
		cr_skip("only root can give a file away");
	owned.uid = 65534;
	owned.gid = 65533;
	(void)snprintf(text, sizeof(text), "unix:%s/s", directory);
	cr_assert_eq(socket_parse(text, &a), 0);
	cr_assert_eq(socket_open(&a, &owned, &s), 0);
	cr_assert_eq(stat(s.address.path, &st), 0);
	cr_assert_eq(st.st_uid, 65534);
	cr_assert_eq(st.st_gid, 65533);
	socket_close(&s, true);
}

Test(socket, a_stale_unix_path_is_replaced)
{
	struct socket dead = opened_unix("s"), s;

	socket_close(&dead, false);
	cr_assert_eq(access(dead.address.path, F_OK), 0);
	s = opened_unix("s");

	auto_close int client = connected(s.fd);

	cr_assert_geq(client, 0);
	socket_close(&s, true);
}

Test(socket, a_live_unix_path_is_not)
{
	struct socket alive = opened_unix("s"), s;
	char text[200];

	(void)snprintf(text, sizeof(text), "unix:%s/s", directory);
	cr_assert_eq(open_text(text, &s), -EADDRINUSE);

	/* Nor when its queue is full. */
	cr_assert_eq(listen(alive.fd, 0), 0);
	for (int i = 0; i < 3; i++) {
		int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		struct sockaddr_un un = { .sun_family = AF_UNIX };

		memcpy(un.sun_path, alive.address.path, sizeof(un.sun_path));
		(void)connect(fd, (struct sockaddr *)&un, sizeof(un)); /* kept open */
	}
	cr_assert_eq(open_text(text, &s), -EADDRINUSE);
	socket_close(&alive, true);
}

Test(socket, a_file_that_is_no_socket_stays)
{
	struct socket s;
	char text[200], path[150];
	auto_close int fd = -1;

	(void)snprintf(path, sizeof(path), "%s/file", directory);
	(void)snprintf(text, sizeof(text), "unix:%s", path);
	fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	cr_assert_eq(open_text(text, &s), -EEXIST);
	cr_assert_eq(access(path, F_OK), 0);
	/* Nor is a link followed to a socket elsewhere. */
	cr_assert_eq(unlink(path), 0);
	cr_assert_eq(symlink("/nonexistent", path), 0);
	cr_assert_eq(open_text(text, &s), -EEXIST);
}

Test(socket, another_instances_path_is_not_removed)
{
	struct socket old = opened_unix("s"), new;
	struct stat st;

	cr_assert_eq(unlink(old.address.path), 0);
	new = opened_unix("s");
	socket_close(&old, true);
	cr_assert_eq(stat(new.address.path, &st), 0,
		     "the old one removed what is the new one's");
	socket_close(&new, true);
}

Test(socket, abstract)
{
	char text[64];
	struct socket s, again;

	(void)snprintf(text, sizeof(text), "unix:@trimtab-test-%d", getpid());
	s = opened(text);

	auto_close int client = connected(s.fd);

	cr_assert_geq(client, 0);
	cr_assert_str_eq(s.name, text);
	cr_assert_eq(open_text(text, &again), -EADDRINUSE);
	socket_close(&s, true);
}

/* ---- taking over ---- */

Test(socket, one_that_somebody_handed_down)
{
	struct socket s = opened("127.0.0.1:0"), adopted;
	int copy = dup(s.fd);
	auto_close int client = -1;

	cr_assert_eq(socket_adopt(copy, &adopted), 0);
	cr_assert_eq(adopted.fd, copy);
	cr_assert(adopted.inherited);
	cr_assert_str_eq(adopted.name, s.name);
	cr_assert(fcntl(copy, F_GETFD) & FD_CLOEXEC);
	client = connected(adopted.fd);
	cr_assert_geq(client, 0);
	socket_close(&adopted, true);
	socket_close(&s, true);
}

Test(socket, a_unix_path_that_is_somebody_elses_stays)
{
	struct socket s = opened_unix("s"), adopted;

	cr_assert_eq(socket_adopt(dup(s.fd), &adopted), 0);
	cr_assert_str_eq(adopted.name, s.name);
	cr_assert_eq(socket_stop_arrivals(&adopted), -EOPNOTSUPP);
	socket_close(&adopted, true);
	cr_assert_eq(access(s.address.path, F_OK), 0);
	socket_close(&s, true);
}

Test(socket, what_is_no_listening_stream_socket)
{
	auto_close int file = open("/dev/null", O_RDWR | O_CLOEXEC);
	auto_close int idle = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	auto_close int datagram = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct socket packet = opened_unix("p"), s = { .fd = -77 };
	int client = connected(packet.fd);

	cr_assert_eq(socket_adopt(file, &s), -ENOTSOCK);
	cr_assert_eq(socket_adopt(idle, &s), -EPROTOTYPE);
	cr_assert_eq(socket_adopt(datagram, &s), -EPROTOTYPE);
	cr_assert_eq(socket_adopt(client, &s), -EPROTOTYPE);
	cr_assert_eq(socket_adopt(9999, &s), -EBADF);
	cr_assert_eq(s.fd, -77);
	(void)close(client);
	socket_close(&packet, true);
}

Test(socket, by_number_and_with_the_backlog)
{
	struct socket first = opened("127.0.0.1:0"), s;
	struct tcp_info info = { 0 };
	socklen_t n = sizeof(info);
	char text[32];

	cr_assert_eq(listen(first.fd, 3), 0);
	(void)snprintf(text, sizeof(text), "fd://%d", first.fd);
	s = opened(text);
	cr_assert(s.inherited);
	cr_assert_str_eq(s.name, first.name);
	cr_assert_eq(getsockopt(s.fd, IPPROTO_TCP, TCP_INFO, &info, &n), 0);
	cr_assert_eq(info.tcpi_sacked, 16, "the backlog is %u", info.tcpi_sacked);
	cr_assert_eq(open_text("fd://9999", &s), -EBADF);
	socket_close(&first, true);
}

/* ---- the queue ---- */

static void check_queue(struct socket *s)
{
	int clients[5];

	cr_assert_eq(socket_queue_length(s), 0);
	for (int i = 0; i < 5; i++) {
		clients[i] = connected(s->fd);
		cr_assert_geq(clients[i], 0);
		cr_assert_eq(socket_queue_length(s), i + 1);
	}
	for (int i = 5; i > 0; i--) {
		(void)close(accept4(s->fd, NULL, NULL, SOCK_CLOEXEC));
		cr_assert_eq(socket_queue_length(s), i - 1);
	}
	for (int i = 0; i < 5; i++)
		(void)close(clients[i]);
}

Test(socket, queue_of_tcp)
{
	struct socket s = opened("127.0.0.1:0"), adopted;

	check_queue(&s);
	cr_assert_eq(socket_adopt(dup(s.fd), &adopted), 0);
	check_queue(&adopted);
	socket_close(&adopted, false);
	socket_close(&s, true);
}

Test(socket, queue_of_unix)
{
	struct socket s = opened_unix("s"), adopted;

	check_queue(&s);
	cr_assert_eq(socket_adopt(dup(s.fd), &adopted), 0);
	check_queue(&adopted);
	socket_close(&adopted, false);
	socket_close(&s, true);
}

/* ---- the end ---- */

/* Says something on each and sees it arrive at the other end of an accepted connection. */
static void check_served(int listener, int *clients, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		int served = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		char c = 0;

		cr_assert_geq(served, 0, "connection %zu is lost: %m", i);
		cr_assert_eq(send(served, "x", 1, MSG_NOSIGNAL), 1);
		cr_assert_eq(recv(clients[i], &c, 1, 0), 1);
		cr_assert_eq(c, 'x');
		cr_assert_eq(send(clients[i], "y", 1, MSG_NOSIGNAL), 1);
		cr_assert_eq(recv(served, &c, 1, 0), 1);
		cr_assert_eq(c, 'y');
		(void)close(served);
		(void)close(clients[i]);
	}
}

/* A connection under way: nobody has answered yet. */
static int connecting_to(int fd)
{
	socklen_t n;
	struct sockaddr_storage ss = address_of(fd, &n);
	int client = socket(ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	cr_assert(connect(client, (struct sockaddr *)&ss, n) < 0 && errno == EINPROGRESS,
		  "%m");
	return client;
}

Test(socket, tcp_arrivals_stop_and_the_queue_is_served)
{
	struct socket s = opened("127.0.0.1:0");
	int clients[4];

	for (size_t i = 0; i < 4; i++)
		clients[i] = connected(s.fd);
	cr_assert_eq(socket_stop_arrivals(&s), 0);

	int late = connecting_to(s.fd);
	struct pollfd p = { .fd = late, .events = POLLOUT };

	cr_assert_eq(socket_queue_length(&s), 4);
	check_served(s.fd, clients, 4);
	/* Neither in nor refused: its SYN was dropped and will be sent again. */
	cr_assert_eq(poll(&p, 1, 0), 0, "the late one is refused");
	cr_assert_eq(socket_queue_length(&s), 0);
	cr_assert(accept4(s.fd, NULL, NULL, 0) < 0 && errno == EAGAIN);
	(void)close(late);
	socket_close(&s, true);
}

/* A client that comes while one pool ends and the next begins is served by the next. */
Test(socket, a_late_client_reaches_the_successor)
{
	struct socket s = opened("127.0.0.1:0"), next;
	struct pollfd p = { .events = POLLOUT };
	char text[64];
	int late, error = 0;
	socklen_t n = sizeof(error);

	(void)snprintf(text, sizeof(text), "127.0.0.1:%u", port_of(s.fd));
	cr_assert_eq(socket_stop_arrivals(&s), 0);
	late = connecting_to(s.fd);
	socket_close(&s, true);
	next = opened(text);
	p.fd = late;
	cr_assert_eq(poll(&p, 1, 60000), 1);
	cr_assert_eq(getsockopt(late, SOL_SOCKET, SO_ERROR, &error, &n), 0);
	cr_assert_eq(error, 0, "%s", strerror(error));
	check_served(next.fd, &late, 1);
	socket_close(&next, true);
}

Test(socket, arrivals_can_be_let_in_again)
{
	struct socket s = opened("127.0.0.1:0"), path = opened_unix("s");
	struct pollfd p = { .events = POLLOUT };
	int late;

	cr_assert_eq(socket_stop_arrivals(&s), 0);
	late = connecting_to(s.fd);
	cr_assert_eq(socket_resume_arrivals(&s), 0);
	p.fd = late; /* its SYN is sent again */
	cr_assert_eq(poll(&p, 1, 60000), 1);
	check_served(s.fd, &late, 1);
	cr_assert_eq(socket_resume_arrivals(&path), -EOPNOTSUPP,
		     "its path is gone for good");
	socket_close(&s, true);
	socket_close(&path, true);
}

Test(socket, unix_arrivals_stop_and_the_queue_is_served)
{
	struct socket s = opened_unix("s");
	int clients[4];

	for (size_t i = 0; i < 4; i++)
		clients[i] = connected(s.fd);
	cr_assert_eq(socket_stop_arrivals(&s), 0);
	cr_assert_eq(connected(s.fd), -ENOENT);
	check_served(s.fd, clients, 4);
	socket_close(&s, true);
}

Test(socket, stopping_a_path_that_is_another_instances)
{
	struct socket old = opened_unix("s"), new;
	auto_close int client = -1;

	cr_assert_eq(unlink(old.address.path), 0);
	new = opened_unix("s");
	cr_assert_eq(socket_stop_arrivals(&old), 0);
	client = connected(new.fd);
	cr_assert_geq(client, 0);
	socket_close(&old, true);
	socket_close(&new, true);
}

/* ---- a handshake by hand ---- */

static uint16_t tcp_checksum(in_addr_t from, in_addr_t to, const struct tcphdr *tcp)
{
	struct {
		in_addr_t from, to;
		uint8_t zero, protocol;
		uint16_t length;
		struct tcphdr tcp;
	} __attribute__((packed)) whole = {
		from, to, 0, IPPROTO_TCP, htons(sizeof(*tcp)), *tcp,
	};
	const unsigned char *p = (const unsigned char *)&whole;
	uint32_t sum = 0;

	for (size_t i = 0; i < sizeof(whole); i += 2)
		sum += (uint32_t)(p[i] << 8 | p[i + 1]);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return htons((uint16_t)~sum);
}

static void send_segment(int raw, struct sockaddr_in *from, struct sockaddr_in *to,
			 uint32_t seq, uint32_t ack_seq, bool syn)
{
	struct tcphdr tcp = {
		.source = from->sin_port,
		.dest = to->sin_port,
		.seq = htonl(seq),
		.ack_seq = htonl(ack_seq),
		.doff = 5,
		.syn = syn,
		.ack = !syn,
		.window = htons(65535),
	};

	tcp.check = tcp_checksum(from->sin_addr.s_addr, to->sin_addr.s_addr, &tcp);
	cr_assert_eq(
		sendto(raw, &tcp, sizeof(tcp), 0, (struct sockaddr *)to, sizeof(*to)),
		(ssize_t)sizeof(tcp), "%m");
}

/* The number that the listener chose, from its SYN-ACK. */
static uint32_t await_syn_ack(int raw, const struct sockaddr_in *from)
{
	for (;;) {
		unsigned char packet[256];
		struct pollfd p = { .fd = raw, .events = POLLIN };
		struct iphdr ip;
		struct tcphdr tcp;

		cr_assert_eq(poll(&p, 1, 30000), 1, "no SYN-ACK");
		ssize_t n = recv(raw, packet, sizeof(packet), 0);

		memcpy(&ip, packet, sizeof(ip));
		if (n < ip.ihl * 4 + (ssize_t)sizeof(tcp))
			continue;
		memcpy(&tcp, packet + ip.ihl * 4, sizeof(tcp));
		if (tcp.dest == from->sin_port && tcp.syn && tcp.ack)
			return ntohl(tcp.seq);
	}
}

/* Whoever was answered before arrivals stopped believes to be connected, and may have sent its
 * request already: the last ACK of its handshake is no new connection. */
Test(socket, a_handshake_under_way_is_completed)
{
	struct socket s = opened("127.0.0.1:0");
	auto_close int raw = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_TCP);
	struct sockaddr_in from = { .sin_family = AF_INET }, to;
	struct pollfd p = { .fd = s.fd, .events = POLLIN };
	socklen_t n = sizeof(from);
	uint32_t theirs;

	if (raw < 0)
		cr_skip("a raw socket is needed: %s", strerror(errno));
	/* Keeps the kernel from answering the SYN-ACK with a reset: somebody lives at our port,
	 * and lets nothing in. */
	struct socket quiet = opened("127.0.0.9:0");
	struct sock_filter drop_all = BPF_STMT(BPF_RET | BPF_K, 0);
	struct sock_fprog program = { .len = 1, .filter = &drop_all };

	cr_assert_eq(setsockopt(quiet.fd, SOL_SOCKET, SO_ATTACH_FILTER, &program,
				sizeof(program)),
		     0);
	cr_assert_eq(getsockname(quiet.fd, (struct sockaddr *)&from, &n), 0);
	n = sizeof(to);
	cr_assert_eq(getsockname(s.fd, (struct sockaddr *)&to, &n), 0);
	cr_assert_eq(bind(raw, (struct sockaddr *)&from, sizeof(from)), 0);
	send_segment(raw, &from, &to, 1000, 0, true);
	theirs = await_syn_ack(raw, &from);
	cr_assert_eq(socket_stop_arrivals(&s), 0);
	send_segment(raw, &from, &to, 1001, theirs + 1, false);
	cr_assert_eq(poll(&p, 1, 30000), 1, "the connection is lost");
	(void)close(accept4(s.fd, NULL, NULL, SOCK_CLOEXEC));
	/* And still nobody new comes in. */
	auto_close int late = connecting_to(s.fd);

	p = (struct pollfd){ .fd = late, .events = POLLOUT };
	cr_assert_eq(poll(&p, 1, 0), 0);
	socket_close(&quiet, true);
	socket_close(&s, true);
}
