/* Growth of one worker: history, fit, extrapolation. Owns struct forecast; knows no limits and
 * takes no decision. */
#include "policy/forecast.h"

#include <string.h>

#include "policy/arith.h"

/* More than any machine has: such a sample is a mistake of whoever took it. */
#define BYTES_MAX ((uint64_t)1 << 43)

/* Closer samples than this are one: a forecast in microseconds serves nobody. */
#define POINT_WIDTH_USEC (100 * USEC_PER_MSEC)

/* Growth seen for so long says something about a time ahead of at most so many times that. */
#define HORIZON_FACTOR 8

#define POINTS_MIN 3 /* for any statement at all */
#define FIT_MIN	   4 /* history is not shortened below this */

/* Jumps beyond this and a quarter of the level are doubted. */
#define JUMP_BYTES (32 * MIB)

/* Latest points that stray from the fit by less than this are at home in it. */
#define SLACK_BYTES (256 * KIB)

#define N_PAIRS (FORECAST_POINTS * (FORECAST_POINTS - 1) / 2)

struct fit {
	int64_t slope;	 /* bytes per second */
	int64_t trend;	 /* at the time of the last point */
	int64_t scatter; /* median distance of a point from the trend */
	int64_t recent;	 /* how far the latest points lie above it, or below */
	int64_t lift;	 /* how far the peaks lie above it */
};

void forecast_reset(struct forecast *f)
{
	memset(f, 0, sizeof(*f));
}

/* ---- history ---- */

static uint64_t weighted(uint64_t a, uint32_t weight_a, uint64_t b, uint32_t weight_b)
{
	unsigned __int128 sum =
		(unsigned __int128)a * weight_a + (unsigned __int128)b * weight_b;

	return (uint64_t)(sum / ((uint64_t)weight_a + weight_b));
}

static void merge_points(struct forecast_point *a, const struct forecast_point *b)
{
	a->usec = weighted(a->usec, a->weight, b->usec, b->weight);
	a->bytes = weighted(a->bytes, a->weight, b->bytes, b->weight);
	if (b->peak_bytes >= a->peak_bytes) {
		a->peak_bytes = b->peak_bytes;
		a->peak_usec = b->peak_usec;
	}
	/* Capped, so that a point is never too heavy to move. */
	a->weight = (uint32_t)u64_min((uint64_t)a->weight + b->weight, 1 << 20);
}

/* Makes room by merging the two neighbours closest together for their age. */
static void thin(struct forecast *f, usec_t now)
{
	uint32_t best = 0;
	uint64_t best_ratio = UINT64_MAX;

	for (uint32_t i = 0; i + 1 < f->n_points; i++) {
		usec_t from = f->points[i].usec, to = f->points[i + 1].usec;
		uint64_t ratio = u64_mul_div(to - from, 1 << 20, usec_sub(now, from) + 1);

		if (ratio < best_ratio) {
			best_ratio = ratio;
			best = i;
		}
	}
	merge_points(&f->points[best], &f->points[best + 1]);
	memmove(&f->points[best + 1], &f->points[best + 2],
		(f->n_points - best - 2) * sizeof(f->points[0]));
	f->n_points--;
}

static void insert(struct forecast *f, usec_t now, uint64_t bytes)
{
	struct forecast_point point = { now, bytes, bytes, now, 1 };
	struct forecast_point *last = f->n_points ? &f->points[f->n_points - 1] : NULL;

	f->fitted_usec = now;
	if (last && now - last->usec < POINT_WIDTH_USEC) {
		merge_points(last, &point);
		return;
	}
	if (f->n_points == FORECAST_POINTS)
		thin(f, now);
	f->points[f->n_points++] = point;
}

/* ---- fit ---- */

/* The k-th smallest of v[0..n), n > 0; reorders v. Hoare's selection, median of three. */
static int64_t select_kth(int64_t *v, size_t n, size_t k)
{
	size_t low = 0, high = n - 1;

	while (low < high) {
		int64_t a = v[low], b = v[low + (high - low) / 2], c = v[high];
		int64_t pivot = a < b ? (b < c ? b : (a < c ? c : a))
				      : (a < c ? a : (b < c ? c : b));
		size_t i = low, j = high;

		for (;;) {
			while (v[i] < pivot)
				i++;
			while (v[j] > pivot)
				j--;
			if (i >= j)
				break;
			int64_t swap = v[i];

			v[i++] = v[j];
			v[j--] = swap;
		}
		if (k <= j)
			high = j;
		else
			low = j + 1;
	}
	return v[k];
}

static int64_t slope_between(const struct forecast_point *a,
			     const struct forecast_point *b)
{
	int64_t rise = (int64_t)b->bytes - (int64_t)a->bytes;

	/* |rise| < 2^43 and a million is < 2^20: the product fits. */
	return rise * (int64_t)USEC_PER_SEC / (int64_t)(b->usec - a->usec);
}

/* What the slope makes of the time from `then` to `now`, which may be the earlier. */
static int64_t rise_over(int64_t slope, usec_t then, usec_t now)
{
	const __int128 most = (__int128)1 << 60;
	__int128 rise = (__int128)slope * (int64_t)(now - then) / (__int128)USEC_PER_SEC;

	return (int64_t)(rise > most ? most : rise < -most ? -most : rise);
}

static int64_t median_slope(const struct forecast_point *points, uint32_t n)
{
	int64_t slopes[N_PAIRS];
	size_t n_slopes = 0;

	for (uint32_t i = 0; i < n; i++)
		for (uint32_t k = i + 1; k < n; k++)
			if (points[k].usec > points[i].usec)
				slopes[n_slopes++] =
					slope_between(&points[i], &points[k]);
	return n_slopes ? select_kth(slopes, n_slopes, n_slopes / 2) : 0;
}

/* How far peaks rise above the trend. The second highest, since one freak does not make a level;
 * of few points the highest. */
static int64_t lift_of(const struct forecast_point *points, uint32_t n,
		       const struct fit *fit)
{
	usec_t now = points[n - 1].usec;
	int64_t first = 0, second = 0;

	for (uint32_t i = 0; i < n; i++) {
		int64_t peak = (int64_t)points[i].peak_bytes +
			       rise_over(fit->slope, points[i].peak_usec, now);
		int64_t lift = peak - fit->trend;

		if (lift > first) {
			second = first;
			first = lift;
		} else if (lift > second) {
			second = lift;
		}
	}
	return n < 6 ? first : second;
}

/* Fits n points, n > 0. */
static struct fit fit_points(const struct forecast_point *points, uint32_t n)
{
	struct fit fit = { .slope = median_slope(points, n) };
	int64_t above[FORECAST_POINTS], scratch[FORECAST_POINTS];
	usec_t now = points[n - 1].usec;
	uint32_t n_recent = n / 5 < 2 ? 2 : n / 5;

	if (n_recent > n)
		n_recent = n;
	for (uint32_t i = 0; i < n; i++)
		above[i] = scratch[i] = (int64_t)points[i].bytes +
					rise_over(fit.slope, points[i].usec, now);
	fit.trend = select_kth(scratch, n, n / 2);
	for (uint32_t i = 0; i < n; i++) {
		above[i] -= fit.trend;
		scratch[i] = above[i] < 0 ? -above[i] : above[i];
	}
	fit.scatter = select_kth(scratch, n, n / 2);
	memcpy(scratch, &above[n - n_recent], n_recent * sizeof(*scratch));
	fit.recent = select_kth(scratch, n_recent, n_recent / 2);
	fit.lift = lift_of(points, n, &fit);
	return fit;
}

static bool agrees(const struct fit *fit)
{
	int64_t slack = (int64_t)u64_max(SLACK_BYTES, (uint64_t)fit->trend >> 9);
	int64_t stray = fit->recent < 0 ? -fit->recent : fit->recent;

	return stray <= 3 * fit->scatter + slack;
}

static uint64_t square_root(uint64_t v)
{
	uint64_t r = 0;

	while ((r + 1) * (r + 1) <= v)
		r++;
	return r;
}

/* One standard deviation of the slope, as if the points lay evenly:
 * sigma x sqrt(12 / n) / span, sigma being 1.48 scatters. Never less than a share of the slope
 * itself: few points that lie on a line by chance are still few. */
static uint64_t slope_error(const struct fit *fit, uint32_t n, usec_t span)
{
	uint64_t floor = (uint64_t)(fit->slope < 0 ? -fit->slope : fit->slope) / (4 * n);
	uint64_t sigma = (uint64_t)fit->scatter * 5 / square_root(n);

	return u64_min(u64_add(floor, u64_mul_div(sigma, USEC_PER_SEC, u64_max(span, 1))),
		       INT64_MAX);
}

static void fit_history(struct forecast *f)
{
	uint32_t n = f->n_points;
	struct fit fit = fit_points(f->points, n);
	int64_t level;

	/* Growth changes: what the latest points contradict is no longer true. */
	while (n > FIT_MIN && !agrees(&fit)) {
		n = n * 2 / 3 < FIT_MIN ? FIT_MIN : n * 2 / 3;
		fit = fit_points(&f->points[f->n_points - n], n);
	}
	level = fit.trend + fit.lift;
	f->n_fitted = n;
	f->rate = fit.slope;
	f->level_bytes = level > 0 ? (uint64_t)level : 0;
	f->span_usec = f->fitted_usec - f->points[f->n_points - n].usec;
	f->rate_error = slope_error(&fit, n, f->span_usec);
}

/* ---- samples ---- */

static bool jumps(uint64_t from, uint64_t to)
{
	uint64_t distance = from > to ? from - to : to - from;

	return distance > u64_max(JUMP_BYTES, from / 4);
}

bool forecast_add(struct forecast *f, usec_t now, uint64_t bytes, bool trusted)
{
	const struct forecast_point *last =
		f->n_points ? &f->points[f->n_points - 1] : NULL;

	if (bytes >= BYTES_MAX || (last && now < f->fitted_usec))
		return false;
	if (!trusted && last && jumps(last->bytes, bytes)) {
		bool seen_twice = f->doubted_usec && !jumps(f->doubted_bytes, bytes);

		if (!seen_twice) {
			f->doubted_usec = now;
			f->doubted_bytes = bytes;
			return false;
		}
		insert(f, u64_max(f->doubted_usec, f->fitted_usec), f->doubted_bytes);
	}
	f->doubted_usec = 0;
	insert(f, now, bytes);
	fit_history(f);
	return true;
}

usec_t forecast_reaches(const struct forecast *f, uint64_t target_bytes,
			unsigned int sigmas)
{
	uint64_t rate;
	usec_t wait;

	if (f->n_points < POINTS_MIN || f->rate <= 0 || target_bytes == UINT64_MAX)
		return USEC_NEVER;
	/* Not to be told from noise. */
	if ((uint64_t)f->rate < 2 * f->rate_error)
		return USEC_NEVER;
	rate = u64_add((uint64_t)f->rate, u64_mul_div(f->rate_error, sigmas, 1));
	wait = u64_mul_div(u64_sub(target_bytes, f->level_bytes), USEC_PER_SEC, rate);
	if (wait > u64_mul_div(f->span_usec, HORIZON_FACTOR, 1))
		return USEC_NEVER;
	return usec_add(f->fitted_usec, wait);
}
