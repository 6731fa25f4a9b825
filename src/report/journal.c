/* The events of the journal, and the only place that begins a record: a new event is a row in
 * events.def, a function here and an entry in packaging/trimtab.catalog. */
#include "report/journal.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>

#include "report/record.h"
#include "util/format.h"

static void add_worker(struct record *r, unsigned worker, pid_t pid)
{
	record_add(r, "TRIMTAB_WORKER=%u", worker);
	record_add(r, "TRIMTAB_PID=%d", (int)pid);
}

void journal_pool(const char *state, const char *format, ...)
{
	char text[512];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args);
	va_end(args);

	struct record *r = record_begin(EVENT_POOL, LOG_INFO, "%s", text);

	record_add(r, "TRIMTAB_STATE=%s", state);
	record_commit(r);
}

void journal_limits(const struct journal_limits *l)
{
	struct record *r = record_begin(
		EVENT_POOL, LOG_INFO,
		"%u workers of at most %s each, trimmed from %s on; budget %s",
		l->workers, format_bytes(l->worker_max_bytes).s,
		format_bytes(l->trim_at_bytes).s, format_bytes(l->budget_bytes).s);

	record_add(r, "TRIMTAB_STATE=limits");
	record_add(r, "TRIMTAB_WORKERS=%u", l->workers);
	record_add(r, "TRIMTAB_WORKER_MAX_BYTES=%" PRIu64, l->worker_max_bytes);
	record_add(r, "TRIMTAB_TRIM_AT_BYTES=%" PRIu64, l->trim_at_bytes);
	record_add(r, "TRIMTAB_BUDGET_BYTES=%" PRIu64, l->budget_bytes);
	record_commit(r);
}

void journal_worker_started(unsigned worker, pid_t pid, const char *leaf,
			    const char *reason)
{
	struct record *r =
		record_begin(EVENT_START, LOG_INFO, "Worker %u started as pid %d: %s",
			     worker, (int)pid, reason);

	add_worker(r, worker, pid);
	record_add(r, "TRIMTAB_REASON=%s", reason);
	if (leaf)
		record_add(r, "TRIMTAB_LEAF=%s", leaf);
	record_commit(r);
}

void journal_worker_ready(unsigned worker, pid_t pid, usec_t boot_usec,
			  uint64_t usage_bytes)
{
	struct record *r = record_begin(
		EVENT_READY, LOG_INFO, "Worker %u (pid %d) is ready after %s, using %s",
		worker, (int)pid, format_usec(boot_usec).s, format_bytes(usage_bytes).s);

	add_worker(r, worker, pid);
	record_add(r, "TRIMTAB_USEC=%" PRIu64, boot_usec);
	record_add(r, "TRIMTAB_USAGE_BYTES=%" PRIu64, usage_bytes);
	record_commit(r);
}

void journal_worker_exited(const struct journal_exit *e)
{
	struct record *r =
		record_begin(EVENT_EXIT, e->expected ? LOG_INFO : LOG_ERR,
			     "Worker %u (pid %d) %s, at the age of %s", e->worker,
			     (int)e->pid, e->sentence, format_usec(e->age_usec).s);

	add_worker(r, e->worker, e->pid);
	record_add(r, "TRIMTAB_CAUSE=%s", e->cause);
	record_add(r, "TRIMTAB_REASON=%s", e->sentence);
	record_add(r, "TRIMTAB_STATUS=%d", e->status);
	record_add(r, "TRIMTAB_USEC=%" PRIu64, e->age_usec);
	record_add(r, "TRIMTAB_USAGE_BYTES=%" PRIu64, e->usage_bytes);
	record_add(r, "TRIMTAB_OOM=%" PRIu64, e->n_oom);
	record_add(r, "TRIMTAB_OOM_KILL=%" PRIu64, e->n_oom_kill);
	record_add(r, "TRIMTAB_MAX=%" PRIu64, e->n_max);
	record_commit(r);
}

/* "; 3 trims, the last 10 min ago: 130.0 MiB -> 90.0 MiB" */
static void say_trims(const struct journal_black_box *b, char *text, size_t size)
{
	if (b->n_trims == 0)
		(void)snprintf(text, size, "; never trimmed");
	else
		(void)snprintf(text, size, "; %u trim%s, the last %s ago: %s -> %s",
			       b->n_trims, b->n_trims == 1 ? "" : "s",
			       format_usec(b->trim_ago_usec).s,
			       format_bytes(b->trim_before_bytes).s,
			       format_bytes(b->trim_after_bytes).s);
}

/* name: with its equals sign. UINT64_MAX is not known, and left out. */
static void add_bytes(struct record *r, const char *name, uint64_t bytes)
{
	if (bytes != UINT64_MAX)
		record_add(r, "%s%" PRIu64, name, bytes);
}

void journal_black_box(const struct journal_black_box *b)
{
	char trims[160], exact[96] = "";

	say_trims(b, trims, sizeof(trims));
	if (b->rss_bytes > 0)
		(void)snprintf(exact, sizeof(exact), ", %s resident, %s private",
			       format_bytes(b->rss_bytes).s,
			       format_bytes(b->private_bytes).s);

	struct record *r = record_begin(
		EVENT_BLACK_BOX, LOG_INFO,
		"Worker %u (pid %d) %s, %s old: %s of %s%s%s%s%s", b->worker, (int)b->pid,
		!b->alive ? "as last seen"
		: b->kept ? "at the end of its quarantine"
			  : "before its restart",
		format_usec(b->age_usec).s, format_bytes(b->usage_bytes).s,
		format_bytes(b->limit_bytes).s, exact, trims, b->reason ? "; " : "",
		b->reason ? b->reason : "");

	add_worker(r, b->worker, b->pid);
	record_add(r, "TRIMTAB_STATE=%s",
		   !b->alive ? "death"
		   : b->kept ? "quarantine"
			     : "restart");
	record_add(r, "TRIMTAB_REASON=%s", b->reason);
	record_add(r, "TRIMTAB_USEC=%" PRIu64, b->age_usec);
	add_bytes(r, "TRIMTAB_USAGE_BYTES=", b->usage_bytes);
	add_bytes(r, "TRIMTAB_LIMIT_BYTES=", b->limit_bytes);
	add_bytes(r, "TRIMTAB_TRIPWIRE_BYTES=", b->tripwire_bytes);
	add_bytes(r, "TRIMTAB_RSS_BYTES=", b->rss_bytes > 0 ? b->rss_bytes : UINT64_MAX);
	add_bytes(r, "TRIMTAB_PSS_BYTES=", b->rss_bytes > 0 ? b->pss_bytes : UINT64_MAX);
	add_bytes(r, "TRIMTAB_PRIVATE_BYTES=",
		  b->rss_bytes > 0 ? b->private_bytes : UINT64_MAX);
	add_bytes(r, "TRIMTAB_FILE_BYTES=", b->file_bytes);
	add_bytes(r, "TRIMTAB_PEAK_BYTES=", b->peak_bytes);
	if (b->n_requests != UINT64_MAX)
		record_add(r, "TRIMTAB_REQUESTS=%" PRIu64, b->n_requests);
	record_add(r, "TRIMTAB_CROSSINGS=%" PRIu64, b->n_crossings);
	if (b->stalled_ago_usec != USEC_NEVER)
		record_add(r, "TRIMTAB_STALLED_AGO_USEC=%" PRIu64, b->stalled_ago_usec);
	record_add(r, "TRIMTAB_TRIMS=%u", b->n_trims);
	if (b->n_trims > 0) {
		record_add(r, "TRIMTAB_TRIM_AGO_USEC=%" PRIu64, b->trim_ago_usec);
		add_bytes(r, "TRIMTAB_BEFORE_BYTES=", b->trim_before_bytes);
		add_bytes(r, "TRIMTAB_AFTER_BYTES=", b->trim_after_bytes);
	}
	record_commit(r);
}

static struct record *begin_quarantine(const struct journal_quarantine *q)
{
	char successor[48] = "";

	if (q->successor > 0)
		(void)snprintf(successor, sizeof(successor),
			       ", pid %d serves in its place", (int)q->successor);
	switch (q->state) {
	case QUARANTINE_REFUSED:
		return record_begin(EVENT_QUARANTINE, LOG_WARNING,
				    "Worker %u (pid %d) does not go into quarantine: %s",
				    q->worker, (int)q->pid, q->reason);
	case QUARANTINE_BEGUN:
		return record_begin(
			EVENT_QUARANTINE, LOG_NOTICE,
			"Worker %u (pid %d) is in quarantine for %s%s%s: gdb -p %d",
			q->worker, (int)q->pid, format_usec(q->usec).s,
			q->drained ? "" : ", with requests that it has not finished",
			successor, (int)q->pid);
	case QUARANTINE_ENDED:
		break;
	}
	return record_begin(EVENT_QUARANTINE, LOG_NOTICE,
			    "The quarantine of worker %u (pid %d) ends after %s: %s",
			    q->worker, (int)q->pid, format_usec(q->usec).s, q->reason);
}

void journal_quarantine(const struct journal_quarantine *q)
{
	static const char *const states[] = {
		[QUARANTINE_REFUSED] = "refused",
		[QUARANTINE_BEGUN] = "begun",
		[QUARANTINE_ENDED] = "ended",
	};
	struct record *r = begin_quarantine(q);

	add_worker(r, q->worker, q->pid);
	record_add(r, "TRIMTAB_STATE=%s", states[q->state]);
	if (q->reason)
		record_add(r, "TRIMTAB_REASON=%s", q->reason);
	if (q->state != QUARANTINE_REFUSED) {
		record_add(r, "TRIMTAB_USEC=%" PRIu64, q->usec);
		record_add(r, "TRIMTAB_USAGE_BYTES=%" PRIu64, q->usage_bytes);
		record_add(r, "TRIMTAB_DRAINED=%d", q->drained);
	}
	record_commit(r);
}

void journal_worker_trimmed(const struct journal_trim *t)
{
	struct record *r = record_begin(
		EVENT_TRIM, LOG_INFO, "Worker %u (pid %d) trimmed: %s -> %s in %s; %s",
		t->worker, (int)t->pid, format_bytes(t->before_bytes).s,
		format_bytes(t->after_bytes).s, format_usec(t->worked_usec).s, t->reason);

	add_worker(r, t->worker, t->pid);
	record_add(r, "TRIMTAB_REASON=%s", t->reason);
	record_add(r, "TRIMTAB_BEFORE_BYTES=%" PRIu64, t->before_bytes);
	record_add(r, "TRIMTAB_AFTER_BYTES=%" PRIu64, t->after_bytes);
	record_add(r, "TRIMTAB_LIMIT_BYTES=%" PRIu64, t->limit_bytes);
	record_add(r, "TRIMTAB_USEC=%" PRIu64, t->took_usec);
	record_add(r, "TRIMTAB_WORKED_USEC=%" PRIu64, t->worked_usec);
	record_add(r, "TRIMTAB_ALLOCATOR=%s", t->allocator);
	record_add(r, "TRIMTAB_VERIFIED=%d", t->verified);
	record_commit(r);
}

void journal_trim_lost(unsigned worker, pid_t pid, usec_t waited_usec)
{
	struct record *r =
		record_begin(EVENT_TRIM, LOG_WARNING,
			     "Worker %u (pid %d) did not answer a trim request within %s",
			     worker, (int)pid, format_usec(waited_usec).s);

	add_worker(r, worker, pid);
	record_add(r, "TRIMTAB_REASON=no answer");
	record_add(r, "TRIMTAB_USEC=%" PRIu64, waited_usec);
	record_commit(r);
}

void journal_trim_skipped(unsigned worker, pid_t pid, uint64_t usage_bytes,
			  usec_t pause_usec, usec_t max_pause_usec)
{
	struct record *r = record_begin(
		EVENT_TRIM, LOG_NOTICE,
		"Worker %u (pid %d) is not trimmed at %s: a lock would be held "
		"for about %s, and [trim] max-pause is %s",
		worker, (int)pid, format_bytes(usage_bytes).s, format_usec(pause_usec).s,
		format_usec(max_pause_usec).s);

	add_worker(r, worker, pid);
	record_add(r, "TRIMTAB_REASON=max-pause");
	record_add(r, "TRIMTAB_USAGE_BYTES=%" PRIu64, usage_bytes);
	record_add(r, "TRIMTAB_PAUSE_USEC=%" PRIu64, pause_usec);
	record_commit(r);
}

void journal_trim_unasked(unsigned worker, pid_t pid, const char *why,
			  uint64_t before_bytes, uint64_t after_bytes)
{
	struct record *r = record_begin(
		EVENT_TRIM, LOG_INFO,
		"Worker %u (pid %d) trimmed by itself: %s -> %s; %s", worker, (int)pid,
		format_bytes(before_bytes).s, format_bytes(after_bytes).s, why);

	add_worker(r, worker, pid);
	record_add(r, "TRIMTAB_REASON=%s", why);
	record_add(r, "TRIMTAB_BEFORE_BYTES=%" PRIu64, before_bytes);
	record_add(r, "TRIMTAB_AFTER_BYTES=%" PRIu64, after_bytes);
	record_commit(r);
}

static void add_plan(struct record *r, const struct journal_plan *p)
{
	add_worker(r, p->worker, p->pid);
	record_add(r, "TRIMTAB_REASON=%s", p->reason);
	record_add(r, "TRIMTAB_IN_USEC=%" PRIu64, p->in_usec);
	record_add(r, "TRIMTAB_USAGE_BYTES=%" PRIu64, p->usage_bytes);
	record_add(r, "TRIMTAB_LIMIT_BYTES=%" PRIu64, p->limit_bytes);
	record_add(r, "TRIMTAB_RATE_BYTES_PER_SEC=%" PRIi64, p->rate_bytes_per_sec);
	record_add(r, "TRIMTAB_GAP_USEC=%" PRIu64, p->gap_usec);
}

void journal_restart_planned(const struct journal_plan *p)
{
	struct record *r = record_begin(
		EVENT_PLAN, LOG_INFO, "Worker %u (pid %d) is to be replaced in %s: %s",
		p->worker, (int)p->pid, format_usec(p->in_usec).s, p->reason);

	add_plan(r, p);
	record_commit(r);
}

void journal_restart_begun(const struct journal_plan *p, const char *how)
{
	const char *what =
		strcmp(how, "surge") == 0   ? "is being replaced, the new one first"
		: strcmp(how, "drain") == 0 ? "is being replaced, the old one first"
					    : "goes for good";
	struct record *r =
		record_begin(EVENT_RESTART, LOG_INFO, "Worker %u (pid %d) %s: %s",
			     p->worker, (int)p->pid, what, p->reason);

	add_plan(r, p);
	record_add(r, "TRIMTAB_HOW=%s", how);
	record_commit(r);
}

void journal_hold(const struct journal_plan *p, bool held, usec_t usec)
{
	struct record *r;

	if (held)
		r = record_begin(
			EVENT_HOLD, LOG_NOTICE,
			"Worker %u (pid %d) uses %s of %s and is slowed until its turn "
			"comes, for at most %s",
			p->worker, (int)p->pid, format_bytes(p->usage_bytes).s,
			format_bytes(p->limit_bytes).s, format_usec(usec).s);
	else
		r = record_begin(EVENT_HOLD, LOG_NOTICE,
				 "Worker %u (pid %d) is no longer slowed, after %s: %s",
				 p->worker, (int)p->pid, format_usec(usec).s, p->reason);
	add_plan(r, p);
	record_add(r, "TRIMTAB_HELD=%d", held);
	record_add(r, held ? "TRIMTAB_AT_MOST_USEC=%" PRIu64 : "TRIMTAB_USEC=%" PRIu64,
		   usec);
	record_commit(r);
}

void journal_decision(const struct journal_decision *d)
{
	struct record *r;

	if (d->bytes > 0)
		r = record_begin(EVENT_DECISION, LOG_DEBUG, "Worker %u: %s %s: %s",
				 d->worker, d->action, format_bytes(d->bytes).s,
				 d->reason);
	else
		r = record_begin(EVENT_DECISION, LOG_DEBUG, "Worker %u: %s: %s",
				 d->worker, d->action, d->reason);
	add_worker(r, d->worker, d->pid);
	record_add(r, "TRIMTAB_ACTION=%s", d->action);
	record_add(r, "TRIMTAB_REASON=%s", d->reason);
	record_add(r, "TRIMTAB_BYTES=%" PRIu64, d->bytes);
	record_add(r, "TRIMTAB_USAGE_BYTES=%" PRIu64, d->usage_bytes);
	record_add(r, "TRIMTAB_LIMIT_BYTES=%" PRIu64, d->limit_bytes);
	record_add(r, "TRIMTAB_RATE_BYTES_PER_SEC=%" PRIi64, d->rate_bytes_per_sec);
	if (d->deadline_in_usec != USEC_NEVER)
		record_add(r, "TRIMTAB_DEADLINE_IN_USEC=%" PRIu64, d->deadline_in_usec);
	if (d->gap_usec > 0)
		record_add(r, "TRIMTAB_GAP_USEC=%" PRIu64, d->gap_usec);
	record_commit(r);
}

void journal_pressure(const char *scope, unsigned worker, uint64_t stalled_usec,
		      uint32_t some_avg10_permyriad)
{
	struct record *r;

	if (worker > 0)
		r = record_begin(
			EVENT_PRESSURE, LOG_NOTICE,
			"Worker %u waits for memory: %s stalled since the last report",
			worker, format_usec(stalled_usec).s);
	else
		r = record_begin(
			EVENT_PRESSURE, LOG_NOTICE,
			"The %s waits for memory: %s stalled since the last report",
			scope, format_usec(stalled_usec).s);
	if (worker > 0)
		record_add(r, "TRIMTAB_WORKER=%u", worker);
	record_add(r, "TRIMTAB_SCOPE=%s", scope);
	record_add(r, "TRIMTAB_USEC=%" PRIu64, stalled_usec);
	record_add(r, "TRIMTAB_SOME_AVG10_PERMYRIAD=%" PRIu32, some_avg10_permyriad);
	record_commit(r);
}

void journal_capability(const char *name, bool found, bool essential, const char *detail,
			const char *remedy)
{
	int priority = record_is_journal() ? LOG_INFO : LOG_DEBUG;
	struct record *r = record_begin(
		EVENT_CAPABILITY, essential && !found ? LOG_NOTICE : priority,
		"%s: %s%s%s%s%s", name, found ? "yes" : "no", detail ? "; " : "",
		detail ? detail : "", remedy ? "; remedy: " : "", remedy ? remedy : "");

	record_add(r, "TRIMTAB_CAPABILITY=%s", name);
	record_add(r, "TRIMTAB_FOUND=%d", found);
	if (detail)
		record_add(r, "TRIMTAB_REASON=%s", detail);
	record_commit(r);
}

void journal_config(bool accepted, const char *text)
{
	struct record *r =
		record_begin(EVENT_CONFIG, accepted ? LOG_INFO : LOG_ERR, "%s", text);

	record_add(r, "TRIMTAB_ACCEPTED=%d", accepted);
	record_commit(r);
}

void journal_infeasible(const struct journal_infeasible *i)
{
	struct record *r =
		record_begin(EVENT_INFEASIBLE, i->grave ? LOG_ERR : LOG_WARNING,
			     "Not feasible: %s", i->text);

	record_add(r, "TRIMTAB_WHAT=%s", i->what);
	record_add(r, "TRIMTAB_REASON=%s", i->text);
	record_add(r, "TRIMTAB_WOULD_DO=%" PRIu64, i->would_do);
	record_add(r, "TRIMTAB_WORKERS=%u", i->workers);
	record_add(r, "TRIMTAB_LIMIT_BYTES=%" PRIu64, i->limit_bytes);
	record_add(r, "TRIMTAB_BUDGET_BYTES=%" PRIu64, i->budget_bytes);
	if (i->footprint_bytes > 0)
		record_add(r, "TRIMTAB_FOOTPRINT_BYTES=%" PRIu64, i->footprint_bytes);
	record_add(r, "TRIMTAB_GAP_USEC=%" PRIu64, i->gap_usec);
	if (i->life_usec != USEC_NEVER)
		record_add(r, "TRIMTAB_LIFE_USEC=%" PRIu64, i->life_usec);
	record_commit(r);
}

void journal_hazard(pid_t template, const char *kind, const char *says, const char *names)
{
	struct record *r = record_begin(EVENT_HAZARD, LOG_WARNING, "%s: %s", says, names);

	record_add(r, "TRIMTAB_PID=%d", (int)template);
	record_add(r, "TRIMTAB_STATE=%s", kind);
	record_add(r, "TRIMTAB_NAMES=%s", names);
	record_commit(r);
}

void journal_problem(unsigned worker, int error, const char *format, ...)
{
	char text[512], why[128] = "";
	va_list args;

	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (error < 0)
		(void)snprintf(why, sizeof(why), ": %s", strerrordesc_np(-error));

	struct record *r = record_begin(EVENT_PROBLEM, LOG_WARNING, "%s%s", text, why);

	if (worker > 0)
		record_add(r, "TRIMTAB_WORKER=%u", worker);
	if (error < 0)
		record_add(r, "ERRNO=%d", -error);
	record_commit(r);
}
