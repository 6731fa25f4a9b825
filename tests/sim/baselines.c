/* What people do today, on the same workers: nothing but a limit; the same threshold for all
 * with random jitter below it; one after the other by the clock. */
#include "fleet.h"

#include <math.h>
#include <stdlib.h>

struct base_slot {
	struct worker *worker;
	double threshold;
};

struct base_run {
	const struct scenario *s;
	struct ledger *l;
	struct world world;
	struct base_slot *slots;
	enum strategy strategy;
	FILE *csv;
	usec_t rotate, rotate_every, csv_next;
	uint32_t rotate_slot;
};

static double jitter(enum strategy strategy)
{
	return strategy == STRATEGY_JITTER_10	? 0.10
	       : strategy == STRATEGY_JITTER_50 ? 0.50
						: 0;
}

static void base_start(struct base_run *r, uint32_t i)
{
	double max = (double)r->s->limits.worker_max_bytes;

	r->slots[i].worker = world_start(&r->world, i, max, false);
	r->slots[i].threshold = max * (1 - jitter(r->strategy) * world_random(&r->world));
}

static void base_drain(struct base_run *r, struct worker *k)
{
	ledger_restart(r->l, r->world.now, true);
	ledger_life(r->l, &r->world, k, (double)r->s->limits.worker_max_bytes);
	csv_row(r->csv, r->world.now, k->slot, worker_envelope(k), "restart");
	worker_drain(&r->world, k);
}

static void base_handle(struct base_run *r, struct worker *k)
{
	enum event event = k->next_event;
	uint32_t i = k->slot;

	world_update(&r->world, k);
	switch (event) {
	case EVENT_STATE:
		if (k->state == WORKER_BOOTING) {
			worker_become_ready(&r->world, k);
			csv_row(r->csv, r->world.now, i, worker_envelope(k), "ready");
			/* The threshold is watched as closely as a tripwire would. */
			if (jitter(r->strategy) > 0)
				k->high = r->slots[i].threshold;
			world_schedule(&r->world, k);
			return;
		}
		worker_die(k);
		base_start(r, i);
		return;
	case EVENT_HIGH:
		k->high = INFINITY;
		base_drain(r, k);
		return;
	case EVENT_KILL:
	case EVENT_CRASH:
		if (k->state == WORKER_SERVING) {
			csv_row(r->csv, r->world.now, i, worker_envelope(k), "killed");
			if (event == EVENT_KILL)
				ledger_kill(r->l, r->world.now);
			ledger_restart(r->l, r->world.now, false);
			if (event == EVENT_KILL)
				ledger_life(r->l, &r->world, k,
					    (double)r->s->limits.worker_max_bytes);
		}
		worker_die(k);
		base_start(r, i);
		return;
	case EVENT_CHANGE:
		worker_change(&r->world, k);
		return;
	case EVENT_TRIMMED:
	case EVENT_NONE:
		return;
	}
}

static void base_outside(struct base_run *r)
{
	struct worker *k;

	if (r->csv && r->csv_next <= r->world.now) {
		for (uint32_t i = 0; i < r->s->n_slots; i++)
			csv_sample(r->csv, &r->world, i, r->slots[i].worker);
		r->csv_next += CSV_EVERY_USEC;
		return;
	}
	k = r->slots[r->rotate_slot].worker;
	world_update(&r->world, k);
	if (k->state == WORKER_SERVING)
		base_drain(r, k);
	r->rotate_slot = (r->rotate_slot + 1) % r->s->n_slots;
	r->rotate += r->rotate_every;
}

static void base_service(struct base_run *r)
{
	unsigned int out = 0;

	for (uint32_t i = 0; i < r->s->n_slots; i++)
		out += r->slots[i].worker->state != WORKER_SERVING;
	if (r->world.now > 600 * USEC_PER_SEC && out > r->l->out_max)
		r->l->out_max = out;
}

/* The period of a rotation that keeps even the fastest worker from its limit. */
static usec_t rotation(const struct scenario *s)
{
	const struct app *app = &s->app;
	double room = (double)s->limits.worker_max_bytes - app->footprint - app->saw;
	double life = room / ((app->leak + app->heap) * (1 + app->growth_spread));

	return life > 0 && isfinite(life) ? (usec_t)(life / s->n_slots * SEC)
					  : USEC_NEVER;
}

void run_baseline(const struct scenario *s, enum strategy strategy,
		  const struct run_options *o, struct ledger *ret)
{
	struct base_run r = { .s = s, .l = ret, .csv = o->csv, .strategy = strategy };
	usec_t end = (usec_t)(o->hours * 3600 * SEC), begin = time_now_usec();

	*ret = (struct ledger){ .scenario = s,
				.hours = o->hours,
				.last_restart = USEC_NEVER,
				.last_kill = USEC_NEVER };
	world_init(&r.world, &s->app, s->n_slots, o->seed);
	r.world.now = USEC_PER_SEC;
	r.slots = calloc(s->n_slots, sizeof(*r.slots));
	if (!r.slots)
		abort();
	r.rotate_every = strategy == STRATEGY_ROTATION ? rotation(s) : USEC_NEVER;
	r.rotate = r.rotate_every;
	for (uint32_t i = 0; i < s->n_slots; i++)
		base_start(&r, i);
	while (r.world.now < end) {
		struct worker *k = world_next(&r.world);
		usec_t at = k ? k->next : USEC_NEVER;
		usec_t outer = u64_min(r.rotate, o->csv ? r.csv_next : USEC_NEVER);

		r.world.now = u64_min(at, outer);
		if (r.world.now >= end)
			break;
		if (at == r.world.now)
			base_handle(&r, k);
		else
			base_outside(&r);
		base_service(&r);
	}
	ret->seconds_taken = (double)(time_now_usec() - begin) / SEC;
	world_done(&r.world);
	free(r.slots);
}
