/* What the kernel tells by itself: crossings of memory.high, stalls (PSI), changes of limits.
 *
 * The first two speak opposite dialects (measured; Documentation says neither): a memory.events
 * descriptor reports every change as EPOLLPRI|EPOLLERR and must be read to be quiet again; a PSI
 * trigger reports EPOLLPRI alone, must not be read, and EPOLLERR means that it died. */
#include "supervisor/supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>

#include "kernel/limitwatch.h"
#include "kernel/psi.h"
#include "report/journal.h"
#include "util/cleanup.h"

/* Kernels have been seen that report stalls without end: this many are believed a second. */
#define PRESSURE_BURST 2

/* Writes a limit of the leaf unless it is what was written last. */
static void write_limit(struct worker *w, const char *file, uint64_t bytes,
			uint64_t *last)
{
	int r;

	if (!w->leaf || !w->leaf->memory || *last == bytes)
		return;
	r = cgroup_write_u64(w->leaf->dir_fd, file, bytes);
	if (r == 0)
		*last = bytes;
	else if (r < 0)
		journal_problem(w->slot->number, r, "Cannot set %s of worker %u", file,
				w->slot->number);
}

void set_tripwire(struct worker *w, uint64_t bytes)
{
	write_limit(w, "memory.high", bytes, &w->tripwire_bytes);
}

void set_limit(struct worker *w, uint64_t bytes)
{
	write_limit(w, "memory.max", bytes, &w->limit_bytes);
}

static void report_raise(const struct worker *w, uint64_t charged, uint64_t was)
{
	bool raised = w->tripwire_bytes > was;

	journal_decision(&(struct journal_decision){
		.worker = w->slot->number,
		.pid = w->pid,
		.action = action_name(ACTION_TRIPWIRE),
		.reason = reason_text(raised ? REASON_CROSSED : REASON_HELD),
		.bytes = w->tripwire_bytes,
		.usage_bytes = charged,
		.limit_bytes = w->limit_bytes,
		.deadline_in_usec = USEC_NEVER,
	});
}

/* First out of the way, then think: a worker above memory.high is slowed at every allocation. */
static void raise_tripwire(struct worker *w)
{
	struct supervisor *s = w->supervisor;
	uint64_t charged, was = w->tripwire_bytes;

	if (cgroup_read_u64(w->leaf->dir_fd, "memory.current", &charged) != 0)
		return;
	if (w->kept_usec > 0)
		quarantine_crossed(w, charged);
	if (w->slot->worker != w)
		return;
	set_tripwire(w, policy_raise_tripwire(s->policy, &s->limits, w->slot->number - 1,
					      supervisor_now(s), charged));
	report_raise(w, charged, was);
}

static int on_memory_event(sd_event_source *source, int fd, uint32_t events,
			   void *userdata)
{
	struct worker *w = userdata;
	struct cgroup_events now;
	int r = cgroup_read_events(fd, &now);

	(void)events;
	if (r != 0) {
		/* The leaf is gone. */
		(void)sd_event_source_set_enabled(source, SD_EVENT_OFF);
		return 0;
	}
	if (now.high > w->high_events) {
		w->high_events = now.high;
		raise_tripwire(w);
	}
	supervisor_wake(w->supervisor);
	return 0;
}

static void add_events(struct worker *w)
{
	int r;

	r = sd_event_add_io(w->supervisor->event, &w->events, w->events_fd, EPOLLPRI,
			    on_memory_event, w);
	if (r >= 0)
		(void)sd_event_source_set_priority(w->events, PRIORITY_MEMORY);
	else
		journal_problem(w->slot->number, r,
				"Cannot watch the memory of worker %u", w->slot->number);
}

static void watch_events(struct worker *w)
{
	struct cgroup_events now;

	if (cgroup_open_events(w->leaf->dir_fd, &w->events_fd) != 0)
		return;
	if (cgroup_read_events(w->events_fd, &now) == 0)
		w->high_events = now.high;
	add_events(w);
}

/* ---- stalls ---- */

/* How long tasks stalled since the last report, or 0 when it is not worth one: the first event of
 * an unprivileged trigger is false on every kernel so far, so the figures are asked too. */
static uint64_t stalled_since(struct stall *stall, uint32_t *ret_avg10)
{
	struct psi psi;
	uint64_t grown;

	if (psi_read_fd(stall->fd, &psi) < 0)
		return 0;
	grown = psi.some_total_usec > stall->total_usec
			? psi.some_total_usec - stall->total_usec
			: 0;
	stall->total_usec = psi.some_total_usec;
	*ret_avg10 = psi.some_avg10_permyriad;
	return grown >= stall->supervisor->config->pressure_some.stall_usec ? grown : 0;
}

/* A worker that is slowed at its tripwire stalls, and its stall is the host's too. What the pool
 * itself accounts for says nothing about anybody else being short of memory. */
static bool is_our_own(struct supervisor *s, uint64_t host_grown)
{
	struct psi psi;
	uint64_t own;

	if (s->root.dir_fd < 0 || psi_read(s->root.dir_fd, "memory.pressure", &psi) < 0)
		return false;
	/* The pool began at zero with its cgroup, so its first report needs no earlier figure. */
	own = psi.some_total_usec - s->own_stall_total_usec;
	s->own_stall_total_usec = psi.some_total_usec;
	return host_grown < own + s->config->pressure_some.stall_usec;
}

static int on_stall(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
	struct stall *stall = userdata;
	struct supervisor *s = stall->supervisor;
	uint32_t avg10 = 0;
	uint64_t grown;

	(void)fd;
	if (events & EPOLLERR) {
		/* Died with its cgroup. */
		(void)sd_event_source_set_enabled(source, SD_EVENT_OFF);
		return 0;
	}
	grown = stalled_since(stall, &avg10);
	if (grown == 0 || (stall == &s->host_stall && is_our_own(s, grown)))
		return 0;
	stall->reported_usec = supervisor_now(s);
	journal_pressure(stall->scope, stall->worker ? stall->worker->slot->number : 0,
			 grown, avg10);
	supervisor_wake(s);
	return 0;
}

/* Leaves *fd at -1 where the kernel offers none. */
static void arm(struct supervisor *s, int dir_fd, const char *file, int *fd)
{
	const struct config_pressure *p = &s->config->pressure_some;
	usec_t window;

	if (p->stall_usec == 0 ||
	    psi_arm(dir_fd, file, p->stall_usec, p->window_usec, fd, &window) < 0)
		*fd = -1;
}

static void add_stall(struct stall *stall)
{
	if (stall->fd < 0)
		return;
	if (sd_event_add_io(stall->supervisor->event, &stall->source, stall->fd, EPOLLPRI,
			    on_stall, stall) < 0)
		return;
	(void)sd_event_source_set_priority(stall->source, PRIORITY_MEMORY);
	(void)sd_event_source_set_ratelimit(stall->source, USEC_PER_SEC, PRESSURE_BURST);
}

static void watch_stall(struct stall *stall)
{
	struct psi psi;

	if (stall->fd >= 0)
		stall->total_usec =
			psi_read_fd(stall->fd, &psi) < 0 ? 0 : psi.some_total_usec;
	add_stall(stall);
}

/* The leaf keeps its trigger from one worker to the next. */
static void arm_leaf(struct supervisor *s, struct leaf *leaf)
{
	const struct config_pressure *p = &s->config->pressure_some;

	if (leaf->pressure_fd >= 0 && leaf->pressure_stall_usec == p->stall_usec &&
	    leaf->pressure_window_usec == p->window_usec)
		return;
	leaf->pressure_fd = close_fd(leaf->pressure_fd);
	leaf->pressure_stall_usec = p->stall_usec;
	leaf->pressure_window_usec = p->window_usec;
	arm(s, leaf->dir_fd, "memory.pressure", &leaf->pressure_fd);
}

void watch_worker(struct worker *w)
{
	if (!w->leaf)
		return;
	if (w->leaf->memory)
		watch_events(w);
	arm_leaf(w->supervisor, w->leaf);
	w->stall = (struct stall){
		.supervisor = w->supervisor,
		.worker = w,
		.scope = "worker",
		.fd = w->leaf->pressure_fd,
	};
	watch_stall(&w->stall);
}

static int on_limit_change(sd_event_source *source, int fd, uint32_t events,
			   void *userdata)
{
	struct supervisor *s = userdata;

	(void)source;
	(void)events;
	limitwatch_drain(fd);
	s->limits_read_usec = 0;
	supervisor_wake(s);
	return 0;
}

/* Without a watch, limits are still read at any step that comes later than LIMITS_USEC. */
static void watch_limits(struct supervisor *s)
{
	int r;

	if (s->root.dir_fd < 0 || !s->memory)
		return;
	r = limitwatch_open(s->root.dir_fd, &s->limitwatch_fd);
	if (r == -ENOENT)
		return;
	if (r == 0)
		r = sd_event_add_io(s->event, &s->limit_changes, s->limitwatch_fd,
				    EPOLLIN, on_limit_change, s);
	if (r < 0)
		journal_problem(0, r,
				"Cannot watch the limits of the pool: a new one is "
				"followed late");
}

void watch_pool(struct supervisor *s)
{
	s->pool_stall = (struct stall){ .supervisor = s, .scope = "pool", .fd = -1 };
	s->host_stall = (struct stall){ .supervisor = s, .scope = "host", .fd = -1 };
	if (s->root.dir_fd >= 0)
		arm(s, s->root.dir_fd, "memory.pressure", &s->pool_stall.fd);
	arm(s, AT_FDCWD, "/proc/pressure/memory", &s->host_stall.fd);
	watch_stall(&s->pool_stall);
	watch_stall(&s->host_stall);
	watch_limits(s);
}

void unwatch_pool(struct supervisor *s)
{
	s->limit_changes = sd_event_source_disable_unref(s->limit_changes);
	s->limitwatch_fd = close_fd(s->limitwatch_fd);
	s->pool_stall.source = sd_event_source_disable_unref(s->pool_stall.source);
	s->host_stall.source = sd_event_source_disable_unref(s->host_stall.source);
	s->pool_stall.fd = close_fd(s->pool_stall.fd);
	s->host_stall.fd = close_fd(s->host_stall.fd);
}

/* ---- for a supervisor in the place of another ---- */

static void add_again(struct stall *stall, struct supervisor *s, struct worker *w,
		      const char *scope)
{
	stall->supervisor = s;
	stall->worker = w;
	stall->scope = scope;
	add_stall(stall);
}

/* The counts stay what they were, so what happened while nobody looked is news: both files tell of it
 * as soon as they are waited on. */
void watch_worker_again(struct worker *w)
{
	if (w->forking)
		return; /* worker_born() will watch it */
	if (w->events_fd >= 0)
		add_events(w);
	w->stall.fd = w->leaf ? w->leaf->pressure_fd : -1;
	add_again(&w->stall, w->supervisor, w, "worker");
}

void watch_pool_again(struct supervisor *s)
{
	add_again(&s->pool_stall, s, NULL, "pool");
	add_again(&s->host_stall, s, NULL, "host");
	watch_limits(s);
}
