/* The strategy under test: the real policy library behind a supervisor that does what it is
 * told, with the delays that a real one has. After every step the promises are checked against
 * the world itself, not against what the policy believes. */
#include "fleet.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "policy/state.h"

struct slot {
	struct worker *worker; /* serving, booting alone, or draining alone */
	struct worker *next;   /* boots beside it in a surge */
	enum slot_phase phase;
	enum wish wish;
	double loan;
	double sampled;	   /* true usage at the last look */
	usec_t held_since; /* USEC_NEVER: not held */
	double held_from;  /* usage when the hold began */
	usec_t pressure;
};

struct run {
	const struct scenario *s;
	struct ledger *l;
	struct world world;
	struct policy *policy;
	struct slot *slots;
	struct slot_seen *seen;
	struct action *actions;
	FILE *csv, *trace;
	usec_t wake, deploy, host_pressure, host_pressure_until, host_pressure_last,
		csv_next;
	bool all_sampled;
	uint32_t touched; /* slot of the event being handled; UINT32_MAX: all */
};

static void act(struct run *r);

static uint64_t bytes(double v)
{
	return v <= 0 ? 0 : (uint64_t)v;
}

static double limit_of(const struct run *r)
{
	return r->s->limits.worker_max_bytes == UINT64_MAX
		       ? INFINITY
		       : (double)r->s->limits.worker_max_bytes;
}

/* What the kernel enforces: without cgroups, nothing. */
static double enforced(const struct run *r)
{
	return r->s->limits.tripwire ? limit_of(r) : INFINITY;
}

/* ---- looking ---- */

/* What a look at so much usage reads: the truth, mostly. */
static uint64_t tell(struct run *r, double usage)
{
	double kind;

	if (r->s->lies <= 0 || world_random(&r->world) >= r->s->lies)
		return bytes(usage);
	kind = world_random(&r->world);
	return kind < 0.3   ? 0
	       : kind < 0.6 ? UINT64_MAX
			    : bytes(world_random(&r->world) * 1e9);
}

static void look(struct run *r, uint32_t i)
{
	struct slot *slot = &r->slots[i];
	struct slot_seen *seen = &r->seen[i];
	struct worker *k = slot->worker;
	bool at_peak;

	*seen = (struct slot_seen){ .phase = slot->phase, .wish = slot->wish };
	if (!k || (slot->phase != SLOT_SERVING && slot->phase != SLOT_SURGING))
		return;
	world_update(&r->world, k);
	world_schedule(&r->world, k);
	at_peak = r->touched == i;
	seen->can_trim = true;
	seen->trimming = k->trim_end != USEC_NEVER;
	seen->sampled =
		r->touched == UINT32_MAX || r->touched == i || r->s->n_slots <= 64;
	slot->sampled = at_peak ? worker_envelope(k) : worker_usage(&r->world, k);
	seen->charged_bytes = bytes(slot->sampled + k->cache);
	seen->usage_bytes = tell(r, slot->sampled);
	if (!r->s->limits.tripwire)
		seen->charged_bytes = seen->usage_bytes;
	seen->high_events = k->high_events;
	seen->scanned_pages = k->high_events * 64;
	seen->ready_usec = k->ready;
	if (r->s->requests_every > 0 &&
	    (double)(r->world.now - k->ready) >= r->s->requests_every * SEC)
		seen->wish = WISH_REQUESTS;
	seen->pressure_usec = slot->pressure;
}

static double pool_bytes(const struct run *r)
{
	double sum = r->s->template_bytes;

	for (size_t i = 0; i < r->world.n_workers; i++)
		if (r->world.workers[i].state != WORKER_NONE)
			sum += worker_charged(&r->world.workers[i]);
	return sum;
}

/* ---- promises ---- */

static void check_budget(struct run *r)
{
	double used = pool_bytes(r), budget = (double)r->s->limits.budget_bytes;

	if (r->s->limits.budget_bytes == UINT64_MAX)
		return;
	for (uint32_t i = 0; i < r->s->n_slots; i++) {
		const struct slot *slot = &r->slots[i];

		if (slot->worker && slot->loan > 0)
			used += fmax(0,
				     slot->loan - fmax(0, worker_charged(slot->worker) -
								  limit_of(r)));
	}
	r->l->budget_used = fmax(r->l->budget_used, used / budget);
	if (used > budget * 1.000001)
		ledger_broken(r->l, r->world.now,
			      "usage and loans %.0f MiB exceed the budget %.0f MiB",
			      used / (1 << 20), budget / (1 << 20));
}

static void check_holds(struct run *r)
{
	for (uint32_t i = 0; i < r->s->n_slots; i++) {
		struct slot *slot = &r->slots[i];
		struct worker *k = slot->worker;
		bool held = k && slot->phase != SLOT_BOOTING && k->cache <= 0 &&
			    worker_envelope(k) > k->high + 2 &&
			    k->state == WORKER_SERVING;
		double seconds;

		if (!held) {
			slot->held_since = USEC_NEVER;
			continue;
		}
		if (slot->held_since == USEC_NEVER) {
			slot->held_since = r->world.now;
			slot->held_from = worker_envelope(k);
		}
		seconds = (double)(r->world.now - slot->held_since) / SEC;
		r->l->held_max = fmax(r->l->held_max, seconds);
		if (seconds > (double)r->s->limits.hold_max_usec / SEC + 0.001)
			ledger_broken(r->l, r->world.now, "worker %u held for %.1f s", i,
				      seconds);
		if (seconds > 15 && worker_envelope(k) < slot->held_from + 4096)
			ledger_broken(r->l, r->world.now,
				      "worker %u held without progress", i);
	}
}

static void check_service(struct run *r)
{
	unsigned int out = 0;

	for (uint32_t i = 0; i < r->s->n_slots; i++)
		out += r->slots[i].phase != SLOT_SERVING &&
		       r->slots[i].phase != SLOT_SURGING;
	r->l->out_now = out;
	if (r->world.now > 600 * USEC_PER_SEC && out > r->l->out_max)
		r->l->out_max = out;
}

/* A restart that begins by our own will. */
static void check_planned(struct run *r, uint32_t slot, bool takes_out)
{
	for (uint32_t i = 0; i < r->s->n_slots; i++) {
		const struct slot *other = &r->slots[i];
		bool out = other->phase != SLOT_SERVING && other->phase != SLOT_SURGING;

		if (i == slot)
			continue;
		if (other->phase == SLOT_SURGING)
			ledger_broken(r->l, r->world.now,
				      "worker %u begins while %u is not ready", slot, i);
		if (out && takes_out)
			ledger_broken(r->l, r->world.now,
				      "worker %u taken out while %u is out", slot, i);
		r->l->both_out += out;
	}
	if (!r->s->too_many && r->l->last_restart != USEC_NEVER &&
	    r->world.now - r->l->last_restart < r->s->limits.min_gap_floor_usec)
		ledger_broken(r->l, r->world.now,
			      "worker %u begins %.3f s after the last", slot,
			      (double)(r->world.now - r->l->last_restart) / SEC);
	if (r->s->feasible && r->l->last_restart != USEC_NEVER &&
	    r->world.now - r->l->last_restart < r->s->limits.min_gap_usec)
		ledger_broken(r->l, r->world.now,
			      "worker %u begins %.3f s after the last, though "
			      "the gap could be kept",
			      slot, (double)(r->world.now - r->l->last_restart) / SEC);
}

/* ---- doing ---- */

static bool boot_fails(struct run *r, uint32_t slot)
{
	double t = (double)r->world.now / SEC;

	return slot == 0 && r->s->stuck_every > 0 && t > r->s->stuck_every &&
	       fmod(t, r->s->stuck_every) < r->s->stuck_seconds;
}

static void start(struct run *r, uint32_t i, const struct action *a)
{
	struct slot *slot = &r->slots[i];

	if (slot->phase != SLOT_EMPTY) {
		ledger_broken(r->l, r->world.now, "start of worker %u that is not gone",
			      i);
		return;
	}
	/* A crash was counted when it happened. */
	if (a->reason == REASON_CRASHED && r->l->last_restart != USEC_NEVER)
		r->l->last_restart = r->world.now;
	slot->worker = world_start(&r->world, i, enforced(r), boot_fails(r, i));
	slot->phase = SLOT_BOOTING;
	slot->loan = 0;
	policy_note_started(r->policy, i, r->world.now);
}

static void surge(struct run *r, uint32_t i)
{
	struct slot *slot = &r->slots[i];

	if (slot->phase != SLOT_SERVING) {
		ledger_broken(r->l, r->world.now,
			      "surge of worker %u that does not serve", i);
		return;
	}
	check_planned(r, i, false);
	ledger_restart(r->l, r->world.now, true);
	csv_row(r->csv, r->world.now, i, worker_envelope(slot->worker), "restart");
	slot->next = world_start(&r->world, i, enforced(r), boot_fails(r, i));
	slot->phase = SLOT_SURGING;
	policy_note_started(r->policy, i, r->world.now);
}

static void drain(struct run *r, uint32_t i)
{
	struct slot *slot = &r->slots[i];

	if (slot->phase != SLOT_SERVING) {
		ledger_broken(r->l, r->world.now,
			      "drain of worker %u that does not serve", i);
		return;
	}
	check_planned(r, i, true);
	ledger_restart(r->l, r->world.now, true);
	ledger_life(r->l, &r->world, slot->worker, limit_of(r));
	csv_row(r->csv, r->world.now, i, worker_envelope(slot->worker), "restart");
	slot->phase = SLOT_DRAINING;
	slot->wish = WISH_NONE;
	worker_drain(&r->world, slot->worker);
}

/* One line for each decision, with what the policy believes and what is true. */
static void trace(const struct run *r, const struct action *a)
{
	const struct slot_memory *m = &r->policy->slots[a->slot];
	const struct worker *k = r->slots[a->slot].worker;
	double mib = 1 << 20;

	if (!r->trace)
		return;
	fprintf(r->trace, "%.3f s worker %u: %s, %s; to %.1f MiB;",
		(double)r->world.now / SEC, a->slot, action_name(a->kind),
		reason_text(a->reason), (double)a->bytes / mib);
	fprintf(r->trace, " level %.1f rate %.1f +- %.1f KiB/s of %u points%s;",
		(double)m->growth.level_bytes / mib, (double)m->growth.rate / 1024,
		(double)m->growth.rate_error / 1024, m->growth.n_fitted,
		m->hold.active ? ", held" : "");
	if (k)
		fprintf(r->trace, " in truth %.1f, high %.1f, max %.1f, %.0f s left",
			worker_envelope(k) / mib, k->high / mib, k->max / mib,
			worker_life_left(k, limit_of(r)));
	fputc('\n', r->trace);
}

static void apply(struct run *r, const struct action *a)
{
	struct slot *slot = &r->slots[a->slot];

	switch (a->kind) {
	case ACTION_START:
		start(r, a->slot, a);
		return;
	case ACTION_SURGE:
		surge(r, a->slot);
		return;
	case ACTION_DRAIN:
		drain(r, a->slot);
		return;
	case ACTION_RETIRE:
		return;
	case ACTION_TRIM:
		for (uint32_t i = 0; i < r->s->n_slots; i++)
			if (r->slots[i].worker &&
			    r->slots[i].worker->trim_end != USEC_NEVER)
				ledger_broken(r->l, r->world.now, "two trims at once");
		r->l->trims++;
		worker_trim(&r->world, slot->worker);
		return;
	case ACTION_TRIPWIRE:
		if (a->bytes < bytes(slot->sampled + slot->worker->cache))
			ledger_broken(r->l, r->world.now,
				      "tripwire of worker %u below its charge", a->slot);
		slot->worker->high = a->bytes == UINT64_MAX ? INFINITY : (double)a->bytes;
		slot->worker->noticed = false;
		world_schedule(&r->world, slot->worker);
		return;
	case ACTION_LIMIT:
		if (a->bytes < bytes(slot->sampled + slot->worker->cache))
			ledger_broken(r->l, r->world.now,
				      "limit of worker %u below its charge", a->slot);
		slot->loan = fmax(0, (double)a->bytes - limit_of(r));
		slot->worker->max = a->bytes == UINT64_MAX ? INFINITY : (double)a->bytes;
		world_schedule(&r->world, slot->worker);
		return;
	}
}

static void act(struct run *r)
{
	struct decision d = { .actions = r->actions };
	struct snapshot seen = {
		.now_usec = r->world.now,
		.slots = r->seen,
		.n_slots = r->s->n_slots,
		.host_pressure_usec = r->host_pressure_last,
	};

	if (r->s->clock_steps > 0 && world_random(&r->world) < r->s->clock_steps)
		seen.now_usec = (usec_t)(world_random(&r->world) * (double)r->world.now);
	for (uint32_t i = 0; i < r->s->n_slots; i++)
		look(r, i);
	seen.pool_bytes = bytes(pool_bytes(r));
	r->l->decisions++;
	decide(r->policy, &r->s->limits, &seen, &d);
	if (d.n_actions > 4 * (size_t)r->s->n_slots)
		abort();
	r->wake = d.wake_usec;
	for (size_t i = 0; i < d.n_actions; i++) {
		trace(r, &d.actions[i]);
		apply(r, &d.actions[i]);
	}
	check_budget(r);
	check_holds(r);
	check_service(r);
}

/* ---- what happens ---- */

static void become_ready(struct run *r, uint32_t i, struct worker *k)
{
	struct slot *slot = &r->slots[i];

	worker_become_ready(&r->world, k);
	if (slot->phase == SLOT_SURGING) {
		ledger_life(r->l, &r->world, slot->worker, limit_of(r));
		worker_drain(&r->world, slot->worker);
		slot->worker = k;
		slot->next = NULL;
		slot->wish = WISH_NONE;
	}
	slot->phase = SLOT_SERVING;
	slot->loan = 0;
	csv_row(r->csv, r->world.now, i, worker_envelope(k), "ready");
	policy_note_ready(r->policy, i, r->world.now, bytes(k->base));
}

static void state_ends(struct run *r, struct worker *k)
{
	uint32_t i = k->slot;
	struct slot *slot = &r->slots[i];

	if (k->state == WORKER_BOOTING && !k->boot_fails) {
		become_ready(r, i, k);
		return;
	}
	if (k->state == WORKER_DRAINING) {
		policy_note_drained(r->policy, i, r->world.now,
				    r->world.now - k->drain_begin);
		if (slot->worker == k) {
			slot->worker = NULL;
			slot->phase = SLOT_EMPTY;
		}
	} else {
		policy_note_boot_failed(r->policy, i, r->world.now);
		if (slot->next == k) {
			slot->next = NULL;
			slot->phase = SLOT_SERVING;
		} else {
			slot->worker = NULL;
			slot->phase = SLOT_EMPTY;
		}
	}
	worker_die(k);
}

static void dies(struct run *r, struct worker *k, bool kernel)
{
	uint32_t i = k->slot;
	struct slot *slot = &r->slots[i];

	if (k->state == WORKER_DRAINING) {
		r->l->late_kills++;
		state_ends(r, k);
		return;
	}
	csv_row(r->csv, r->world.now, i, worker_envelope(k),
		kernel ? "killed" : "crashed");
	if (kernel)
		ledger_kill(r->l, r->world.now);
	ledger_restart(r->l, r->world.now, false);
	if (kernel)
		ledger_life(r->l, &r->world, k, limit_of(r));
	policy_note_crashed(r->policy, i, r->world.now, kernel);
	slot->worker = slot->next;
	slot->next = NULL;
	slot->phase = slot->worker ? SLOT_BOOTING : SLOT_EMPTY;
	worker_die(k);
}

static void crosses(struct run *r, struct worker *k)
{
	struct slot *slot = &r->slots[k->slot];
	uint64_t high;

	k->high_events++;
	k->noticed = true;
	if (slot->worker != k || k->state != WORKER_SERVING)
		return;
	high = policy_raise_tripwire(r->policy, &r->s->limits, k->slot, r->world.now,
				     bytes(worker_charged(k)));
	k->noticed = (double)high <= k->high;
	k->high = high == UINT64_MAX ? INFINITY : (double)high;
}

static void handle(struct run *r, struct worker *k)
{
	double before, after;
	enum event event = k->next_event;
	uint32_t i = k->slot;

	world_update(&r->world, k);
	r->touched = i;
	switch (event) {
	case EVENT_STATE:
		r->touched = UINT32_MAX - 1;
		state_ends(r, k);
		break;
	case EVENT_HIGH:
		crosses(r, k);
		world_schedule(&r->world, k);
		break;
	case EVENT_KILL:
		r->touched = UINT32_MAX - 1;
		dies(r, k, true);
		break;
	case EVENT_CRASH:
		r->touched = UINT32_MAX - 1;
		dies(r, k, false);
		break;
	case EVENT_TRIMMED:
		worker_trim_end(&r->world, k, &before, &after);
		if (before - after < (double)r->s->limits.trim_min_yield_bytes)
			r->l->futile_trims++;
		csv_row(r->csv, r->world.now, i, after, "trim");
		policy_note_trimmed(r->policy, i, r->world.now, bytes(before),
				    bytes(after), 20000);
		break;
	case EVENT_CHANGE:
		worker_change(&r->world, k);
		return; /* nobody sees that */
	case EVENT_NONE:
		return;
	}
	act(r);
}

/* A worker announces that it has had its requests: an event, as a readiness is. */
static usec_t next_requests(const struct run *r)
{
	usec_t first = USEC_NEVER;

	for (uint32_t i = 0; r->s->requests_every > 0 && i < r->s->n_slots; i++) {
		const struct worker *k = r->slots[i].worker;
		usec_t at;

		if (!k || k->state != WORKER_SERVING)
			continue;
		at = k->ready + (usec_t)(r->s->requests_every * SEC);
		if (at > r->world.now)
			first = u64_min(first, at);
	}
	return first;
}

static usec_t outside(struct run *r)
{
	usec_t t = u64_min(u64_min(r->deploy, r->host_pressure), next_requests(r));

	return u64_min(t, r->csv ? r->csv_next : USEC_NEVER);
}

static void outside_happens(struct run *r)
{
	struct world *w = &r->world;

	if (r->csv && r->csv_next <= w->now) {
		for (uint32_t i = 0; i < r->s->n_slots; i++)
			csv_sample(r->csv, w, i, r->slots[i].worker);
		r->csv_next += CSV_EVERY_USEC;
		return;
	}
	if (r->deploy <= w->now) {
		for (uint32_t i = 0; i < r->s->n_slots; i++)
			r->slots[i].wish = WISH_RELOAD;
		r->deploy += (usec_t)(r->s->deploy_every * SEC);
	}
	if (r->host_pressure <= w->now) {
		if (r->host_pressure_until == 0)
			r->host_pressure_until =
				w->now + (usec_t)(r->s->host_pressure_seconds * SEC);
		r->host_pressure_last = w->now;
		r->host_pressure += 2 * USEC_PER_SEC;
		if (r->host_pressure > r->host_pressure_until) {
			r->host_pressure_until = 0;
			r->host_pressure += (usec_t)(r->s->host_pressure_every * SEC);
		}
	}
	r->touched = UINT32_MAX;
	act(r);
}

static void prepare(struct run *r, uint64_t seed)
{
	size_t n = r->s->n_slots;

	world_init(&r->world, &r->s->app, n, seed);
	r->world.now = USEC_PER_SEC;
	r->policy = malloc(policy_size(n));
	r->slots = calloc(n, sizeof(*r->slots));
	r->seen = calloc(n, sizeof(*r->seen));
	r->actions = calloc(4 * n, sizeof(*r->actions));
	if (!r->policy || !r->slots || !r->seen || !r->actions)
		abort();
	policy_init(r->policy, n, seed);
	for (size_t i = 0; i < n; i++)
		r->slots[i].held_since = USEC_NEVER;
	r->deploy =
		r->s->deploy_every > 0 ? (usec_t)(r->s->deploy_every * SEC) : USEC_NEVER;
	r->host_pressure = r->s->host_pressure_every > 0
				   ? (usec_t)(r->s->host_pressure_every * SEC)
				   : USEC_NEVER;
}

void run_trimtab(const struct scenario *s, const struct run_options *o,
		 struct ledger *ret)
{
	struct run r = { .s = s, .l = ret, .csv = o->csv, .trace = o->trace };
	usec_t end = (usec_t)(o->hours * 3600 * SEC), begin = time_now_usec();
	unsigned long at_once = 0;

	*ret = (struct ledger){ .scenario = s,
				.hours = o->hours,
				.last_restart = USEC_NEVER,
				.last_kill = USEC_NEVER };
	prepare(&r, o->seed);
	r.touched = UINT32_MAX;
	act(&r);
	while (r.world.now < end) {
		usec_t last = r.world.now;
		struct worker *k = world_next(&r.world);
		usec_t at = k ? k->next : USEC_NEVER, outer = outside(&r);

		/* A wake in the past is one now: timers never fire early. */
		r.wake = u64_max(r.wake, r.world.now);
		r.world.now = u64_min(at, u64_min(outer, r.wake));
		if (r.world.now >= end)
			break;
		at_once = r.world.now == last ? at_once + 1 : 0;
		if (at_once > 1000 * s->n_slots) {
			ledger_broken(ret, last, "the clock stands still");
			break;
		}
		if (at == r.world.now) {
			handle(&r, k);
		} else if (outer == r.world.now) {
			outside_happens(&r);
		} else {
			r.touched = UINT32_MAX;
			act(&r);
		}
	}
	ret->seconds_taken = (double)(time_now_usec() - begin) / SEC;
	world_done(&r.world);
	free(r.policy);
	free(r.slots);
	free(r.seen);
	free(r.actions);
}
