/* Starts and restarts: deadlines, the one budget for all causes, admission. */
#pragma once

#include "policy/round.h"

/* Gives START for empty slots whose turn it is, and RETIRE for surplus ones. */
void restart_decide_starts(struct round *r);

/* Writes each slot's deadline and planned restart into its outlook, and gives at most one
 * SURGE or DRAIN. */
void restart_decide_plan(struct round *r);

/* Bytes that may be promised away now without the pool ever passing its budget, on top of what
 * every worker may use anyway; what a surge under way needs is taken off. */
uint64_t restart_spare_bytes(const struct round *r);
