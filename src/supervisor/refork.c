/* Refork: a worker that has answered enough requests forks the next template, so that later workers
 * share what it has loaded and learned since. Once for each time that the application was loaded.
 *
 * The worker is asked, between two requests, for a fork; it goes on serving whatever becomes of its
 * child, and the present template serves on until that child is ready. What goes wrong on the way is
 * told in one record, changes nothing, and is not tried again before a reload. */
#include "supervisor/supervisor.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "process/spawn.h"
#include "process/template.h"
#include "report/journal.h"
#include "util/cleanup.h"
#include "util/format.h"

/* ---- workers that may be asked ---- */

static bool is_wanted(const struct supervisor *s)
{
	return s->config->pool_refork_after > 0 && s->template && !s->template->warm &&
	       !s->refork_given_up;
}

void refork_withdraw(struct worker *w)
{
	w->warmth = sd_event_source_disable_unref(w->warmth);
	w->warm_fd = close_fd(w->warm_fd);
}

static void withdraw_all(struct supervisor *s)
{
	for (struct worker *w = s->workers; w; w = w->next)
		refork_withdraw(w);
}

/* ---- nothing comes of it ---- */

void refork_forget(struct supervisor *s)
{
	struct template *t = s->heir;

	s->heir = NULL;
	if (t && t->pid > 0)
		template_kill(t); /* its exit is reaped as an orphan's */
	(void)template_free(t);
}

void refork_reset(struct supervisor *s)
{
	refork_forget(s);
	withdraw_all(s);
	s->refork_given_up = false;
}

static void give_up(struct supervisor *s, unsigned number, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static void give_up(struct supervisor *s, unsigned number, const char *format, ...)
{
	char why[256];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(why, sizeof(why), format, args);
	va_end(args);
	journal_problem(number, 0,
			"No template is made of worker %u, nor of another one before a "
			"reload: %s",
			number, why);
	refork_reset(s);
	s->refork_given_up = true;
}

/* ---- whether a worker is warm ---- */

static int on_warmth(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
	struct worker *w = userdata;
	struct template_answer a;
	int r = template_hear(fd, &a);

	(void)source;
	(void)events;
	if (r > 0 && a.word == TEMPLATE_WARM) {
		w->warm = true;
		supervisor_wake(w->supervisor);
	} else if (r > 0 && a.word == TEMPLATE_REFUSED) {
		give_up(w->supervisor, w->slot->number, "%s", a.why);
	} else if (r != 0) {
		refork_withdraw(w); /* it ends, or speaks out of turn */
	}
	return 0;
}

int refork_watch(struct worker *w)
{
	int r = sd_event_add_io(w->supervisor->event, &w->warmth, w->warm_fd, EPOLLIN,
				on_warmth, w);

	return r < 0 ? r : 0;
}

int refork_offer(struct worker *w)
{
	auto_close int theirs = -1;

	if (!is_wanted(w->supervisor) || template_pair(&w->warm_fd, &theirs) < 0)
		return -1;
	if (refork_watch(w) < 0) {
		refork_withdraw(w);
		return -1;
	}
	return TAKE_FD(theirs);
}

/* ---- the heir: from the request until it is the template ---- */

static int on_heir_late(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct supervisor *s = userdata;

	(void)source;
	(void)usec;
	give_up(s, s->heir->origin, "the process that it forked is not ready in time");
	return 0;
}

static int on_heir_exit(sd_event_source *source, const siginfo_t *si, void *userdata)
{
	struct supervisor *s = userdata;

	(void)source;
	give_up(s, s->heir->origin, "the process that it forked %s %d",
		si->si_code == CLD_EXITED ? "exited with status" : "died of signal",
		si->si_status);
	return 0;
}

static struct worker *find_origin(const struct template *heir)
{
	for (struct worker *w = heir->supervisor->workers; w; w = w->next)
		if (w->pid == heir->origin_pid)
			return w;
	return NULL;
}

/* A child of ours, as the kernel says, and none that we know as something else. */
static bool is_new_child(const struct supervisor *s, pid_t pid)
{
	for (const struct worker *w = s->workers; w; w = w->next)
		if (w->pid == pid || examination_is_of(w, pid))
			return false;
	return pid != s->upgrade.pid && (!s->template || s->template->pid != pid) &&
	       template_is_child(pid);
}

static int meet(struct template *heir, pid_t pid)
{
	struct supervisor *s = heir->supervisor;
	struct worker *origin = find_origin(heir);
	int r;

	if (heir->pid > 0 || !is_new_child(s, pid))
		return -EBADMSG;
	heir->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (heir->pidfd < 0)
		return -errno;
	heir->pid = pid;
	/* Not from the request on: when the worker looks next is up to its clients. */
	heir->started_usec = supervisor_now(s);
	supervisor_arm(s, &heir->deadline,
		       usec_add(heir->started_usec, s->config->restart_boot_timeout),
		       on_heir_late, s);
	r = sd_event_add_child_pidfd(s->event, &heir->child, heir->pidfd, WEXITED,
				     on_heir_exit, s);
	if (r < 0)
		return r;
	(void)sd_event_source_set_priority(heir->child, PRIORITY_CHILD);
	if (origin && origin->leaf)
		origin->leaf->spent = true;
	return 0;
}

/* It will not look any more whether it is wanted. */
static bool is_leaving(const struct worker *w)
{
	return w && (w->state == WORKER_DRAINING || w->state == WORKER_KEPT ||
		     w->state == WORKER_ENDING);
}

static int on_heir_answer(sd_event_source *source, int fd, uint32_t events,
			  void *userdata)
{
	struct supervisor *s = userdata;
	struct template *heir = s->heir;
	struct template_answer a;
	int r = template_hear(fd, &a);

	(void)events;
	if (r == -EPIPE && heir->pid > 0) {
		/* Its exit says more; one that lives on will be late. */
		(void)sd_event_source_set_enabled(source, SD_EVENT_OFF);
		return 0;
	}
	if (r > 0)
		switch (a.word) {
		case TEMPLATE_PROMOTED:
			r = meet(heir, a.pid);
			break;
		case TEMPLATE_READY:
			r = heir->pid > 0 ? 0 : -EBADMSG;
			heir->ready = heir->served = r == 0;
			supervisor_wake(s);
			break;
		case TEMPLATE_REFUSED:
			give_up(s, s->heir->origin, "%s", a.why);
			return 0;
		case TEMPLATE_WARM:
		case TEMPLATE_FORKED:
		case TEMPLATE_FAILED:
			r = -EBADMSG;
			break;
		}
	if (r == -EPIPE && is_leaving(find_origin(heir)))
		refork_forget(s); /* another one will do */
	else if (r == -EPIPE)
		give_up(s, s->heir->origin, "it has ended, or has hung up");
	else if (r < 0)
		give_up(s, s->heir->origin, "%s", strerrordesc_np(-r));
	return 0;
}

static int ask(struct worker *w, struct template *heir)
{
	struct supervisor *s = w->supervisor;
	int r = heir->report ? 0 : -ENOMEM;

	if (r == 0)
		r = sd_event_add_io(s->event, &heir->answers, heir->fd, EPOLLIN,
				    on_heir_answer, s);
	if (r < 0)
		return r;
	(void)sd_event_source_set_priority(heir->answers, PRIORITY_NOTIFY - 1);
	heir->report->step = SPAWN_UNDER_WAY;
	return template_promote(heir->fd, s->template_output_fd,
				s->template_leaf ? s->template_leaf->dir_fd : -1);
}

static void begin(struct worker *w)
{
	struct supervisor *s = w->supervisor;
	struct template *heir = calloc(1, sizeof(*heir));
	int r;

	if (!heir)
		return;
	w->warmth = sd_event_source_disable_unref(w->warmth);
	*heir = (struct template){
		.supervisor = s,
		.pidfd = -1,
		.fd = TAKE_FD(w->warm_fd),
		.warm = true,
		.origin = w->slot->number,
		.origin_pid = w->pid,
		.report = spawn_report_new(),
	};
	s->heir = heir;
	r = ask(w, heir);
	if (r < 0)
		give_up(s, s->heir->origin, "%s", strerrordesc_np(-r));
}

/* The worker is replaced as soon as the plan allows: it shares the least with what comes, and its
 * leaf is charged for pages that are everybody's. */
static void part_with_origin(const struct template *t)
{
	struct worker *w = find_origin(t);

	if (w && w->slot->worker == w && w->slot->wish == WISH_NONE)
		w->slot->wish = WISH_REFORK;
}

static void inherit(struct supervisor *s)
{
	struct template *t = s->heir, *old = s->template;
	int r;

	t->child = sd_event_source_disable_unref(t->child);
	t->answers = sd_event_source_disable_unref(t->answers);
	t->deadline = sd_event_source_disable_unref(t->deadline);
	r = template_watch(t, USEC_NEVER);
	if (r < 0) {
		give_up(s, s->heir->origin, "%s", strerrordesc_np(-r));
		return;
	}
	s->heir = NULL;
	s->template = t;
	if (old)
		template_kill(old); /* as above */
	(void)template_free(old);
	s->template_failures = 0;
	supervisor_arm(s, &s->template_retry, USEC_NEVER, NULL, NULL);
	withdraw_all(s);
	part_with_origin(t);
	journal_pool(
		"template",
		"The template (pid %d) is ready after %s: a child of worker %u (pid %d), "
		"which had answered %" PRIi64 " requests",
		(int)t->pid, format_usec(usec_sub(supervisor_now(s), t->started_usec)).s,
		t->origin, (int)t->origin_pid, s->config->pool_refork_after);
}

/* ---- when ---- */

static bool is_forking(const struct supervisor *s)
{
	for (const struct worker *w = s->workers; w; w = w->next)
		if (w->forking)
			return true;
	return false;
}

static bool may_begin(const struct supervisor *s)
{
	return is_wanted(s) && s->phase == PHASE_RUNNING && !s->relaunch && !s->pending &&
	       !s->successor && s->upgrade.pid == 0;
}

void refork_consider(struct supervisor *s)
{
	if (s->heir) {
		/* What the old one was asked for is not to be lost with it. */
		if (s->heir->ready && !is_forking(s))
			inherit(s);
		else if (s->heir->pid == 0 && is_leaving(find_origin(s->heir)))
			refork_forget(s);
		return;
	}
	if (!may_begin(s))
		return;
	for (struct worker *w = s->workers; w; w = w->next)
		if (w->warm && w->warm_fd >= 0 && w->slot->worker == w &&
		    w->state == WORKER_SERVING && w->generation == s->generation) {
			begin(w);
			return;
		}
}
