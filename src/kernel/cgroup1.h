/* Control groups, version 1: the one thing that degraded mode must know of them. Read only.
 * Source: Documentation/admin-guide/cgroup-v1/memory.rst. */
#pragma once

#include <stdint.h>

/* The limit on this process's memory and all that it shares it with, up the tree.
 * UINT64_MAX: none. Returns 0 or -errno: -ENOENT when the memory controller is not on version 1,
 * -EXDEV when the mounts do not show our cgroup. */
int cgroup1_limit(uint64_t *ret_limit_bytes);
