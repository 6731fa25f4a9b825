/* What operators ask through the control socket. Replies are JSON objects; the names of their
 * keys are a promise to scripts (trimtabctl(1)). */
#include "supervisor/supervisor.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "process/environment.h"
#include "supervisor/fields.h"
#include "util/cleanup.h"

/* ---- small helpers ---- */

/* null for no worker, and for one that the template has not made yet. */
static void put_pid(struct json_object *o, const char *key, const struct worker *w)
{
	put_number(o, key, w && w->pid > 0 ? (uint64_t)w->pid : UINT64_MAX);
}

static struct slot *find_slot(struct supervisor *s, unsigned number)
{
	return number >= 1 && number <= s->n_slots ? &s->slots[number - 1] : NULL;
}

/* ---- status ---- */

static const char *state_of(const struct slot *slot)
{
	if (slot->worker)
		return worker_state_name(slot->worker->state);
	return slot->incoming ? worker_state_name(slot->incoming->state) : "down";
}

static void put_plan(struct json_object *o, struct supervisor *s, const struct slot *slot)
{
	usec_t now = supervisor_now(s);
	struct outlook outlook;

	if (policy_outlook(s->policy, slot->number - 1, &outlook) < 0)
		return;
	put_number(o, "limit_bytes", outlook.limit_bytes);
	put_number(o, "trim_at_bytes", outlook.mark_bytes);
	put_signed(o, "growth_bytes_per_sec", outlook.rate_bytes_per_sec);
	put_number(o, "restart_in_usec",
		   outlook.restart_usec == USEC_NEVER
			   ? UINT64_MAX
			   : usec_sub(outlook.restart_usec, now));
	put_text(o, "restart_reason",
		 outlook.restart_usec == USEC_NEVER ? NULL : reason_text(outlook.reason));
	put_bool(o, "held", outlook.held);
}

/* Who set MALLOC_ARENA_MAX for this worker. */
static const char *arena_max_from(const struct supervisor *s, const char *value)
{
	for (size_t i = 0; i < s->config->pool_env.n; i++)
		if (strncmp(s->config->pool_env.items[i], "MALLOC_ARENA_MAX=", 17) == 0)
			return "pool.env";
	if (!value)
		return NULL;
	return getenv("MALLOC_ARENA_MAX") ? "environment" : "trim.arena-max";
}

static const char *library_state(const struct supervisor *s, const struct worker *w,
				 const struct trim_view *view)
{
	if (!s->launch->preload)
		return "off";
	if (view->failed)
		return "failed";
	if (!w->hello)
		return trimpage_is_live(&w->page) ? "gone" : "not loaded";
	return trimpage_has_helper(&w->page, w->pid) ? "live" : "gone";
}

static const char *pymalloc_word(const struct supervisor *s, const struct trim_view *view)
{
	if (s->config->trim_pymalloc == CONFIG_PYMALLOC_OFF)
		return "off: [trim] pymalloc = off";
	return trimpage_pymalloc_text(view->pymalloc);
}

static void put_wake(struct json_object *o, int signal_number, enum trimtab_wake waits)
{
	char text[16] = "futex";

	if (waits == TRIMTAB_WAKE_SIGNAL && signal_number >= SIGRTMIN)
		(void)snprintf(text, sizeof(text), "SIGRTMIN+%d",
			       signal_number - SIGRTMIN);
	else if (waits == TRIMTAB_WAKE_SIGNAL)
		(void)snprintf(text, sizeof(text), "SIG%s", sigabbrev_np(signal_number));
	put_text(o, "wake", waits ? text : NULL);
}

static void put_known(struct json_object *o, const char *key, uint64_t value)
{
	put_number(o, key, value > 0 ? value : UINT64_MAX);
}

static struct json_object *describe_last_trim(struct supervisor *s,
					      const struct trim_story *t)
{
	struct json_object *o;

	if (t->n_trims == 0)
		return NULL;
	o = json_object_new_object();
	put_text(o, "reason", reason_text(t->reason));
	put_number(o, "ago_usec", usec_sub(supervisor_now(s), t->at_usec));
	put_number(o, "took_usec", t->took_usec);
	put_number(o, "before_bytes", t->before_bytes);
	put_number(o, "after_bytes", t->after_bytes);
	if (!t->answered)
		return o;
	put_number(o, "worked_usec", t->answer.worked_usec);
	put_number(o, "hold_usec", t->answer.hold_usec);
	put_number(o, "malloc_bytes", t->answer.released_bytes);
	put_number(o, "pymalloc_bytes", t->answer.purged_bytes);
	return o;
}

/* What the library says, and what we know of it. Nothing here is acted upon. */
static struct json_object *describe_trims(struct supervisor *s, const struct worker *w)
{
	struct json_object *o = json_object_new_object();
	const char *arena_max = environment_get(w->slot->env, "MALLOC_ARENA_MAX");
	struct trim_view view;
	struct outlook outlook;

	trimpage_view(&w->page, &view);
	put_text(o, "library", library_state(s, w, &view));
	put_text(o, "arena_max", arena_max);
	put_text(o, "arena_max_from", arena_max_from(s, arena_max));
	put_number(o, "trims", w->trims.n_trims);
	put_number(o, "unanswered", w->trims.n_unanswered);
	if (policy_outlook(s->policy, w->slot->number - 1, &outlook) == 0) {
		put_number(o, "skipped", outlook.n_skipped_trims);
		put_number(o, "expected_pause_usec", outlook.pause_usec);
	}
	json_object_object_add(o, "last", describe_last_trim(s, &w->trims));
	if (!w->hello)
		return o;
	put_text(o, "allocator", trimpage_allocator_name(view.allocator));
	put_wake(o, w->page.signal_number, view.waits);
	put_text(o, "pymalloc", pymalloc_word(s, &view));
	put_number(o, "longest_hold_usec", view.longest_hold_usec);
	put_known(o, "heap_bytes", view.heap_bytes);
	put_known(o, "heap_live_bytes", view.heap_live_bytes);
	put_known(o, "pymalloc_arena_bytes", view.arena_bytes);
	put_known(o, "pymalloc_live_bytes", view.arena_live_bytes);
	put_known(o, "pymalloc_free_pool_bytes", view.free_pool_bytes);
	return o;
}

static struct json_object *describe_slot(struct supervisor *s, const struct slot *slot)
{
	struct json_object *o = json_object_new_object();
	struct worker *w = slot->worker ? slot->worker : slot->incoming;

	put_number(o, "worker", slot->number);
	put_text(o, "state", state_of(slot));
	put_pid(o, "pid", w);
	put_pid(o, "replacement_pid", slot->worker ? slot->incoming : NULL);
	put_bool(o, "retiring", slot->retire);
	if (!w)
		return o;
	observe_worker(w);
	put_number(o, "usage_bytes", w->usage_bytes);
	put_number(o, "age_usec", usec_sub(supervisor_now(s), w->started_usec));
	put_bool(o, "can_trim", w->hello || bell_is_heard(slot->bell));
	put_text(o, "cgroup", w->leaf ? w->leaf->name : NULL);
	put_text(o, "status", w->status[0] ? w->status : NULL);
	put_number(o, "requests", w->counted ? w->n_requests : UINT64_MAX);
	json_object_object_add(o, "trim", describe_trims(s, w));
	put_plan(o, s, slot);
	return o;
}

/* null while there is none: workers are executed. */
static struct json_object *describe_template(const struct template *t)
{
	struct json_object *o;

	if (!t)
		return NULL;
	o = json_object_new_object();
	put_number(o, "pid", (uint64_t)t->pid);
	put_text(o, "state", t->ready ? "ready" : "loading");
	put_number(o, "forked_by_worker", t->warm ? t->origin : UINT64_MAX);
	return o;
}

static struct json_object *describe_pool(struct supervisor *s)
{
	struct json_object *o = json_object_new_object();
	unsigned n_serving = 0;

	for (unsigned i = 0; i < s->n_slots; i++)
		n_serving +=
			s->slots[i].worker && s->slots[i].worker->state == WORKER_SERVING;
	put_text(o, "name", s->config->pool_name);
	put_text(o, "runs", s->launch->what);
	put_number(o, "supervisor_pid", (uint64_t)getpid());
	put_number(o, "workers", s->target);
	put_number(o, "serving", n_serving);
	put_text(o, "mode", s->memory ? "full" : "degraded");
	put_text(o, "cgroup", s->root.path);
	json_object_object_add(o, "template", describe_template(s->template));
	put_number(o, "budget_bytes", s->limits.budget_bytes);
	put_number(o, "worker_max_bytes", s->limits.worker_max_bytes);
	return o;
}

static struct json_object *describe_sockets(struct supervisor *s)
{
	struct json_object *list = json_object_new_array();

	for (size_t i = 0; i < s->n_sockets; i++) {
		struct json_object *o = json_object_new_object();
		int queued = socket_queue_length(&s->sockets[i]);

		put_text(o, "address", s->sockets[i].name);
		put_number(o, "queued", queued < 0 ? UINT64_MAX : (uint64_t)queued);
		json_object_array_add(list, o);
	}
	return list;
}

static struct json_object *status(struct supervisor *s)
{
	struct json_object *reply = control_ok(), *workers = json_object_new_array();

	if (!reply || !workers)
		return NULL;
	for (unsigned i = 0; i < s->n_slots; i++)
		if (!s->slots[i].retire || s->slots[i].worker || s->slots[i].incoming)
			json_object_array_add(workers, describe_slot(s, &s->slots[i]));
	json_object_object_add(reply, "pool", describe_pool(s));
	json_object_object_add(reply, "sockets", describe_sockets(s));
	json_object_object_add(reply, "workers", workers);
	json_object_object_add(reply, "quarantine", quarantine_describe(s));
	return reply;
}

/* ---- trim and recycle ---- */

static struct json_object *trim(struct supervisor *s, unsigned number,
				struct control_client *client)
{
	struct slot *slot = find_slot(s, number);
	int r;

	if (!slot || !slot->worker || slot->worker->state != WORKER_SERVING)
		return control_error("worker %u does not serve now", number);
	r = trim_ask(slot->worker, REASON_OPERATOR);
	if (r == -EBUSY && s->trim.worker)
		return control_error("worker %u is trimming just now; try again",
				     s->trim.worker->slot->number);
	if (r == -EBUSY)
		return control_error("worker %u has not answered an earlier request",
				     number);
	if (r == -ENOTCONN)
		return control_error(
			"worker %u does not take trim requests: its program is static, "
			"or libtrimtab-preload.so is off or did not load",
			number);
	if (r < 0)
		return control_error("worker %u cannot be asked: %s", number,
				     strerrordesc_np(-r));
	slot->trim_client = client;
	return NULL;
}

void answer_trim(struct slot *slot, const char *error, uint64_t before_bytes,
		 uint64_t after_bytes, usec_t took_usec)
{
	struct control_client *client = TAKE(slot->trim_client);
	struct json_object *reply;

	if (!client)
		return;
	if (error) {
		control_reply(client,
			      control_error("worker %u: %s", slot->number, error));
		return;
	}
	reply = control_ok();
	put_number(reply, "worker", slot->number);
	put_pid(reply, "pid", slot->worker);
	put_number(reply, "before_bytes", before_bytes);
	put_number(reply, "after_bytes", after_bytes);
	put_number(reply, "took_usec", took_usec);
	control_reply(client, reply);
}

static struct json_object *recycle(struct supervisor *s, unsigned number,
				   struct control_client *client)
{
	struct slot *slot = find_slot(s, number);

	if (!slot || slot->retire)
		return control_error("there is no worker %u", number);
	if (slot->recycle_client)
		return control_error("worker %u is being replaced for somebody else",
				     number);
	slot->recycled_pid = slot->worker ? slot->worker->pid : 0;
	slot->recycle_client = client;
	slot->wish = WISH_OPERATOR;
	supervisor_wake(s);
	return NULL;
}

void answer_recycle(struct slot *slot, const char *error)
{
	struct control_client *client = TAKE(slot->recycle_client);
	struct json_object *reply;

	if (!client)
		return;
	if (error) {
		control_reply(client,
			      control_error("worker %u: %s", slot->number, error));
		return;
	}
	reply = control_ok();
	put_number(reply, "worker", slot->number);
	put_number(reply, "old_pid", (uint64_t)slot->recycled_pid);
	put_pid(reply, "pid", slot->worker);
	control_reply(client, reply);
}

/* ---- dispatch ---- */

struct json_object *handle_request(void *userdata, const struct request *request,
				   struct control_client *client)
{
	struct supervisor *s = userdata;
	const char *why;

	switch (request->verb) {
	case VERB_STATUS:
		return status(s);
	case VERB_EXPLAIN:
		return explain(s, request->worker);
	case VERB_TRIM:
		return trim(s, request->worker, client);
	case VERB_RECYCLE:
		return recycle(s, request->worker, client);
	case VERB_QUARANTINE:
		return quarantine_begin(s, request->worker, request->minutes, client);
	case VERB_RELEASE:
		return quarantine_release(s, request->worker, client);
	case VERB_RELOAD:
		reload(s);
		return control_ok();
	case VERB_UPGRADE:
		why = upgrade_begin(s, client, /* reload= */ false);
		return why ? control_error("no upgrade: %s", why) : NULL;
	case VERB_STOP:
		if (s->stop_client)
			return control_error("the pool is stopping already");
		s->stop_client = client;
		stop(s, /* graceful= */ true, "trimtabctl stop");
		return NULL;
	case N_VERBS:
		break;
	}
	return control_error("not understood");
}

void forget_client(void *userdata, struct control_client *client)
{
	struct supervisor *s = userdata;

	if (s->stop_client == client)
		s->stop_client = NULL;
	if (s->upgrade.client == client)
		s->upgrade.client = NULL;
	if (s->quarantine.client == client)
		s->quarantine.client = NULL;
	for (unsigned i = 0; i < s->n_slots; i++) {
		struct slot *slot = &s->slots[i];

		if (slot->recycle_client == client)
			slot->recycle_client = NULL;
		if (slot->trim_client == client)
			slot->trim_client = NULL;
	}
}
