/* Kernel text -> numbers. Strings in, numbers out: no descriptor, no path, so that tests and
 * fuzzers feed literals. Every parser tolerates a missing final newline and rejects overflow. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* "123\n" -> 123; "max\n" -> UINT64_MAX. Returns 0, -EINVAL or -ERANGE. */
int parse_u64(const char *text, uint64_t *ret);

/* Looks up `key` in "key value\n" lines (memory.events, memory.stat, cgroup.events).
 * Returns 0, -ENOENT when the key is not there, -EINVAL, -ERANGE. */
int parse_keyed_u64(const char *text, const char *key, uint64_t *ret);

/* Whether a blank-separated list ("cpu io memory\n") has the word. */
bool parse_list_has(const char *text, const char *word);

/* "0::/a/b\n" among the lines of /proc/PID/cgroup -> start and length of "/a/b"; a trailing
 * " (deleted)" is left out. Returns 0 or -ENOENT. */
int parse_cgroup_line(const char *text, const char **ret_start, size_t *ret_length);

/* "12.34" (PSI averages) -> 1234 permyriad. Returns 0 or -EINVAL. */
int parse_permyriad(const char *text, uint32_t *ret);
