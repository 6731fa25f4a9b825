/* One run: a scenario under a strategy, and what came of it. */
#pragma once

#include <stdio.h>

#include "world.h"

struct scenario {
	const char *name;
	const char *about;
	struct app app;
	struct limits limits;
	uint32_t n_slots;
	double template_bytes;
	bool feasible;	  /* min_gap can be kept for every cause there is */
	bool no_kills;	  /* the kernel must have nothing to do */
	bool no_restarts; /* nor must we */
	bool too_many;	  /* to keep even the floor of the gap without a kernel kill */
	double requests_every; /* seconds until a worker reaches max-requests; 0: never */
	double deploy_every;   /* seconds; 0: none */
	double stuck_every, stuck_seconds; /* slot 0 fails to boot in such a window */
	double lies;			   /* share of samples that are nonsense */
	double clock_steps; /* share of decisions told a time in the past */
	double host_pressure_every, host_pressure_seconds;
	double more_max; /* restarts beyond those of the limit alone, in percent; 0: any */
	double life_min;    /* of the life that the limit would allow, in percent */
	double hours_share; /* of the hours asked for: big fleets take long */
};

enum strategy {
	STRATEGY_TRIMTAB,
	STRATEGY_LIMIT,
	STRATEGY_JITTER_10,
	STRATEGY_JITTER_50,
	STRATEGY_ROTATION,
	N_STRATEGIES,
};

/* What is counted, and by what it is judged. */
struct ledger {
	const struct scenario *scenario;
	double hours;
	unsigned long restarts; /* begun: planned, and kills and crashes */
	unsigned long planned;
	unsigned long close_pairs;	   /* two that began closer than min_gap, */
	unsigned long floor_pairs;	   /* and closer than its floor */
	unsigned long minute_pairs;	   /* and closer than a minute */
	unsigned long kills, double_kills; /* by memory.max; two within the floor */
	unsigned long late_kills;	   /* of workers that drain already */
	unsigned long trims, futile_trims, decisions;
	unsigned int out_now, out_max; /* slots out of service at once */
	unsigned long both_out;	       /* planned, while another slot was out */
	double life, life_allowed; /* seconds, of workers that ended by plan or kill */
	double budget_used;	   /* highest share of it ever, loans included */
	double held, held_max;	   /* seconds */
	unsigned long broken;	   /* invariants, each printed */
	usec_t last_restart, last_kill;
	double seconds_taken;
};

void ledger_restart(struct ledger *l, usec_t now, bool planned);
void ledger_kill(struct ledger *l, usec_t now);
void ledger_life(struct ledger *l, const struct world *w, const struct worker *k,
		 double limit);
/* Says which promise was broken, when, and counts it. */
void ledger_broken(struct ledger *l, usec_t now, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

struct run_options {
	double hours;
	uint64_t seed;
	FILE *csv;   /* NULL, or where each worker's memory and its events go */
	FILE *trace; /* NULL, or where each decision goes */
};

void run_trimtab(const struct scenario *s, const struct run_options *o,
		 struct ledger *ret);
void run_baseline(const struct scenario *s, enum strategy strategy,
		  const struct run_options *o, struct ledger *ret);

/* One line of memory: time in seconds, slot, MiB, event ("" for a mere sample). */
void csv_row(FILE *csv, usec_t now, uint32_t slot, double bytes, const char *event);

/* A sample of the slot's worker, 0 where none serves; taken aside, so that a run with a CSV file
 * is the run without one. */
#define CSV_EVERY_USEC (30 * USEC_PER_SEC)
void csv_sample(FILE *csv, const struct world *w, uint32_t slot, const struct worker *k);

extern const struct scenario scenarios[];
extern const size_t n_scenarios;
