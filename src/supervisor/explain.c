/* `trimtabctl explain`: for each worker and for the pool, what is planned, when and why. Gathers
 * what the policy and the crew know; decides nothing, and words it through sentence.c. */
#include "supervisor/supervisor.h"

#include "supervisor/fields.h"
#include "supervisor/sentence.h"

const char *explain_futility(const struct supervisor *s)
{
	switch (s->trim_allocator) {
	case TRIMTAB_ALLOCATOR_JEMALLOC:
		return "jemalloc has no free pages left to give, so what grew is in use: "
		       "a cache or "
		       "a leak";
	case TRIMTAB_ALLOCATOR_TCMALLOC:
		return "tcmalloc has no free pages left to give, so what grew is in use: "
		       "a cache or "
		       "a leak";
	case TRIMTAB_ALLOCATOR_MIMALLOC:
		return "mimalloc gives back what its other threads freed only when they "
		       "run; or what "
		       "grew is in use: a cache or a leak";
	case TRIMTAB_ALLOCATOR_GLIBC:
	case TRIMTAB_ALLOCATOR_UNKNOWN:
		break;
	}
	if (s->launch->gunicorn && s->config->trim_pymalloc == CONFIG_PYMALLOC_OFF)
		return "Python keeps small objects in arenas of its own, which [trim] pymalloc = auto "
		       "reaches; or what grew is in use: a cache or a leak";
	return "what grew is in use: a cache or a leak";
}

static usec_t patience_of(const struct worker *w)
{
	usec_t until = USEC_NEVER;
	int enabled = SD_EVENT_OFF;

	/* A program that does not speak sd_notify is taken for ready then, not given up. */
	if (w->state == WORKER_BOOTING && !w->supervisor->launch->gunicorn)
		return USEC_NEVER;
	if (!w->deadline || sd_event_source_get_enabled(w->deadline, &enabled) < 0 ||
	    enabled == SD_EVENT_OFF || sd_event_source_get_time(w->deadline, &until) < 0)
		return USEC_NEVER;
	return until;
}

static enum sentence_quarantine stage_of(const struct worker *w)
{
	if (w->state == WORKER_SERVING)
		return SENTENCE_WANTED;
	if (w->kept_usec == 0)
		return SENTENCE_DRAINS;
	return w->state == WORKER_KEPT ? SENTENCE_KEPT : SENTENCE_ENDS;
}

static void look_at_quarantine(const struct slot *slot, struct sentence_slot *seen)
{
	const struct worker *w = slot->supervisor->quarantine.worker;

	if (!w || w->slot != slot)
		return;
	seen->quarantine = stage_of(w);
	seen->kept_pid = w->pid;
	seen->kept_until_usec = quarantine_until(w);
}

static struct sentence_slot look_at(const struct slot *slot)
{
	const struct worker *w = slot->worker;
	struct sentence_slot seen = {
		.phase = slot_phase(slot),
		.retire = slot->retire,
		.can_trim = w && (w->hello || bell_is_heard(slot->bell)),
		.trimming = w && slot->supervisor->trim.worker == w,
		.cause = slot->start_reason,
		.until_usec = USEC_NEVER,
		.usage_bytes = w ? w->usage_bytes : 0,
	};

	if (slot->incoming) {
		seen.since_usec = slot->incoming->started_usec;
		seen.until_usec = patience_of(slot->incoming);
	} else if (w && w->state != WORKER_SERVING) {
		seen.since_usec = w->asked_usec ? w->asked_usec : w->started_usec;
		seen.until_usec = patience_of(w);
	}
	look_at_quarantine(slot, &seen);
	return seen;
}

/* A moment ahead as a distance; past: 0. */
static void put_in(struct json_object *o, const char *key, usec_t at, usec_t now)
{
	put_number(o, key, at == USEC_NEVER ? UINT64_MAX : usec_sub(at, now));
}

static void put_slot(struct json_object *o, const struct sentence_slot *seen,
		     const struct outlook *k, usec_t now)
{
	bool planned = k->restart_usec != USEC_NEVER;
	bool serves = seen->phase == SLOT_SERVING || seen->phase == SLOT_SURGING;

	put_number(o, "usage_bytes", serves ? seen->usage_bytes : UINT64_MAX);
	put_number(o, "limit_bytes", k->limit_bytes);
	put_number(o, "loan_bytes", k->loan_bytes);
	put_number(o, "trim_at_bytes", k->mark_bytes);
	put_signed(o, "growth_bytes_per_sec", k->rate_bytes_per_sec);
	put_signed(o, "growth_error_bytes_per_sec", k->rate_error_bytes_per_sec);
	put_in(o, "reaches_limit_in_usec", k->reaches_usec, now);
	put_in(o, "restart_in_usec", k->restart_usec, now);
	put_text(o, "restart_reason", planned ? reason_text(k->reason) : NULL);
	put_in(o, "deadline_in_usec", k->deadline_usec, now);
	put_number(o, "quarantined_pid",
		   seen->quarantine ? (uint64_t)seen->kept_pid : UINT64_MAX);
	put_number(o, "after_worker",
		   planned && k->follows ? k->predecessor + 1 : UINT64_MAX);
	put_number(o, "after_usec", planned && k->follows ? k->after_usec : UINT64_MAX);
	put_text(o, "waits_for", waiting_name(k->waiting));
	put_number(o, "waits_for_worker",
		   k->waiting == WAITING_OTHER ? k->other + 1 : UINT64_MAX);
	put_in(o, "starts_in_usec",
	       k->waiting == WAITING_BACKOFF ? k->not_before_usec : USEC_NEVER, now);
	put_number(o, "failed_boots", k->n_boot_failures);
	put_bool(o, "held", k->held);
	put_in(o, "held_at_most_usec", k->held ? k->held_until_usec : USEC_NEVER, now);
	put_bool(o, "can_trim", seen->can_trim);
	put_in(o, "next_trim_in_usec", k->next_trim_usec, now);
	put_number(o, "trims_in_vain", k->futile_trims);
	put_number(o, "trim_yield_permyriad",
		   k->n_trims ? 10000 - k->kept_permyriad : UINT64_MAX);
}

static struct json_object *explain_slot(struct supervisor *s, const struct slot *slot)
{
	struct json_object *o = json_object_new_object();
	usec_t now = supervisor_now(s);
	char text[SENTENCE_MAX];
	struct sentence_slot seen;
	struct outlook outlook;

	if (slot->worker)
		observe_worker(slot->worker);
	if (policy_outlook(s->policy, slot->number - 1, &outlook) < 0)
		return o;
	seen = look_at(slot);
	sentence_slot(text, &seen, &outlook, now);
	put_number(o, "worker", slot->number);
	put_text(o, "sentence", text);
	put_slot(o, &seen, &outlook, now);
	return o;
}

static struct json_object *explain_pool(struct supervisor *s)
{
	struct json_object *o = json_object_new_object();
	usec_t now = supervisor_now(s);
	struct sentence_pool seen = {
		.n_wanted = s->target,
		.trims = s->limits.trim_enabled,
		.trimming_is_futile = policy_trimming_is_futile(s->policy),
		.why_futile = explain_futility(s),
		.reforked = s->template && s->template->warm ? s->template->origin : 0,
	};
	char text[SENTENCE_MAX];
	struct pool_outlook k;

	for (unsigned i = 0; i < s->n_slots; i++)
		seen.n_serving +=
			s->slots[i].worker && s->slots[i].worker->state == WORKER_SERVING;
	policy_pool_outlook(s->policy, &k);
	sentence_pool(text, &seen, &k, &s->limits, now);
	put_text(o, "name", s->config->pool_name);
	put_text(o, "sentence", text);
	put_number(o, "workers", s->target);
	put_number(o, "serving", seen.n_serving);
	put_number(o, "template_forked_by_worker",
		   s->template && s->template->warm ? s->template->origin : UINT64_MAX);
	put_number(o, "usage_bytes", k.used_bytes);
	put_number(o, "budget_bytes", s->limits.budget_bytes);
	put_number(o, "reserve_bytes", s->limits.reserve_bytes);
	put_number(o, "lent_bytes", k.lent_bytes);
	put_number(o, "gap_usec", k.gap_usec);
	put_number(o, "min_gap_usec", s->limits.min_gap_usec);
	put_bool(o, "gap_shrunk", k.gap_shrunk);
	put_number(o, "planned", k.n_planned);
	put_number(o, "held", k.n_held);
	put_number(o, "last_restart_ago_usec",
		   k.last_restart_usec ? usec_sub(now, k.last_restart_usec) : UINT64_MAX);
	put_number(o, "replacement_takes_usec", k.lead_usec);
	put_number(o, "mean_life_usec", k.life_usec);
	put_number(o, "footprint_bytes",
		   k.footprint_bytes ? k.footprint_bytes : UINT64_MAX);
	put_number(o, "host_short_for_usec",
		   k.host_since_usec ? usec_sub(now, k.host_since_usec) : UINT64_MAX);
	put_bool(o, "trimming_is_futile", seen.trimming_is_futile);
	put_text(o, "trimming_is_futile_because",
		 seen.trimming_is_futile ? seen.why_futile : NULL);
	put_number(o, "trims_in_vain", k.futile_trims);
	put_number(o, "trim_yield_permyriad",
		   k.n_trims ? 10000 - k.kept_permyriad : UINT64_MAX);
	return o;
}

struct json_object *explain(struct supervisor *s, unsigned number)
{
	struct json_object *reply = control_ok(), *workers = json_object_new_array();

	if (number > s->n_slots) {
		json_object_put(reply);
		json_object_put(workers);
		return control_error("there is no worker %u", number);
	}
	for (unsigned i = 0; i < s->n_slots; i++) {
		const struct slot *slot = &s->slots[i];
		bool there = !slot->retire || slot->worker || slot->incoming;

		if (number == 0 ? there : number == slot->number)
			json_object_array_add(workers, explain_slot(s, slot));
	}
	json_object_object_add(reply, "workers", workers);
	if (number == 0)
		json_object_object_add(reply, "pool", explain_pool(s));
	return reply;
}
