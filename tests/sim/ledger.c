/* The books: pairs of restarts, kills, lives, promises broken. */
#include "fleet.h"

#include <math.h>
#include <stdarg.h>

/* Two starts within the same floor, give or take the microsecond that rounding costs. */
static bool within(usec_t now, usec_t last, usec_t gap)
{
	return last != USEC_NEVER && now - last + 2 < gap;
}

void ledger_restart(struct ledger *l, usec_t now, bool planned)
{
	const struct limits *limits = &l->scenario->limits;

	l->restarts++;
	l->planned += planned;
	l->close_pairs += within(now, l->last_restart, limits->min_gap_usec);
	l->floor_pairs += within(now, l->last_restart, limits->min_gap_floor_usec);
	l->minute_pairs += within(now, l->last_restart, 60 * USEC_PER_SEC);
	l->last_restart = now;
}

void ledger_kill(struct ledger *l, usec_t now)
{
	l->kills++;
	l->double_kills +=
		within(now, l->last_kill, l->scenario->limits.min_gap_floor_usec);
	l->last_kill = now;
}

void ledger_life(struct ledger *l, const struct world *w, const struct worker *k,
		 double limit)
{
	double lived = (double)(w->now - k->ready) / SEC;
	double left = worker_life_left(k, limit);

	if (k->state != WORKER_SERVING || !isfinite(left))
		return;
	l->life += lived;
	l->life_allowed += lived + left;
}

void ledger_broken(struct ledger *l, usec_t now, const char *format, ...)
{
	va_list args;

	if (l->broken++ >= 5)
		return;
	fprintf(stderr, "%s at %.6f s: ", l->scenario->name, (double)now / SEC);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
}

void csv_row(FILE *csv, usec_t now, uint32_t slot, double bytes, const char *event)
{
	if (csv)
		fprintf(csv, "%.3f,%u,%.2f,%s\n", (double)now / SEC, slot,
			bytes / (1 << 20), event);
}

void csv_sample(FILE *csv, const struct world *w, uint32_t slot, const struct worker *k)
{
	struct world aside = *w;
	struct worker seen;

	if (!k || k->state != WORKER_SERVING) {
		csv_row(csv, w->now, slot, 0, "");
		return;
	}
	seen = *k;
	world_update(&aside, &seen);
	csv_row(csv, w->now, slot, worker_usage(&aside, &seen), "");
}
