/* Quarantine: a worker that somebody wants to look into with a debugger.
 *
 * It leaves service as in any planned restart: the plan says when, its replacement comes first, its
 * requests are answered. But it is told to stay behind then, and is nobody's worker from there on: it
 * counts for no slot, and its memory is the first to go when another worker needs some. A worker that
 * hangs in a request, which is the one worth a look, stays as it is when its time to drain is over.
 *
 * Owns which worker that is, one at a time. Nothing here may hold up a replacement, a reload, an
 * upgrade or a stop. */
#include "supervisor/supervisor.h"

#include "kernel/procfs.h"
#include "report/journal.h"
#include "supervisor/fields.h"
#include "util/cleanup.h"

/* Above what it uses, before its first crossing is looked at. */
#define ROOM_BYTES (UINT64_C(16) << 20)

/* Between two looks at one that grows, however short the pool is of memory. */
#define STEP_MIN_BYTES (UINT64_C(1) << 20)

/* The first of all that the kernel would choose. */
#define OOM_SCORE_FIRST 1000

bool quarantine_is_of(const struct worker *w)
{
	return w->supervisor->quarantine.worker == w;
}

/* ---- records and replies ---- */

static void report(const struct worker *w, enum journal_quarantine_state state,
		   const char *reason, usec_t usec)
{
	const struct quarantine *q = &w->supervisor->quarantine;
	const struct worker *successor = w->slot->worker;

	journal_quarantine(&(struct journal_quarantine){
		.state = state,
		.worker = w->slot->number,
		.pid = w->pid,
		.successor = state == QUARANTINE_BEGUN && successor ? successor->pid : 0,
		.reason = reason,
		.usec = usec,
		.drained = q->drained,
		.usage_bytes = w->usage_bytes,
	});
}

static struct json_object *describe(const struct worker *w)
{
	const struct worker *successor = w->slot->worker;
	struct json_object *o = control_ok();

	put_number(o, "worker", w->slot->number);
	put_number(o, "pid", (uint64_t)w->pid);
	put_number(o, "replacement_pid",
		   successor && successor != w ? (uint64_t)successor->pid : UINT64_MAX);
	return o;
}

static void answer(struct supervisor *s, struct json_object *reply)
{
	struct control_client *client = TAKE(s->quarantine.client);

	if (client)
		control_reply(client, reply);
	else
		json_object_put(reply);
}

/* ---- on its way there ---- */

static const char *why_not(const struct slot *slot)
{
	const struct supervisor *s = slot->supervisor;
	const struct worker *w = slot->worker;

	if (s->phase == PHASE_EMPTYING || s->phase == PHASE_STOPPING)
		return "the pool stops";
	if (!w || w->state != WORKER_SERVING)
		return "it does not serve now";
	if (!s->launch->gunicorn)
		return "only gunicorn's workers can stay behind; this program ends when it has "
		       "drained";
	if (!w->stays)
		return "it cannot stay behind: its application handles SIGWINCH, or an older "
		       "trimtab started it";
	if (slot->recycle_client)
		return "it is being replaced for somebody else";
	return NULL;
}

struct json_object *quarantine_begin(struct supervisor *s, unsigned number,
				     unsigned minutes, struct control_client *client)
{
	struct slot *slot =
		number >= 1 && number <= s->n_slots ? &s->slots[number - 1] : NULL;
	const struct worker *other = s->quarantine.worker;
	const char *why;

	if (!slot || slot->retire)
		return control_error("there is no worker %u", number);
	if (other)
		return control_error("worker %u (pid %d) is in quarantine, and there is "
				     "one at a time: trimtabctl release %u ends it",
				     other->slot->number, (int)other->pid,
				     other->slot->number);
	why = why_not(slot);
	if (why)
		return control_error("worker %u: %s", number, why);
	s->quarantine = (struct quarantine){
		.worker = slot->worker,
		.keep_usec =
			minutes ? minutes * USEC_PER_MIN : s->config->restart_quarantine,
		.wish = slot->wish,
		.client = client,
	};
	slot->wish = WISH_OPERATOR;
	supervisor_wake(s);
	return NULL;
}

void quarantine_cancel(struct worker *w, const char *why)
{
	struct supervisor *s = w->supervisor;
	struct slot *slot = w->slot;

	if (!quarantine_is_of(w) || w->kept_usec > 0)
		return;
	report(w, QUARANTINE_REFUSED, why, 0);
	if (slot->worker == w && slot->wish == WISH_OPERATOR && !slot->recycle_client)
		slot->wish = s->quarantine.wish;
	answer(s, control_error("worker %u: %s", slot->number, why));
	s->quarantine = (struct quarantine){ 0 };
	supervisor_wake(s);
}

/* Two of them are there for a long while, not just while one boots. */
bool quarantine_admits(const struct slot *slot, enum reason reason)
{
	struct outlook o;

	if (!slot->worker || !quarantine_is_of(slot->worker))
		return true;
	if (policy_outlook(slot->supervisor->policy, slot->number - 1, &o) == 0 &&
	    o.has_room)
		return true;
	quarantine_cancel(slot->worker,
			  "there is no memory for it beside its replacement");
	return reason != REASON_OPERATOR;
}

/* ---- kept ---- */

/* Its limit is no loan any more, and what it still takes is looked at as it comes. */
static void bound_memory(struct worker *w)
{
	uint64_t charged, limit = w->supervisor->limits.worker_max_bytes;

	(void)proc_set_oom_score(w->pid, OOM_SCORE_FIRST);
	if (!w->leaf || !w->leaf->memory ||
	    cgroup_read_u64(w->leaf->dir_fd, "memory.current", &charged) != 0)
		return;
	if (limit < charged + ROOM_BYTES)
		limit = charged + ROOM_BYTES;
	if (limit < w->limit_bytes)
		set_limit(w, limit);
	quarantine_crossed(w, charged);
}

/* What the pool has left, by its budget and by the limits around it. */
static uint64_t room_of_pool(const struct supervisor *s)
{
	struct cgroup_usage usage;
	uint64_t room = UINT64_MAX, budget = s->limits.budget_bytes;

	if (cgroup_headroom(s->root.dir_fd, &room) != 0)
		room = UINT64_MAX;
	if (budget != UINT64_MAX && cgroup_read_usage(s->root.dir_fd, &usage) == 0) {
		uint64_t left = budget > usage.own_bytes ? budget - usage.own_bytes : 0;

		if (left < room)
			room = left;
	}
	return room;
}

/* Looked at again after half of what the pool has left, so that it is never the pool that meets its
 * limit first. */
void quarantine_crossed(struct worker *w, uint64_t charged_bytes)
{
	uint64_t high = policy_parting_tripwire(charged_bytes, w->limit_bytes);
	uint64_t step = room_of_pool(w->supervisor) / 2;

	if (step < STEP_MIN_BYTES)
		step = STEP_MIN_BYTES;
	if (high > charged_bytes && high - charged_bytes > step)
		high = charged_bytes + step;
	set_tripwire(w, high);
}

void quarantine_keep(struct worker *w)
{
	struct supervisor *s = w->supervisor;
	struct slot *slot = w->slot;
	usec_t now = supervisor_now(s), drain = usec_sub(now, w->asked_usec);
	struct json_object *reply;

	w->kept_usec = now;
	if (slot->worker == w)
		slot->worker = NULL;
	policy_note_drained(s->policy, slot->number - 1, now, drain);
	observe_worker(w);
	bound_memory(w);
	report(w, QUARANTINE_BEGUN, NULL, s->quarantine.keep_usec);
	reply = describe(w);
	put_number(reply, "for_usec", s->quarantine.keep_usec);
	put_bool(reply, "drained", s->quarantine.drained);
	answer(s, reply);
}

uint64_t quarantine_bytes(struct supervisor *s)
{
	struct worker *w = s->quarantine.worker;

	if (!w || w->kept_usec == 0)
		return 0;
	observe_worker(w);
	return w->usage_bytes > 0 ? w->usage_bytes : 1;
}

/* ---- the end ---- */

void quarantine_heard(struct worker *w)
{
	if (w->state == WORKER_DRAINING && quarantine_is_of(w)) {
		w->supervisor->quarantine.drained = true;
		worker_event(w, WORKER_STAYS, HAND_NONE);
	} else if (w->state == WORKER_DRAINING || w->state == WORKER_SERVING) {
		/* Nobody wants it to, any more: somebody else's SIGWINCH, or a change of mind. */
		worker_send_signal(w, SIGTERM);
	}
}

static void report_end(struct worker *w, const char *why)
{
	usec_t usec = usec_sub(supervisor_now(w->supervisor), w->kept_usec);

	worker_black_box(w, why, /* alive= */ true);
	report(w, QUARANTINE_ENDED, why, usec);
}

void quarantine_ends(struct worker *w)
{
	const struct supervisor *s = w->supervisor;

	report_end(w, s->phase == PHASE_EMPTYING || s->phase == PHASE_STOPPING
			      ? "the pool stops"
		      : s->quarantine.released ? "asked for by the operator"
					       : "its time is over");
}

/* At once: its requests are answered, and a debugger may have it stopped. */
void quarantine_evict(struct supervisor *s, const char *why)
{
	struct worker *w = s->quarantine.worker;

	if (!w || w->kept_usec == 0 || w->state == WORKER_DYING)
		return;
	if (w->state == WORKER_KEPT)
		report_end(w, why);
	worker_event(w, WORKER_CONDEMNED, HAND_STOP);
}

struct json_object *quarantine_release(struct supervisor *s, unsigned number,
				       struct control_client *client)
{
	struct worker *w = s->quarantine.worker;
	struct json_object *reply;

	if (!w || w->slot->number != number)
		return control_error("worker %u is not in quarantine", number);
	if (w->kept_usec == 0) {
		reply = describe(w);
		quarantine_cancel(w, "released by the operator");
		return reply;
	}
	if (s->quarantine.client)
		return control_error("worker %u is being released already", number);
	s->quarantine.client = client;
	s->quarantine.released = true;
	worker_event(w, WORKER_ASKED, HAND_ASKED);
	return NULL;
}

void quarantine_gone(struct worker *w)
{
	struct supervisor *s = w->supervisor;

	if (!quarantine_is_of(w))
		return;
	if (w->kept_usec == 0) {
		quarantine_cancel(w, "it ended before it was out of service");
		return;
	}
	if (w->state == WORKER_KEPT)
		report(w, QUARANTINE_ENDED, "it ended by itself",
		       usec_sub(supervisor_now(s), w->kept_usec));
	answer(s, describe(w));
	s->quarantine = (struct quarantine){ 0 };
}

/* ---- status ---- */

usec_t quarantine_until(const struct worker *w)
{
	usec_t until = USEC_NEVER;

	if (w->state == WORKER_KEPT && w->deadline)
		(void)sd_event_source_get_time(w->deadline, &until);
	return until;
}

struct json_object *quarantine_describe(struct supervisor *s)
{
	const struct worker *w = s->quarantine.worker;
	struct json_object *o;
	usec_t until;

	if (!w)
		return NULL;
	(void)quarantine_bytes(s);
	until = quarantine_until(w);
	o = json_object_new_object();
	put_number(o, "worker", w->slot->number);
	put_number(o, "pid", (uint64_t)w->pid);
	put_text(o, "state", worker_state_name(w->state));
	put_number(o, "ends_in_usec",
		   until == USEC_NEVER ? until : usec_sub(until, supervisor_now(s)));
	put_number(o, "usage_bytes", w->usage_bytes);
	put_text(o, "cgroup", w->leaf ? w->leaf->name : NULL);
	if (w->kept_usec > 0)
		put_bool(o, "drained", s->quarantine.drained);
	return o;
}
