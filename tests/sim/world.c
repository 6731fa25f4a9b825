/* Workers and leaves. Owns struct worker; knows no strategy. */
#include "world.h"

#include <math.h>
#include <stdlib.h>

#define BATCH_BYTES   (256.0 * 1024)
#define THROTTLE_STEP USEC_PER_SEC

/* 0 <= x < 1, and the like. */
static double draw(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
	return (double)((z ^ (z >> 31)) >> 11) / (double)(1ULL << 53);
}

static double spread(uint64_t *state, double mean, double share)
{
	return mean * (1 + share * (2 * draw(state) - 1));
}

static double exponential(uint64_t *state, double mean)
{
	return -mean * log(1 - draw(state));
}

double world_random(struct world *w)
{
	return draw(&w->random);
}

/* The k-th worker of a slot is the same under every strategy, so what is compared are the
 * strategies and not their luck: with draws of their own, two runs of `unequal` differ by 2 %
 * of restarts in 1,000 hours. */
static uint64_t birth(struct world *w, uint32_t slot)
{
	uint64_t state = w->seed ^ ((uint64_t)slot << 32 | w->n_births[slot]++);

	(void)draw(&state);
	return state * 0xd1342543de82ef95;
}

static usec_t after(const struct world *w, double seconds)
{
	return w->now + (usec_t)(seconds * SEC) + 1;
}

void world_init(struct world *w, const struct app *app, size_t n_slots, uint64_t seed)
{
	*w = (struct world){
		.app = app,
		.seed = seed,
		.random = seed,
		.n_workers = 3 * n_slots + 4,
	};
	w->workers = calloc(w->n_workers, sizeof(*w->workers));
	w->n_births = calloc(n_slots, sizeof(*w->n_births));
	if (!w->workers || !w->n_births)
		abort();
}

void world_done(struct world *w)
{
	free(w->workers);
	free(w->n_births);
}

static struct worker *vacant(struct world *w)
{
	for (size_t i = 0; i < w->n_workers; i++)
		if (w->workers[i].state == WORKER_NONE)
			return &w->workers[i];
	abort();
}

struct worker *world_start(struct world *w, uint32_t slot, double limit, bool boot_fails)
{
	const struct app *app = w->app;
	struct worker *k = vacant(w);
	uint64_t random = birth(w, slot);
	double boot = spread(&random, app->boot_seconds, app->boot_spread);
	double footprint = spread(&random, app->footprint, app->footprint_spread);

	*k = (struct worker){
		.state = WORKER_BOOTING,
		.slot = slot,
		.updated = w->now,
		.started = w->now,
		.base = footprint,
		.random = random,
		.high = INFINITY,
		.max = limit,
		.state_end = after(w, boot),
		.burst_begin = USEC_NEVER,
		.burst_end = USEC_NEVER,
		.runaway_at = USEC_NEVER,
		.crash_at = USEC_NEVER,
		.trim_end = USEC_NEVER,
		.boot_fails = boot_fails,
	};
	world_schedule(w, k);
	return k;
}

void worker_become_ready(struct world *w, struct worker *k)
{
	const struct app *app = w->app;
	double pace = spread(&k->random, 1, app->growth_spread);

	k->state = WORKER_SERVING;
	k->ready = w->now;
	k->state_end = USEC_NEVER;
	k->leak_rate = app->leak * pace;
	k->heap_rate = app->heap * pace;
	k->saw = app->saw;
	if (app->burst_every > 0)
		k->burst_begin = after(w, exponential(&k->random, app->burst_every));
	if (app->runaway_at > 0 &&
	    (app->runaway_until <= 0 || (double)k->started < app->runaway_until * SEC))
		k->runaway_at = after(w, app->runaway_at);
	if (app->crash_every > 0)
		k->crash_at = after(w, exponential(&k->random, app->crash_every));
	world_schedule(w, k);
}

/* A burst needs so much heap; what lies free from the last one is used again. */
void worker_change(struct world *w, struct worker *k)
{
	const struct app *app = w->app;

	if (k->burst_begin <= w->now) {
		k->burst_rate = fmax(0, app->burst_bytes - k->heap) / app->burst_seconds;
		k->burst_begin = USEC_NEVER;
		k->burst_end = after(w, app->burst_seconds);
	} else if (k->burst_end <= w->now) {
		k->burst_rate = 0;
		k->burst_end = USEC_NEVER;
		k->burst_begin = after(w, exponential(&k->random, app->burst_every));
	}
	if (k->runaway_at <= w->now) {
		k->runaway_rate = app->runaway;
		k->runaway_at = USEC_NEVER;
	}
	world_schedule(w, k);
}

void worker_drain(struct world *w, struct worker *k)
{
	k->state = WORKER_DRAINING;
	k->drain_begin = w->now;
	k->state_end = after(w, w->app->drain_seconds * (0.5 + draw(&k->random)));
	k->crash_at = k->trim_end = USEC_NEVER;
	world_schedule(w, k);
}

void worker_die(struct worker *k)
{
	*k = (struct worker){ .next = USEC_NEVER };
}

void worker_trim(struct world *w, struct worker *k)
{
	/* 0.1 ms per MiB and some 10 ms to get there. */
	k->trim_end = after(w, 0.010 + k->heap / (1 << 20) * 0.0001);
	world_schedule(w, k);
}

void worker_trim_end(struct world *w, struct worker *k, double *ret_before,
		     double *ret_after)
{
	world_update(w, k);
	*ret_before = k->base + k->heap + k->saw / 2;
	k->heap *= 0.02;
	*ret_after = k->base + k->heap + k->saw / 2;
	k->trim_end = USEC_NEVER;
	world_schedule(w, k);
}

/* ---- growth ---- */

static double natural_rate(const struct world *w, const struct worker *k)
{
	double rate = k->leak_rate + k->heap_rate;

	if (k->state != WORKER_SERVING)
		return k->state == WORKER_DRAINING ? k->runaway_rate : 0;
	if (w->app->plateau > 0 && worker_envelope(k) >= w->app->plateau)
		rate = 0;
	return rate + k->burst_rate + k->runaway_rate;
}

/* The kernel's rule: 6.4 ms x percent^2 for each batch, at most 2 s, less than 10 ms not at all. */
static double throttle(double rate, double usage, double high)
{
	double percent = (usage - high) / high * 100, sleep;

	if (rate <= 0 || percent <= 0)
		return rate;
	sleep = fmin(0.0064 * percent * percent, 2);
	return sleep < 0.010 ? rate : BATCH_BYTES / (BATCH_BYTES / rate + sleep);
}

static bool over_high(const struct worker *k)
{
	return worker_charged(k) >= k->high - 1;
}

/* Page cache above high is dropped without delay; memory that cannot be dropped is not. */
static double effective_rate(const struct world *w, const struct worker *k)
{
	double rate = natural_rate(w, k);

	return over_high(k) && k->cache <= 0 ? throttle(rate, worker_envelope(k), k->high)
					     : rate;
}

static double cache_rate(const struct world *w, const struct worker *k)
{
	return k->state == WORKER_SERVING && k->cache < w->app->cache ? w->app->cache_rate
								      : 0;
}

void world_update(struct world *w, struct worker *k)
{
	double seconds = (double)(w->now - k->updated) / SEC;
	double natural = natural_rate(w, k), rate = effective_rate(w, k);
	double share = natural > 0 ? rate / natural : 0;
	double grown = share * seconds;
	bool flat = w->app->plateau > 0 && worker_envelope(k) >= w->app->plateau;

	if (k->state == WORKER_NONE)
		return;
	k->updated = w->now;
	if (k->state == WORKER_SERVING) {
		double leaks = w->app->burst_leaks;

		k->cache = fmin(k->cache + cache_rate(w, k) * seconds, w->app->cache);
		k->base +=
			(flat ? 0 : k->leak_rate * grown) + k->burst_rate * leaks * grown;
		k->heap += (flat ? 0 : k->heap_rate * grown) +
			   k->burst_rate * (1 - leaks) * grown;
	}
	k->base += k->runaway_rate * grown;
	k->peak = fmax(k->peak, worker_envelope(k));
	if (over_high(k) && k->cache > 0)
		k->cache = fmax(0, k->high - worker_envelope(k));
}

static usec_t when(const struct worker *k, double left, double rate)
{
	double seconds = left / rate;

	if (left <= 0)
		return k->updated;
	if (rate <= 0 || seconds > 1e9)
		return USEC_NEVER;
	return k->updated + (usec_t)ceil(seconds * SEC);
}

static void consider(struct worker *k, usec_t at, enum event event)
{
	if (at < k->next) {
		k->next = at;
		k->next_event = event;
	}
}

void world_schedule(struct world *w, struct worker *k)
{
	double rate = effective_rate(w, k);

	k->next = USEC_NEVER;
	k->next_event = EVENT_NONE;
	if (k->state == WORKER_NONE)
		return;
	consider(k, k->state_end, EVENT_STATE);
	consider(k, k->trim_end, EVENT_TRIMMED);
	consider(k, k->crash_at, EVENT_CRASH);
	consider(k, k->burst_begin, EVENT_CHANGE);
	consider(k, k->burst_end, EVENT_CHANGE);
	consider(k, k->runaway_at, EVENT_CHANGE);
	if (w->app->plateau > 0 && worker_envelope(k) < w->app->plateau)
		consider(k, when(k, w->app->plateau - worker_envelope(k), rate),
			 EVENT_CHANGE);
	consider(k, when(k, k->max - worker_envelope(k), rate), EVENT_KILL);
	if (!over_high(k))
		consider(k, when(k, k->high - worker_charged(k), rate + cache_rate(w, k)),
			 EVENT_HIGH);
	else if (!k->noticed)
		consider(k, k->updated, EVENT_HIGH);
	else if (rate > 0)
		/* It goes on charging above high: the counter moves again and again. */
		consider(k, k->updated + THROTTLE_STEP, EVENT_HIGH);
	if (k->next < w->now)
		k->next = w->now;
}

struct worker *world_next(struct world *w)
{
	struct worker *first = NULL;

	for (size_t i = 0; i < w->n_workers; i++) {
		struct worker *k = &w->workers[i];

		if (k->state != WORKER_NONE && k->next != USEC_NEVER &&
		    (!first || k->next < first->next))
			first = k;
	}
	return first;
}

double worker_usage(struct world *w, const struct worker *k)
{
	return k->base + k->heap + k->saw * (1 - w->app->saw_spread * world_random(w));
}

double worker_life_left(const struct worker *k, double limit)
{
	double rate = k->leak_rate + k->heap_rate + k->runaway_rate;

	return rate > 0 ? fmax(0, (limit - worker_envelope(k)) / rate) : INFINITY;
}
