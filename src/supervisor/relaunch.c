/* The thread of a reload. It owns struct relaunch together with the loop: whoever lets go last
 * frees it, so a reload that is given up need not be waited for. It must touch nothing of the
 * supervisor's, and never writes a record: those are the loop's alone. */
#include "supervisor/relaunch.h"

#include <errno.h>
#include <grp.h>
#include <poll.h>
#include <pthread.h>
#include <pwd.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "util/cleanup.h"

/* All our memory is locked when it is first touched, and counts for that from the start. */
enum { STACK_SIZE = 1 << 20 };

enum { MAX_ENTRY = 1 << 20 }; /* of a user or a group */

struct relaunch {
	atomic_int owners;
	int done_fd, cancel_fd;
	char *const *argv;
	bool bind;
	struct socket *known;
	size_t n_known;
	struct relaunch_result result;
};

void relaunch_result_done(struct relaunch_result *result)
{
	for (size_t i = 0; i < result->n_added; i++)
		socket_close(&result->added[i], /* unlink_path= */ true);
	free(result->added);
	(void)launch_free(result->launch);
	config_free(result->config);
	*result = (struct relaunch_result){ 0 };
}

static void let_go(struct relaunch *r)
{
	if (atomic_fetch_sub(&r->owners, 1) > 1)
		return;
	relaunch_result_done(&r->result);
	(void)close_fd(r->done_fd);
	(void)close_fd(r->cancel_fd);
	free(r->known);
	free(r);
}

static void ring(int fd)
{
	(void)eventfd_write(fd, 1); /* fails at 2^64 - 2 only */
}

/* ---- addresses ---- */

bool relaunch_same_address(const struct socket *s, const struct socket_address *a)
{
	switch (a->kind) {
	case SOCKET_FD:
		return s->inherited && s->address.fd == a->fd;
	case SOCKET_UNIX:
		return !s->inherited && s->address.kind == SOCKET_UNIX &&
		       strcmp(s->address.path, a->path) == 0;
	case SOCKET_TCP:
		return !s->inherited && s->address.kind == SOCKET_TCP &&
		       s->address.port == a->port &&
		       strcmp(s->address.host, a->host) == 0;
	}
	return false;
}

/* The reentrant calls: a reload that was given up may still be in one of them. An entry may be of any
 * length, a group of thousands, so the buffer grows until it fits. */
static int find_group(const char *name, unsigned *ret)
{
	struct group g, *found = NULL;
	int e = ERANGE;

	for (size_t n = 1024; e == ERANGE && n <= MAX_ENTRY; n *= 2) {
		auto_free char *buffer = malloc(n);

		e = buffer ? getgrnam_r(name, &g, buffer, n, &found) : ENOMEM;
	}
	if (!found)
		return e == 0 ? -ESRCH : -e;
	*ret = found->gr_gid;
	return 0;
}

static int find_user(const char *name, unsigned *ret)
{
	struct passwd p, *found = NULL;
	int e = ERANGE;

	for (size_t n = 1024; e == ERANGE && n <= MAX_ENTRY; n *= 2) {
		auto_free char *buffer = malloc(n);

		e = buffer ? getpwnam_r(name, &p, buffer, n, &found) : ENOMEM;
	}
	if (!found)
		return e == 0 ? -ESRCH : -e;
	*ret = found->pw_uid;
	return 0;
}

static int number_or_name(const char *text, bool group, unsigned *ret)
{
	char *end;
	unsigned long n;

	if (!text)
		return 0;
	n = strtoul(text, &end, 10);
	if (*text >= '0' && *text <= '9' && *end == '\0') {
		*ret = (unsigned)n;
		return 0;
	}
	return group ? find_group(text, ret) : find_user(text, ret);
}

int relaunch_socket_options(const struct config *c, const struct launch *l,
			    struct socket_options *ret)
{
	int r;

	*ret = (struct socket_options){
		.backlog = l->backlog,
		.mode = l->socket_mode,
		.uid = l->uid,
		.gid = l->gid,
		.reuse_port = l->reuse_port,
	};
	r = number_or_name(c->pool_socket_user, false, &ret->uid);
	return r < 0 ? r : number_or_name(c->pool_socket_group, true, &ret->gid);
}

static bool is_known(const struct relaunch *r, const struct socket_address *a)
{
	for (size_t i = 0; i < r->n_known; i++)
		if (relaunch_same_address(&r->known[i], a))
			return true;
	return false;
}

static int blame_bind(const struct relaunch_result *found, size_t i, int error,
		      struct config_error *err)
{
	const struct config *c = found->config;
	bool ours = c->pool_bind.n > 0;

	return config_blame(c, ours ? KEY_pool_bind : KEY_pool_gunicorn, ours ? i : 0,
			    err, "cannot listen on %s: %s", found->launch->binds[i],
			    error == -EHOSTUNREACH ? "the name does not resolve"
						   : strerrordesc_np(-error));
}

static int open_one(struct relaunch *r, size_t i, const struct socket_options *options)
{
	struct relaunch_result *found = &r->result;
	struct socket_address a;
	int e = socket_parse(found->launch->binds[i], &a);

	if (e < 0)
		return blame_bind(found, i, e, &found->err);
	if (is_known(r, &a))
		return 0;
	/* By now such a number may be any descriptor of ours. */
	if (a.kind == SOCKET_FD)
		return blame_bind(found, i, -ENOTSUP, &found->err);
	e = socket_open(&a, options, &found->added[found->n_added]);
	if (e < 0)
		return blame_bind(found, i, e, &found->err);
	found->n_added++;
	return 0;
}

static int open_added(struct relaunch *r)
{
	struct relaunch_result *found = &r->result;
	struct socket_options options;
	int e = relaunch_socket_options(found->config, found->launch, &options);

	if (e < 0)
		return config_blame(found->config,
				    found->config->pool_socket_user
					    ? KEY_pool_socket_user
					    : KEY_pool_socket_group,
				    0, &found->err, "is not known here");
	found->added = calloc(found->launch->n_binds + 1, sizeof(*found->added));
	if (!found->added)
		return -ENOMEM;
	for (size_t i = 0; i < found->launch->n_binds && e == 0; i++)
		e = open_one(r, i, &options);
	return e;
}

/* ---- the thread ---- */

/* Parsed again instead of borrowed: the supervisor's own are gone when it ends, and it does not wait
 * for us then. */
static int configure(char *const *argv, struct config **ret, struct config_error *err)
{
	CLEANUP(arguments_done) struct arguments a = { 0 };
	int argc = 0, e;

	while (argv[argc])
		argc++;
	e = arguments_parse(argc, argv, &a, err);
	return e == 0 ? arguments_configure(&a, ret, err) : e;
}

static int prepare(struct relaunch *r)
{
	struct relaunch_result *found = &r->result;
	int e = configure(r->argv, &found->config, &found->err);

	if (e == 0)
		e = launch_new(found->config, NULL, r->cancel_fd, &found->launch,
			       &found->err);
	if (e == 0)
		e = launch_check_binds(found->config, found->launch, &found->err);
	if (e == 0 && r->bind)
		e = open_added(r);
	return e;
}

static void *work(void *userdata)
{
	struct relaunch *r = userdata;

	r->result.r = prepare(r);
	ring(r->done_fd);
	let_go(r);
	return NULL;
}

int relaunch_new(char *const *argv, const struct socket *known, size_t n_known, bool bind,
		 struct relaunch **ret)
{
	struct relaunch *r = calloc(1, sizeof(*r));
	pthread_attr_t detached;
	pthread_t thread;
	int e;

	if (!r)
		return -ENOMEM;
	atomic_init(&r->owners, 1);
	r->argv = argv;
	r->bind = bind;
	r->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r->cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r->known = calloc(n_known + 1, sizeof(*known));
	if (!r->known || r->done_fd < 0 || r->cancel_fd < 0) {
		e = r->known ? -errno : -ENOMEM;
		let_go(r);
		return e;
	}
	if (n_known > 0)
		memcpy(r->known, known, n_known * sizeof(*known));
	r->n_known = n_known;

	/* It inherits our mask, so signals stay the loop's. */
	atomic_store(&r->owners, 2);
	(void)pthread_attr_init(&detached);
	(void)pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
	(void)pthread_attr_setstacksize(&detached, STACK_SIZE);
	e = pthread_create(&thread, &detached, work, r);
	(void)pthread_attr_destroy(&detached);
	if (e != 0) {
		atomic_store(&r->owners, 1);
		let_go(r);
		return -e;
	}
	*ret = r;
	return 0;
}

int relaunch_fd(const struct relaunch *r)
{
	return r->done_fd;
}

void relaunch_take(struct relaunch *r, struct relaunch_result *ret)
{
	eventfd_t rung;

	(void)eventfd_read(r->done_fd, &rung);
	*ret = r->result;
	r->result = (struct relaunch_result){ 0 };
	let_go(r);
}

struct relaunch *relaunch_cancel(struct relaunch *r, bool wait)
{
	if (!r)
		return NULL;
	ring(r->cancel_fd);
	if (wait) {
		struct pollfd done = { .fd = r->done_fd, .events = POLLIN };

		(void)poll(&done, 1, 1000);
	}
	let_go(r);
	return NULL;
}
