/* Loans out of the reserve. Owns loan_bytes and limit_bytes of each slot. Must never promise
 * what the budget does not hold if every other worker grew to its own limit, and never set a
 * limit below what is charged: memory.max kills from the writer's hand. */
#include "policy/loan.h"

#include "policy/tripwire.h"

/* A loan grows by an eighth of the limit at a time: enough to move the brake line by half of
 * the stretch between it and the limit. */
#define CHUNK_SHIFT 3

static uint64_t chunk_of(const struct round *r)
{
	return u64_max(r->limits->worker_max_bytes >> CHUNK_SHIFT, 8 * MIB);
}

/* If so much were promised. */
static uint64_t spare_beside(const struct round *r, uint64_t promised_bytes)
{
	uint64_t kept = r->limits->surge == SURGE_NEVER ? 0 : r->p->footprint_bytes;

	if (r->limits->budget_bytes == UINT64_MAX)
		return UINT64_MAX;
	return u64_sub(r->limits->budget_bytes, u64_add(promised_bytes, kept));
}

uint64_t loan_spare_bytes(const struct round *r)
{
	return spare_beside(r, r->promised_bytes);
}

static void set_limit(struct round *r, uint32_t i, uint64_t loan, enum reason reason)
{
	struct slot_memory *s = &r->p->slots[i];
	struct action *a;

	r->promised_bytes = u64_add(u64_sub(r->promised_bytes, s->loan_bytes), loan);
	s->loan_bytes = loan;
	s->limit_bytes = u64_add(r->limits->worker_max_bytes, loan);
	s->limit_given = true;
	a = round_give(r, ACTION_LIMIT, reason, i);
	a->bytes = s->limit_bytes;
	a->deadline_usec = s->outlook.deadline_usec;
}

/* A leaf that is new to us, or whose limit was changed by a reload. */
static bool is_due_for_limit(const struct round *r, const struct slot_memory *s)
{
	return s->limit_bytes != u64_add(r->limits->worker_max_bytes, s->loan_bytes);
}

/* What a new limit must not fall below. */
static uint64_t unavoidable_loan(const struct round *r, const struct slot_memory *s)
{
	uint64_t least = u64_add(slot_peak_charge(s), tripwire_step(r->limits, s));

	return u64_sub(least, r->limits->worker_max_bytes);
}

static bool can_repay(const struct round *r, const struct slot_memory *s)
{
	uint64_t step = tripwire_step(r->limits, s);

	return s->loan_bytes && !s->hold.active &&
	       u64_add(slot_peak_charge(s), u64_add(step, step)) <
		       u64_share(r->limits->worker_max_bytes,
				 TRIPWIRE_LINE_MIN_PERMYRIAD);
}

static bool nears_its_line(const struct round *r, const struct slot_memory *s)
{
	uint64_t line =
		tripwire_brake_line(slot_limit(r->limits, s), TRIPWIRE_BRAKE_USEC);

	return u64_add(slot_peak_charge(s), tripwire_step(r->limits, s)) >= line;
}

static void keep_limits(struct round *r)
{
	for (uint32_t i = 0; i < r->n_slots; i++) {
		struct slot_memory *s = &r->p->slots[i];

		if (!slot_serves(r->seen->slots[i].phase) || !r->seen->slots[i].sampled)
			continue;
		if (is_due_for_limit(r, s))
			set_limit(r, i, u64_max(s->loan_bytes, unavoidable_loan(r, s)),
				  REASON_CONFIGURED);
		else if (can_repay(r, s))
			set_limit(r, i, 0, REASON_REPAID);
	}
}

static bool wants_loan(const struct round *r, const struct plan_entry *e)
{
	const struct slot_memory *s = &r->p->slots[e->slot];
	uint64_t limit = u64_add(slot_limit(r->limits, s), chunk_of(r));

	return e->reason == REASON_MEMORY && !s->limit_given &&
	       r->seen->slots[e->slot].sampled &&
	       s->loan_bytes <= r->limits->worker_max_bytes / 2 && nears_its_line(r, s) &&
	       limit > s->charged_bytes;
}

/* Those that have none yet, and those that come for more. */
static void lend(struct round *r, bool first_loans, uint64_t kept)
{
	uint64_t chunk = chunk_of(r);

	for (size_t i = 0;
	     i < r->n_entries && loan_spare_bytes(r) >= u64_add(chunk, kept); i++) {
		const struct plan_entry *e = &r->entries[i];
		struct slot_memory *s = &r->p->slots[e->slot];

		if (wants_loan(r, e) && (s->loan_bytes == 0) == first_loans)
			set_limit(r, e->slot, u64_add(s->loan_bytes, chunk), REASON_LENT);
	}
}

/* Slots that are due and may yet come for their first loan. */
static size_t count_waiting(const struct round *r)
{
	size_t n = 0;

	for (size_t i = 0; i < r->n_entries; i++)
		n += r->entries[i].reason == REASON_MEMORY &&
		     r->entries[i].deadline_usec <= r->now &&
		     r->p->slots[r->entries[i].slot].loan_bytes == 0;
	return n;
}

/* A loan that the worker in quarantine alone stands in the way of. */
static void claim_kept(struct round *r)
{
	uint64_t without = u64_sub(r->promised_bytes, r->seen->kept_bytes);

	if (r->seen->kept_bytes == 0 || loan_spare_bytes(r) >= chunk_of(r) ||
	    spare_beside(r, without) < chunk_of(r))
		return;
	for (size_t i = 0; i < r->n_entries; i++)
		if (wants_loan(r, &r->entries[i]))
			r->ret->end_kept = REASON_ROOM;
}

void loan_decide(struct round *r)
{
	if (r->limits->worker_max_bytes == UINT64_MAX || !r->limits->tripwire)
		return;
	for (uint32_t i = 0; i < r->n_slots; i++)
		r->p->slots[i].limit_given = false;
	keep_limits(r);
	/* By deadline. Those that are due wait for their turn; those that grow slowly towards
	 * it keep a brake's length between them and a kill, should they run away at last. */
	lend(r, /* first_loans= */ true, 0);
	lend(r, /* first_loans= */ false, u64_mul_div(chunk_of(r), count_waiting(r), 1));
	claim_kept(r);
}
