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

#define N_PAIRS (FORECAST_POINTS * (FORECAST_POINTS - 1) / 2)

void forecast_reset(struct forecast *f)
{
	memset(f, 0, sizeof(*f));
}

static uint64_t weighted(uint64_t a, uint32_t weight_a, uint64_t b, uint32_t weight_b)
{
	unsigned __int128 sum =
		(unsigned __int128)a * weight_a + (unsigned __int128)b * weight_b;

	return (uint64_t)(sum / ((uint64_t)weight_a + weight_b));
}

/* b into a; both weights stay small enough that a merged point can still move. */
static void merge_points(struct forecast_point *a, const struct forecast_point *b)
{
	a->usec = weighted(a->usec, a->weight, b->usec, b->weight);
	a->bytes = weighted(a->bytes, a->weight, b->bytes, b->weight);
	a->peak_bytes = u64_max(a->peak_bytes, b->peak_bytes);
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

/* The k-th smallest of v[0..n); reorders v. Hoare's selection, median of three. */
static int64_t select_kth(int64_t *v, size_t n, size_t k)
{
	size_t low = 0, high = n - 1;

	while (low < high) {
		int64_t a = v[low], b = v[low + (high - low) / 2], c = v[high];
		int64_t pivot = a < b ? (b < c	 ? b
					 : a < c ? c
						 : a)
				      : (a < c	 ? a
					 : b < c ? c
						 : b);
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

static int64_t slope(const struct forecast_point *a, const struct forecast_point *b)
{
	int64_t rise = (int64_t)b->bytes - (int64_t)a->bytes;

	/* |rise| < 2^43 and a million is < 2^20: the product fits. */
	return rise * (int64_t)USEC_PER_SEC / (int64_t)(b->usec - a->usec);
}

/* Theil and Sen: the median of the slopes between all pairs. */
static void fit(struct forecast *f)
{
	int64_t slopes[N_PAIRS];
	size_t n = 0;
	uint64_t recent = 0;

	for (uint32_t i = 0; i < f->n_points; i++)
		for (uint32_t j = i + 1; j < f->n_points; j++)
			if (f->points[j].usec > f->points[i].usec)
				slopes[n++] = slope(&f->points[i], &f->points[j]);
	for (uint32_t i = f->n_points > 3 ? f->n_points - 3 : 0; i < f->n_points; i++)
		recent = u64_max(recent, f->points[i].peak_bytes);
	f->level_bytes = recent;
	f->span_usec = f->n_points ? f->fitted_usec - f->points[0].usec : 0;
	f->rate = f->rate_error = 0;
	if (n == 0)
		return;
	f->rate_error =
		(select_kth(slopes, n, n * 3 / 4) - select_kth(slopes, n, n / 4)) / 2;
	f->rate = select_kth(slopes, n, n / 2);
}

void forecast_add(struct forecast *f, usec_t now, uint64_t bytes)
{
	struct forecast_point point = { now, bytes, bytes, 1 };

	if (bytes >= BYTES_MAX || (f->n_points && now < f->fitted_usec))
		return;
	f->fitted_usec = now;
	if (f->n_points && now - f->points[f->n_points - 1].usec < POINT_WIDTH_USEC) {
		merge_points(&f->points[f->n_points - 1], &point);
	} else {
		if (f->n_points == FORECAST_POINTS)
			thin(f, now);
		f->points[f->n_points++] = point;
	}
	fit(f);
}

usec_t forecast_reaches(const struct forecast *f, usec_t now, uint64_t target_bytes)
{
	uint64_t left;
	usec_t wait;

	if (f->n_points < 3 || f->rate <= 0 || target_bytes == UINT64_MAX)
		return USEC_NEVER;
	left = u64_sub(target_bytes, f->level_bytes);
	wait = u64_mul_div(left, USEC_PER_SEC, (uint64_t)f->rate);
	if (wait > u64_mul_div(f->span_usec, HORIZON_FACTOR, 1))
		return USEC_NEVER;
	return u64_max(usec_add(f->fitted_usec, wait), now);
}

uint64_t forecast_level(const struct forecast *f, usec_t now)
{
	if (f->rate <= 0 || f->n_points < 3)
		return f->level_bytes;
	return u64_add(f->level_bytes,
		       u64_mul_div((uint64_t)f->rate, usec_sub(now, f->fitted_usec),
				   USEC_PER_SEC));
}
