/* Listening sockets. Nothing here accepts: the supervisor owns the sockets and their queues, the
 * workers take from them. Blocks only while resolving a host name at start-up. */
#include "process/socket.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/unix.h"

enum {
	DEFAULT_PORT = 8000,
	TCP_FLAGS_OFFSET = 13, /* in the TCP header */
};

/* ---- addresses ---- */

static const char *skip_prefix(const char *text, const char *prefix)
{
	size_t n = strlen(prefix);

	return strncmp(text, prefix, n) == 0 ? text + n : NULL;
}

static int parse_number(const char *text, long max, long *ret)
{
	char *end;

	if (*text < '0' || *text > '9')
		return -EINVAL;
	errno = 0;

	long n = strtol(text, &end, 10);

	if (errno != 0 || *end != '\0' || n > max)
		return -EINVAL;
	*ret = n;
	return 0;
}

static int parse_unix(const char *path, struct socket_address *a)
{
	if (skip_prefix(path, "//"))
		path += 2;
	if (*path == '\0' || strlen(path) >= sizeof(a->path))
		return -EINVAL;
	a->kind = SOCKET_UNIX;
	(void)snprintf(a->path, sizeof(a->path), "%s", path);
	return 0;
}

static int copy_host(struct socket_address *a, const char *start, size_t length)
{
	if (length >= sizeof(a->host))
		return -EINVAL;
	memcpy(a->host, start, length);
	a->host[length] = '\0';
	return 0;
}

static int parse_tcp(const char *text, struct socket_address *a)
{
	const char *port = NULL;
	long number = DEFAULT_PORT;
	int r;

	a->kind = SOCKET_TCP;
	if (*text == '[') {
		const char *bracket = strchr(text, ']');

		if (!bracket || (bracket[1] != '\0' && bracket[1] != ':'))
			return -EINVAL;
		r = copy_host(a, text + 1, (size_t)(bracket - text - 1));
		port = bracket[1] == ':' ? bracket + 2 : NULL;
	} else {
		const char *colon = strrchr(text, ':');

		if (colon && memchr(text, ':', (size_t)(colon - text)))
			return -EINVAL; /* an IPv6 address needs its brackets */
		r = copy_host(a, text, colon ? (size_t)(colon - text) : strlen(text));
		port = colon ? colon + 1 : NULL;
	}
	if (r < 0)
		return r;
	if (port && (r = parse_number(port, 65535, &number)) < 0)
		return r;
	a->port = (uint16_t)number;
	return 0;
}

int socket_parse(const char *text, struct socket_address *ret)
{
	struct socket_address a = { .fd = -1 };
	const char *rest;
	long number;
	int r;

	if (*text == '\0')
		return -EINVAL;
	if ((rest = skip_prefix(text, "fd://"))) {
		r = parse_number(rest, INT_MAX, &number);
		a.kind = SOCKET_FD;
		a.fd = r < 0 ? -1 : (int)number;
	} else if ((rest = skip_prefix(text, "unix:"))) {
		r = parse_unix(rest, &a);
	} else {
		rest = skip_prefix(text, "tcp://");
		r = parse_tcp(rest ? rest : text, &a);
	}
	if (r < 0)
		return r;
	*ret = a;
	return 0;
}

/* ---- opening ---- */

static void name_inet(const struct sockaddr *sa, socklen_t length, char *name,
		      size_t size)
{
	char host[INET6_ADDRSTRLEN + 20], port[8]; /* room for a scope (%eth0) */

	if (getnameinfo(sa, length, host, sizeof(host), port, sizeof(port),
			NI_NUMERICHOST | NI_NUMERICSERV) != 0)
		(void)snprintf(name, size, "?");
	else if (sa->sa_family == AF_INET6)
		(void)snprintf(name, size, "[%s]:%s", host, port);
	else
		(void)snprintf(name, size, "%s:%s", host, port);
}

/* Fills name from what the kernel says the socket is bound to (port 0 becomes a real one). */
static void name_socket(struct socket *s)
{
	struct sockaddr_storage ss = { 0 };
	socklen_t length = sizeof(ss);

	if (getsockname(s->fd, (struct sockaddr *)&ss, &length) < 0) {
		(void)snprintf(s->name, sizeof(s->name), "fd %d", s->fd);
		return;
	}
	if (ss.ss_family != AF_UNIX) {
		name_inet((struct sockaddr *)&ss, length, s->name, sizeof(s->name));
		return;
	}

	const struct sockaddr_un *un = (const struct sockaddr_un *)&ss;
	size_t n = length - offsetof(struct sockaddr_un, sun_path);

	if (n > 0 && un->sun_path[0] == '\0')
		(void)snprintf(s->name, sizeof(s->name), "unix:@%.*s", (int)n - 1,
			       un->sun_path + 1);
	else
		(void)snprintf(s->name, sizeof(s->name), "unix:%.*s", (int)n,
			       un->sun_path);
}

/* As gunicorn: an empty host is 0.0.0.0, not [::], and a name means its IPv4 address where it has
 * one. localhost as ::1 alone would refuse every proxy that was told 127.0.0.1. Returns NULL when
 * it does not resolve; else freeaddrinfo() is the caller's. */
static struct addrinfo *resolve(const struct socket_address *a)
{
	static const int families[] = { AF_INET, AF_INET6 };
	struct addrinfo *found = NULL;
	char port[8];

	(void)snprintf(port, sizeof(port), "%u", a->port);
	for (size_t i = 0; i < ELEMENTS(families); i++) {
		const struct addrinfo hints = {
			.ai_family = families[i],
			.ai_socktype = SOCK_STREAM,
			.ai_flags = AI_PASSIVE | AI_NUMERICSERV,
		};

		if (getaddrinfo(a->host[0] ? a->host : NULL, port, &hints, &found) == 0)
			return found;
	}
	return NULL;
}

/* Whether [::] takes IPv4 too is left to the host (net.ipv6.bindv6only), as gunicorn does. */
static int open_tcp(const struct socket_address *a, const struct socket_options *options)
{
	struct addrinfo *found = resolve(a);
	int one = 1, r = -EADDRNOTAVAIL;

	if (!found)
		return -EHOSTUNREACH;

	for (struct addrinfo *ai = found; ai; ai = ai->ai_next) {
		auto_close int fd = socket(ai->ai_family,
					   SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

		if (fd < 0) {
			r = -errno;
			continue;
		}
		(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
		if (options->reuse_port)
			(void)setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one));
		if (bind(fd, ai->ai_addr, ai->ai_addrlen) == 0 &&
		    listen(fd, options->backlog) == 0) {
			r = TAKE_FD(fd);
			break;
		}
		r = -errno;
	}
	freeaddrinfo(found);
	return r;
}

static int open_unix(const struct socket_address *a, const struct socket_options *options,
		     struct socket *s)
{
	const struct unix_owner owner = {
		.mode = options->mode,
		.uid = options->uid,
		.gid = options->gid,
	};
	auto_close int fd = unix_bind(a->path, SOCK_STREAM, &owner);
	struct stat st;

	if (fd < 0)
		return fd;
	if (a->path[0] != '@') {
		if (lstat(a->path, &st) < 0)
			return -errno;
		s->device = st.st_dev;
		s->inode = st.st_ino;
	}
	if (listen(fd, options->backlog) < 0)
		return -errno;
	return TAKE_FD(fd);
}

int socket_adopt(int fd, struct socket *ret)
{
	int listening = 0, type = 0, family = 0;
	socklen_t n = sizeof(int);

	if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &n) < 0 ||
	    getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &n) < 0 ||
	    getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &n) < 0)
		return -errno;
	if (!listening || type != SOCK_STREAM)
		return -EPROTOTYPE;

	struct socket s = { .fd = fd, .inherited = true };

	s.address.fd = fd;
	s.address.kind = family == AF_UNIX ? SOCKET_UNIX : SOCKET_TCP;
	if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
		return -errno;
	name_socket(&s);
	*ret = s;
	return 0;
}

void socket_own(struct socket *s, const struct socket_address *address)
{
	struct stat st;

	if (!s->inherited || address->kind != s->address.kind)
		return;
	s->inherited = false;
	s->address = *address;
	if (address->kind == SOCKET_UNIX && lstat(address->path, &st) == 0) {
		s->device = st.st_dev;
		s->inode = st.st_ino;
	}
}

int socket_open(const struct socket_address *address,
		const struct socket_options *options, struct socket *ret)
{
	struct socket s = { .address = *address, .fd = -1 };
	int r = -EINVAL;

	switch (address->kind) {
	case SOCKET_FD:
		r = socket_adopt(address->fd, ret);
		if (r == 0 && listen(ret->fd, options->backlog) < 0)
			r = -errno;
		return r;
	case SOCKET_TCP:
		r = open_tcp(address, options);
		break;
	case SOCKET_UNIX:
		r = open_unix(address, options, &s);
		break;
	}
	if (r < 0)
		return r;
	s.fd = r;
	name_socket(&s);
	*ret = s;
	return 0;
}

/* The path, if it still names the socket that we bound: another instance may have replaced it. */
static bool owns_path(const struct socket *s)
{
	struct stat st;

	return !s->inherited && s->inode != 0 && lstat(s->address.path, &st) == 0 &&
	       st.st_dev == s->device && st.st_ino == s->inode;
}

void socket_close(struct socket *s, bool unlink_path)
{
	if (unlink_path && owns_path(s))
		(void)unlink(s->address.path);
	s->fd = close_fd(s->fd);
}

/* ---- the queue ---- */

static int unix_queue_length(int fd)
{
	struct {
		struct nlmsghdr header;
		struct unix_diag_req request;
	} ask = {
		.header = { .nlmsg_len = sizeof(ask),
			    .nlmsg_type = SOCK_DIAG_BY_FAMILY,
			    .nlmsg_flags = NLM_F_REQUEST },
		.request = { .sdiag_family = AF_UNIX,
			     .udiag_states = ~0u,
			     .udiag_show = UDIAG_SHOW_RQLEN,
			     .udiag_cookie = { ~0u, ~0u } },
	};
	_Alignas(struct nlmsghdr) char answer[1024];
	struct stat st;
	auto_close int netlink = socket(
		AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_SOCK_DIAG);

	if (netlink < 0 || fstat(fd, &st) < 0)
		return -errno;
	ask.request.udiag_ino = (uint32_t)st.st_ino;
	if (send(netlink, &ask, sizeof(ask), 0) < 0)
		return -errno;

	ssize_t n = recv(netlink, answer, sizeof(answer), 0);
	const struct nlmsghdr *h = (const struct nlmsghdr *)answer;

	if (n < 0)
		return -errno;
	if (!NLMSG_OK(h, (size_t)n) || h->nlmsg_type != SOCK_DIAG_BY_FAMILY)
		return -EOPNOTSUPP;

	const struct unix_diag_msg *m = NLMSG_DATA(h);
	const char *p = (const char *)(m + 1), *end = answer + h->nlmsg_len;

	while (end - p >= (ptrdiff_t)sizeof(struct nlattr)) {
		const struct nlattr *a = (const struct nlattr *)p;

		if (a->nla_len < sizeof(*a) || a->nla_len > end - p)
			break;
		if (a->nla_type == UNIX_DIAG_RQLEN &&
		    a->nla_len >= sizeof(*a) + sizeof(struct unix_diag_rqlen))
			return (int)((const struct unix_diag_rqlen *)(a + 1))
				->udiag_rqueue;
		p += NLA_ALIGN(a->nla_len);
	}
	return -EOPNOTSUPP;
}

int socket_queue_length(const struct socket *s)
{
	struct tcp_info info = { 0 };
	socklen_t n = sizeof(info);

	if (s->address.kind == SOCKET_UNIX)
		return unix_queue_length(s->fd);
	if (getsockopt(s->fd, IPPROTO_TCP, TCP_INFO, &info, &n) < 0)
		return -errno;
	return (int)info.tcpi_unacked;
}

int socket_stop_arrivals(struct socket *s)
{
	/* The filter sees the segment from its TCP header on. Only a SYN is a new connection: whoever
	 * was answered already believes to be connected, and may have sent its request, so the ACK
	 * that completes its handshake must pass. */
	struct sock_filter no_syn[] = {
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, TCP_FLAGS_OFFSET),
		BPF_STMT(BPF_ALU | BPF_AND | BPF_K, TH_SYN | TH_ACK),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, TH_SYN, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, 0),
		BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
	};
	struct sock_fprog program = { .len = ELEMENTS(no_syn), .filter = no_syn };

	if (s->inherited)
		return -EOPNOTSUPP;
	if (s->address.kind == SOCKET_UNIX)
		return owns_path(s) && unlink(s->address.path) < 0 ? -errno : 0;
	if (setsockopt(s->fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) <
	    0)
		return -errno;
	return 0;
}

int socket_resume_arrivals(struct socket *s)
{
	int unused = 0;

	if (s->inherited || s->address.kind != SOCKET_TCP)
		return -EOPNOTSUPP;
	if (setsockopt(s->fd, SOL_SOCKET, SO_DETACH_FILTER, &unused, sizeof(unused)) < 0)
		return -errno;
	return 0;
}
