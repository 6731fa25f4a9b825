/* Signals and what they change: the number of workers, the generation, the end of the pool. */
#include "supervisor/supervisor.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>

#include "kernel/procfs.h"
#include "report/journal.h"
#include "report/record.h"
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
	for (struct worker *w = s->workers; w; w = w->next) {
		worker_event(w, WORKER_ASKED, graceful ? HAND_ASKED : HAND_STOP);
		if (!graceful)
			worker_hurry(w);
	}
	supervisor_wake(s);
}

static unsigned queued(const struct supervisor *s)
{
	unsigned sum = 0;

	for (size_t i = 0; i < s->n_sockets; i++) {
		int n = s->sockets[i].inherited ? 0 : socket_queue_length(&s->sockets[i]);

		sum += n > 0 ? (unsigned)n : 0;
	}
	return sum;
}

static int on_queue_look(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct supervisor *s = userdata;

	(void)source;
	(void)usec;
	if (s->phase != PHASE_EMPTYING)
		return 0;
	if (queued(s) == 0 || supervisor_now(s) >= s->stop_deadline_usec || !s->workers)
		ask_everybody(s, /* graceful= */ true);
	else
		supervisor_arm(s, &s->stop_timer, usec_add(supervisor_now(s), QUEUE_LOOK_USEC),
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
		for (size_t i = 0; i < s->n_sockets; i++)
			(void)socket_stop_arrivals(&s->sockets[i]);
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

static bool same_text(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

static bool same_list(const struct config_list *a, const struct config_list *b)
{
	if (a->n != b->n)
		return false;
	for (size_t i = 0; i < a->n; i++)
		if (strcmp(a->items[i], b->items[i]) != 0)
			return false;
	return true;
}

/* What decides the program and its sockets is settled at start. Returns N_KEYS when nothing of
 * that changed. */
static enum config_key fixed_key_changed(const struct config *a, const struct config *b)
{
	if (!same_text(a->pool_name, b->pool_name))
		return KEY_pool_name;
	if (!same_text(a->pool_gunicorn, b->pool_gunicorn))
		return KEY_pool_gunicorn;
	if (!same_text(a->pool_command, b->pool_command))
		return KEY_pool_command;
	if (!same_text(a->pool_python, b->pool_python))
		return KEY_pool_python;
	if (!same_list(&a->pool_bind, &b->pool_bind))
		return KEY_pool_bind;
	return N_KEYS;
}

static bool take_new_config(struct supervisor *s)
{
	auto_config struct config *c = NULL;
	struct config_error err = { "" };
	enum config_key fixed;
	int r = arguments_configure(s->arguments, &c, &err);

	if (r != 0) {
		journal_config(false, r < 0 ? "Out of memory: the old configuration stays" : err.text);
		return false;
	}
	fixed = fixed_key_changed(s->config, c);
	if (fixed != N_KEYS) {
		(void)config_blame(c, fixed, 0, &err,
				   "a change here takes a restart of trimtab; the old "
				   "configuration stays");
		journal_config(false, err.text);
		return false;
	}
	if (c->where[KEY_pool_workers] && c->pool_workers > 0 &&
	    (uint64_t)c->pool_workers <= s->capacity)
		s->target = (unsigned)c->pool_workers;
	if (c->where[KEY_restart_graceful_timeout])
		s->launch->graceful_usec = c->restart_graceful_timeout;
	config_free(s->config);
	s->config = TAKE(c);
	return true;
}

/* Marks what is beyond the target as surplus and brings in what is missing. */
static void fit_target(struct supervisor *s)
{
	while (s->n_slots < s->target && setup_slot(s, &s->slots[s->n_slots]) == 0)
		s->n_slots++;
	for (unsigned i = 0; i < s->n_slots; i++) {
		s->slots[i].retire = i >= s->target;
		if (s->slots[i].retire)
			answer_recycle(&s->slots[i], "it is one too many now, and goes for good");
	}
	s->limits_read_usec = 0; /* shares have changed */
	supervisor_wake(s);
}

void reload_done(struct supervisor *s, const char *error)
{
	if (error) {
		char text[160];

		(void)snprintf(text, sizeof(text), "The reload failed, %s: the old workers go on",
			       error);
		journal_config(false, text);
	} else {
		(void)setup_pidfile(s); /* gunicorn writes it anew, should somebody have removed it */
		s->generation++;
		fit_target(s);
		for (unsigned i = 0; i < s->n_slots; i++) {
			s->slots[i].wish = WISH_RELOAD;
			(void)setup_environment(&s->slots[i]);
		}
		journal_pool("reloading", "Reloading: the workers of %s are replaced one by one",
			     s->config->pool_name);
	}
	record_notify_manager("READY=1");
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
	record_notify_manager("RELOADING=1\nMONOTONIC_USEC=%" PRIu64, time_now_usec());
	if (!take_new_config(s)) {
		record_notify_manager("READY=1");
		return;
	}
	if (!s->template) {
		reload_done(s, NULL);
		return;
	}
	r = template_renew(s);
	if (r < 0)
		reload_done(s, strerrordesc_np(-r));
}

/* ---- signals ---- */

static void scale(struct supervisor *s, int by)
{
	unsigned before = s->target, target = by > 0 ? before + 1 : before - 1;

	if (target == 0 || target > s->capacity) {
		journal_problem(0, 0, "The pool keeps its %u workers: %s", s->target,
				target == 0 ? "one is the least"
					    : "there is no room for more; restart trimtab with a "
					      "larger [pool] workers");
		return;
	}
	s->target = target;
	fit_target(s);
	template_scaled(s, before);
	journal_pool("scaled", "The pool %s now keeps %u workers", s->config->pool_name, s->target);
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

static int on_signal(sd_event_source *source, const struct signalfd_siginfo *si, void *userdata)
{
	struct supervisor *s = userdata;
	const char *why;

	(void)source;
	journal_pool("signal", "Handling signal: SIG%s from process %d of user %d",
		     sigabbrev_np((int)si->ssi_signo), (int)si->ssi_pid, (int)si->ssi_uid);
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
