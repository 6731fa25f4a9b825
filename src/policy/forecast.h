/* When will a worker's memory reach a given size? Its own growth, robustly fitted.
 *
 * The history is a short list of points, dense now and sparse long ago: when it is full, the
 * two neighbours that lie closest together for their age become one. So it spans the whole
 * life of a worker in constant space, and a second and a day are both seen at their scale. */
#pragma once

#include <stdbool.h>

#include "policy/snapshot.h"

enum { FORECAST_POINTS = 32 };

struct forecast_point {
	usec_t usec;	     /* mean time of the samples merged into it */
	uint64_t bytes;	     /* their mean, for the trend */
	uint64_t peak_bytes; /* their highest, for the envelope */
	uint32_t weight;
};

struct forecast {
	struct forecast_point points[FORECAST_POINTS];
	uint32_t n_points;

	/* The fit as of the last sample. */
	uint64_t level_bytes; /* where the worker's peaks are now */
	int64_t rate;	      /* bytes per second that they rise */
	int64_t rate_error;   /* one standard deviation of it */
	usec_t fitted_usec;   /* time of the last sample */
	usec_t span_usec;     /* history behind the rate */
};

/* Forgets everything: a new worker, or the same one after it gave memory back. */
void forecast_reset(struct forecast *f);

/* Takes a sample. One that is older than the last, or larger than any machine, is ignored. */
void forecast_add(struct forecast *f, usec_t now, uint64_t bytes);

/* When the peaks reach target at the fitted rate; USEC_NEVER where nothing grows, or where the
 * growth seen is too young to say anything about a time so far away. now is not before the
 * last sample. */
usec_t forecast_reaches(const struct forecast *f, usec_t now, uint64_t target_bytes);

/* Where the peaks will be after so long at the fitted rate. */
uint64_t forecast_level(const struct forecast *f, usec_t now);
