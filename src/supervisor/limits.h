/* From what the operator asked for to numbers, given the host. */
#pragma once

#include <stdbool.h>

#include "config/config.h"
#include "launch.h"
#include "policy/decide.h"

/* A setting that contradicts others. */
struct contradiction {
	enum infeasible what;
	uint64_t would_do; /* in its unit: bytes, microseconds */
	struct config_error
		message; /* one line: where it is set, the numbers, what would do */
};

/* Puts all of policy_infeasible() into words. Returns how many there are. */
size_t limits_contradictions(const struct config *c, const struct limits *limits,
			     unsigned n_workers, usec_t life_usec,
			     uint64_t footprint_bytes,
			     struct contradiction ret[N_INFEASIBILITIES]);

/* Reads the host's memory and the limits above the pool's root (root_fd -1: none), and resolves
 * the configuration for n_workers. memory: leaves have a memory controller. Cannot fail: what
 * cannot be read limits nothing. */
void limits_resolve(const struct config *c, const struct launch *launch, int root_fd,
		    unsigned n_workers, bool memory, struct limits *ret);
