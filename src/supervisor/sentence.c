/* The words of `trimtabctl explain`. Owns no state, reads no clock; every figure in a sentence is
 * one of the policy's own, so that what is told is what was decided by. */
#include "supervisor/sentence.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "util/format.h"

/* Below this the rate is told for an hour, since that is how leaks are thought of. */
#define FAST_BYTES_PER_SEC (1 << 20)

/* A text that grows clause by clause. */
struct writer {
	char *text;
	size_t used;
};

__attribute__((format(printf, 2, 3))) static void add(struct writer *w,
						      const char *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(w->text + w->used, SENTENCE_MAX - w->used, format, args);
	va_end(args);
	if (n > 0)
		w->used += (size_t)n < SENTENCE_MAX - w->used
				   ? (size_t)n
				   : SENTENCE_MAX - w->used - 1;
}

/* Between two clauses; nothing before the first. */
static void next_clause(struct writer *w)
{
	if (w->used > 0)
		add(w, "; ");
}

static struct text rate_text(uint64_t bytes_per_sec)
{
	bool fast = bytes_per_sec >= FAST_BYTES_PER_SEC;
	struct text t, amount = format_bytes(fast || bytes_per_sec > UINT64_MAX / 3600
						     ? bytes_per_sec
						     : bytes_per_sec * 3600);

	(void)snprintf(t.s, sizeof(t.s), "%.26s/%s", amount.s, fast ? "s" : "h");
	return t;
}

/* ---- a worker: where it is ---- */

static void add_under_way(struct writer *w, const struct sentence_slot *slot, usec_t now)
{
	add(w, " for %s", format_usec(usec_sub(now, slot->since_usec)).s);
	if (slot->until_usec != USEC_NEVER)
		add(w, ", given up in %s",
		    format_usec(usec_sub(slot->until_usec, now)).s);
}

static void add_failures(struct writer *w, const struct outlook *o)
{
	if (o->n_boot_failures == 1)
		add(w, "its last boot failed");
	else if (o->n_boot_failures > 1)
		add(w, "its last %" PRIu32 " boots failed", o->n_boot_failures);
}

static void add_down(struct writer *w, const struct outlook *o, usec_t now)
{
	add(w, "is down");
	if (o->n_boot_failures > 0) {
		next_clause(w);
		add_failures(w, o);
	}
	next_clause(w);
	if (o->waiting == WAITING_BACKOFF)
		add(w, "starts again in %s",
		    format_usec(usec_sub(o->not_before_usec, now)).s);
	else if (o->waiting == WAITING_BOOTS)
		add(w, "starts when one of those that boot now is ready");
	else
		add(w, "starts at once");
}

/* ---- a worker: its memory ---- */

static bool is_growing(const struct outlook *o)
{
	return o->rate_bytes_per_sec > 0 &&
	       o->rate_bytes_per_sec >= 2 * o->rate_error_bytes_per_sec;
}

static void add_usage(struct writer *w, const struct sentence_slot *slot,
		      const struct outlook *o)
{
	if (slot->usage_bytes == 0)
		return;
	next_clause(w);
	add(w, "uses %s", format_bytes(slot->usage_bytes).s);
	if (o->limit_bytes != UINT64_MAX)
		add(w, " of %s", format_bytes(o->limit_bytes).s);
	if (o->loan_bytes > 0)
		add(w, ", %s of that on loan", format_bytes(o->loan_bytes).s);
}

static void add_growth(struct writer *w, const struct outlook *o, usec_t now)
{
	next_clause(w);
	if (!is_growing(o)) {
		add(w, "does not grow");
		return;
	}
	add(w, "grows %s (±%s)", rate_text((uint64_t)o->rate_bytes_per_sec).s,
	    rate_text((uint64_t)o->rate_error_bytes_per_sec).s);
	if (o->limit_bytes == UINT64_MAX)
		return;
	if (o->reaches_usec == USEC_NEVER)
		add(w, ", not long enough yet to tell when it reaches its limit");
	else if (o->reaches_usec <= now)
		add(w, ", and is at its limit");
	else
		add(w, ", reaches its limit in about %s",
		    format_usec(usec_sub(o->reaches_usec, now)).s);
}

static void add_hold(struct writer *w, const struct outlook *o, usec_t now)
{
	if (!o->held)
		return;
	next_clause(w);
	add(w, "held: slowed for %s until its turn comes, for at most %s more",
	    format_usec(usec_sub(now, o->held_since_usec)).s,
	    format_usec(usec_sub(o->held_until_usec, now)).s);
}

/* ---- a worker: its plan ---- */

static void add_wait(struct writer *w, const struct outlook *o, usec_t now)
{
	switch (o->waiting) {
	case WAITING_NONE:
	case WAITING_BOOTS:
		return;
	case WAITING_GAP:
		add(w, ", waits for its turn: the gap to the last restart");
		return;
	case WAITING_OTHER:
		add(w,
		    ", waits for its turn: worker %" PRIu32 " is being replaced or down",
		    o->other + 1);
		return;
	case WAITING_BACKOFF:
		next_clause(w);
		add_failures(w, o);
		add(w, "; tried again in %s",
		    format_usec(usec_sub(o->not_before_usec, now)).s);
		return;
	}
}

static void add_plan(struct writer *w, const struct outlook *o, usec_t now)
{
	next_clause(w);
	if (o->restart_usec == USEC_NEVER) {
		add(w, "nothing is planned");
	} else if (o->restart_usec <= now) {
		add(w, "replacement due now: %s", reason_text(o->reason));
	} else {
		add(w, "replacement planned in %s", format_usec(o->restart_usec - now).s);
		if (o->follows)
			add(w, ", %s after worker %" PRIu32, format_usec(o->after_usec).s,
			    o->predecessor + 1);
		add(w, ": %s", reason_text(o->reason));
	}
	add_wait(w, o, now);
}

static void add_trims(struct writer *w, const struct sentence_slot *slot,
		      const struct outlook *o, usec_t now)
{
	next_clause(w);
	if (!slot->can_trim) {
		add(w, "takes no trim requests");
		return;
	}
	if (slot->trimming)
		add(w, "trims just now");
	else if (o->next_trim_usec == USEC_NEVER)
		add(w, "no trim is due");
	else if (o->next_trim_usec <= now)
		add(w, "next trim when no other worker trims");
	else
		add(w, "next trim not before %s", format_usec(o->next_trim_usec - now).s);
	if (o->futile_trims > 0)
		add(w, ", the last %s gave nothing back",
		    o->futile_trims == 1 ? "one" : "ones");
	else if (o->n_trims > 0)
		add(w, ", trimming gives back %" PRIu32 " %% of the growth here",
		    100 - o->kept_permyriad / 100);
}

static void add_phase(struct writer *w, const struct sentence_slot *slot,
		      const struct outlook *o, usec_t now)
{
	switch (slot->phase) {
	case SLOT_EMPTY:
		if (!slot->retire)
			add_down(w, o, now);
		return;
	case SLOT_BOOTING:
		next_clause(w);
		add(w, "boots");
		add_under_way(w, slot, now);
		add(w, ": %s", reason_text(slot->cause));
		if (o->n_boot_failures > 0) {
			next_clause(w);
			add_failures(w, o);
		}
		return;
	case SLOT_DRAINING:
		next_clause(w);
		add(w, "finishes its requests");
		add_under_way(w, slot, now);
		add(w, ": %s", reason_text(slot->cause));
		return;
	case SLOT_SURGING:
		next_clause(w);
		add(w, "is being replaced: %s; the new one boots",
		    reason_text(slot->cause));
		add_under_way(w, slot, now);
		add_usage(w, slot, o);
		return;
	case SLOT_SERVING:
		add_usage(w, slot, o);
		add_growth(w, o, now);
		add_hold(w, o, now);
		if (!slot->retire)
			add_plan(w, o, now);
		add_trims(w, slot, o, now);
		return;
	}
}

static void add_quarantine(struct writer *w, const struct sentence_slot *slot, usec_t now)
{
	switch (slot->quarantine) {
	case SENTENCE_NO_QUARANTINE:
		return;
	case SENTENCE_WANTED:
		next_clause(w);
		add(w, "pid %d goes into quarantine when it has been replaced",
		    slot->kept_pid);
		return;
	case SENTENCE_DRAINS:
		next_clause(w);
		add(w, "pid %d finishes its requests and goes into quarantine",
		    slot->kept_pid);
		return;
	case SENTENCE_KEPT:
		next_clause(w);
		add(w, "pid %d is in quarantine for another %s (gdb -p %d)",
		    slot->kept_pid, format_usec(usec_sub(slot->kept_until_usec, now)).s,
		    slot->kept_pid);
		return;
	case SENTENCE_ENDS:
		next_clause(w);
		add(w, "the quarantine of pid %d ends", slot->kept_pid);
		return;
	}
}

void sentence_slot(char text[SENTENCE_MAX], const struct sentence_slot *slot,
		   const struct outlook *o, usec_t now)
{
	struct writer w = { .text = text };

	text[0] = '\0';
	if (slot->retire)
		add(&w, "is one too many and goes for good");
	add_phase(&w, slot, o, now);
	add_quarantine(&w, slot, now);
}

/* ---- the pool ---- */

static void add_gap(struct writer *w, const struct pool_outlook *o,
		    const struct limits *limits)
{
	next_clause(w);
	if (o->n_planned == 0) {
		add(w, "no restart is planned, the gap is %s",
		    format_usec(o->gap_usec).s);
		return;
	}
	add(w, "%" PRIu32 " restart%s planned", o->n_planned,
	    o->n_planned == 1 ? " is" : "s are");
	if (o->gap_shrunk)
		add(w, ", %s apart instead of %s, which what is due leaves no room for",
		    format_usec(o->gap_usec).s, format_usec(limits->min_gap_usec).s);
	else
		add(w, ", at least %s apart", format_usec(o->gap_usec).s);
}

void sentence_pool(char text[SENTENCE_MAX], const struct sentence_pool *pool,
		   const struct pool_outlook *o, const struct limits *limits, usec_t now)
{
	struct writer w = { .text = text };

	text[0] = '\0';
	add(&w, "%u of %u workers serve", pool->n_serving, pool->n_wanted);
	next_clause(&w);
	add(&w, "uses %s", format_bytes(o->used_bytes).s);
	if (limits->budget_bytes != UINT64_MAX)
		add(&w, " of a budget of %s", format_bytes(limits->budget_bytes).s);
	if (o->n_lent > 0)
		add(&w, ", %s of it lent to %" PRIu32 " worker%s",
		    format_bytes(o->lent_bytes).s, o->n_lent, o->n_lent == 1 ? "" : "s");
	add_gap(&w, o, limits);
	if (o->last_restart_usec > 0)
		add(&w, ", the last one was %s ago",
		    format_usec(usec_sub(now, o->last_restart_usec)).s);
	if (pool->reforked > 0) {
		next_clause(&w);
		add(&w, "new workers come from a child of worker %u", pool->reforked);
	}
	if (o->n_held > 0) {
		next_clause(&w);
		add(&w, "%" PRIu32 " held until %s", o->n_held,
		    o->n_held == 1 ? "its turn comes" : "their turns come");
	}
	if (o->host_since_usec > 0) {
		next_clause(&w);
		add(&w, "the host has been short of memory for %s",
		    format_usec(usec_sub(now, o->host_since_usec)).s);
	}
	next_clause(&w);
	if (!pool->trims)
		add(&w, "trims are off");
	else if (pool->trimming_is_futile)
		add(&w,
		    "trimming does not help here, %" PRIu32
		    " in a row gave nothing back: %s",
		    o->futile_trims, pool->why_futile);
	else if (o->n_trims == 0)
		add(&w, "no trim was needed yet");
	else
		add(&w, "trimming gives back %" PRIu32 " %% of the growth",
		    100 - o->kept_permyriad / 100);
}
