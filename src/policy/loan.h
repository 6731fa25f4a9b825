/* Headroom lent to a worker that waits for its turn. */
#pragma once

#include "policy/round.h"

/* What may be promised away now, with room left for one replacement beside its old worker;
 * UINT64_MAX where no budget is known. */
uint64_t loan_spare_bytes(const struct round *r);

/* Gives LIMIT where a leaf is new, and where a loan begins, grows or ends. After the plan: the
 * most urgent first. */
void loan_decide(struct round *r);
