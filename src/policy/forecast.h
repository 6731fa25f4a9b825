/* When will a worker's memory reach a given size? Its own growth, robustly fitted.
 *
 * The history is a short list of points, dense now and sparse long ago: when it is full, the
 * two neighbours that lie closest together for their age become one. So it spans the whole
 * life of a worker in constant space, and a second and a day are both seen at their scale.
 *
 * The trend is the median of the slopes between all pairs of points (Theil and Sen), over the
 * longest stretch of history that the latest points still agree with. The level is that of the
 * peaks, since it is a peak that will meet the limit. */
#pragma once

#include <stdbool.h>

#include "policy/snapshot.h"

enum { FORECAST_POINTS = 24 };

struct forecast_point {
	usec_t usec;   /* mean time of the samples merged into it */
	int64_t bytes; /* their mean, for the trend; negative after forecast_fell() */
	int64_t peak_bytes; /* their highest, for the level, */
	usec_t peak_usec;   /* and when that was */
	uint32_t weight;
};

struct forecast {
	struct forecast_point points[FORECAST_POINTS];
	uint32_t n_points;

	/* A sample too far from the last to be believed before others say the same. */
	uint32_t n_doubts; /* in a row */
	uint32_t n_alike;  /* latest of these that agree with each other */
	usec_t doubted_usec;
	uint64_t doubted_bytes;

	/* The fit as of the last sample. */
	uint32_t n_fitted;	 /* points behind it */
	uint64_t expected_bytes; /* where history would have the peaks now */
	uint64_t
		level_bytes; /* where they are: there, or where one was just seen above it */
	uint64_t noise_bytes; /* how far samples usually lie from it */
	int64_t rate;	      /* bytes per second that they rise */
	uint64_t rate_error;  /* one standard deviation of it */
	usec_t fitted_usec;   /* time of the last sample */
	usec_t span_usec;     /* stretch of history behind the fit */
};

/* Forgets everything: a new worker. */
void forecast_reset(struct forecast *f);

/* The worker gave back so much at once, not by its own doing: history is moved down by it, so
 * what is known of its growth stays known. */
void forecast_fell(struct forecast *f, uint64_t bytes);

/* Takes a sample. Returns false where it was not believed: larger than any machine, older than
 * the last, or (unless trusted) so far from the last that it has to be seen again first. */
bool forecast_add(struct forecast *f, usec_t now, uint64_t bytes, bool trusted);

/* When the peaks reach target at the fitted rate, or at so many standard deviations more.
 * USEC_NEVER where nothing grows, or where the growth seen is too young to say anything about
 * a time so far away. May lie in the past. */
usec_t forecast_reaches(const struct forecast *f, uint64_t target_bytes,
			unsigned int sigmas);

/* By how much it will grow in so long, as far as history says anything of that: 0 where its growth
 * cannot be told from noise, and counted no further ahead than forecast_reaches() looks. */
uint64_t forecast_growth(const struct forecast *f, usec_t window);

/* By how much the peaks of the last `window`, and latest_bytes with them, lie above those before
 * it; 0 where they do not, UINT64_MAX where history does not reach back so far. No fit is
 * involved: right also where growth has just changed. */
uint64_t forecast_rise(const struct forecast *f, usec_t now, usec_t window,
		       uint64_t latest_bytes);
