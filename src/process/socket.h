/* Listening sockets: bound once by the supervisor or inherited, kept for the life of the pool,
 * handed to every worker. Their backlog outlives any worker. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct socket_address {
	enum socket_kind { SOCKET_TCP, SOCKET_UNIX, SOCKET_FD } kind;
	char host[256]; /* TCP: empty means every address */
	uint16_t port;
	char path[108]; /* unix; a leading '@' means the abstract name space */
	int fd;		/* fd://N */
};

struct socket {
	struct socket_address address;
	char name[300]; /* as shown: "127.0.0.1:8000", "unix:/run/shop.sock" */
	int fd;
	bool inherited; /* somebody else (systemd) owns it: never unlinked or filtered for good */
	uint64_t device, inode; /* unix: of the path that we bound */
};

struct socket_options {
	int backlog;
	mode_t mode; /* unix sockets */
	uid_t uid;   /* unix sockets: (uid_t)-1 leaves it */
	gid_t gid;
	bool reuse_port; /* TCP: others may listen there too (SO_REUSEPORT, socket(7)) */
};

/* Parses HOST, HOST:PORT, :PORT, [V6]:PORT, tcp://..., unix:PATH, unix://PATH, unix:@NAME and
 * fd://N, as gunicorn's --bind does. A missing port is 8000. Returns 0 or -EINVAL. */
int socket_parse(const char *text, struct socket_address *ret);

/* Binds and listens. A stale socket file is replaced; any other file there is -EEXIST. fd://N
 * is checked to be a listening stream socket and re-listened with the backlog.
 * Returns 0 or -errno (-EADDRINUSE, -EACCES, -EADDRNOTAVAIL); -EHOSTUNREACH: the name does not
 * resolve (blocking: start-up only). On success *ret is the caller's, socket_close() ends it. */
int socket_open(const struct socket_address *address,
		const struct socket_options *options, struct socket *ret);

/* Takes a descriptor that somebody passed down (LISTEN_FDS). Returns 0 or -errno:
 * -ENOTSOCK, -EPROTOTYPE when it is no listening stream socket. */
int socket_adopt(int fd, struct socket *ret);

/* Makes an adopted socket our own, as if we had bound it to that address, now that whoever did is
 * gone: arrivals can be stopped, and a path is removed at the end. Nothing happens where the address
 * is of another kind. */
void socket_own(struct socket *s, const struct socket_address *address);

/* Closes it; a path that we bound and that is still ours is removed when unlink_path is set. */
void socket_close(struct socket *s, bool unlink_path);

/* Connections accepted by the kernel that no worker has taken yet, or -errno where the kernel
 * does not tell (-EOPNOTSUPP). Source: tcp(7) TCP_INFO, whose tcpi_unacked is the length of the
 * accept queue of a listening socket; sock_diag(7) for unix sockets. */
int socket_queue_length(const struct socket *s);

/* Lets no new connection in while the queue is served: TCP drops the SYN, so clients try again
 * and reach whoever listens next; a unix path is unlinked. Inherited sockets are left alone
 * (their owner keeps the queue) and give -EOPNOTSUPP. Returns 0 or -errno. */
int socket_stop_arrivals(struct socket *s);

/* Undoes that for TCP. Returns 0 or -errno: -EOPNOTSUPP for others. */
int socket_resume_arrivals(struct socket *s);
