/* From what the operator asked for to numbers, given the host. */
#pragma once

#include <stdbool.h>

#include "config/config.h"
#include "launch.h"
#include "policy/snapshot.h"

/* Reads the host's memory and the limits above the pool's root (root_fd -1: none), and resolves
 * the configuration for n_workers. memory: leaves have a memory controller. Cannot fail: what
 * cannot be read limits nothing. */
void limits_resolve(const struct config *c, const struct launch *launch, int root_fd,
		    unsigned n_workers, bool memory, struct limits *ret);
