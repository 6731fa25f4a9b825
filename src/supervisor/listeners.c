/* The listening sockets from one generation to the next. A reload keeps those whose address stays,
 * adds those that it has bound, and lets the others go when the last worker that was born with them
 * has: until then they are served as before. Never closes a socket that somebody may still accept
 * from, nor one that is inherited as far as its owner is concerned. */
#include "supervisor/supervisor.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "report/journal.h"
#include "supervisor/relaunch.h"
#include "util/cleanup.h"

char *listeners_names(const struct socket *sockets, size_t n_sockets)
{
	size_t room = 1, n = 0;
	char *names;

	for (size_t i = 0; i < n_sockets; i++)
		room += strlen(sockets[i].name) + 1;
	names = calloc(room, 1);
	if (!names)
		return NULL;
	for (size_t i = 0; i < n_sockets; i++) {
		if (i > 0)
			names[n++] = ':';
		for (const char *p = sockets[i].name; *p; p++)
			names[n++] = *p == ':' || *p <= ' ' ? '-' : *p;
	}
	return names;
}

bool listeners_are_given(const struct supervisor *s)
{
	for (size_t i = 0; i < s->n_sockets; i++)
		if (!s->sockets[i].inherited)
			return false;
	for (size_t i = 0; i < s->launch->n_binds; i++) {
		struct socket_address a;

		if (socket_parse(s->launch->binds[i], &a) == 0 && a.kind == SOCKET_FD)
			return false;
	}
	return s->n_sockets > 0;
}

/* One that lets nobody in any more can be opened again, but for the path of a unix socket. */
static bool can_stay(const struct leaving *l)
{
	return !l->quiet || l->socket.address.kind == SOCKET_TCP;
}

int listeners_known(const struct supervisor *s, struct socket **ret, size_t *ret_n)
{
	struct socket *known = calloc(s->n_sockets + s->n_leaving + 1, sizeof(*known));
	size_t n = 0;

	if (!known)
		return -ENOMEM;
	for (size_t i = 0; i < s->n_sockets; i++)
		known[n++] = s->sockets[i];
	for (size_t i = 0; i < s->n_leaving; i++)
		if (can_stay(&s->leaving[i]))
			known[n++] = s->leaving[i].socket;
	*ret = known;
	*ret_n = n;
	return 0;
}

/* ---- the next generation's ---- */

static bool has_fd(const struct socket *sockets, size_t n, int fd)
{
	for (size_t i = 0; i < n; i++)
		if (sockets[i].fd == fd)
			return true;
	return false;
}

static bool is_ours(const struct supervisor *s, int fd)
{
	for (size_t i = 0; i < s->n_leaving; i++)
		if (s->leaving[i].socket.fd == fd)
			return true;
	return has_fd(s->sockets, s->n_sockets, fd);
}

/* The socket of an address, unless it was taken for an earlier one. Those that were bound for this
 * move over. */
static bool find_socket(const struct supervisor *s, const struct socket_address *a,
			const struct outfit *o, struct relaunch_result *found,
			struct socket *ret)
{
	auto_free struct socket *known = NULL;
	size_t n = 0;

	if (listeners_known(s, &known, &n) < 0)
		return false;
	for (size_t i = 0; i < n; i++)
		if (relaunch_same_address(&known[i], a) &&
		    !has_fd(o->sockets, o->n_sockets, known[i].fd)) {
			*ret = known[i];
			return true;
		}
	for (size_t i = 0; i < found->n_added; i++)
		if (found->added[i].fd >= 0 &&
		    relaunch_same_address(&found->added[i], a)) {
			*ret = found->added[i];
			found->added[i] = (struct socket){ .fd = -1 };
			return true;
		}
	return false;
}

int listeners_gather(const struct supervisor *s, struct relaunch_result *found,
		     struct outfit *o, struct config_error *err)
{
	const struct launch *l = o->launch;
	bool given = listeners_are_given(s);
	size_t n = given ? s->n_sockets : l->n_binds;

	o->sockets = calloc(n + 1, sizeof(*o->sockets));
	if (!o->sockets)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		struct socket_address a;

		if (given)
			o->sockets[i] = s->sockets[i];
		else if (socket_parse(l->binds[i], &a) < 0 ||
			 !find_socket(s, &a, o, found, &o->sockets[i]))
			return config_blame(o->config,
					    o->config->pool_bind.n ? KEY_pool_bind
								   : KEY_pool_gunicorn,
					    o->config->pool_bind.n ? i : 0, err,
					    "%s is named twice", l->binds[i]);
		o->n_sockets++;
	}
	o->socket_names = listeners_names(o->sockets, o->n_sockets);
	return o->socket_names ? 0 : -ENOMEM;
}

void listeners_drop(const struct supervisor *s, struct outfit *o)
{
	for (size_t i = 0; i < o->n_sockets; i++)
		if (!is_ours(s, o->sockets[i].fd))
			socket_close(&o->sockets[i], /* unlink_path= */ true);
	free(TAKE(o->sockets));
	free(TAKE(o->socket_names));
	o->n_sockets = 0;
}

/* ---- the change ---- */

static void take_back(struct supervisor *s, const struct outfit *o)
{
	size_t n = 0;

	for (size_t i = 0; i < s->n_leaving; i++) {
		struct leaving *l = &s->leaving[i];

		if (!has_fd(o->sockets, o->n_sockets, l->socket.fd)) {
			s->leaving[n++] = *l;
			continue;
		}
		if (l->quiet)
			(void)socket_resume_arrivals(&l->socket);
		journal_pool("listening", "Listening on %s again", l->socket.name);
	}
	s->n_leaving = n;
}

int listeners_change(struct supervisor *s, struct outfit *o)
{
	struct leaving *leaving = reallocarray(
		s->leaving, s->n_leaving + s->n_sockets + 1, sizeof(*leaving));

	if (!leaving)
		return -ENOMEM;
	s->leaving = leaving;
	for (size_t i = 0; i < o->n_sockets; i++)
		if (!is_ours(s, o->sockets[i].fd))
			journal_pool("listening", "Listening on %s", o->sockets[i].name);
	take_back(s, o);
	for (size_t i = 0; i < s->n_sockets; i++)
		if (!has_fd(o->sockets, o->n_sockets, s->sockets[i].fd)) {
			s->leaving[s->n_leaving++] =
				(struct leaving){ s->sockets[i], s->generation, false };
			journal_pool("leaving",
				     "%s is closed when the last worker that has it ends",
				     s->sockets[i].name);
		}
	/* Of those that stay; new ones have it. As gunicorn does, for given ones too. */
	if (o->launch->backlog != s->launch->backlog)
		for (size_t i = 0; i < o->n_sockets; i++)
			(void)listen(o->sockets[i].fd, o->launch->backlog);
	free(s->sockets);
	free(s->socket_names);
	s->sockets = TAKE(o->sockets);
	s->n_sockets = o->n_sockets;
	s->socket_names = TAKE(o->socket_names);
	o->n_sockets = 0;
	return 0;
}

/* ---- those that leave ---- */

static void count_old(const struct supervisor *s, unsigned generation,
		      unsigned *ret_serving, unsigned *ret_alive)
{
	*ret_serving = *ret_alive = 0;
	for (const struct worker *w = s->workers; w; w = w->next) {
		/* One in quarantine has let go of all its sockets. */
		if (w->generation > generation || w->kept_usec > 0)
			continue;
		(*ret_alive)++;
		*ret_serving += w->state == WORKER_SERVING;
	}
}

void listeners_settle(struct supervisor *s)
{
	unsigned n_serving, n_alive;
	size_t n = 0;

	/* What is being prepared may want them back. */
	if (s->relaunch || s->pending)
		return;
	for (size_t i = 0; i < s->n_leaving; i++) {
		struct leaving *l = &s->leaving[i];

		count_old(s, l->generation, &n_serving, &n_alive);
		if (n_alive == 0) {
			journal_pool("closed", "No longer listening on %s",
				     l->socket.name);
			socket_close(&l->socket, /* unlink_path= */ true);
			continue;
		}
		/* The last one serves what is queued, which would be reset with its end: from here on
		 * nothing new is let in. */
		if (n_serving <= 1 && !l->quiet) {
			(void)socket_stop_arrivals(&l->socket);
			l->quiet = true;
		}
		s->leaving[n++] = *l;
	}
	s->n_leaving = n;
}

void listeners_quiet(struct supervisor *s)
{
	for (size_t i = 0; i < s->n_sockets; i++)
		(void)socket_stop_arrivals(&s->sockets[i]);
	for (size_t i = 0; i < s->n_leaving; i++)
		if (!s->leaving[i].quiet) {
			(void)socket_stop_arrivals(&s->leaving[i].socket);
			s->leaving[i].quiet = true;
		}
}

static unsigned queue_of(const struct socket *socket)
{
	int n = socket->inherited ? 0 : socket_queue_length(socket);

	return n > 0 ? (unsigned)n : 0;
}

unsigned listeners_queued(const struct supervisor *s)
{
	unsigned sum = 0;

	for (size_t i = 0; i < s->n_sockets; i++)
		sum += queue_of(&s->sockets[i]);
	for (size_t i = 0; i < s->n_leaving; i++)
		sum += queue_of(&s->leaving[i].socket);
	return sum;
}

void listeners_done(struct supervisor *s)
{
	for (size_t i = 0; i < s->n_leaving; i++)
		socket_close(&s->leaving[i].socket, /* unlink_path= */ true);
	s->n_leaving = 0;
	free(TAKE(s->leaving));
}
