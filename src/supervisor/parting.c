/* Before a worker goes: a record of what it was like, and the operator's own look at it.
 *
 * The record (the black box) is made of what is known already and of a few files; it is also made of a
 * worker that died, of what is left to read then. The command of restart.on-recycle runs beside the
 * worker, which serves on until the command has ended or its time is up, and is asked to go then.
 * Nothing here may keep a worker for longer than that, or touch it. */
#include "supervisor/supervisor.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "config/words.h"
#include "kernel/procfs.h"
#include "report/journal.h"
#include "util/cleanup.h"
#include "util/format.h"

/* smaps_rollup takes 12 ms at this size, for which the loop can wait once in a restart. */
#define EXACT_MAX_BYTES (UINT64_C(512) << 20)

/* Finds the program on PATH, as a shell would, and is none. */
#define ENV_PROGRAM "/usr/bin/env"

struct examination {
	struct worker *worker;
	pid_t pid;
	int pidfd;
	struct spawn_report *report;
	sd_event_source *child, *deadline;
};

/* ---- the black box ---- */

static void read_leaf(const struct worker *w, struct journal_black_box *b)
{
	struct cgroup_usage usage;

	b->peak_bytes = UINT64_MAX;
	if (!w->leaf || !w->leaf->memory)
		return;
	if (cgroup_read_usage(w->leaf->dir_fd, &usage) == 0)
		b->file_bytes = usage.file_bytes;
	(void)cgroup_read_u64(w->leaf->dir_fd, "memory.peak", &b->peak_bytes);
}

void worker_black_box(struct worker *w, const char *reason, bool alive)
{
	usec_t now = supervisor_now(w->supervisor);
	struct journal_black_box b = {
		.worker = w->slot->number,
		.pid = w->pid,
		.reason = reason,
		.alive = alive,
		.kept = w->kept_usec > 0,
		.age_usec = usec_sub(now, w->started_usec),
		.n_requests = w->counted ? w->n_requests : UINT64_MAX,
		.limit_bytes = w->limit_bytes,
		.tripwire_bytes = w->tripwire_bytes,
		.n_crossings = w->high_events,
		.stalled_ago_usec = w->stall.reported_usec
					    ? usec_sub(now, w->stall.reported_usec)
					    : USEC_NEVER,
		.n_trims = w->trims.n_trims,
		.trim_ago_usec =
			w->trims.at_usec ? usec_sub(now, w->trims.at_usec) : USEC_NEVER,
		.trim_before_bytes = w->trims.before_bytes,
		.trim_after_bytes = w->trims.after_bytes,
	};
	struct proc_usage exact;

	read_leaf(w, &b);
	if (alive)
		observe_worker(w);
	b.usage_bytes = w->usage_bytes; /* of the dead: as last seen */
	if (alive && w->usage_bytes <= EXACT_MAX_BYTES &&
	    proc_usage(w->pid, &exact) == 0) {
		b.rss_bytes = exact.rss_bytes;
		b.pss_bytes = exact.pss_bytes;
		b.private_bytes = exact.private_bytes;
	}
	journal_black_box(&b);
}

/* ---- the operator's command ---- */

struct examination *examination_free(struct examination *e)
{
	if (!e)
		return NULL;
	sd_event_source_disable_unref(e->child);
	sd_event_source_disable_unref(e->deadline);
	e->pidfd = close_fd(e->pidfd);
	e->report = spawn_report_free(e->report);
	free(e);
	return NULL;
}

/* It has a session of its own, so its group has nobody else's processes. Not reaped yet. */
static void kill_command(const struct examination *e)
{
	(void)kill(-e->pid, SIGKILL);
	(void)syscall(SYS_pidfd_send_signal, e->pidfd, SIGKILL, NULL, 0);
}

void examination_abandon(struct worker *w)
{
	if (w->examination)
		kill_command(w->examination); /* on_orphan() reaps it */
	w->examination = examination_free(w->examination);
}

bool examination_is_of(const struct worker *w, pid_t pid)
{
	return w->examination && w->examination->pid == pid;
}

static int on_command_end(sd_event_source *source, const siginfo_t *si, void *userdata)
{
	struct worker *w = ((struct examination *)userdata)->worker;

	(void)source;
	if (si->si_code != CLD_EXITED || si->si_status != 0)
		journal_problem(w->slot->number, 0, "on-recycle for worker %u %s %d",
				w->slot->number,
				si->si_code == CLD_EXITED ? "ended with status"
							  : "was killed by signal",
				si->si_status);
	w->examination = examination_free(w->examination);
	worker_event(w, WORKER_ASKED, HAND_ASKED);
	return 0;
}

static int on_command_late(sd_event_source *source, uint64_t usec, void *userdata)
{
	const struct examination *e = userdata;

	(void)source;
	(void)usec;
	journal_problem(
		e->worker->slot->number, 0,
		"on-recycle for worker %u takes longer than on-recycle-timeout: it is killed",
		e->worker->slot->number);
	kill_command(e);
	return 0;
}

/* Ours, and what it is about. The four entries of *ret_own are the caller's to free. */
static char **command_environment(const struct worker *w, const char *reason,
				  char *own[4])
{
	size_t n = 0;
	char **env;

	while (environ[n])
		n++;
	env = calloc(n + 5, sizeof(*env));
	if (!env ||
	    asprintf(&own[0], "TRIMTAB_POOL=%s", w->supervisor->config->pool_name) < 0 ||
	    asprintf(&own[1], "TRIMTAB_WORKER=%u", w->slot->number) < 0 ||
	    asprintf(&own[2], "TRIMTAB_PID=%d", (int)w->pid) < 0 ||
	    asprintf(&own[3], "TRIMTAB_REASON=%s", reason) < 0) {
		free(env);
		return NULL;
	}
	memcpy(env, environ, n * sizeof(*env));
	memcpy(env + n, own, 4 * sizeof(*env));
	return env;
}

static int run_command(struct examination *e, char **words, size_t n_words,
		       const char *reason)
{
	struct worker *w = e->worker;
	struct supervisor *s = w->supervisor;
	char *own[4] = { NULL };
	char **env = command_environment(w, reason, own),
	     **argv = calloc(n_words + 2, sizeof(*argv));
	struct spawn how = {
		.program = ENV_PROGRAM,
		.argv = argv,
		.env = env,
		.directory = s->config->pool_chdir,
		.leaf_fd = -1,
		.output_fd = w->slot->output_fd,
		.extra_fd = -1,
		.die_with_parent = !s->managed,
		.oom_score_adj = s->oom_score_adj[0] ? s->oom_score_adj : NULL,
		.report = e->report,
	};
	int r = -ENOMEM;

	if (env && argv) {
		argv[0] = (char *)ENV_PROGRAM;
		memcpy(argv + 1, words, n_words * sizeof(*argv));
		r = spawn(&how, &e->pid, &e->pidfd);
	}
	for (size_t i = 0; i < ELEMENTS(own); i++)
		free(own[i]);
	free(env);
	free(argv);
	return r;
}

static int watch_command(struct examination *e)
{
	struct supervisor *s = e->worker->supervisor;
	int r = sd_event_add_child_pidfd(s->event, &e->child, e->pidfd, WEXITED,
					 on_command_end, e);

	if (r < 0)
		kill_command(e);
	else
		supervisor_arm(s, &e->deadline,
			       usec_add(supervisor_now(s),
					s->config->restart_on_recycle_timeout),
			       on_command_late, e);
	return r;
}

static void cleanup_examination(struct examination **e)
{
	(void)examination_free(*e);
}

static void cleanup_words(char ***words)
{
	config_free_words(*words);
}

static int examine(struct worker *w, const char *reason)
{
	CLEANUP(cleanup_examination) struct examination *e = calloc(1, sizeof(*e));
	CLEANUP(cleanup_words) char **words = NULL;
	size_t n = 0;
	int r;

	if (!e)
		return -ENOMEM;
	e->worker = w;
	e->pidfd = -1;
	e->report = spawn_report_new();
	r = e->report ? config_split_words(w->supervisor->config->restart_on_recycle,
					   &words, &n)
		      : -ENOMEM;
	if (r == 0)
		r = run_command(e, words, n, reason);
	if (r == 0)
		r = watch_command(e);
	if (r < 0)
		return r;
	w->examination = TAKE(e);
	return 0;
}

/* ---- both ---- */

void worker_part(struct worker *w, enum reason reason)
{
	int r = -ECANCELED;

	if (w->examination)
		return; /* it will be asked */
	if (w->state == WORKER_SERVING) {
		worker_black_box(w, reason_text(reason), /* alive= */ true);
		if (w->supervisor->config->restart_on_recycle) {
			r = examine(w, reason_text(reason));
			if (r < 0)
				journal_problem(w->slot->number, r,
						"Cannot run on-recycle for worker %u",
						w->slot->number);
		}
	}
	if (r < 0)
		worker_event(w, WORKER_ASKED, HAND_ASKED);
}
