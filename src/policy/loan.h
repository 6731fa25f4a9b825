/* Headroom lent to a worker that waits for its turn. */
#pragma once

#include "policy/round.h"

/* Gives LIMIT where a loan begins, grows or ends. */
void loan_decide(struct round *r);

/* Loans that are not used yet, of all slots. */
uint64_t loan_unused_bytes(const struct round *r);
