/* The physics of the simulation: workers whose memory grows, leaves with memory.high and
 * memory.max as the kernel applies them, and a clock that jumps from event to event.
 *
 * Only what a strategy can see or do is exact: crossings, kills, boots and drains happen at
 * their microsecond, and the throttle follows the kernel's rule. Bytes are doubles here; the
 * policy under test never sees one. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "policy/arith.h"
#include "policy/decide.h"

#define SEC ((double)USEC_PER_SEC)

/* What an application does with memory. Bytes, and bytes per second of time being served. */
struct app {
	double footprint;
	double footprint_spread; /* share, uniform both ways */
	double leak;		 /* grows and stays */
	double heap;		 /* grows and is free: a trim returns it */
	double growth_spread;	 /* share, uniform both ways, drawn for each worker */
	double saw;		 /* height of the requests' sawtooth above that */
	double saw_spread;	 /* share, uniform downwards, at each sample */
	double plateau;		 /* growth stops here; 0: never */
	double burst_every;	 /* seconds, mean of an exponential; 0: no bursts */
	double burst_bytes, burst_seconds;
	double burst_leaks;   /* share of a burst that stays */
	double runaway_at;    /* seconds after its start; 0: never */
	double runaway;	      /* bytes per second from then on, leaking */
	double runaway_until; /* only workers that started before that; 0: all */
	double cache;	      /* page cache that it fills, */
	double cache_rate;    /* at this speed */
	double boot_seconds, boot_spread;
	double drain_seconds;
	double crash_every; /* seconds, mean; 0: never */
};

enum worker_state {
	WORKER_NONE,
	WORKER_BOOTING,
	WORKER_SERVING,
	WORKER_DRAINING,
};

struct worker {
	enum worker_state state;
	uint32_t slot;
	usec_t updated; /* time of the figures below */
	double base, heap, saw, cache;
	double leak_rate, heap_rate, burst_rate, runaway_rate;
	double high, max; /* of its leaf; INFINITY: max */
	double peak;	  /* highest envelope ever */
	usec_t started, ready, drain_begin;
	usec_t state_end; /* boot or drain ends */
	usec_t burst_begin, burst_end, runaway_at, crash_at, trim_end;
	bool boot_fails;
	bool noticed; /* that it is above high */
	uint64_t high_events;
	uint64_t random; /* what it draws comes from its slot and generation alone */
	usec_t next;	 /* its next event; world_schedule() */
	enum event {
		EVENT_NONE,
		EVENT_STATE, /* booted or drained */
		EVENT_HIGH,  /* envelope reached memory.high, or is still above it */
		EVENT_KILL,  /* envelope reached memory.max */
		EVENT_CRASH,
		EVENT_TRIMMED,
		EVENT_CHANGE, /* a burst or the like began or ended */
	} next_event;
};

struct world {
	const struct app *app;
	struct worker *workers;
	size_t n_workers;   /* capacity */
	uint32_t *n_births; /* of each slot */
	usec_t now;
	uint64_t seed;
	uint64_t random; /* of those who look, and of strategies */
	double template_bytes;
};

/* 0 <= x < 1. */
double world_random(struct world *w);

void world_init(struct world *w, const struct app *app, size_t n_slots, uint64_t seed);
void world_done(struct world *w);

/* A worker that begins to boot now. limit: its leaf's memory.max. boot_fails: it will die at
 * the end of its boot instead of being ready. */
struct worker *world_start(struct world *w, uint32_t slot, double limit, bool boot_fails);

/* Brings the worker's figures to now. */
void world_update(struct world *w, struct worker *k);

/* Finds the worker's next event; after any change to it. */
void world_schedule(struct world *w, struct worker *k);

/* The worker with the earliest event, NULL: none will ever have one. */
struct worker *world_next(struct world *w);

/* Highest usage of its requests, as of the last update. */
static inline double worker_envelope(const struct worker *k)
{
	return k->base + k->heap + k->saw;
}

/* What a look at it now would read, requests at a random moment. */
double worker_usage(struct world *w, const struct worker *k);

static inline double worker_charged(const struct worker *k)
{
	return worker_envelope(k) + k->cache;
}

void worker_become_ready(struct world *w, struct worker *k);
void worker_change(struct world *w, struct worker *k); /* at EVENT_CHANGE */
void worker_drain(struct world *w, struct worker *k);
void worker_die(struct worker *k);
/* Begins a trim; at EVENT_TRIMMED call worker_trim_end(). */
void worker_trim(struct world *w, struct worker *k);
void worker_trim_end(struct world *w, struct worker *k, double *ret_before,
		     double *ret_after);

/* How long from now it would live if nobody did anything, in seconds. */
double worker_life_left(const struct worker *k, double limit);
