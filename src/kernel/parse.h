/* Kernel text -> numbers. Strings in, numbers out: no descriptor, no path, so that tests and
 * fuzzers feed literals. Every parser tolerates a missing final newline and rejects overflow;
 * ret_ parameters are written only on success. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* "123\n" -> 123; "max\n" -> UINT64_MAX. Returns 0, -EINVAL or -ERANGE. */
int parse_u64(const char *text, uint64_t *ret);

/* Looks up `key` in "key value\n" lines (memory.events, memory.stat, cgroup.events). A value
 * in kB ("Rss:   12 kB", with the colon in the key) comes back in bytes.
 * Returns 0, -ENOENT when the key is not there, -EINVAL, -ERANGE. */
int parse_keyed_u64(const char *text, const char *key, uint64_t *ret);

/* Where the value of a key goes. */
struct parse_field {
	const char *key;
	uint64_t *value;
};

/* As parse_keyed_u64 for many keys in one pass: kernels differ in what they list, so unknown
 * keys are skipped, and a missing one leaves its value as it was.
 * Returns 0, -EINVAL or -ERANGE (values before the bad line are then written). */
int parse_fields(const char *text, const struct parse_field *fields, size_t n_fields);

/* Whether a blank-separated list ("cpu io memory\n") has the word. */
bool parse_list_has(const char *text, const char *word);

/* "0::/a/b\n" among the lines of /proc/PID/cgroup -> start and length of "/a/b"; a trailing
 * " (deleted)" is left out. Returns 0 or -ENOENT. */
int parse_cgroup_line(const char *text, const char **ret_start, size_t *ret_length);

/* As above for the version 1 hierarchy that holds a controller: "4:memory:/a/b\n".
 * Returns 0 or -ENOENT. */
int parse_cgroup1_line(const char *text, const char *controller, const char **ret_start,
		       size_t *ret_length);

/* A line of /proc/cgroups, when it is this controller's: the number of the version 1 hierarchy
 * that holds it, 0 for none, and whether the kernel has it switched on.
 * Returns 0, -ENOENT for another controller's line, -EINVAL, -ERANGE. */
int parse_controller(const char *line, const char *name, uint64_t *ret_hierarchy,
		     bool *ret_enabled);

/* "12.34" (PSI averages) -> 1234 permyriad. Returns 0 or -EINVAL. */
int parse_permyriad(const char *text, uint32_t *ret);

/* The line of a pressure file that begins with kind ("some", "full"): avg10 and total.
 * Returns 0, -ENOENT when there is no such line, -EINVAL, -ERANGE. */
int parse_pressure(const char *text, const char *kind, uint32_t *ret_avg10_permyriad,
		   uint64_t *ret_total_usec);

/* A line of /proc/PID/mountinfo, taken apart in place: \040 and its like are turned back into
 * the characters they stand for, and the strings point into the line.
 * Returns 0 or -EINVAL. */
struct parse_mount {
	const char *root;    /* which directory of the file system is mounted */
	const char *point;   /* where */
	const char *type;    /* "cgroup2" */
	const char *options; /* of the file system: "rw,memory"; may be empty */
};
int parse_mount_line(char *line, struct parse_mount *ret);

/* Whether a comma-separated list ("rw,memory") has the word. */
bool parse_options_have(const char *text, const char *word);

/* What is left of a path below a directory: "/a/b" below "/a" is "/b", below itself "".
 * NULL when it lies elsewhere. Works in whole components: "/ab" is not below "/a". */
const char *parse_path_below(const char *path, const char *directory);

/* /proc/PID/statm -> pages resident and, of these, shared. Returns 0, -EINVAL or -ERANGE. */
int parse_statm(const char *text, uint64_t *ret_resident_pages,
		uint64_t *ret_shared_pages);

/* /proc/PID/stat -> field 22, clock ticks between boot and start. The command name in field 2
 * is the process's own choice and may hold blanks and parentheses.
 * Returns 0, -EINVAL or -ERANGE. */
int parse_start_ticks(const char *text, uint64_t *ret);

/* The same file -> fields 14 and 15 together, clock ticks of CPU used. As above. */
int parse_cpu_ticks(const char *text, uint64_t *ret);

/* The same file -> PF_FORKNOEXEC (include/linux/sched.h) of field 9: it has executed nothing since
 * it was forked. As above. */
int parse_forked_only(const char *text, bool *ret);

/* A hexadecimal signal mask of /proc/PID/status ("SigCgt:\t0000000000010002\n").
 * Returns 0, -ENOENT when the key is not there, -EINVAL. */
int parse_signal_mask(const char *text, const char *key, uint64_t *ret);
