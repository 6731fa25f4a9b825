/* The way of a record from the event loop to the journal: the loop fills a fixed-size record in
 * a ring and goes on; a writer thread sends it. Neither journald, a full terminal nor systemd's
 * notification socket can ever make the loop wait, and nothing is allocated on its side. When
 * the ring is full the record is counted and dropped, and the count is reported later; a few places
 * are kept for what the service manager acts upon.
 *
 * In stderr mode the same thread carries the workers' output: it reads their pipes and writes
 * whole lines under the worker's name, so a slow terminal slows its workers, not the loop. */
#pragma once

#include <stdarg.h>
#include <stdbool.h>

enum event {
#define EVENT(name, text, id) EVENT_##name,
#include "report/events.def"
#undef EVENT
	N_EVENTS,
};

enum record_target { RECORD_JOURNAL, RECORD_STDERR };
enum record_format { RECORD_TEXT, RECORD_JSON };

struct record;

/* Starts the writer thread. pool names the pool in every record (copied); records less urgent
 * than max_priority (LOG_DEBUG ... LOG_ERR) are left out. Call once, before any record.
 * Returns 0 or -errno. */
int record_open(const char *pool, enum record_target target, enum record_format format,
		int max_priority);

/* Waits until what was committed is written, at most two seconds, and ends the thread. */
void record_close(void);

/* Stops the writer where everything is written, what workers left without a newline included, so
 * that another program may take the place of this one: what it has not read of their pipes stays
 * there. Waits two seconds at most. Returns 0; or -ETIMEDOUT when the log does not keep up, and then
 * nothing has changed. */
int record_hold(void);
/* Lets it go on after all. */
void record_release(void);

/* Changes what record_open() was told; records committed before may get the new form already. */
void record_change(enum record_format format, int max_priority);

/* Whether records go to the journal, where many of them disturb nobody. */
bool record_is_journal(void);

/* True when stderr is connected to the journal ($JOURNAL_STREAM names its device and inode;
 * systemd.exec(5)). */
bool record_stderr_is_journal(void);

/* Takes the next free record, with MESSAGE from the format; NULL when it is filtered or the ring
 * is full: all calls below accept NULL. Only the event loop's thread may call these. */
struct record *record_begin(enum event event, int priority, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* Adds "NAME=value". A field that no longer fits is left out. */
void record_add(struct record *r, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* Hands the record to the writer. */
void record_commit(struct record *r);

/* Queues a notification for the service manager (sd_notify(3)), in order with the records. */
void record_notify_manager(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Opens the descriptor that workers of one slot get as stdout and stderr: a journal stream under
 * the identifier POOL/worker-N (0: POOL/template), or the write end of a pipe to the writer thread. Blocking is
 * possible (journald): call it at start-up or when a slot is added, never for a restart.
 * Returns the descriptor (CLOEXEC, caller's) or -errno. */
int record_open_output(unsigned worker);

/* The pipes that the writer reads, for whoever takes over: the i-th from 0, or false beyond the last.
 * *ret_fd is the writer's own, -1 when that one has ended: at any time, unless the writer is held. */
bool record_each_output(unsigned i, unsigned *ret_worker, int *ret_fd);

/* Goes on reading such a pipe; fd is taken over. Returns 0 or -errno. */
int record_adopt_output(unsigned worker, int fd);
