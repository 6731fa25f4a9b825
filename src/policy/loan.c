/* Loans out of the reserve. Owns loan_bytes and limit_bytes of each slot. Must never promise
 * what the budget does not hold if every other worker grew to its own limit. */
#include "policy/loan.h"

#include "policy/restart.h"
#include "policy/tripwire.h"

/* A loan is this share of the worker's limit at a time: twice what a minute of braked growth
 * takes at 512 MiB. */
#define LOAN_SHIFT 4

uint64_t loan_unused_bytes(const struct round *r)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < r->n_slots; i++) {
		const struct slot_memory *s = &r->p->slots[i];
		uint64_t used = u64_sub(s->charged_bytes, r->limits->worker_max_bytes);

		sum = u64_add(sum, u64_sub(s->loan_bytes, used));
	}
	return sum;
}

static void set_limit(struct round *r, uint32_t i, uint64_t loan, enum reason reason)
{
	struct slot_memory *s = &r->p->slots[i];
	struct action *a = round_give(r, ACTION_LIMIT, reason, i);

	s->loan_bytes = loan;
	s->limit_bytes = u64_add(r->limits->worker_max_bytes, loan);
	a->bytes = a->limit_bytes = s->limit_bytes;
}

static bool wants_loan(const struct round *r, uint32_t i)
{
	const struct slot_memory *s = &r->p->slots[i];
	uint64_t line = tripwire_brake_line(s->limit_bytes, 30 * USEC_PER_SEC);

	/* Its time has come and it still waits. */
	return s->outlook.reason == REASON_MEMORY && s->outlook.deadline_usec <= r->now &&
	       s->usage_bytes >= line;
}

static bool can_repay(const struct round *r, const struct slot_memory *s)
{
	uint64_t step = tripwire_step(r->limits, s);

	/* Writing memory.max below the charge would kill from our own hand. */
	return s->loan_bytes &&
	       u64_add(s->charged_bytes, 2 * step) < r->limits->worker_max_bytes;
}

void loan_decide(struct round *r)
{
	uint64_t max = r->limits->worker_max_bytes;

	if (max == UINT64_MAX)
		return;
	for (uint32_t i = 0; i < r->n_slots; i++) {
		struct slot_memory *s = &r->p->slots[i];
		uint64_t chunk = u64_max(max >> LOAN_SHIFT, 8 * MIB);

		if (!slot_serves(r->seen->slots[i].phase) || !r->seen->slots[i].sampled)
			continue;
		if (s->limit_bytes == 0 ||
		    (s->limit_bytes != u64_add(max, s->loan_bytes) &&
		     s->charged_bytes < max))
			set_limit(r, i, s->loan_bytes, REASON_ARMED);
		else if (can_repay(r, s))
			set_limit(r, i, 0, REASON_REPAID);
		else if (wants_loan(r, i) && restart_spare_bytes(r) >= chunk)
			set_limit(r, i, s->loan_bytes + chunk, REASON_LENT);
	}
}
