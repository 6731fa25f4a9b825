/* From a configuration to "run this program N times on these sockets": PATH and interpreter
 * look-ups, and gunicorn's own settings as its own code reads them. Blocking: at start-up, and for a
 * reload in a thread of its own (supervisor/relaunch.h). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "config/config.h"

struct launch {
	int cancel_fd;		/* while it is made */
	char *program;		/* absolute path to execute */
	char **argv;		/* points into what follows */
	char **words;		/* of gunicorn or the command, one block */
	char *adapter;		/* of gunicorn's workers, or NULL */
	char *template_adapter; /* of their template, or NULL */
	bool gunicorn;
	enum config_preload preload_mode;
	char *preload;	   /* the library to preload, or NULL */
	char *untrimmable; /* why that library will not be loaded, a sentence, or NULL */
	unsigned workers;
	char **binds; /* addresses as text */
	size_t n_binds;
	int backlog;
	usec_t watchdog_usec; /* 0: none */
	usec_t graceful_usec;
	uid_t uid; /* that workers will run as; (uid_t)-1: ours */
	gid_t gid;
	mode_t socket_mode; /* for unix sockets */
	bool reuse_port;
	char *pidfile;	 /* absolute path, or NULL */
	char *what;	 /* "gunicorn 20.1.0, gthread worker, app:app" for the log */
	char **warnings; /* about gunicorn's settings, a sentence each */
	size_t n_warnings;
	char *hooks; /* of gunicorn's master that the template runs: names, or NULL */
	bool statsd; /* the template sends how many workers there are */
	char *description; /* what gunicorn said of its settings, in JSON; NULL: not asked */
};

enum {
	LAUNCH_BAD = CONFIG_BAD, /* err->text says what the operator must change */
	LAUNCH_PRINTED,		 /* gunicorn printed what it was asked for (--version) */
};

/* Resolves everything. description: that of an earlier launch, to go by it instead of asking
 * gunicorn; or NULL. Returns 0 and *ret, a positive outcome above, or -errno, with err->text where
 * that says more: -ETIMEDOUT, gunicorn's configuration took longer than boot-timeout; -EIO, the
 * process that loaded it was killed. What gunicorn says of its own configuration goes to stderr as
 * it is. It is given up, -ECANCELED, when cancel_fd becomes readable; -1: never. */
int launch_new(const struct config *c, const char *description, int cancel_fd,
	       struct launch **ret, struct config_error *err);

/* Whether its addresses are some. Returns 0, or CONFIG_BAD with err->text. */
int launch_check_binds(const struct config *c, const struct launch *l,
		       struct config_error *err);
struct launch *launch_free(struct launch *l);
