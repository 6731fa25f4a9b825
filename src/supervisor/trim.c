/* One trim at a time: asked, awaited, verified against the leaf's own figure, reported. */
#include "supervisor/supervisor.h"

#include <errno.h>

#include "report/journal.h"

/* A trim takes 0.1 ms a MiB, but a throttled or starved worker may answer seconds late. */
#define ANSWER_USEC (10 * USEC_PER_SEC)

/* When to look for the answer in the page alone: what announces it may be lost on its way. */
#define UNHEARD_USEC USEC_PER_SEC

/* A listener of the pressure protocol never answers: look after this long what it did. */
#define BELL_USEC (2 * USEC_PER_SEC)

#define GC_WAIT_MSEC 1000

/* Between two records of trims that plain signals asked for: a worker may claim any number. */
#define PLAIN_USEC USEC_PER_SEC

/* A look is not worth waiting for: the interpreter may be busy, and a trim may come. */
#define LOOK_WAIT_MSEC 200

static void end(struct supervisor *s)
{
	s->trim.worker = NULL;
	supervisor_arm(s, &s->trim.timer, USEC_NEVER, NULL, NULL);
	supervisor_wake(s);
}

static void note(struct worker *w, const struct trim_answer *answer, usec_t now,
		 usec_t took)
{
	struct trim_story *t = &w->trims;
	const struct trim_under_way *trim = &w->supervisor->trim;

	t->n_trims++;
	t->answered = answer;
	t->answer = answer ? *answer : (struct trim_answer){ 0 };
	t->late_due = answer && answer->gc == TRIMTAB_GC_TIMEOUT;
	t->reason = trim->reason;
	t->at_usec = now;
	t->took_usec = took;
	t->before_bytes = trim->before_bytes;
	t->after_bytes = w->usage_bytes;
}

/* Reads what the worker uses now, tells the policy, the journal and whoever asked. */
static void conclude(struct worker *w, const struct trim_answer *answer)
{
	struct supervisor *s = w->supervisor;
	usec_t now = supervisor_now(s), took = usec_sub(now, s->trim.asked_usec);
	uint64_t before = s->trim.before_bytes;

	observe_worker(w);
	if (answer)
		s->trim_allocator = answer->allocator;
	/* Its own word, but no lock was held for longer than we waited. */
	if (answer)
		policy_note_trim_hold(s->policy, w->slot->number - 1, before,
				      answer->hold_usec < took ? answer->hold_usec
							       : took);
	policy_note_trimmed(s->policy, w->slot->number - 1, now, before, w->usage_bytes,
			    took);
	note(w, answer, now, took);
	journal_worker_trimmed(&(struct journal_trim){
		.worker = w->slot->number,
		.pid = w->pid,
		.reason = reason_text(s->trim.reason),
		.before_bytes = before,
		.after_bytes = w->usage_bytes,
		.limit_bytes = w->limit_bytes,
		.took_usec = took,
		.worked_usec = answer ? answer->worked_usec : took,
		.allocator = trimpage_allocator_name(answer ? answer->allocator
							    : TRIMTAB_ALLOCATOR_UNKNOWN),
		.verified = w->leaf && w->leaf->memory,
	});
	answer_trim(w->slot, NULL, before, w->usage_bytes,
		    answer ? answer->worked_usec : took);
	end(s);
}

static int on_no_answer(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct supervisor *s = userdata;
	struct worker *w = s->trim.worker;
	usec_t deadline = usec_add(s->trim.asked_usec, ANSWER_USEC);
	struct trim_answer answer;

	(void)source;
	(void)usec;
	if (!w)
		return 0;
	if (!w->hello) {
		conclude(w, NULL);
		return 0;
	}
	/* The queue was full, or it runs as a user now who cannot reach our socket. */
	if (trimpage_answer(&w->page, &answer) == 1) {
		conclude(w, &answer);
		return 0;
	}
	if (supervisor_now(s) < deadline) {
		supervisor_arm(s, &s->trim.timer, deadline, on_no_answer, s);
		return 0;
	}
	policy_note_trim_lost(s->policy, w->slot->number - 1, supervisor_now(s));
	w->trims.n_unanswered++;
	journal_trim_lost(w->slot->number, w->pid, ANSWER_USEC);
	answer_trim(w->slot, "the worker did not answer", 0, 0, 0);
	end(s);
	return 0;
}

static uint32_t operations_of(const struct config *c)
{
	uint32_t operations = TRIMTAB_OP_TRIM;

	if (c->trim_gc)
		operations |= TRIMTAB_OP_GC;
	if (c->trim_pymalloc == CONFIG_PYMALLOC_AUTO)
		operations |= TRIMTAB_OP_PYMALLOC;
	return operations;
}

int trim_ask(struct worker *w, enum reason reason)
{
	struct supervisor *s = w->supervisor;
	int r = 0;

	if (s->trim.worker)
		return -EBUSY;
	if (!w->hello && !bell_is_heard(w->slot->bell))
		return -ENOTCONN;
	observe_worker(w);
	if (w->hello)
		r = trimpage_request(&w->page, w->pid, operations_of(s->config),
				     GC_WAIT_MSEC);
	if (r < 0) {
		/* Busy: it still owes the answer to an earlier request that was given up. Else it runs
		 * another program now, or is ending. */
		if (r != -EBUSY)
			w->hello = false;
		policy_note_trim_lost(s->policy, w->slot->number - 1, supervisor_now(s));
		return r;
	}
	bell_ring(w->slot->bell);
	s->trim.worker = w;
	s->trim.reason = reason;
	s->trim.before_bytes = w->usage_bytes;
	s->trim.asked_usec = supervisor_now(s);
	supervisor_arm(s, &s->trim.timer,
		       usec_add(s->trim.asked_usec, w->hello ? UNHEARD_USEC : BELL_USEC),
		       on_no_answer, s);
	return 0;
}

void trim_look(struct worker *w)
{
	if (w->hello)
		(void)trimpage_request(&w->page, w->pid,
				       operations_of(w->supervisor->config) |
					       TRIMTAB_OP_LOOK,
				       LOOK_WAIT_MSEC);
}

static void conclude_unasked(struct worker *w, uint64_t before, const char *why)
{
	struct supervisor *s = w->supervisor;

	observe_worker(w);
	policy_note_trimmed_late(s->policy, w->slot->number - 1, supervisor_now(s),
				 w->usage_bytes);
	journal_trim_unasked(w->slot->number, w->pid, why, before, w->usage_bytes);
	supervisor_wake(s);
}

/* Believed once for each trim whose collection was late: it could say so all day. */
void trim_came_late(struct worker *w)
{
	struct trim_story *t = &w->trims;

	if (!t->late_due || w->slot->worker != w)
		return;
	t->late_due = false;
	conclude_unasked(w, t->after_bytes, "late collection");
	t->after_bytes = w->usage_bytes;
}

/* What it used before was not measured: the last figure seen stands for it. */
void trim_came_plain(struct worker *w)
{
	usec_t now = supervisor_now(w->supervisor);

	if (w->slot->worker != w ||
	    (w->trims.plain_usec > 0 && now < usec_add(w->trims.plain_usec, PLAIN_USEC)))
		return;
	w->trims.plain_usec = now;
	conclude_unasked(w, w->usage_bytes, "plain signal");
}

void trim_answered(struct worker *w)
{
	struct trim_answer answer;

	/* A message alone proves nothing: the page must say so too, and we must have asked. */
	if (w->supervisor->trim.worker == w && trimpage_answer(&w->page, &answer) == 1)
		conclude(w, &answer);
}

void trim_forget(struct worker *w)
{
	if (w->supervisor->trim.worker != w)
		return;
	answer_trim(w->slot, "the worker ended", 0, 0, 0);
	end(w->supervisor);
}

void trim_resume(struct supervisor *s, usec_t deadline_usec)
{
	supervisor_arm(s, &s->trim.timer, deadline_usec, on_no_answer, s);
}
