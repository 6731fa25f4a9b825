/* Growth of one worker: history, fit, extrapolation. Owns struct forecast; knows no limits and
 * takes no decision. */
#include "policy/forecast.h"

#include <string.h>

#include "policy/arith.h"

/* More than any machine has: such a sample is a mistake of whoever took it. */
#define BYTES_MAX ((uint64_t)1 << 43)

/* History sinks with every trim. When it is this deep, it starts over. */
#define DEPTH_MAX ((int64_t)1 << 50)

/* Closer samples than this are one: a forecast in microseconds serves nobody. */
#define POINT_WIDTH_USEC (100 * USEC_PER_MSEC)

/* Growth seen for so long says something about a time ahead of at most so many times that. */
#define HORIZON_FACTOR 8

#define POINTS_MIN 3 /* for any statement at all */
#define FIT_MIN	   3 /* history is not shortened below this */

/* A sample further off than this and four times the usual noise is doubted until so many in a row
 * agree, or so many in a row were: that is no mistake, that is how the worker is. Of samples one
 * in twenty of which is nonsense, two agree by chance every 200 hours, and cost a restart. */
#define STRAY_BYTES (8 * MIB)
#define ALIKE_MIN   3
#define DOUBTS_MAX  5

/* Latest points that stray from the fit by less than this are at home in it. */
#define SLACK_BYTES (256 * KIB)

#define N_PAIRS (FORECAST_POINTS * (FORECAST_POINTS - 1) / 2)

struct fit {
	int64_t slope;	 /* bytes per second */
	int64_t trend;	 /* at the time of the last point */
	int64_t scatter; /* median distance of a point from the trend */
	int64_t noise;	 /* same of the samples behind the points, not less */
	int64_t oldest;	 /* how far the oldest points lie above the trend, or below */
	int64_t latest;	 /* same of the latest */
	int64_t lift;	 /* how far the peaks lie above it */
};

void forecast_reset(struct forecast *f)
{
	memset(f, 0, sizeof(*f));
}

/* ---- history ---- */

static int64_t weighted(int64_t a, uint32_t weight_a, int64_t b, uint32_t weight_b)
{
	__int128 sum = (__int128)a * weight_a + (__int128)b * weight_b;

	return (int64_t)(sum / ((int64_t)weight_a + weight_b));
}

static void merge_points(struct forecast_point *a, const struct forecast_point *b)
{
	usec_t apart = b->usec - a->usec;

	a->usec += u64_mul_div(apart, b->weight, (uint64_t)a->weight + b->weight);
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
	struct forecast_point point = { now, (int64_t)bytes, (int64_t)bytes, now, 1 };
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

static int64_t clamped(__int128 v)
{
	const __int128 most = (__int128)1 << 60;

	return (int64_t)(v > most ? most : v < -most ? -most : v);
}

/* v x by / over. Few are so large that they need 128 bits, which take four times as long to divide,
 * and this is half of what a fit does. */
static int64_t scaled(int64_t v, int64_t by, int64_t over)
{
	int64_t product;

	if (!__builtin_mul_overflow(v, by, &product))
		return clamped(product / over);
	return clamped((__int128)v * by / over);
}

/* b is later than a. */
static int64_t slope_between(const struct forecast_point *a,
			     const struct forecast_point *b)
{
	return scaled(b->bytes - a->bytes, (int64_t)USEC_PER_SEC,
		      (int64_t)(b->usec - a->usec));
}

/* What the slope makes of the time from `then` to `now`, which may be the earlier. */
static int64_t rise_over(int64_t slope, usec_t then, usec_t now)
{
	return scaled(slope, (int64_t)(now - then), (int64_t)USEC_PER_SEC);
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

/* How far peaks stand out of what lies on both sides of them. Compared with the neighbours, not
 * with the trend: a point that the trend does not fit is no peak. The second highest, since one
 * freak does not make a level; of few points the highest. */
static int64_t lift_of(const struct forecast_point *points, uint32_t n)
{
	int64_t first = 0, second = 0;

	for (uint32_t i = 1; i + 1 < n; i++) {
		int64_t left = points[i - 1].bytes, right = points[i + 1].bytes;
		int64_t lift = points[i].peak_bytes - (left > right ? left : right);

		if (lift > first) {
			second = first;
			first = lift;
		} else if (lift > second) {
			second = lift;
		}
	}
	return n < 6 ? first : second;
}

static int64_t magnitude(int64_t v)
{
	return v < 0 ? -v : v;
}

/* The median of v[0..n), n > 0, v left as it is. */
static int64_t median(const int64_t *v, uint32_t n)
{
	int64_t scratch[FORECAST_POINTS];

	memcpy(scratch, v, n * sizeof(*v));
	return select_kth(scratch, n, n / 2);
}

/* Merged points are means and scatter less than the samples did. How much these did is seen by
 * how far a point's own peak lies above its mean. */
static int64_t noise_of(const struct forecast_point *points, uint32_t n, int64_t slope)
{
	int64_t spreads[FORECAST_POINTS];

	for (uint32_t i = 0; i < n; i++) {
		const struct forecast_point *pt = &points[i];
		int64_t rise = rise_over(slope, pt->usec, pt->peak_usec);

		spreads[i] = pt->peak_bytes - pt->bytes - rise;
	}
	return median(spreads, n);
}

/* Fits n points, n > 0. */
static struct fit fit_points(const struct forecast_point *points, uint32_t n)
{
	struct fit fit = { .slope = median_slope(points, n) };
	int64_t above[FORECAST_POINTS], distance[FORECAST_POINTS];
	usec_t now = points[n - 1].usec;
	uint32_t n_end = n < 10 ? 2 : n / 5;

	if (n_end > n)
		n_end = n;
	for (uint32_t i = 0; i < n; i++)
		above[i] = points[i].bytes + rise_over(fit.slope, points[i].usec, now);
	fit.trend = median(above, n);
	for (uint32_t i = 0; i < n; i++) {
		above[i] -= fit.trend;
		distance[i] = magnitude(above[i]);
	}
	fit.scatter = median(distance, n);
	fit.noise = noise_of(points, n, fit.slope);
	if (fit.noise < fit.scatter)
		fit.noise = fit.scatter;
	fit.oldest = median(above, n_end);
	fit.latest = median(&above[n - n_end], n_end);
	fit.lift = lift_of(points, n);
	return fit;
}

/* One line through all of it: neither the latest points nor the oldest stray from the trend
 * further than noise explains. */
static bool agrees(const struct fit *fit)
{
	uint64_t slack = u64_max(SLACK_BYTES, (uint64_t)magnitude(fit->trend) >> 9);
	uint64_t most = 3 * (uint64_t)fit->noise + slack;

	return (uint64_t)magnitude(fit->latest) <= most &&
	       (uint64_t)magnitude(fit->oldest) <= most;
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
	uint64_t floor = (uint64_t)magnitude(fit->slope) / (4 * n);
	uint64_t sigma = (uint64_t)fit->scatter * 5 / square_root(n);

	return u64_min(u64_add(floor, u64_mul_div(sigma, USEC_PER_SEC, u64_max(span, 1))),
		       INT64_MAX);
}

static int64_t latest_peak(const struct forecast *f)
{
	int64_t peak = f->points[f->n_points - 1].peak_bytes;

	for (uint32_t i = f->n_points > 3 ? f->n_points - 3 : 0; i < f->n_points; i++)
		if (f->points[i].peak_bytes > peak)
			peak = f->points[i].peak_bytes;
	return peak;
}

static void fit_history(struct forecast *f)
{
	uint32_t n = f->n_points;
	struct fit fit = fit_points(f->points, n);
	int64_t level;

	/* Growth changes: history that no longer fits is not counted. */
	while (n > FIT_MIN && !agrees(&fit)) {
		n = n * 2 / 3 < FIT_MIN ? FIT_MIN : n * 2 / 3;
		fit = fit_points(&f->points[f->n_points - n], n);
	}
	level = fit.trend;
	/* Not beyond what was really seen last, wherever the line goes. */
	if (level > latest_peak(f))
		level = latest_peak(f);
	level += fit.lift;
	f->expected_bytes = level > 0 ? (uint64_t)level : 0;
	if (level < f->points[f->n_points - 1].peak_bytes)
		level = f->points[f->n_points - 1].peak_bytes;
	f->n_fitted = n;
	f->rate = fit.slope;
	f->noise_bytes = (uint64_t)fit.noise;
	f->level_bytes = level > 0 ? (uint64_t)level : 0;
	f->span_usec = f->fitted_usec - f->points[f->n_points - n].usec;
	f->rate_error = slope_error(&fit, n, f->span_usec);
}

/* ---- samples ---- */

void forecast_fell(struct forecast *f, uint64_t bytes)
{
	int64_t fall = (int64_t)u64_min(bytes, BYTES_MAX);

	if (f->n_points && f->points[0].bytes < -DEPTH_MAX) {
		forecast_reset(f);
		return;
	}
	for (uint32_t i = 0; i < f->n_points; i++) {
		f->points[i].bytes -= fall;
		f->points[i].peak_bytes -= fall;
	}
	f->level_bytes = u64_sub(f->level_bytes, bytes);
	f->expected_bytes = u64_sub(f->expected_bytes, bytes);
	f->n_doubts = 0;
}

static bool strays(const struct forecast *f, int64_t from, uint64_t to)
{
	uint64_t distance = (uint64_t)magnitude((int64_t)to - from);

	return distance > u64_max(STRAY_BYTES, u64_mul_div(f->noise_bytes, 4, 1));
}

/* True where the sample has to be seen again first. */
static bool doubt(struct forecast *f, usec_t now, uint64_t bytes)
{
	if (!strays(f, f->points[f->n_points - 1].bytes, bytes))
		return false;
	if (f->n_doubts >= DOUBTS_MAX)
		return false;
	if (f->n_doubts == 0 || strays(f, (int64_t)f->doubted_bytes, bytes))
		f->n_alike = 0;
	if (++f->n_alike >= ALIKE_MIN) {
		insert(f, u64_max(f->doubted_usec, f->fitted_usec), f->doubted_bytes);
		return false;
	}
	f->n_doubts++;
	f->doubted_usec = now;
	f->doubted_bytes = bytes;
	return true;
}

bool forecast_add(struct forecast *f, usec_t now, uint64_t bytes, bool trusted)
{
	if (bytes >= BYTES_MAX || (f->n_points && now < f->fitted_usec))
		return false;
	if (!trusted && f->n_points && doubt(f, now, bytes))
		return false;
	f->n_doubts = 0;
	insert(f, now, bytes);
	fit_history(f);
	return true;
}

/* Growth that can be told from noise. */
static bool grows(const struct forecast *f)
{
	return f->n_points >= POINTS_MIN && f->rate > 0 &&
	       (uint64_t)f->rate >= 2 * f->rate_error;
}

usec_t forecast_reaches(const struct forecast *f, uint64_t target_bytes,
			unsigned int sigmas)
{
	uint64_t rate;
	usec_t wait;

	if (!grows(f) || target_bytes == UINT64_MAX)
		return USEC_NEVER;
	rate = u64_add((uint64_t)f->rate, u64_mul_div(f->rate_error, sigmas, 1));
	wait = u64_mul_div(u64_sub(target_bytes, f->level_bytes), USEC_PER_SEC, rate);
	if (wait > u64_mul_div(f->span_usec, HORIZON_FACTOR, 1))
		return USEC_NEVER;
	return usec_add(f->fitted_usec, wait);
}

uint64_t forecast_growth(const struct forecast *f, usec_t window)
{
	usec_t horizon = u64_mul_div(f->span_usec, HORIZON_FACTOR, 1);

	if (!grows(f))
		return 0;
	return u64_mul_div((uint64_t)f->rate, u64_min(window, horizon), USEC_PER_SEC);
}

uint64_t forecast_rise(const struct forecast *f, usec_t now, usec_t window,
		       uint64_t latest_bytes)
{
	int64_t before = INT64_MIN, after = (int64_t)u64_min(latest_bytes, BYTES_MAX);

	for (uint32_t i = f->n_points; i-- > 0;) {
		const struct forecast_point *pt = &f->points[i];
		usec_t age = usec_sub(now, pt->usec);

		/* The nearest older one counts however old it is. */
		if (age < window)
			after = pt->peak_bytes > after ? pt->peak_bytes : after;
		else if (before == INT64_MIN ||
			 age < u64_add(window, u64_add(window, window)))
			before = pt->peak_bytes > before ? pt->peak_bytes : before;
	}
	if (before == INT64_MIN)
		return UINT64_MAX;
	return after > before ? (uint64_t)(after - before) : 0;
}
