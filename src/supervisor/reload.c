/* Signals and what they change: the number of workers, the generation, the end of the pool. */
#include "supervisor/supervisor.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "kernel/procfs.h"
#include "report/journal.h"
#include "report/record.h"
#include "supervisor/limits.h"
#include "supervisor/relaunch.h"
#include "util/cleanup.h"

/* How often the queue is looked at while it is served to the end: the kernel has no event for an
 * accept queue that became empty. Bounded by graceful-timeout. */
#define QUEUE_LOOK_USEC (10 * USEC_PER_MSEC)

/* A quick stop gives workers this long. */
#define QUICK_USEC (5 * USEC_PER_SEC)

/* ---- the end ---- */

void stop_if_empty(struct supervisor *s)
{
	if (s->phase != PHASE_STOPPING || s->workers)
		return;
	if (s->template) {
		template_end(s);
		return;
	}
	journal_pool("stopped", "The pool %s has stopped", s->config->pool_name);
	if (s->stop_client) {
		struct control_client *client = TAKE(s->stop_client);

		control_reply(client, control_ok());
	}
	(void)sd_event_exit(s->event, 0);
}

static void ask_everybody(struct supervisor *s, bool graceful)
{
	s->phase = PHASE_STOPPING;
	template_dismiss(s);
	if (!graceful && s->launch->graceful_usec > QUICK_USEC)
		s->launch->graceful_usec = QUICK_USEC;
	if (s->quarantine.worker)
		quarantine_cancel(s->quarantine.worker, "the pool stops");
	for (struct worker *w = s->workers; w; w = w->next) {
		worker_event(w, WORKER_ASKED, graceful ? HAND_ASKED : HAND_STOP);
		if (!graceful)
			worker_hurry(w);
	}
	supervisor_wake(s);
}

static int on_queue_look(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct supervisor *s = userdata;

	(void)source;
	(void)usec;
	if (s->phase != PHASE_EMPTYING)
		return 0;
	if (listeners_queued(s) == 0 || supervisor_now(s) >= s->stop_deadline_usec ||
	    !s->workers)
		ask_everybody(s, /* graceful= */ true);
	else
		supervisor_arm(s, &s->stop_timer,
			       usec_add(supervisor_now(s), QUEUE_LOOK_USEC),
			       on_queue_look, s);
	return 0;
}

void stop(struct supervisor *s, bool graceful, const char *why)
{
	if (s->phase == PHASE_STOPPING && graceful)
		return;
	if (s->phase != PHASE_EMPTYING && s->phase != PHASE_STOPPING) {
		upgrade_forget(s);
		journal_pool("stopping", "The pool %s stops%s: %s", s->config->pool_name,
			     graceful ? "" : " at once", why);
		record_notify_manager("STOPPING=1");
		reload_forget(s, /* wait= */ false);
		listeners_quiet(s);
	}
	if (!graceful) {
		ask_everybody(s, false);
		return;
	}
	if (s->phase == PHASE_EMPTYING)
		return;
	s->phase = PHASE_EMPTYING;
	s->stop_deadline_usec = usec_add(supervisor_now(s), s->launch->graceful_usec);
	supervisor_arm(s, &s->stop_timer, supervisor_now(s), on_queue_look, s);
}

/* ---- reload ---- */

static void outfit_free(const struct supervisor *s, struct outfit *o)
{
	if (!o)
		return;
	listeners_drop(s, o);
	(void)launch_free(o->launch);
	config_free(o->config);
	free(o);
}

void reload_forget(struct supervisor *s, bool wait)
{
	s->relaunch_done = sd_event_source_disable_unref(s->relaunch_done);
	s->relaunch = relaunch_cancel(s->relaunch, wait);
	template_forget_successor(s);
	refork_forget(s);
	outfit_free(s, TAKE(s->pending));
}

/* A limit too small for the workers that there are is taken when it was so before: a reload for
 * something else must go through. Returns 0 or CONFIG_BAD. */
static int check_footprint(const struct supervisor *s, const struct config *c,
			   const struct launch *l, unsigned n_workers,
			   struct config_error *err)
{
	struct contradiction found[N_INFEASIBILITIES];
	struct pool_outlook k;
	struct limits limits;
	size_t n;

	limits_resolve(c, l, s->root.dir_fd, n_workers, s->memory, &limits);
	if (limits.worker_max_bytes >= s->limits.worker_max_bytes)
		return 0;
	policy_pool_outlook(s->policy, &k);
	n = limits_contradictions(c, &limits, n_workers, USEC_NEVER, k.footprint_bytes,
				  found);
	for (size_t i = 0; i < n; i++)
		if (found[i].what == INFEASIBLE_FOOTPRINT) {
			*err = found[i].message;
			return CONFIG_BAD;
		}
	return 0;
}

/* What a reload cannot bring, and must not be taken for having brought. */
static int check_outfit(const struct supervisor *s, const struct outfit *o,
			struct config_error *err)
{
	const struct config *c = o->config;

	if (!config_same(s->config, c, KEY_pool_name))
		return config_blame(c, KEY_pool_name, 0, err,
				    "a change here takes a restart of trimtab");
	if (o->launch->gunicorn != s->launch->gunicorn)
		return config_blame(
			c, o->launch->gunicorn ? KEY_pool_gunicorn : KEY_pool_command, 0,
			err, "a change from one to the other takes a restart of trimtab");
	if (o->launch->workers > s->capacity)
		return config_blame(
			c, KEY_pool_workers, 0, err,
			"there is room for %u workers; more than that takes a restart of "
			"trimtab",
			s->capacity);
	return check_footprint(s, c, o->launch, o->launch->workers, err);
}

/* What is settled at the start: told by name, the rest is taken. */
static void tell_what_stays(const struct supervisor *s, const struct config *c)
{
	static const enum config_key settled[] = {
		KEY_control_socket,	   KEY_log_target,	 KEY_cgroup_use,
		KEY_pressure_tell_workers, KEY_pool_socket_mode, KEY_pool_socket_user,
		KEY_pool_socket_group,
	};
	char text[320] = "";
	size_t n = 0;

	for (size_t i = 0; i < ELEMENTS(settled) && n < sizeof(text); i++)
		if (!config_same(s->config, c, settled[i]))
			n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%s",
					      n ? ", " : "",
					      config_key_name(settled[i]).text);
	if (n > 0)
		journal_problem(
			0, 0,
			"The new configuration is taken, but for this, which takes a "
			"restart of trimtab (sockets that are new have it): %s",
			text);
}

/* Its workers write and listen there under another name from now on. */
static void change_owner(const struct supervisor *s, const struct launch *l)
{
	char path[128];

	if (l->uid == s->launch->uid && l->gid == s->launch->gid)
		return;
	if (lchown(s->notify_path, l->uid, l->gid) < 0)
		journal_problem(0, -errno, "Cannot give %s to the workers' user",
				s->notify_path);
	for (unsigned i = 0; i < s->n_slots; i++) {
		(void)snprintf(path, sizeof(path), "%s/pressure-%u", s->runtime,
			       s->slots[i].number);
		if (s->slots[i].bell && lchown(path, l->uid, l->gid) < 0)
			journal_problem(0, -errno, "Cannot give %s to the workers' user",
					path);
	}
}

/* Marks what is beyond the target as surplus and brings in what is missing. */
static void fit_target(struct supervisor *s)
{
	while (s->n_slots < s->target && setup_slot(s, &s->slots[s->n_slots]) == 0)
		s->n_slots++;
	for (unsigned i = 0; i < s->n_slots; i++) {
		s->slots[i].retire = i >= s->target;
		if (s->slots[i].retire)
			answer_recycle(&s->slots[i],
				       "it is one too many now, and goes for good");
	}
	s->limits_read_usec = 0; /* shares have changed */
	supervisor_wake(s);
}

/* With another threshold. */
static void rewatch_pool(struct supervisor *s)
{
	unwatch_pool(s);
	watch_pool(s);
}

/* gunicorn writes it anew, should somebody have removed it; the name may be another one. */
static void change_pidfile(struct supervisor *s, const struct launch *old)
{
	const char *now = s->launch->pidfile;

	if (old->pidfile && (!now || strcmp(old->pidfile, now) != 0))
		remove_pidfile(s, old);
	(void)setup_pidfile(s);
}

/* From here on everything is made with what was pending. */
static int commit(struct supervisor *s)
{
	struct outfit *o = s->pending;
	struct config *old = s->config;
	struct launch *old_launch = s->launch;
	unsigned before = s->target;
	int r = listeners_change(s, o);

	if (r < 0)
		return r;
	tell_what_stays(s, o->config);
	change_owner(s, o->launch);
	s->target = o->launch->workers;
	s->config = TAKE(o->config);
	s->launch = TAKE(o->launch);
	s->pending = NULL;
	free(o);

	record_change(s->config->log_format == CONFIG_LOG_FORMAT_JSON ? RECORD_JSON
								      : RECORD_TEXT,
		      setup_log_priority(s->config));
	if (!config_same(old, s->config, KEY_pressure_some))
		rewatch_pool(s);
	change_pidfile(s, old_launch);
	setup_tell_launch(s);
	config_free(old);
	(void)launch_free(old_launch);
	if (!template_is_wanted(s->launch))
		template_drop(s);
	if (s->target != before)
		template_scaled(s, before);
	return 0;
}

/* Until the first worker is ready we start, whatever is read again meanwhile: that it is will be
 * announce_first_ready()'s word. */
static void tell_ready(const struct supervisor *s)
{
	if (s->phase == PHASE_RUNNING)
		record_notify_manager("READY=1");
}

static void refuse(struct supervisor *s, const char *why)
{
	char text[1200];

	(void)snprintf(text, sizeof(text), "The reload failed, the old workers go on: %s",
		       why);
	journal_config(false, text);
	reload_forget(s, /* wait= */ false);
	tell_ready(s);
	supervisor_wake(s);
}

void reload_done(struct supervisor *s, const char *error)
{
	int r;

	if (error) {
		refuse(s, error);
		return;
	}
	r = commit(s);
	if (r < 0) {
		refuse(s, strerrordesc_np(-r));
		return;
	}
	s->generation++;
	refork_reset(s);
	fit_target(s);
	for (unsigned i = 0; i < s->n_slots; i++) {
		s->slots[i].wish = WISH_RELOAD;
		(void)setup_environment(&s->slots[i]);
	}
	journal_pool(
		"reloading",
		"Reloading: the workers of %s are replaced one by one; %u are wanted",
		s->config->pool_name, s->target);
	tell_ready(s);
}

/* The configuration is known to be good. Its code is tried next, where there is a template. */
static void prepare(struct supervisor *s, struct relaunch_result *found)
{
	struct config_error err = { "" };
	struct outfit *o = calloc(1, sizeof(*o));
	int r = -ENOMEM;

	if (o) {
		*o = (struct outfit){ .config = TAKE(found->config),
				      .launch = TAKE(found->launch) };
		r = check_outfit(s, o, &err);
	}
	if (r == 0)
		r = listeners_gather(s, found, o, &err);
	if (r != 0) {
		outfit_free(s, o);
		refuse(s, err.text[0] ? err.text : strerrordesc_np(-r));
		return;
	}
	s->pending = o;
	if (!template_is_wanted(o->launch)) {
		reload_done(s, NULL);
		return;
	}
	r = template_renew(s);
	if (r < 0)
		reload_done(s, strerrordesc_np(-r));
}

static int on_relaunch(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
	struct supervisor *s = userdata;
	struct relaunch_result found;

	(void)source;
	(void)fd;
	(void)events;
	s->relaunch_done = sd_event_source_disable_unref(s->relaunch_done);
	relaunch_take(TAKE(s->relaunch), &found);
	if (found.r == 0)
		prepare(s, &found);
	else if (found.r == LAUNCH_PRINTED)
		refuse(s, "gunicorn would print something and end, with these arguments");
	else
		refuse(s, found.err.text[0] ? found.err.text : strerrordesc_np(-found.r));
	relaunch_result_done(&found);
	return 0;
}

static int begin(struct supervisor *s)
{
	auto_free struct socket *known = NULL;
	size_t n = 0;
	int r = listeners_known(s, &known, &n);

	if (r == 0)
		r = relaunch_new(s->arguments->argv, known, n, !listeners_are_given(s),
				 &s->relaunch);
	if (r == 0)
		r = sd_event_add_io(s->event, &s->relaunch_done, relaunch_fd(s->relaunch),
				    EPOLLIN, on_relaunch, s);
	return r;
}

void reload(struct supervisor *s)
{
	/* After a package upgrade services are told to reload: that means trimtab itself too. */
	if (!upgrade_is_due(s) || upgrade_begin(s, NULL, /* reload= */ true))
		reload_now(s);
}

void reload_now(struct supervisor *s)
{
	int r;

	if (s->phase != PHASE_STARTING && s->phase != PHASE_RUNNING)
		return;
	if (s->phase == PHASE_RUNNING)
		record_notify_manager("RELOADING=1\nMONOTONIC_USEC=%" PRIu64,
				      time_now_usec());
	/* A reload on a reload: the newest configuration wins. */
	reload_forget(s, /* wait= */ false);
	r = begin(s);
	if (r < 0)
		refuse(s, strerrordesc_np(-r));
}

/* ---- signals ---- */

static void scale(struct supervisor *s, int by)
{
	unsigned before = s->target, target = by > 0 ? before + 1 : before - 1;
	struct config_error err = { "" };

	if (target == 0 || target > s->capacity) {
		journal_problem(
			0, 0, "The pool keeps its %u workers: %s", s->target,
			target == 0 ? "one is the least"
				    : "there is no room for more; restart trimtab with a "
				      "larger [pool] workers");
		return;
	}
	if (by > 0 && check_footprint(s, s->config, s->launch, target, &err) != 0) {
		journal_problem(0, 0, "The pool keeps its %u workers: %s", s->target,
				err.text);
		return;
	}
	s->target = target;
	fit_target(s);
	template_scaled(s, before);
	journal_pool("scaled", "The pool %s now keeps %u workers", s->config->pool_name,
		     s->target);
}

/* gunicorn's convention: reopen log files. Only workers that handle the signal may get it. */
static void pass_on(struct supervisor *s, int signal_number)
{
	for (struct worker *w = s->workers; w; w = w->next) {
		bool catches = false;

		if (proc_catches(w->pid, signal_number, &catches) == 0 && catches)
			worker_send_signal(w, signal_number);
	}
}

static int on_signal(sd_event_source *source, const struct signalfd_siginfo *si,
		     void *userdata)
{
	struct supervisor *s = userdata;
	const char *why;

	(void)source;
	journal_pool("signal", "Handling signal: SIG%s from process %d of user %d",
		     sigabbrev_np((int)si->ssi_signo), (int)si->ssi_pid,
		     (int)si->ssi_uid);
	switch (si->ssi_signo) {
	case SIGTERM:
		stop(s, /* graceful= */ true, "SIGTERM");
		break;
	case SIGINT:
		stop(s, /* graceful= */ false, "SIGINT");
		break;
	case SIGQUIT:
		stop(s, /* graceful= */ false, "SIGQUIT");
		break;
	case SIGHUP:
		reload(s);
		break;
	case SIGTTIN:
		scale(s, +1);
		break;
	case SIGTTOU:
		scale(s, -1);
		break;
	case SIGUSR1:
		pass_on(s, SIGUSR1);
		break;
	case SIGUSR2:
		why = upgrade_begin(s, NULL, /* reload= */ false);
		if (why)
			journal_problem(0, 0, "No upgrade: %s", why);
		break;
	}
	return 0;
}

int watch_signals(struct supervisor *s)
{
	static const int handled[] = { SIGTERM, SIGINT,	 SIGQUIT, SIGHUP,
				       SIGTTIN, SIGTTOU, SIGUSR1, SIGUSR2 };
	sigset_t mask;
	int r;

	sigemptyset(&mask);
	for (size_t i = 0; i < ELEMENTS(handled); i++)
		sigaddset(&mask, handled[i]);
	sigaddset(&mask, SIGCHLD);
	if (sigprocmask(SIG_BLOCK, &mask, NULL) < 0)
		return -errno;
	(void)signal(SIGPIPE, SIG_IGN);
	(void)signal(SIGWINCH, SIG_IGN);
	for (size_t i = 0; i < ELEMENTS(handled); i++) {
		r = sd_event_add_signal(s->event, NULL, handled[i], on_signal, s);
		if (r < 0)
			return r;
	}
	return sd_event_add_signal(s->event, &s->orphans, SIGCHLD, on_orphan, s);
}
