/* `trimtab doctor` and `trimtab check`: answers for an operator, on stdout, nothing started. */
#pragma once

#include "config/config.h"
#include "launch.h"

/* What this host allows, and for what is missing, why and what to do; of a pool also whether its
 * program can be trimmed (launch; NULL: none is asked about). Returns the exit status: 0 with full
 * control, 1 in degraded mode. */
int doctor(const struct launch *launch);

/* Whether this configuration would start, and with which numbers. Returns the exit status: 0 when
 * it would and the numbers fit together, 1 when they do not. */
int check(const struct config *config, const struct launch *launch);
