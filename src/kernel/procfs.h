/* /proc of one process: what it uses, when it started, what it does with a signal.
 * Source: proc(5). A process that has gone is the positive outcome PROC_GONE. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { PROC_GONE = 1 };

struct proc_usage {
	uint64_t rss_bytes;
	uint64_t pss_bytes;
	uint64_t private_bytes; /* clean + dirty: what its end gives back */
};

/* statm: resident less shared pages, in bytes: the cheap estimate (5 us) of degraded mode. Pages
 * shared with a template count in full; a zombie counts 0. Returns 0, PROC_GONE or -errno. */
int proc_estimate(pid_t pid, uint64_t *ret_bytes);

/* smaps_rollup: exact, but 12 ms at 500 MiB; never on the path from event to action.
 * Returns 0, PROC_GONE or -errno (-EACCES across users). */
int proc_usage(pid_t pid, struct proc_usage *ret);

/* Field 22 of stat, in clock ticks after boot. Returns 0, PROC_GONE or -errno. */
int proc_start_ticks(pid_t pid, uint64_t *ret_ticks);

/* CPU time it has used, in steps of a clock tick (10 ms). Returns 0, PROC_GONE or -errno. */
int proc_cpu(pid_t pid, uint64_t *ret_usec);

/* Whether it has executed nothing since it was forked. Returns 0, PROC_GONE or -errno. */
int proc_forked_only(pid_t pid, bool *ret);

/* Whether the process handles the signal itself (SigCgt). Returns 0, PROC_GONE or -errno. */
int proc_catches(pid_t pid, int signal_number, bool *ret);

/* Writes oom_score_adj: -1000 never, 1000 first. Raising it takes no privileges but the process's
 * own user. Returns 0, PROC_GONE or -errno. */
int proc_set_oom_score(pid_t pid, int score);

/* The v2 line of /proc/PID/cgroup, without "0::" (caller frees). Returns 0, PROC_GONE or -errno:
 * -ENODATA on a kernel or host without the v2 hierarchy. */
int proc_cgroup(pid_t pid, char **ret_path);

/* MemTotal and MemAvailable of /proc/meminfo, in bytes. Returns 0 or -errno. */
int proc_meminfo(uint64_t *ret_total_bytes, uint64_t *ret_available_bytes);
