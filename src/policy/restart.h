/* Starts and restarts: the one budget for all causes, and admission. */
#pragma once

#include "policy/round.h"

/* Whether one worker more would fit beside the slot's and all others. */
bool restart_has_room(const struct round *r, uint32_t slot);

/* Gives START for empty slots whose turn it is, and RETIRE for surplus ones. */
void restart_decide_starts(struct round *r);

/* Plans, writes each slot's restart into its outlook, and gives at most one SURGE or DRAIN. */
void restart_decide_plan(struct round *r);
