/* estimators: which estimate of growth plans a restart best? The forecast of the policy, as it is,
 * beside the simpler ones that it was chosen over, on the same lives.
 *
 *	estimators [--lives N] [--seed N]
 *
 * A life goes from 60 MiB to 512 MiB. Each estimator looks at it as the policy does: at half of the
 * time that it believes is left, at least every 30 s (there are other workers whose events bring a
 * look) and at most every second, and when the peaks have risen by a tripwire's step. Where trims
 * take back most of the growth, it is shown what they leave, as the policy's is. It asks for a
 * restart when it believes that a minute is left, of which the replacement needs 48 s.
 *
 *	error	of the time left, in percent of it, over the second half of life: the median,
 *		and what one in ten exceeds; "never" where it saw no end
 *	late	lives that met the limit first; the policy has loans and the brake for them
 *	lost	of the life that could have been lived, mean of those that were not late
 *
 * Exit status 1: the policy's own is late or early more often than it was when it was chosen, or is
 * alarmed by no growth. */
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/arith.h"
#include "policy/forecast.h"

#define M	   (1024.0 * 1024)
#define SEC	   ((double)USEC_PER_SEC)
#define START	   (60 * M)
#define LIMIT	   (512 * M)
#define TARGET	   (LIMIT - 2 * M)
#define STEP	   (20 * M)
#define LEAD	   60.0
#define NEED	   (LEAD * 4 / 5) /* a quarter on top, as the policy has it */
#define LOOK_MAX   30.0
#define LOOK_MIN   1.0
#define SIGMAS	   2
#define BELIEVABLE ((double)((uint64_t)1 << 43))
#define NEVER	   1e12

/* ---- lives ---- */

struct trace {
	const char *name, *about;
	double hours;	   /* of a life */
	double heap;	   /* share of the growth that a trim gives back, */
	double trim_every; /* seconds; then only what trims leave is looked at */
	double saw;	   /* requests on top, uniform up to that */
	double noise;	   /* standard deviation of a sample */
	double burst_every, burst_bytes, burst_seconds;
	double bend_at, bend; /* from that share of life on, growth times that */
	double lies;	      /* share of samples; then nobody vouches for any */
	bool flat;	      /* does not grow at all; hours: how long it is watched */
	double late_max, lost_max; /* percent; what the policy's own may be */
};

static const struct trace traces[] = {
	{
		.name = "steady",
		.about = "a leak, 4 h +-20 % to the limit, as all but the last two",
		.hours = 4,
		.lost_max = 1,
	},
	{
		.name = "noise",
		.about = "samples scatter by 8 MiB",
		.hours = 4,
		.noise = 8 * M,
		.late_max = 5,
		.lost_max = 6,
	},
	{
		.name = "sawtooth",
		.about = "requests of up to 80 MiB",
		.hours = 4,
		.saw = 80 * M,
		.late_max = 40,
		.lost_max = 5,
	},
	{
		.name = "trims",
		.about = "three quarters are free heap, trimmed every 10 min",
		.hours = 4,
		.heap = 0.75,
		.trim_every = 600,
		.saw = 20 * M,
		.late_max = 5,
		.lost_max = 10,
	},
	{
		.name = "bursts",
		.about =
			"60 MiB more for 20 s, every 10 min: one of them meets the limit",
		.hours = 4,
		.burst_every = 600,
		.burst_bytes = 60 * M,
		.burst_seconds = 20,
		.late_max = 100,
		.lost_max = 15,
	},
	{
		.name = "bend",
		.about = "three times as fast from 60 % of life on, requests of 20 MiB",
		.hours = 4,
		.saw = 20 * M,
		.bend_at = 0.6,
		.bend = 3,
		.late_max = 80,
		.lost_max = 2,
	},
	{
		.name = "lies",
		.about = "one sample in twenty is nonsense, and no tripwire",
		.hours = 4,
		.noise = 1 * M,
		.lies = 0.05,
		.late_max = 5,
		.lost_max = 2,
	},
	{
		.name = "ten days",
		.about = "30,000 looks in 24 points, requests of 40 MiB",
		.hours = 240,
		.saw = 40 * M,
		.late_max = 5,
		.lost_max = 4,
	},
	{
		.name = "flat",
		.about = "requests of 120 MiB for a day, and no growth",
		.hours = 24,
		.saw = 120 * M,
		.flat = true,
	},
};

#define N_TRACES     (sizeof(traces) / sizeof(traces[0]))
#define BURSTS_MOST  512
#define TRUTH_POINTS 20000

struct life {
	const struct trace *trace;
	double rate, bend_from,
		end; /* bytes per second, seconds; when it meets the limit */
	double bursts[BURSTS_MOST];
	size_t n_bursts;
	uint64_t random;
};

static double draw(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
	return (double)((z ^ (z >> 31)) >> 11) / (double)(1ULL << 53);
}

static double draw_normal(uint64_t *state)
{
	return sqrt(-2 * log(1 - draw(state))) * cos(2 * M_PI * draw(state));
}

static double grown(const struct life *l, double from, double to)
{
	double bent = fmax(0, to - fmax(from, l->bend_from));

	return l->rate * (to - from + (l->trace->bend - 1) * bent);
}

static double last_trim(const struct life *l, double t)
{
	double every = l->trace->trim_every;

	return every > 0 ? floor(t / every) * every : 0;
}

static double bursting(const struct life *l, double t)
{
	for (size_t i = 0; i < l->n_bursts; i++)
		if (t >= l->bursts[i] && t < l->bursts[i] + l->trace->burst_seconds)
			return l->trace->burst_bytes;
	return 0;
}

/* What stays between requests. */
static double floor_at(const struct life *l, double t)
{
	double heap = l->trace->heap;

	return START + (1 - heap) * grown(l, 0, t) + heap * grown(l, last_trim(l, t), t) +
	       bursting(l, t);
}

static double envelope_at(const struct life *l, double t)
{
	return floor_at(l, t) + l->trace->saw;
}

static void live(struct life *l, const struct trace *trace, uint64_t seed)
{
	double seconds = trace->hours * 3600, t = 0;

	*l = (struct life){ .trace = trace, .random = seed, .bend_from = INFINITY };
	l->rate = (LIMIT - START) / seconds / (1 - trace->heap) *
		  (0.8 + 0.4 * draw(&l->random));
	if (trace->flat)
		l->rate = 0;
	if (trace->bend_at > 0)
		l->bend_from = trace->bend_at * (LIMIT - START) / l->rate;
	for (; trace->burst_every > 0 && l->n_bursts < BURSTS_MOST; l->n_bursts++) {
		t += trace->burst_seconds -
		     trace->burst_every * log(1 - draw(&l->random));
		l->bursts[l->n_bursts] = t;
	}
	l->end = NEVER;
	for (size_t i = 0; !trace->flat && i < 2 * TRUTH_POINTS; i++) {
		t = seconds * (double)i / TRUTH_POINTS;
		if (envelope_at(l, t) >= LIMIT) {
			l->end = t;
			return;
		}
	}
}

/* ---- estimators ---- */

enum { RECENT = 24 }; /* as many as the policy's forecast has points */

/* What all of the simple ones have: the latest samples, and sums over all of them. */
struct simple {
	double t[RECENT], y[RECENT];
	size_t n;
	double first_t, first_y, ewma;
	double st, sy, stt, sty, syy;
};

struct state {
	struct forecast forecast;
	struct simple simple;
};

struct estimate {
	double slope,
		error; /* bytes per second; error: one standard deviation, 0: unknown */
};

struct estimator {
	const char *name;
	struct estimate (*fit)(const struct simple *s); /* NULL: the policy's own */
};

static size_t recent(const struct simple *s)
{
	return s->n < RECENT ? s->n : RECENT;
}

static struct estimate line(double n, double st, double sy, double stt, double sty,
			    double syy)
{
	double t2 = stt - st * st / n, ty = sty - st * sy / n, y2 = syy - sy * sy / n;
	struct estimate e = { 0 };

	if (n < 3 || t2 <= 0)
		return e;
	e.slope = ty / t2;
	e.error = sqrt(fmax(0, y2 - e.slope * ty) / (n - 2) / t2);
	return e;
}

static struct estimate fit_all(const struct simple *s)
{
	return line((double)s->n, s->st, s->sy, s->stt, s->sty, s->syy);
}

static struct estimate fit_recent(const struct simple *s)
{
	double st = 0, sy = 0, stt = 0, sty = 0, syy = 0;
	size_t n = recent(s);

	for (size_t i = 0; i < n; i++) {
		st += s->t[i];
		sy += s->y[i];
		stt += s->t[i] * s->t[i];
		sty += s->t[i] * s->y[i];
		syy += s->y[i] * s->y[i];
	}
	return line((double)n, st, sy, stt, sty, syy);
}

static struct estimate fit_ewma(const struct simple *s)
{
	return (struct estimate){ .slope = s->ewma };
}

static struct estimate fit_two(const struct simple *s)
{
	size_t last = (s->n + RECENT - 1) % RECENT,
	       first = s->n < RECENT ? 0 : s->n % RECENT;
	double t = s->t[last] - s->t[first];

	return (struct estimate){ .slope = t > 0 ? (s->y[last] - s->y[first]) / t : 0 };
}

static struct estimate fit_whole(const struct simple *s)
{
	size_t last = (s->n + RECENT - 1) % RECENT;
	double t = s->t[last] - s->first_t;

	return (struct estimate){ .slope = t > 0 ? (s->y[last] - s->first_y) / t : 0 };
}

static const struct estimator estimators[] = {
	{ "Theil-Sen, 24 merged points", NULL },
	{ "least squares, all samples", fit_all },
	{ "least squares, last 24", fit_recent },
	{ "EWMA of slopes, 1/8", fit_ewma },
	{ "two points, last 24", fit_two },
	{ "first and last point", fit_whole },
};

#define N_ESTIMATORS (sizeof(estimators) / sizeof(estimators[0]))

static void simple_add(struct simple *s, double t, double y)
{
	size_t last = (s->n + RECENT - 1) % RECENT;

	if (y >= BELIEVABLE)
		return;
	if (s->n == 0) {
		s->first_t = t;
		s->first_y = y;
	} else if (t > s->t[last]) {
		s->ewma += ((y - s->y[last]) / (t - s->t[last]) - s->ewma) / 8;
	}
	s->t[s->n % RECENT] = t;
	s->y[s->n % RECENT] = y;
	s->n++;
	s->st += t;
	s->sy += y;
	s->stt += t * t;
	s->sty += t * y;
	s->syy += y * y;
}

static double simple_reaches(const struct estimator *e, const struct simple *s,
			     double now, double target, unsigned int sigmas)
{
	struct estimate fit = e->fit(s);
	double level = -INFINITY, slope = fit.slope + sigmas * fit.error;

	if (s->n < 3 || fit.slope <= 0 || fit.slope < 2 * fit.error)
		return NEVER;
	/* Peaks count: the highest of the latest, carried on to now. */
	for (size_t i = 0; i < recent(s); i++)
		level = fmax(level, s->y[i] + fit.slope * (now - s->t[i]));
	return now + fmax(0, target - level) / slope;
}

static void add(const struct estimator *e, struct state *s, double t, double y,
		bool trusted)
{
	uint64_t bytes = y >= (double)UINT64_MAX ? UINT64_MAX : (uint64_t)fmax(0, y);

	if (!e->fit)
		(void)forecast_add(&s->forecast, (usec_t)(t * SEC), bytes, trusted);
	else
		simple_add(&s->simple, t, y);
}

static double reaches(const struct estimator *e, const struct state *s, double now,
		      double target, unsigned int sigmas)
{
	usec_t at;

	if (e->fit)
		return simple_reaches(e, &s->simple, now, target, sigmas);
	at = forecast_reaches(&s->forecast, (uint64_t)target, sigmas);
	return at == USEC_NEVER ? NEVER : (double)at / SEC;
}

/* ---- one life under one estimator ---- */

struct result {
	double *errors; /* percent of the time left */
	size_t n_errors, room;
	unsigned long n_late, n_ended;
	double lost; /* percent, summed */
};

static void note_error(struct result *r, double error)
{
	if (r->n_errors == r->room) {
		r->room = r->room ? 2 * r->room : 4096;
		r->errors = realloc(r->errors, r->room * sizeof(*r->errors));
		if (!r->errors)
			abort();
	}
	r->errors[r->n_errors++] = error;
}

static void look(const struct life *l, const struct estimator *e, struct state *s,
		 double t, uint64_t *random, bool at_peak)
{
	const struct trace *trace = l->trace;
	double y =
		at_peak ? envelope_at(l, t) : floor_at(l, t) + trace->saw * draw(random);
	double kind = draw(random), noise = draw_normal(random);

	if (!at_peak)
		y += trace->noise * noise;
	if (draw(random) < trace->lies)
		y = kind < 0.3 ? 0 : kind < 0.6 ? (double)UINT64_MAX : draw(random) * 1e9;
	add(e, s, t, y, trace->lies <= 0);
}

static double next_look(const struct life *l, double t, double due, double *step)
{
	double at = t + fmin(fmax((due - t) / 2, LOOK_MIN), LOOK_MAX);

	/* The tripwire is met within that time, where there is one. */
	if (l->trace->lies <= 0 && envelope_at(l, at) >= *step) {
		double low = t, high = at;

		while (high - low > 0.001) {
			double mid = (low + high) / 2;

			*(envelope_at(l, mid) >= *step ? &high : &low) = mid;
		}
		return -high; /* a crossing */
	}
	return at;
}

/* What a trim leaves may rise to, so that what grows until the next stays below the limit. */
static double target_of(const struct life *l)
{
	const struct trace *trace = l->trace;

	return trace->trim_every > 0
		       ? TARGET - trace->saw - trace->heap * l->rate * trace->trim_every
		       : TARGET;
}

static void end_life(const struct life *l, double t, struct result *r)
{
	r->n_ended++;
	if (l->trace->flat)
		return;
	if (t + NEED > l->end)
		r->n_late++;
	else
		r->lost += 100 * (l->end - NEED - t) / (l->end - NEED);
}

static void follow(const struct life *l, const struct estimator *e, uint64_t seed,
		   struct result *r)
{
	static struct state s;
	const struct trace *trace = l->trace;
	double t = 0, step = START + STEP,
	       watched = trace->flat ? trace->hours * 3600 : NEVER;
	double target = target_of(l);
	uint64_t random = seed;

	memset(&s, 0, sizeof(s));
	forecast_reset(&s.forecast);
	look(l, e, &s, 0, &random, false);
	while (t < l->end && t < watched) {
		double due = reaches(e, &s, t, target, SIGMAS) - LEAD;
		double at = trace->trim_every > 0 ? t + trace->trim_every
						  : next_look(l, t, due, &step);

		if (due <= t || (trace->trim_every > 0 && due < at)) {
			end_life(l, fmax(due, t), r);
			return;
		}
		t = fabs(at);
		if (t >= l->end)
			break;
		if (at < 0)
			step = envelope_at(l, t) + STEP;
		look(l, e, &s, t, &random, at < 0);
		if (!trace->flat && t > l->end / 2 && t < l->end - LEAD)
			note_error(r, 100 * fabs(reaches(e, &s, t, target, 0) - l->end) /
					      (l->end - t));
	}
	if (!trace->flat)
		end_life(l, l->end, r);
}

/* ---- the table ---- */

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static void print_error(const struct result *r, double share)
{
	double v = r->n_errors ? r->errors[(size_t)(share * (double)(r->n_errors - 1))]
			       : NAN;

	if (r->n_errors == 0)
		printf(" %6s", "-"); /* none lived so long */
	else if (v > 1e6)
		printf(" %6s", "never");
	else if (v > 9999)
		printf(" %6s", ">9999");
	else
		printf(" %6.1f", v);
}

static void print_row(const struct trace *trace, const struct estimator *e,
		      struct result *r, unsigned long n_lives)
{
	unsigned long n_saved = r->n_ended - r->n_late;

	if (r->n_errors > 0)
		qsort(r->errors, r->n_errors, sizeof(*r->errors), ascending);
	printf("%-9s %-28s", e == estimators ? trace->name : "", e->name);
	if (trace->flat) {
		printf("  alarmed in %lu of %lu\n", r->n_ended, n_lives);
		return;
	}
	print_error(r, 0.5);
	print_error(r, 0.9);
	printf(" %6.1f", 100.0 * (double)r->n_late / (double)n_lives);
	if (n_saved)
		printf(" %6.1f\n", r->lost / (double)n_saved);
	else
		printf(" %6s\n", "-");
}

static bool bad(const struct trace *trace, const struct result *r, unsigned long n_lives)
{
	if (trace->flat)
		return r->n_ended > 0;
	return 100.0 * (double)r->n_late > trace->late_max * (double)n_lives ||
	       r->lost > trace->lost_max * (double)(r->n_ended - r->n_late);
}

static unsigned int compare(const struct trace *trace, unsigned long n_lives,
			    uint64_t seed)
{
	unsigned int n_bad = 0;

	for (const struct estimator *e = estimators; e < estimators + N_ESTIMATORS; e++) {
		struct result r = { 0 };

		for (unsigned long i = 0; i < n_lives; i++) {
			static struct life l;

			live(&l, trace, seed * 1000003 + i);
			follow(&l, e, seed * 7919 + i, &r);
		}
		print_row(trace, e, &r, n_lives);
		n_bad += !e->fit && bad(trace, &r, n_lives);
		free(r.errors);
	}
	return n_bad;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "lives", required_argument, NULL, 'l' },
		{ "seed", required_argument, NULL, 's' },
		{ 0 },
	};
	unsigned long n_lives = 100;
	unsigned int n_bad = 0;
	uint64_t seed = 1;
	int opt;

	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (opt == 'l')
			n_lives = strtoul(optarg, NULL, 0);
		else if (opt == 's')
			seed = strtoull(optarg, NULL, 0);
		else
			return 2;
	}
	for (size_t i = 0; i < N_TRACES; i++)
		printf("%-9s %s\n", traces[i].name, traces[i].about);
	printf("\n%-9s %-28s %6s %6s %6s %6s\n", "", "", "error", "1 in10", "late %",
	       "lost %");
	for (size_t i = 0; i < N_TRACES; i++)
		n_bad += compare(&traces[i], n_lives, seed);
	if (n_bad)
		printf("%u promises of the forecast broken\n", n_bad);
	return n_bad ? 1 : 0;
}
