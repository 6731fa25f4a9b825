/* A reload's preparation: the configuration read again, gunicorn asked again, new addresses bound.
 * All of it may block (files, gunicorn's own code, name look-ups), so it has a thread of its own, and
 * the loop goes on meanwhile. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "arguments.h"
#include "config/config.h"
#include "launch.h"
#include "process/socket.h"

struct relaunch;

/* What the thread found. The receiver owns all of it. */
struct relaunch_result {
	int r; /* 0; CONFIG_BAD or another positive outcome of launch_new(); -errno */
	struct config_error err; /* for what is not 0 */
	struct config *config;
	struct launch *launch;
	struct socket *added; /* sockets of addresses that were not among those known */
	size_t n_added;
};

/* Starts it. argv: of the process, which it parses again; known: the sockets that there are already, copied; bind: whether addresses count at
 * all (they do not where sockets were inherited).
 * Returns 0 and *ret, or -errno. */
int relaunch_new(char *const *argv, const struct socket *known, size_t n_known, bool bind,
		 struct relaunch **ret);

/* Becomes readable when it is through. */
int relaunch_fd(const struct relaunch *r);

/* Hands out what it found, once it is through, and frees it. */
void relaunch_take(struct relaunch *r, struct relaunch_result *ret);

/* Gives it up: what runs for it is killed, what it finds is freed. Does not wait for that, unless
 * wait is set, and then a second at most. Accepts NULL; returns NULL. */
struct relaunch *relaunch_cancel(struct relaunch *r, bool wait);

void relaunch_result_done(struct relaunch_result *result);

/* Whether this is the socket that an address of the configuration names. */
bool relaunch_same_address(const struct socket *s, const struct socket_address *a);

/* Owner and permissions for new sockets. Blocking: names are looked up. Returns 0, or -ESRCH for a
 * user or group that is not known here. */
int relaunch_socket_options(const struct config *c, const struct launch *l,
			    struct socket_options *ret);
