/* The template: started once, asked for each worker, replaced by a reload. It is a convenience,
 * not a need: without it, or while it is down, workers are executed. Its own end costs no
 * request, and it is started again, later and later when it keeps failing. */
#include "supervisor/supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "process/environment.h"
#include "process/notify.h"
#include "process/spawn.h"
#include "process/template.h"
#include "report/journal.h"
#include "report/record.h"
#include "util/cleanup.h"
#include "util/format.h"

#define RETRY_MAX_USEC (30 * USEC_PER_SEC)

/* After it closed its socket it has this long to end. */
#define LEAVE_USEC (5 * USEC_PER_SEC)

struct template *template_free(struct template *t)
{
	if (!t)
		return NULL;
	sd_event_source_disable_unref(t->child);
	sd_event_source_disable_unref(t->answers);
	sd_event_source_disable_unref(t->deadline);
	t->fd = close_fd(t->fd);
	t->pidfd = close_fd(t->pidfd);
	t->report = spawn_report_free(t->report);
	free(t);
	return NULL;
}

static void cleanup_template(struct template **t)
{
	(void)template_free(*t);
}

void template_kill(const struct template *t)
{
	(void)kill(-t->pid, SIGKILL);
	(void)syscall(SYS_pidfd_send_signal, t->pidfd, SIGKILL, NULL, 0);
}

static int on_patience_over(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct template *t = userdata;
	struct supervisor *s = t->supervisor;

	(void)source;
	(void)usec;
	if (!t->aborted) {
		/* As a worker's: it says where it hangs first. */
		t->aborted = true;
		journal_problem(
			0, 0,
			"The template is not ready, does not answer or does not end in time: "
			"it is aborted");
		(void)syscall(SYS_pidfd_send_signal, t->pidfd, SIGABRT, NULL, 0);
		supervisor_arm(
			s, &t->deadline,
			usec_add(supervisor_now(s), s->config->restart_abort_grace),
			on_patience_over, t);
		return 0;
	}
	template_kill(t);
	return 0;
}

void template_give_up(struct supervisor *s)
{
	struct template *t = s->template;

	if (!t || t->aborted)
		return;
	t->ready = false; /* workers are executed meanwhile */
	(void)on_patience_over(NULL, 0, t);
}

/* ---- what no fork survives ---- */

/* Each kind once a template, however often it says so: what the application does while it is loaded
 * decides what is sent, and a record is not to be had for a message. */
static void tell_of_hazard(struct template *t, const struct notify *n)
{
	static const struct {
		const char *kind, *says;
	} hazards[] = {
		[HAZARD_THREADS] = { "threads",
				     "Threads that were started while the application was "
				     "loaded do not exist in workers" },
		[HAZARD_CONNECTIONS] = { "connections",
					 "Connections that were opened while the application "
					 "was loaded are shared by all workers" },
		[HAZARD_EVENT_LOOPS] = { "event-loops",
					 "Event loops that were made while the application "
					 "was loaded are shared by all workers" },
	};
	char names[256];

	if (n->hazard == HAZARD_NONE || !n->status || t->hazards & 1U << n->hazard)
		return;
	t->hazards |= 1U << n->hazard;
	notify_copy_text(names, sizeof(names), n->status);
	journal_hazard(t->pid, hazards[n->hazard].kind, hazards[n->hazard].says, names);
}

bool template_heard(struct supervisor *s, pid_t pid, const struct notify *n)
{
	struct template *t = s->template && s->template->pid == pid	? s->template
			     : s->successor && s->successor->pid == pid ? s->successor
									: NULL;

	if (t)
		tell_of_hazard(t, n);
	return t != NULL;
}

/* ---- answers ---- */

static struct worker *find_forking(struct supervisor *s, unsigned number)
{
	for (struct worker *w = s->workers; w; w = w->next)
		if (w->forking && w->slot->number == number)
			return w;
	return NULL;
}

bool template_is_child(pid_t pid)
{
	siginfo_t si = { 0 };

	return waitid(P_PID, (id_t)pid, &si, WEXITED | WNOHANG | WNOWAIT) == 0;
}

static void forked(struct supervisor *s, const struct template_answer *a)
{
	struct worker *w = find_forking(s, a->worker);
	int pidfd;

	if (!w)
		return;
	pidfd = template_is_child(a->pid) ? (int)syscall(SYS_pidfd_open, a->pid, 0) : -1;
	if (pidfd < 0) {
		w->forking = false;
		worker_unborn(w, -ESRCH);
		return;
	}
	w->pid = a->pid;
	w->pidfd = pidfd;
	w->report->step =
		SPAWN_UNDER_WAY; /* the template's word; clone3 is not to blame later */
	(void)worker_born(w);
	supervisor_wake(s); /* others may have waited for it */
}

/* Whoever it was to fork will never come: a child that it has made all the same leaves without a
 * word, since nobody lets it go on. */
static void disown(struct supervisor *s)
{
	struct worker *next;

	for (struct worker *w = s->workers; w; w = next) {
		next = w->next;
		if (w->forking) {
			w->forking = false;
			worker_unborn(w, -EPIPE);
		}
	}
}

static void become_ready(struct template *t)
{
	struct supervisor *s = t->supervisor;

	t->ready = t->served = true;
	supervisor_arm(s, &t->deadline, USEC_NEVER, NULL, NULL);
	journal_pool("template", "The template (pid %d) is ready after %s", (int)t->pid,
		     format_usec(usec_sub(supervisor_now(s), t->started_usec)).s);
	s->template_failures = 0;
	if (s->successor == t) {
		struct template *old = s->template;

		s->successor = NULL;
		s->template = t;
		if (old) {
			template_kill(old);
			/* Its own exit is reaped as an orphan's. */
			(void)template_free(old);
			disown(s);
		}
		reload_done(s, NULL);
	}
	supervisor_wake(s);
}

static int on_answer(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
	struct template *t = userdata;
	struct supervisor *s = t->supervisor;
	struct template_answer a;
	struct worker *w;
	int r;

	(void)events;
	while ((r = template_hear(fd, &a)) > 0)
		switch (a.word) {
		case TEMPLATE_READY:
			become_ready(t);
			break;
		case TEMPLATE_FORKED:
			forked(s, &a);
			break;
		case TEMPLATE_FAILED:
			w = find_forking(s, a.worker);
			if (w) {
				w->forking = false;
				worker_unborn(w, a.error);
			}
			break;
		case TEMPLATE_WARM:
		case TEMPLATE_PROMOTED:
		case TEMPLATE_REFUSED:
			template_kill(t); /* these are a worker's words */
			break;
		}
	if (r < 0) {
		/* It is about to end, and its exit status will say why; or it talks nonsense. */
		(void)sd_event_source_set_enabled(source, SD_EVENT_OFF);
		t->ready = false;
		if (r == -EPIPE)
			supervisor_arm(s, &t->deadline,
				       usec_add(supervisor_now(s), LEAVE_USEC),
				       on_patience_over, t);
		else
			template_kill(t);
	}
	return 0;
}

/* ---- its end ---- */

static int on_retry(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct supervisor *s = userdata;

	(void)source;
	(void)usec;
	if (s->phase == PHASE_STARTING || s->phase == PHASE_RUNNING)
		(void)template_start(s);
	return 0;
}

static void retry_later(struct supervisor *s)
{
	usec_t wait = USEC_PER_SEC
		      << (s->template_failures < 5 ? s->template_failures : 5);

	s->template_failures++;
	supervisor_arm(s, &s->template_retry,
		       usec_add(supervisor_now(s),
				wait < RETRY_MAX_USEC ? wait : RETRY_MAX_USEC),
		       on_retry, s);
}

static void report_template_end(const struct template *t, const siginfo_t *si)
{
	const char *how =
		si->si_code == CLD_EXITED ? "exited with status" : "died of signal";

	if (t->report->step > SPAWN_UNDER_WAY)
		journal_problem(0, -t->report->error, "The template %s",
				spawn_step_text((enum spawn_step)t->report->step));
	else
		journal_problem(0, 0, "The template (pid %d) %s %d%s", (int)t->pid, how,
				si->si_status, t->served ? "" : " before it was ready");
}

static int on_template_exit(sd_event_source *source, const siginfo_t *si, void *userdata)
{
	struct template *t = userdata;
	struct supervisor *s = t->supervisor;
	bool was_ready = t->served, was_successor = s->successor == t;
	int status = si->si_code == CLD_EXITED ? si->si_status : 1;

	(void)source;
	if (s->phase == PHASE_STARTING || s->phase == PHASE_RUNNING)
		report_template_end(t, si);
	if (was_successor) {
		s->successor = template_free(t);
		reload_done(s, "the new template does not load");
		return 0;
	}
	s->template = template_free(t);
	disown(s);
	if (s->phase != PHASE_STARTING && s->phase != PHASE_RUNNING) {
		stop_if_empty(s);
		return 0;
	}
	/* As gunicorn --preload: an application that does not load at the first start ends it. */
	if (!was_ready && s->phase == PHASE_STARTING &&
	    s->launch->preload_mode == CONFIG_PRELOAD_APP) {
		s->exit_status = status > 0 ? status : 1;
		stop(s, /* graceful= */ false, "the application does not load");
		return 0;
	}
	retry_later(s);
	supervisor_wake(s);
	return 0;
}

/* ---- its start ---- */

static char **make_environment(const struct supervisor *s, const struct outfit *o)
{
	const struct environment_plan plan = {
		.worker = 0,
		.pool = o->config->pool_name,
		.extra = o->config->pool_env.items,
		.n_extra = o->config->pool_env.n,
		.n_listen_fds = o->n_sockets,
		.listen_names = o->socket_names,
		.notify_path = s->notify_path,
		.watchdog_usec = o->launch->watchdog_usec,
		.preload = o->launch->preload,
		.arena_max = o->config->trim_arena_max,
	};

	return environment_new(environ, &plan);
}

/* [python, adapter, "--", words...] -> [python, template, "--preload=app", purpose, "--", words...];
 * the purpose, "--start" or "--reload", has hooks of its own; NULL: none. */
static char **make_argv(const struct launch *launch, const char *purpose)
{
	char *const *argv = launch->argv;
	char **with;
	size_t n = 0;

	while (argv[n])
		n++;
	with = calloc(n + 3, sizeof(*with));
	if (!with)
		return NULL;
	with[0] = argv[0];
	with[1] = launch->template_adapter;
	with[2] =
		(char *)(launch->preload_mode == CONFIG_PRELOAD_APP ? "--preload=app"
								    : "--preload=server");
	with[3] = (char *)purpose;
	memcpy(with + (purpose ? 4 : 3), argv + 2, (n - 2) * sizeof(*with));
	return with;
}

/* Its pages are what every worker shares: the last to be pushed out. */
static void prepare_template_leaf(struct supervisor *s)
{
	int r;

	if (s->root.dir_fd < 0 || s->template_leaf)
		return;
	r = leaf_take_named(&s->leaves, "template", &s->template_leaf);
	if (r < 0)
		journal_problem(0, r, "No cgroup for the template");
	else if (s->memory)
		(void)cgroup_write(s->template_leaf->dir_fd, "memory.low", "max");
}

int template_watch(struct template *t, usec_t deadline_usec)
{
	struct supervisor *s = t->supervisor;
	int r = sd_event_add_child_pidfd(s->event, &t->child, t->pidfd, WEXITED,
					 on_template_exit, t);

	if (r >= 0)
		r = sd_event_add_io(s->event, &t->answers, t->fd, EPOLLIN, on_answer, t);
	if (r < 0)
		return r;
	/* Whose child has spoken must be known before what it said is heard. */
	(void)sd_event_source_set_priority(t->answers, PRIORITY_NOTIFY - 1);
	(void)sd_event_source_set_priority(t->child, PRIORITY_CHILD);
	supervisor_arm(s, &t->deadline, deadline_usec, on_patience_over, t);
	return 0;
}

static int start(struct supervisor *s, const struct outfit *o, const char *purpose,
		 struct template **ret)
{
	CLEANUP(cleanup_template) struct template *t = calloc(1, sizeof(*t));
	int fds[SPAWN_MAX_LISTEN_FDS], r;
	auto_close int theirs = -1;

	if (!t)
		return -ENOMEM;
	*t = (struct template){ .supervisor = s, .pidfd = -1, .fd = -1 };
	t->started_usec = supervisor_now(s);
	t->report = spawn_report_new();
	if (!t->report)
		return -ENOMEM;
	r = template_pair(&t->fd, &theirs);
	if (r < 0)
		return r;
	prepare_template_leaf(s);
	for (size_t i = 0; i < o->n_sockets; i++)
		fds[i] = o->sockets[i].fd;

	char **env = make_environment(s, o), **argv = make_argv(o->launch, purpose);
	const struct spawn how = {
		.program = o->launch->program,
		.argv = argv,
		.env = env,
		.directory = o->config->pool_chdir,
		.leaf_fd = s->template_leaf ? s->template_leaf->dir_fd : -1,
		.join = s->template_leaf && s->template_leaf->killed,
		.output_fd = s->template_output_fd,
		.listen_fds = fds,
		.n_listen_fds = o->n_sockets,
		.extra_fd = theirs,
		.die_with_parent = !s->managed,
		.oom_score_adj = s->oom_score_adj[0] ? s->oom_score_adj : NULL,
		.report = t->report,
	};

	r = env && argv ? spawn(&how, &t->pid, &t->pidfd) : -ENOMEM;
	(void)environment_free(env);
	free(argv);
	if (r < 0)
		return r;
	r = template_watch(t, usec_add(t->started_usec, o->config->restart_boot_timeout));
	if (r < 0) {
		template_kill(t);
		return r;
	}
	*ret = TAKE(t);
	return 0;
}

bool template_is_wanted(const struct launch *launch)
{
	return launch->template_adapter && launch->preload_mode != CONFIG_PRELOAD_NONE;
}

int template_start(struct supervisor *s)
{
	const struct outfit present = {
		.config = s->config,
		.launch = s->launch,
		.sockets = s->sockets,
		.n_sockets = s->n_sockets,
		.socket_names = s->socket_names,
	};
	int r;

	if (!template_is_wanted(s->launch) || s->template)
		return 0;
	if (s->template_output_fd < 0) {
		r = record_open_output(0);
		s->template_output_fd = r < 0 ? -1 : r;
	}
	r = start(s, &present,
		  s->phase == PHASE_STARTING && s->template_failures == 0 ? "--start"
									  : NULL,
		  &s->template);
	if (r < 0) {
		journal_problem(0, r, "Cannot start the template: workers are executed");
		retry_later(s);
	}
	return r;
}

bool template_is_awaited(const struct supervisor *s)
{
	return s->phase == PHASE_STARTING && s->template && !s->template->ready;
}

/* ---- gunicorn's hooks ---- */

/* Whether there are hooks, and somebody to run them. What is not said because there is no template
 * just now, or because it is busy with thousands of earlier words, is lost: no worker waits for a
 * hook. */
static bool hooks_hear(const struct supervisor *s)
{
	return s->launch->hooks && s->template && s->template->ready;
}

void template_scaled(struct supervisor *s, unsigned before)
{
	if (hooks_hear(s))
		(void)template_tell(s->template->fd, "workers %u %u", s->target, before);
}

void template_worker_ended(const struct worker *w, int status)
{
	const struct supervisor *s = w->supervisor;

	if (hooks_hear(s))
		(void)template_tell(s->template->fd, "exit %d %u %d", (int)w->pid,
				    w->slot->number, status);
}

void template_serving(struct supervisor *s, unsigned n_serving)
{
	if (s->launch->statsd && s->template && s->template->ready)
		(void)template_tell(s->template->fd, "serving %u", n_serving);
}

void template_end(struct supervisor *s)
{
	struct template *t = s->template;

	if (!hooks_hear(s) || t->ended)
		return;
	t->ended = true;
	(void)template_tell(t->fd, "end");
	(void)shutdown(t->fd, SHUT_WR);
	supervisor_arm(s, &t->deadline, usec_add(supervisor_now(s), LEAVE_USEC),
		       on_patience_over, t);
}

void template_dismiss(struct supervisor *s)
{
	supervisor_arm(s, &s->template_retry, USEC_NEVER, NULL, NULL);
	/* It holds nothing of anybody: its workers are our children. But hooks are to hear of them
	 * all, see template_end(). */
	if (s->template && !hooks_hear(s))
		template_kill(s->template);
	template_forget_successor(s);
	refork_forget(s);
}

void template_forget_successor(struct supervisor *s)
{
	if (!s->successor)
		return;
	template_kill(s->successor);
	s->successor = template_free(s->successor);
}

void template_drop(struct supervisor *s)
{
	supervisor_arm(s, &s->template_retry, USEC_NEVER, NULL, NULL);
	refork_forget(s);
	if (!s->template)
		return;
	template_kill(s->template);
	s->template = template_free(s->template);
	disown(s);
}

int template_renew(struct supervisor *s)
{
	return start(s, s->pending, "--reload", &s->successor);
}

int template_fork(struct worker *w)
{
	static const char *const own[] = { "TRIMTAB_WORKER", "MEMORY_PRESSURE_WATCH",
					   TRIMTAB_PAGE_ENV };
	struct supervisor *s = w->supervisor;
	char *env[ELEMENTS(own) + 2], after[48];
	auto_close int warm_fd = -1;
	size_t n = 0;
	int r;

	if (!s->template || !s->template->ready)
		return -ENOTCONN;
	for (size_t i = 0; i < ELEMENTS(own); i++) {
		const char *value = environment_get(w->slot->env, own[i]);

		if (value)
			env[n++] = (char *)value - strlen(own[i]) - 1;
	}
	warm_fd = refork_offer(w);
	if (warm_fd >= 0) {
		(void)snprintf(after, sizeof(after), "TRIMTAB_REFORK_AFTER=%" PRIi64,
			       s->config->pool_refork_after);
		env[n++] = after;
	}
	env[n] = NULL;

	const struct template_request request = {
		.worker = w->slot->number,
		.output_fd = w->slot->output_fd,
		.leaf_fd = w->leaf ? w->leaf->dir_fd : -1,
		.join = w->leaf && w->leaf->killed,
		.page_fd = w->page.fd,
		.warm_fd = warm_fd,
		.env = env,
	};

	r = template_ask(s->template->fd, &request);
	if (r < 0)
		return r;
	w->forking = true;
	return 0;
}
