/* Deadlines to start times. Owns no state; knows nothing of memory, workers or causes. */
#include "policy/plan.h"

#include <string.h>

#include "policy/arith.h"

static bool earlier(const struct plan_entry *a, const struct plan_entry *b)
{
	if (a->deadline_usec != b->deadline_usec)
		return a->deadline_usec < b->deadline_usec;
	/* At the same moment, a kernel kill is worse than being late. */
	if (a->hard != b->hard)
		return a->hard;
	return !a->patient && b->patient;
}

static void merge(const struct plan_entry *from, struct plan_entry *to, size_t low,
		  size_t mid, size_t high)
{
	size_t a = low, b = mid;

	for (size_t i = low; i < high; i++) {
		bool take_b = a >= mid || (b < high && earlier(&from[b], &from[a]));

		to[i] = take_b ? from[b++] : from[a++];
	}
}

/* Merge sort from the bottom up: stable, so equal deadlines keep the order of the slots and the
 * same input always gives the same plan; bounded, where quicksort is not; and without the libc
 * that qsort would bring in. */
static void sort_entries(struct plan_entry *entries, size_t n)
{
	struct plan_entry *from = entries, *to = entries + n;

	for (size_t width = 1; width < n; width *= 2) {
		struct plan_entry *sorted = to;

		for (size_t low = 0; low < n; low += 2 * width)
			merge(from, to, low, u64_min(low + width, n),
			      u64_min(low + 2 * width, n));
		to = from;
		from = sorted;
	}
	if (from != entries)
		memcpy(entries, from, n * sizeof(*entries));
}

static usec_t last_call(const struct plan_entry *e)
{
	return e->last_call_usec;
}

static usec_t doom(const struct plan_entry *e)
{
	return e->doom_usec;
}

/* The widest equal gap that is in time for every entry, starting at the earliest moment that this
 * same gap allows. The k-th start is at max(now, last + g) + (k - 1) g, so each of them bounds
 * g twice. */
static usec_t widest_gap(const struct plan_entry *entries, size_t n,
			 usec_t (*in_time)(const struct plan_entry *e), usec_t now,
			 usec_t last_usec)
{
	usec_t gap = USEC_NEVER;

	for (size_t k = 1; k <= n; k++) {
		/* What is late already cannot be met by any gap: as soon as possible will do. */
		usec_t d = u64_max(in_time(&entries[k - 1]), now);

		if (d == USEC_NEVER)
			continue;
		if (last_usec != USEC_NEVER)
			gap = u64_min(gap, usec_sub(d, last_usec) / k);
		if (k > 1)
			gap = u64_min(gap, usec_sub(d, now) / (k - 1));
	}
	return gap;
}

struct plan plan_make(struct plan_entry *entries, size_t n, usec_t now, usec_t last_usec,
		      usec_t min_gap_usec, usec_t floor_usec)
{
	struct plan plan = { .gap_usec = min_gap_usec, .feasible = true };
	usec_t widest, next = USEC_NEVER;

	sort_entries(entries, n);
	widest = widest_gap(entries, n, last_call, now, last_usec);
	if (widest < min_gap_usec) {
		plan.feasible = false;
		plan.gap_usec = u64_max(widest, u64_min(floor_usec, min_gap_usec));
	}
	widest = widest_gap(entries, n, doom, now, last_usec);
	if (widest < plan.gap_usec) {
		plan.doomed = true;
		plan.gap_usec = widest;
	}
	for (size_t i = n; i-- > 0;) {
		usec_t start = entries[i].deadline_usec;

		if (next != USEC_NEVER)
			start = u64_min(start, usec_sub(next, plan.gap_usec));
		entries[i].start_usec = next = start;
	}
	return plan;
}
