/* The crew: worker processes from spawn to exit, driven by the lifecycle table. When a worker
 * starts or goes on a plan is the policy's word; when it must go at once (boot timeout, silence,
 * the end of its drain) is decided here by its own timers. */
#include "supervisor/supervisor.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel/procfs.h"
#include "process/environment.h"
#include "process/notify.h"
#include "process/spawn.h"
#include "report/journal.h"
#include "report/record.h"
#include "util/cleanup.h"

/* gunicorn's master looks at its workers once a second, and its gthread workers beat no more often
 * than that: exactly at their timeout they are not silent yet. */
#define GUNICORN_LOOK_USEC USEC_PER_SEC

/* How often to look whether a child that is late has become its program: exec has no event. */
#define PROGRAM_LOOK_USEC (100 * USEC_PER_MSEC)

/* Messages taken from the notification socket in one turn of the loop. */
#define NOTIFY_BATCH 64

/* ---- signals and limits ---- */

void worker_send_signal(const struct worker *w, int signal_number)
{
	/* By pidfd: the number may belong to somebody else by now. */
	(void)syscall(SYS_pidfd_send_signal, w->pidfd, signal_number, NULL, 0);
}

static void kill_everything(const struct worker *w)
{
	if (w->forking) {
		/* It comes no more: with the template's end, or with its late word, it is ended. */
		template_give_up(w->supervisor);
		return;
	}
	if (w->leaf && leaf_kill(w->leaf) >= 0)
		return;
	/* Its session is its own, so its group has nobody else's processes. It is not reaped yet. */
	(void)kill(-w->pid, SIGKILL);
	worker_send_signal(w, SIGKILL);
}

/* A worker that is throttled at its tripwire would take seconds to see SIGTERM. */
static void make_room_to_leave(struct worker *w)
{
	uint64_t charged;

	if (w->leaf && w->leaf->memory &&
	    cgroup_read_u64(w->leaf->dir_fd, "memory.current", &charged) == 0)
		set_tripwire(w, policy_parting_tripwire(charged, w->limit_bytes));
}

/* ---- the lifecycle ---- */

static int on_deadline(sd_event_source *source, uint64_t usec, void *userdata);
static int on_silence(sd_event_source *source, uint64_t usec, void *userdata);

static void arm_deadline(struct worker *w, usec_t in_usec)
{
	usec_t now = supervisor_now(w->supervisor);

	supervisor_arm(w->supervisor, &w->deadline, usec_add(now, in_usec), on_deadline,
		       w);
}

static void arm_silence(struct worker *w)
{
	struct supervisor *s = w->supervisor;
	usec_t patience = w->watchdog_usec ? w->watchdog_usec : s->launch->watchdog_usec;

	if (patience > 0 && s->launch->gunicorn)
		patience = usec_add(patience, GUNICORN_LOOK_USEC);
	if (patience > 0)
		supervisor_arm(s, &w->silence, usec_add(supervisor_now(s), patience),
			       on_silence, w);
}

static void announce_first_ready(struct supervisor *s)
{
	if (s->phase != PHASE_STARTING)
		return;
	s->phase = PHASE_RUNNING;
	record_notify_manager("READY=1");
	journal_pool("ready", "The pool %s serves", s->config->pool_name);
}

/* The worker takes its slot over; whoever was there is asked to go. */
static void serve(struct worker *w)
{
	struct supervisor *s = w->supervisor;
	struct slot *slot = w->slot;
	struct worker *old = slot->worker;

	w->ready_usec = supervisor_now(s);
	slot->worker = w;
	slot->incoming = NULL;
	slot->planned_usec = USEC_NEVER;
	if (w->generation == s->generation || slot->wish != WISH_RELOAD)
		slot->wish = WISH_NONE;
	supervisor_arm(s, &w->deadline, USEC_NEVER, NULL, NULL);
	arm_silence(w);
	observe_worker(w);
	policy_note_ready(s->policy, slot->number - 1, w->ready_usec, w->usage_bytes);
	journal_worker_ready(slot->number, w->pid,
			     usec_sub(w->ready_usec, w->started_usec), w->usage_bytes);
	trim_look(w);
	announce_first_ready(s);
	answer_recycle(slot, NULL);
	if (old)
		worker_part(old, slot->start_reason);
}

void worker_event(struct worker *w, enum worker_event event, enum our_hand hand)
{
	const struct transition *t = &lifecycle[w->state][event];

	if (t->next == WORKER_NONE)
		return;
	w->state = t->next;
	if (hand != HAND_NONE)
		w->hand = hand;
	supervisor_wake(w->supervisor);

	switch (t->step) {
	case STEP_NONE:
		break;
	case STEP_SERVE:
		serve(w);
		break;
	case STEP_TERM:
		w->asked_usec = supervisor_now(w->supervisor);
		supervisor_arm(w->supervisor, &w->silence, USEC_NEVER, NULL, NULL);
		make_room_to_leave(w);
		if (quarantine_is_of(w))
			worker_send_signal(w, SIGWINCH); /* stay behind */
		worker_send_signal(w, SIGTERM);
		arm_deadline(w, w->supervisor->launch->graceful_usec);
		break;
	case STEP_KEEP:
		arm_deadline(w, w->supervisor->quarantine.keep_usec);
		quarantine_keep(w);
		break;
	case STEP_END:
		quarantine_ends(w);
		worker_send_signal(w, SIGTERM);
		arm_deadline(w, w->supervisor->launch->graceful_usec);
		break;
	case STEP_ABORT:
		if (w->forking)
			template_give_up(w->supervisor);
		worker_send_signal(w, SIGABRT);
		arm_deadline(w, w->supervisor->config->restart_abort_grace);
		break;
	case STEP_KILL:
		supervisor_arm(w->supervisor, &w->deadline, USEC_NEVER, NULL, NULL);
		kill_everything(w);
		break;
	}
}

/* On a busy machine, or where its directory has to be waited for, ready-after may be shorter than it
 * takes until the child is its program. */
static bool is_its_program(const struct worker *w)
{
	bool forked_only = false;

	return proc_forked_only(w->pid, &forked_only) != 0 || !forked_only;
}

static int on_deadline(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct worker *w = userdata;
	struct supervisor *s = w->supervisor;

	(void)source;
	(void)usec;
	if (w->state == WORKER_BOOTING && !s->launch->gunicorn && is_its_program(w))
		/* It stayed alive: good enough. */
		worker_event(w, WORKER_IS_READY, HAND_NONE);
	else if (w->state == WORKER_BOOTING && !s->launch->gunicorn &&
		 usec_add(w->started_usec, s->config->restart_boot_timeout) >
			 supervisor_now(s))
		arm_deadline(w, PROGRAM_LOOK_USEC);
	else if (w->state == WORKER_BOOTING)
		worker_event(w, WORKER_TIMEOUT, HAND_BOOT_TIMEOUT);
	else if (w->state == WORKER_DRAINING && quarantine_is_of(w))
		worker_event(w, WORKER_STAYS, HAND_NONE);
	else if (w->state == WORKER_DRAINING)
		worker_event(w, WORKER_TIMEOUT, HAND_DRAIN_TIMEOUT);
	else if (w->state == WORKER_ENDING)
		worker_event(w, WORKER_TIMEOUT, HAND_STOP);
	else
		worker_event(w, WORKER_TIMEOUT, HAND_NONE);
	return 0;
}

void worker_hurry(struct worker *w)
{
	usec_t patience = w->supervisor->launch->graceful_usec, until = USEC_NEVER;
	usec_t now = supervisor_now(w->supervisor);

	worker_send_signal(w, SIGINT);
	/* It may have been asked long ago, when there was more time. */
	if ((w->state == WORKER_DRAINING || w->state == WORKER_ENDING) && w->deadline &&
	    sd_event_source_get_time(w->deadline, &until) >= 0 &&
	    until > usec_add(now, patience))
		arm_deadline(w, patience);
}

static int on_silence(sd_event_source *source, uint64_t usec, void *userdata)
{
	(void)source;
	(void)usec;
	worker_event(userdata, WORKER_SILENT, HAND_WATCHDOG);
	return 0;
}

/* ---- the end ---- */

static uint64_t since(uint64_t now, uint64_t base)
{
	return now > base ? now - base : 0; /* a counter that fell was recreated */
}

static uint64_t pool_oom_count(const struct supervisor *s)
{
	struct cgroup_events events;

	return s->memory && cgroup_read_local_events(s->root.dir_fd, &events) == 0
		       ? events.oom
		       : 0;
}

static struct death examine(struct worker *w, const siginfo_t *si,
			    struct cgroup_events *grown)
{
	struct cgroup_events now = w->base;

	if (w->leaf && w->leaf->memory)
		(void)cgroup_read_local_events(w->leaf->dir_fd, &now);
	*grown = (struct cgroup_events){
		.max = since(now.max, w->base.max),
		.oom = since(now.oom, w->base.oom),
		.oom_kill = since(now.oom_kill, w->base.oom_kill),
	};
	return (struct death){
		.signaled = si->si_code != CLD_EXITED,
		.status = si->si_status,
		.was_ready = w->ready_usec > 0,
		.exec_failed = w->report->step > SPAWN_UNDER_WAY,
		.hand = w->hand,
		.leaf_oom = grown->oom,
		.leaf_oom_kill = grown->oom_kill,
		.pool_oom = since(pool_oom_count(w->supervisor), w->pool_oom_base),
	};
}

static void report_end(struct worker *w, const struct death *d, enum cause cause,
		       const struct cgroup_events *grown)
{
	char sentence[320];
	usec_t now = supervisor_now(w->supervisor);

	cause_sentence(cause, d, sentence, sizeof(sentence));
	if (cause == CAUSE_EXEC_FAILED)
		(void)snprintf(sentence, sizeof(sentence), "%s: %s",
			       spawn_step_text((enum spawn_step)w->report->step),
			       strerrordesc_np(w->report->error));
	else if (cause == CAUSE_BOOT_FAILED && w->status[0]) {
		size_t n = strlen(sentence);

		(void)snprintf(sentence + n, sizeof(sentence) - n, ": %s", w->status);
	}
	journal_worker_exited(&(struct journal_exit){
		.worker = w->slot->number,
		.pid = w->pid,
		.cause = cause_name(cause),
		.sentence = sentence,
		/* Somebody else may have asked it to go, or its reloader: it went as it should. */
		.expected = cause_is_expected(cause) ||
			    (cause == CAUSE_EXITED && d->status == 0),
		.status = d->status,
		.age_usec = usec_sub(now, w->started_usec),
		.usage_bytes = w->usage_bytes,
		.n_oom = grown->oom,
		.n_oom_kill = grown->oom_kill,
		.n_max = grown->max,
	});
}

static void tell_policy(struct worker *w, enum cause cause)
{
	struct supervisor *s = w->supervisor;
	uint32_t index = w->slot->number - 1;
	usec_t now = supervisor_now(s);

	if (w->kept_usec > 0)
		return; /* it has been told that this one drained, when it had */
	if (w->asked_usec > 0)
		policy_note_drained(s->policy, index, now, usec_sub(now, w->asked_usec));
	else if (w->ready_usec == 0)
		policy_note_boot_failed(s->policy, index, now);
	else
		policy_note_crashed(s->policy, index, now,
				    cause == CAUSE_OOM_WORKER ||
					    cause == CAUSE_OOM_POOL ||
					    cause == CAUSE_OOM_HOST);
}

/* A pool whose application has never loaded will not load at the next try either: as gunicorn,
 * end with the worker's status instead of trying for ever. */
static void give_up_if_hopeless(struct supervisor *s, enum cause cause,
				const struct death *d)
{
	bool hopeless =
		cause == CAUSE_EXEC_FAILED ||
		(cause == CAUSE_BOOT_FAILED && s->launch->gunicorn && !d->signaled &&
		 (d->status == 1 || d->status == 3 || d->status == 4));

	if (s->phase != PHASE_STARTING || !hopeless)
		return;
	s->exit_status = d->status;
	stop(s, /* graceful= */ false, "the first worker could not start");
}

/* Whoever waits for it is told; a quarantine that it was to begin is off. */
static void replacement_failed(struct slot *slot, const char *why)
{
	answer_recycle(slot, why);
	if (slot->worker && slot->worker->state == WORKER_SERVING)
		quarantine_cancel(slot->worker, why);
}

static int on_child_exit(sd_event_source *source, const siginfo_t *si, void *userdata)
{
	struct worker *w = userdata;
	struct supervisor *s = w->supervisor;
	struct slot *slot = w->slot;
	struct cgroup_events grown;
	struct death d = examine(w, si, &grown);
	enum cause cause = cause_of(&d);

	(void)source;
	report_end(w, &d, cause, &grown);
	if (!cause_is_expected(cause))
		worker_black_box(w, cause_name(cause), /* alive= */ false);
	template_worker_ended(w, d.signaled ? -d.status : d.status);
	if (w->report->step == SPAWN_UNBORN)
		spawn_distrust_clone3();
	trim_forget(w);
	tell_policy(w, cause);
	quarantine_gone(w);
	if (!w->leaf)
		/* Children that outlive it; it is not reaped yet. */
		(void)kill(-w->pid, SIGKILL);
	if (slot->incoming == w) {
		slot->incoming = NULL;
		if (!slot->worker || w->asked_usec == 0)
			replacement_failed(slot, "the replacement did not become ready");
	}
	if (slot->worker == w)
		slot->worker = NULL;
	give_up_if_hopeless(s, cause, &d);
	worker_free(w);
	supervisor_wake(s);
	return 0;
}

void worker_free(struct worker *w)
{
	struct supervisor *s = w->supervisor;

	for (struct worker **p = &s->workers; *p; p = &(*p)->next)
		if (*p == w) {
			*p = w->next;
			break;
		}
	examination_abandon(w);
	refork_withdraw(w);
	sd_event_source_disable_unref(w->child);
	sd_event_source_disable_unref(w->deadline);
	sd_event_source_disable_unref(w->silence);
	sd_event_source_disable_unref(w->events);
	sd_event_source_disable_unref(w->stall.source);
	leaf_release(w->leaf);
	trimpage_done(&w->page);
	w->report = spawn_report_free(w->report);
	w->events_fd = close_fd(w->events_fd);
	w->pidfd = close_fd(w->pidfd);
	free(w);
}

/* ---- the start ---- */

static void prepare_leaf(struct worker *w)
{
	struct supervisor *s = w->supervisor;
	int r;

	if (s->root.dir_fd < 0)
		return;
	r = leaf_take(&s->leaves, w->slot->number, &w->leaf);
	if (r < 0) {
		journal_problem(w->slot->number, r,
				"No cgroup for worker %u: it is not limited",
				w->slot->number);
		return;
	}
	if (!w->leaf->memory)
		return;
	(void)cgroup_read_local_events(w->leaf->dir_fd, &w->base);
	w->pool_oom_base = pool_oom_count(s);
	set_limit(w, s->limits.worker_max_bytes);
}

static void prepare_page(struct worker *w)
{
	struct supervisor *s = w->supervisor;
	enum trimtab_wake wake = s->config->trim_wake == CONFIG_WAKE_FUTEX
					 ? TRIMTAB_WAKE_FUTEX
					 : TRIMTAB_WAKE_SIGNAL;
	int r;

	if (!s->launch->preload)
		return;
	r = trimpage_init(&w->page, s->config->trim_signal, wake);
	if (r < 0)
		journal_problem(w->slot->number, r, "Worker %u cannot be asked to trim",
				w->slot->number);
	else
		environment_set_cookie(w->slot->env, w->page.cookie);
}

static int launch_worker(struct worker *w)
{
	struct supervisor *s = w->supervisor;
	int fds[SPAWN_MAX_LISTEN_FDS];
	struct spawn how = {
		.program = s->launch->program,
		.argv = s->launch->argv,
		.env = w->slot->env,
		.directory = s->config->pool_chdir,
		.leaf_fd = w->leaf ? w->leaf->dir_fd : -1,
		.join = w->leaf && w->leaf->killed,
		.output_fd = w->slot->output_fd,
		.listen_fds = fds,
		.n_listen_fds = s->n_sockets,
		.extra_fd = w->page.fd,
		.page = w->page.page,
		.die_with_parent = !s->managed,
		.oom_score_adj = s->oom_score_adj[0] ? s->oom_score_adj : NULL,
		.report = w->report,
	};

	for (size_t i = 0; i < s->n_sockets; i++)
		fds[i] = s->sockets[i].fd;
	return spawn(&how, &w->pid, &w->pidfd);
}

static int watch_exit(struct worker *w)
{
	int r = sd_event_add_child_pidfd(w->supervisor->event, &w->child, w->pidfd,
					 WEXITED, on_child_exit, w);

	if (r < 0)
		return r;
	return sd_event_source_set_priority(w->child, PRIORITY_CHILD);
}

static usec_t boot_patience(const struct supervisor *s)
{
	/* A program that does not speak sd_notify is taken at its word for staying alive. */
	return s->launch->gunicorn || s->config->restart_ready_after >
					      s->config->restart_boot_timeout
		       ? s->config->restart_boot_timeout
		       : s->config->restart_ready_after;
}

static void cleanup_worker(struct worker **w)
{
	if (*w)
		worker_free(*w);
}

int worker_start(struct slot *slot, enum reason reason)
{
	struct supervisor *s = slot->supervisor;
	CLEANUP(cleanup_worker) struct worker *w = NULL;
	struct worker *started;
	int r;

	if (slot->incoming)
		return -EALREADY;
	w = calloc(1, sizeof(*w));
	if (!w)
		return -ENOMEM;
	*w = (struct worker){
		.supervisor = s,
		.slot = slot,
		.pidfd = -1,
		.events_fd = -1,
		.warm_fd = -1,
		.page = TRIMPAGE_NONE,
		.state = WORKER_BOOTING,
		.generation = s->generation,
		.watchdog_usec = s->launch->watchdog_usec,
		.started_usec = supervisor_now(s),
		.tripwire_bytes = UINT64_MAX,
		.limit_bytes = UINT64_MAX,
	};
	w->report = spawn_report_new();
	if (!w->report)
		return -ENOMEM;
	prepare_leaf(w);
	prepare_page(w);
	r = template_fork(w);
	if (r < 0)
		r = launch_worker(w);
	if (r < 0)
		return r;

	started = TAKE(w);
	started->next = s->workers;
	s->workers = started;
	slot->incoming = started;
	slot->start_reason = reason;
	arm_deadline(started, boot_patience(s));
	policy_note_started(s->policy, slot->number - 1, started->started_usec);
	return started->forking ? 0 : worker_born(started);
}

int worker_born(struct worker *w)
{
	struct slot *slot = w->slot;
	int r = watch_exit(w);

	w->forking = false;
	if (r < 0) {
		journal_problem(slot->number, r, "Cannot watch worker %u: it is killed",
				slot->number);
		kill_everything(w);
		worker_unborn(w, r);
		return r;
	}
	watch_worker(w);
	/* The library of a forked worker may have said hello before anybody knew its pid. */
	w->hello = trimpage_is_live(&w->page);
	journal_worker_started(slot->number, w->pid, w->leaf ? w->leaf->name : NULL,
			       reason_text(slot->start_reason));
	/* It may have been asked to go while it was being made. */
	if (w->state == WORKER_DRAINING)
		worker_send_signal(w, SIGTERM);
	else if (w->state != WORKER_BOOTING)
		kill_everything(w);
	return 0;
}

int worker_resume(struct worker *w, usec_t deadline_usec, usec_t silence_usec)
{
	struct supervisor *s = w->supervisor;
	int r = w->forking ? 0 : watch_exit(w);

	if (r < 0)
		return r;
	watch_worker_again(w);
	supervisor_arm(s, &w->deadline, deadline_usec, on_deadline, w);
	supervisor_arm(s, &w->silence, silence_usec, on_silence, w);
	return 0;
}

void worker_unborn(struct worker *w, int error)
{
	struct supervisor *s = w->supervisor;
	struct slot *slot = w->slot;

	journal_problem(slot->number, error, "Worker %u could not be made", slot->number);
	policy_note_boot_failed(s->policy, slot->number - 1, supervisor_now(s));
	if (slot->incoming == w)
		slot->incoming = NULL;
	if (slot->worker == w)
		slot->worker = NULL;
	replacement_failed(slot, "the replacement could not be made");
	worker_free(w);
	supervisor_wake(s);
}

/* ---- what workers say ---- */

struct worker *worker_of_pid(struct supervisor *s, pid_t pid)
{
	auto_free char *own = NULL, *path = NULL;
	const char *rest;
	size_t n;

	for (struct worker *w = s->workers; w; w = w->next)
		if (w->pid == pid)
			return w;
	/* A child of a worker, such as the program behind a wrapper script: its leaf is beside our
	 * own cgroup, P/supervisor. Both paths are the kernel's word and count from the same root;
	 * root.path is one of the file system. */
	if (s->root.dir_fd < 0 || proc_cgroup(getpid(), &own) != 0 ||
	    proc_cgroup(pid, &path) != 0)
		return NULL;
	n = (size_t)(strrchr(own, '/') + 1 - own);
	if (strncmp(path, own, n) != 0)
		return NULL;
	rest = path + n;
	for (struct worker *w = s->workers; w; w = w->next) {
		size_t length = w->leaf && !w->forking ? strlen(w->leaf->name) : 0;

		if (length > 0 && strncmp(rest, w->leaf->name, length) == 0 &&
		    (rest[length] == '\0' || rest[length] == '/'))
			return w;
	}
	return NULL;
}

static void hear(struct worker *w, const struct notify *n)
{
	if (n->status)
		notify_copy_text(w->status, sizeof(w->status), n->status);
	if (n->counted) {
		w->counted = true;
		w->n_requests = n->n_requests;
	}
	if (n->hello && trimpage_is_live(&w->page)) {
		w->hello = true;
		if (w->state == WORKER_SERVING)
			trim_look(w);
		supervisor_wake(w->supervisor);
	}
	w->stays |= n->stays;
	if (n->ready)
		worker_event(w, WORKER_IS_READY, HAND_NONE);
	if (n->kept)
		quarantine_heard(w);
	if (n->done)
		trim_answered(w);
	if (n->late)
		trim_came_late(w);
	if (n->plain)
		trim_came_plain(w);
	if (n->watchdog && w->state == WORKER_SERVING)
		arm_silence(w);
	if (n->watchdog_trigger)
		worker_event(w, WORKER_SILENT, HAND_WATCHDOG);
	if (n->max_requests && w->slot->worker == w && w->slot->wish == WISH_NONE) {
		w->slot->wish = WISH_REQUESTS;
		supervisor_wake(w->supervisor);
	}
}

int on_notify(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
	struct supervisor *s = userdata;
	char text[4096];
	unsigned n_taken = 0;

	(void)events;
	for (; n_taken < NOTIFY_BATCH; n_taken++) {
		struct notify n;
		struct worker *w;
		pid_t pid;
		ssize_t r = notify_receive(fd, text, sizeof(text), &pid);

		if (r == -EBADMSG)
			continue;
		if (r < 0)
			break;
		notify_parse(text, &n);
		if (template_heard(s, pid, &n))
			continue;
		w = worker_of_pid(s, pid);
		if (w) /* else a stranger, or a worker that has just been reaped */
			hear(w, &n);
	}
	/* A worker that says more than we can hear would have nothing else come to its turn. */
	(void)sd_event_source_set_priority(
		source, n_taken < NOTIFY_BATCH ? PRIORITY_NOTIFY : PRIORITY_FLOOD);
	return 0;
}

static bool is_ours(const struct supervisor *s, pid_t pid)
{
	if ((s->template && s->template->pid == pid) ||
	    (s->heir && s->heir->pid == pid) ||
	    (s->successor && s->successor->pid == pid) || s->upgrade.pid == pid)
		return true;
	for (const struct worker *w = s->workers; w; w = w->next)
		if (w->pid == pid || examination_is_of(w, pid) ||
		    w->forking) /* it might be this one, unknown yet */
			return true;
	return false;
}

/* As subreaper we inherit what workers leave behind. Our own workers are reaped through their
 * pidfds: stop at the first of them, its own callback will look again. What the thread of a reload
 * started is that thread's to reap, hence __WNOTHREAD (wait(2)); orphans go to the main thread. */
int on_orphan(sd_event_source *source, const struct signalfd_siginfo *unused,
	      void *userdata)
{
	struct supervisor *s = userdata;
	siginfo_t si;

	(void)source;
	(void)unused;
	for (;;) {
		si.si_pid = 0;
		if (waitid(P_ALL, 0, &si, WEXITED | WNOHANG | WNOWAIT | __WNOTHREAD) <
			    0 ||
		    si.si_pid == 0 || is_ours(s, si.si_pid))
			return 0;
		(void)waitid(P_PID, (id_t)si.si_pid, &si, WEXITED | WNOHANG);
	}
}
