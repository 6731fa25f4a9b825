/* What a process can learn about itself from /proc, without the heap, stdio or the locale: the
 * helper thread must not touch the heap it trims, nor give itself an arena of its own. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* CLOCK_MONOTONIC now. */
uint64_t self_now_nsec(void);

/* Resident set from /proc/thread-self/statm: about 5 us. 0 when it cannot be read. */
uint64_t self_rss_bytes(void);

/* Start of this process in clock ticks since boot, field 22 of /proc/self/stat. Together with
 * the pid it names a process for good. 0 when it cannot be read. */
uint64_t self_start_ticks(void);

/* True when the main thread has ended (state Z) and n_threads tasks are left, itself included. */
bool self_main_ended(unsigned n_threads);

/* True when the main thread blocks this signal, from /proc/self/status. False also when that
 * cannot be read. */
bool self_main_blocks(int signal_number);

/* The text parsers behind these, for tests. Field 1 is the pid; `field` must be 3 or later,
 * since the name in field 2 may hold blanks and brackets. False: no such field. */
bool self_parse_stat(const char *text, unsigned field, uint64_t *ret);
bool self_parse_statm_resident(const char *text, uint64_t *ret_pages);
bool self_parse_blocked(const char *text, uint64_t *ret_mask);

/* Reads a whole small file; NUL-terminates. Returns the length, or -errno. */
int self_read_file(const char *path, char *buffer, size_t size);

/* Digits of `base` (10 or 16) at *text, which moves behind them. False: no digit, or too many.
 * strtoull(3) is not used: since C23 it binds to a symbol that older and other libcs lack. */
bool self_parse_number(const char **text, unsigned base, uint64_t *ret);
