/* Binding unix sockets to paths: the one way for listeners, notifications and control. */
#pragma once

#include <sys/types.h>

struct unix_owner {
	mode_t mode;
	uid_t uid; /* (uid_t)-1: leave it */
	gid_t gid;
};

/* Makes a socket of the type (SOCK_STREAM, SOCK_DGRAM), non-blocking and CLOEXEC, bound to path;
 * '@' first means the abstract name space, where owner does not apply. A socket file that nobody
 * answers at is replaced. Returns the descriptor or -errno: -EADDRINUSE when somebody answers
 * there, -EEXIST when something else than a socket is there, -ENAMETOOLONG. */
int unix_bind(const char *path, int type, const struct unix_owner *owner);
