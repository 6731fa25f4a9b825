/* A gunicorn that was told to start its successor (USR2) and started us, because what it executes is
 * trimtab now: the way from a running gunicorn to trimtab without a refused connection. Its
 * convention: GUNICORN_PID names it, our parent; GUNICORN_FD its listening sockets; until it has
 * ended, which is its operator's to see to, our pidfile has ".2" behind its name.
 *
 * Owns the watch of its end. Must never signal it, and never do anything to sockets that it still
 * accepts from. */
#include "supervisor/supervisor.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "process/pidfile.h"
#include "report/journal.h"
#include "util/cleanup.h"

/* ---- the pidfile ---- */

static int name_pidfile(const struct supervisor *s, const struct launch *l, char *path,
			size_t size)
{
	int n = snprintf(path, size, "%s%s", l->pidfile, s->predecessor.end ? ".2" : "");

	return n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
}

int setup_pidfile(struct supervisor *s)
{
	char path[PATH_MAX];
	pid_t other = 0;
	int r = 0;

	if (!s->launch->pidfile)
		return 0;
	r = name_pidfile(s, s->launch, path, sizeof(path));
	if (r == 0)
		r = pidfile_write(path, getpid(), &other);
	if (r == -EEXIST)
		journal_problem(0, 0,
				"%s names process %d, which lives: does this pool run?",
				path, (int)other);
	else if (r < 0)
		journal_problem(0, r, "Cannot write the pidfile %s", s->launch->pidfile);
	return r;
}

void remove_pidfile(const struct supervisor *s, const struct launch *launch)
{
	char path[PATH_MAX];

	if (launch->pidfile && name_pidfile(s, launch, path, sizeof(path)) == 0)
		pidfile_remove(path, getpid());
}

/* ---- its end ---- */

/* gunicorn hands its sockets over in the order of its addresses. Where ours are not the same, they
 * remain what they are: inherited for good, and kept by a reload. */
static void own_sockets(struct supervisor *s)
{
	const struct launch *l = s->launch;
	struct socket_address a;

	if (!s->predecessor.gave_sockets || s->n_sockets != l->n_binds)
		return;
	for (size_t i = 0; i < s->n_sockets; i++)
		if (socket_parse(l->binds[i], &a) == 0)
			socket_own(&s->sockets[i], &a);
}

static int on_predecessor_end(sd_event_source *source, int fd, uint32_t events,
			      void *userdata)
{
	struct supervisor *s = userdata;

	(void)source;
	(void)fd;
	(void)events;
	remove_pidfile(s, s->launch);
	predecessor_forget(s);
	(void)setup_pidfile(s);
	own_sockets(s);
	journal_pool("succeeded",
		     "gunicorn's master has ended: its sockets are this pool's now");
	return 0;
}

void predecessor_forget(struct supervisor *s)
{
	s->predecessor.end = sd_event_source_disable_unref(s->predecessor.end);
}

static int watch(struct supervisor *s, pid_t pid)
{
	auto_close int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	int r;

	if (pidfd < 0)
		return -errno;
	r = sd_event_add_io(s->event, &s->predecessor.end, pidfd, EPOLLIN,
			    on_predecessor_end, s);
	if (r >= 0)
		r = sd_event_source_set_io_fd_own(s->predecessor.end, true);
	if (r < 0)
		return r;
	(void)TAKE_FD(pidfd);
	return 0;
}

int predecessor_find(struct supervisor *s)
{
	const char *pid = getenv("GUNICORN_PID");
	int r = 0;

	/* An old variable, or somebody else's: our parent alone can have handed us sockets. */
	if (pid && atoi(pid) == getppid())
		r = watch(s, getppid());
	if (r < 0)
		journal_problem(0, r,
				"Cannot watch the gunicorn that started this process");
	if (!s->predecessor.end)
		(void)unsetenv("GUNICORN_FD");
	(void)unsetenv("GUNICORN_PID");
	return r;
}

/* ---- its sockets ---- */

int predecessor_adopt_sockets(struct supervisor *s)
{
	const char *text = getenv("GUNICORN_FD");
	auto_free char *list = text ? strdup(text) : NULL;
	char *rest = list, *word;

	if (!text)
		return 0;
	(void)unsetenv("GUNICORN_FD");
	s->sockets = calloc(SPAWN_MAX_LISTEN_FDS, sizeof(*s->sockets));
	if (!list || !s->sockets)
		return -ENOMEM;
	while ((word = strsep(&rest, ","))) {
		struct socket_address a;
		char address[32];
		int r = snprintf(address, sizeof(address), "fd://%s", word);

		r = r < 0 || (size_t)r >= sizeof(address) ? -EINVAL
							  : socket_parse(address, &a);
		if (r == 0)
			r = s->n_sockets < SPAWN_MAX_LISTEN_FDS
				    ? socket_adopt(a.fd, &s->sockets[s->n_sockets])
				    : -E2BIG;
		if (r < 0) {
			journal_problem(0, r,
					"Descriptor %s of gunicorn's does not listen",
					word);
			return r;
		}
		s->n_sockets++;
	}
	s->predecessor.gave_sockets = true;
	return (int)s->n_sockets;
}
