/* Headroom lent to a worker that waits for its turn. */
#pragma once

#include "policy/round.h"

/* Gives LIMIT where a leaf is new, and where a loan begins, grows or ends. After the plan: the
 * most urgent first. */
void loan_decide(struct round *r);
