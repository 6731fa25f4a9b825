/* The template (zygote): a process that has loaded what workers share, and forks one on request.
 *
 * It is the adapter, started with --template, at the other end of a socket pair. Packets are
 * text, one request or answer each:
 *
 *	ready					it can fork
 *	fork N WORD... \n NAME=VALUE...		fork worker N; each WORD names a descriptor that
 *						comes along: output, leaf (a cgroup's directory) or
 *						join (the same, not to be cloned into), page,
 *						warm (a socket like this one, see below)
 *	forked N PID				it did: double fork, so PID is our child (we are the
 *						subreaper), in its leaf before it touched memory
 *	failed N ERRNO				it did not
 *
 *	workers NEW OLD				for hooks of gunicorn's master, without an answer:
 *	exit PID N STATUS			TTIN or TTOU came; worker N ended (-signal)
 *	serving N				for statsd: so many workers serve now
 *	end					the last worker is gone; it ends
 *
 * A worker with a socket of its own may become the next template. It says "warm" by it once it has
 * answered as many requests as its environment says, TRIMTAB_REFORK_AFTER=N, and may then be asked:
 *
 *	promote WORD...				output, join: to fork a child which has them
 *	promoted PID				it did, PID is our child; the socket is the child's,
 *						which is going to say ready by it
 *	refused WHY				it did not, and why, for people; it has hung up. It may
 *						say so at once, without being asked
 *
 * It ends when the socket does. Source of why: ARCHITECTURE.md, "Template". */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct template_answer {
	enum template_word {
		TEMPLATE_READY,
		TEMPLATE_FORKED,
		TEMPLATE_FAILED,
		TEMPLATE_WARM,
		TEMPLATE_PROMOTED,
		TEMPLATE_REFUSED,
	} word;
	unsigned worker; /* FORKED, FAILED */
	pid_t pid;	 /* FORKED, PROMOTED */
	int error;	 /* FAILED: negative errno */
	char why[200];	 /* REFUSED: printable */
};

struct template_request {
	unsigned worker;
	int output_fd; /* -1: as the template's */
	int leaf_fd;   /* the cgroup's directory; -1: it stays in the template's */
	bool join;     /* do not clone into the leaf: see leaf.h, killed */
	int page_fd;   /* -1: no trims */
	int warm_fd;   /* by which it may be asked to become the template; -1: never */
	char *const
		*env; /* NAME=VALUE that differ from the template's; NULL-terminated */
};

/* Makes the pair; *ret_theirs goes to the child. Both CLOEXEC. Returns 0 or -errno. */
int template_pair(int *ret_ours, int *ret_theirs);

/* Sends a request; never blocks. Returns 0 or -errno: -EAGAIN when the template does not read,
 * -EPIPE when it is gone, -EMSGSIZE. */
int template_ask(int fd, const struct template_request *request);

/* Asks a worker to become the template, by the socket that it was given as warm; -1: it keeps
 * its own. Returns 0 or -errno as above. */
int template_promote(int fd, int output_fd, int leaf_fd);

/* Sends what needs no answer; never blocks. Returns 0 or -errno as above. */
int template_tell(int fd, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Receives one answer. Returns 1, 0 when there is none, or -errno: -EPIPE at the end, -EBADMSG for
 * a packet that is not understood. */
int template_hear(int fd, struct template_answer *ret);

/* Parses one packet; text is NUL-terminated. Returns 0 or -EBADMSG. */
int template_parse(const char *text, struct template_answer *ret);
