/* The contract between the supervisor and libtrimtab-preload.so in a worker: one page of shared
 * memory, one environment variable, one queued signal or futex, one notification datagram.
 *
 * The supervisor makes a memfd of TRIMTAB_PAGE_SIZE bytes for each worker, seals its size, maps
 * it and hands the descriptor down. The child writes worker_pid and worker_start itself between
 * fork and exec. The library comes alive only where TRIMTAB_PAGE names the very process it is
 * in; everywhere else (children of the worker, shells, helpers) it does nothing at all.
 *
 * Whatever the worker can write, the supervisor reads as hostile: it copies a field once, checks
 * its range, and lets no value of it select an address, a length or another process.
 *
 * Wake-up. The helper thread publishes its tid in helper_tid and says "hello". To ask for a trim
 * the supervisor
 *   1. writes `operations` (and gc_wait_msec), then increments `request` with release order;
 *   2. if `waits` is TRIMTAB_WAKE_SIGNAL, sends rt_tgsigqueueinfo(pid, helper_tid, signal_number)
 *      with si_code SI_QUEUE and si_value = low 32 bits of cookie; ESRCH says that the helper is
 *      gone (the worker died, or executed a program that the library is not in);
 *   3. always: FUTEX_WAKE on `request` (not PRIVATE). The helper may be changing from signal to
 *      futex just now, and a wake that nobody waits for costs a microsecond.
 * The helper alone waits for that signal, blocked, in sigwaitinfo(2), so no disposition of the
 * application matters. `waits` is what `wake` asked for, until the helper finds that the
 * application too takes this signal by waiting for it (sigwait(3), signalfd(2)): such a waiter
 * could lose a signal to the helper, so the helper hands it back and turns to the futex for good.
 * From the first request on, while it waits for the signal, a plain one sent to the process
 * (kill -USR2 PID) asks for a trim too, unless the application has set a disposition of its own.
 *
 * When done the helper stores the results, then `done` = request with release order, and sends
 * one datagram to NOTIFY_SOCKET. Fields below `done` are stable while done == request. A request
 * made while another is served is served next; several such are one.
 *
 * A datagram may be lost: in a full queue, or where the worker is a user by now who cannot reach the
 * socket. So the supervisor finds a hello in `state` and `helper_tid` too, and an answer in `done`.
 * A signal may come without its value, where RLIMIT_SIGPENDING is used up: the helper takes one from
 * nobody for the supervisor's if there is a request that had none yet.
 *
 * Datagrams (sd_notify(3) format, one variable a message):
 *   X_TRIMTAB=hello    the helper waits; page->state is TRIMTAB_STATE_READY
 *   X_TRIMTAB=done     a request was served
 *   X_TRIMTAB=plain    a plain signal was served; the results of the newest request stand
 *   X_TRIMTAB=late     a collection that a request had given up waiting for ended, and what it
 *                      freed was given back too; the results of that request stand as they are
 */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

/* "TRTB" */
#define TRIMTAB_PAGE_MAGIC   0x42545254u
#define TRIMTAB_PAGE_VERSION 1u
#define TRIMTAB_PAGE_SIZE    4096u
/* "<fd>:<pid>:<cookie, 16 hex digits>" */
#define TRIMTAB_PAGE_ENV "TRIMTAB_PAGE"

enum trimtab_wake {
	TRIMTAB_WAKE_SIGNAL = 1,
	TRIMTAB_WAKE_FUTEX = 2,
};

/* Bits of `operations`. */
enum trimtab_operation {
	/* Give free heap back. */
	TRIMTAB_OP_TRIM = 1,
	/* Run the language's collector first, bounded by gc_wait_msec. */
	TRIMTAB_OP_GC = 2,
	/* Also give back what is free inside CPython's arenas; waits for the GIL as long. */
	TRIMTAB_OP_PYMALLOC = 4,
	/* Look at what the other operations asked for would find, and give nothing back. Once the
	 * application is up: it puts the interpreter to the test that PYMALLOC needs. */
	TRIMTAB_OP_LOOK = 8,
};

enum trimtab_state {
	TRIMTAB_STATE_NONE = 0, /* the library has not been here */
	TRIMTAB_STATE_READY = 1,
	TRIMTAB_STATE_BUSY = 2,
	TRIMTAB_STATE_FAILED = 3, /* loaded, but no helper thread could be made */
};

enum trimtab_allocator {
	TRIMTAB_ALLOCATOR_UNKNOWN = 0,
	TRIMTAB_ALLOCATOR_GLIBC = 1,
	TRIMTAB_ALLOCATOR_JEMALLOC = 2,
	TRIMTAB_ALLOCATOR_TCMALLOC = 3,
	TRIMTAB_ALLOCATOR_MIMALLOC = 4,
};

enum trimtab_gc_result {
	TRIMTAB_GC_NOT_ASKED = 0,
	TRIMTAB_GC_DONE = 1,
	TRIMTAB_GC_TIMEOUT = 2, /* the main thread did not come round; trimmed anyway */
	TRIMTAB_GC_REFUSED = 3, /* no interpreter, or it is ending */
};

/* Whether pools in CPython's arenas are given back here. Anything but ON: none is, and why. */
enum trimtab_pymalloc {
	/* Not asked, or the interpreter did not let us in yet. */
	TRIMTAB_PYMALLOC_UNKNOWN = 0,
	TRIMTAB_PYMALLOC_ON = 1,
	/* No CPython 3.10 or later was in the program at its start. */
	TRIMTAB_PYMALLOC_NO_PYTHON = 2,
	/* Not one of 3.10 to 3.13, or not 64 bit. */
	TRIMTAB_PYMALLOC_VERSION = 3,
	TRIMTAB_PYMALLOC_FREE_THREADED = 4,
	/* Pages as large as pools: nothing to win. */
	TRIMTAB_PYMALLOC_PAGE_SIZE = 5,
	/* PYTHONMALLOC names another allocator. */
	TRIMTAB_PYMALLOC_NOT_USED = 6,
	/* Another arena allocator was set after ours. */
	TRIMTAB_PYMALLOC_HOOK = 7,
	/* There are sub-interpreters. */
	TRIMTAB_PYMALLOC_INTERPRETERS = 8,
	/* Its blocks do not lie or behave as we know it. */
	TRIMTAB_PYMALLOC_SELF_TEST = 9,
};

struct trimtab_page {
	/* Written by the supervisor before the fork; worker_* by the child before exec. */
	uint32_t magic;
	uint32_t version;
	uint32_t size;
	uint32_t wake; /* enum trimtab_wake */
	uint64_t cookie;
	int32_t worker_pid;
	uint32_t signal_number;
	uint64_t worker_start; /* /proc/PID/stat field 22: tells a recycled pid */
	uint32_t reserved[4];

	/* Supervisor -> worker. `request` is the number of the newest one, and a futex. */
	_Alignas(64) _Atomic uint32_t request;
	_Atomic uint32_t operations;
	_Atomic uint32_t gc_wait_msec; /* 0: 1000 */

	/* Worker -> supervisor. `done` is the number of the newest request served. */
	_Alignas(64) _Atomic uint32_t done;
	_Atomic uint32_t state; /* enum trimtab_state */
	_Atomic int32_t helper_tid;
	_Atomic uint32_t allocator;	/* enum trimtab_allocator */
	_Atomic uint32_t gc_result;	/* enum trimtab_gc_result */
	_Atomic uint32_t trim_returned; /* the allocator's word: says little */
	_Atomic uint64_t began_nsec;	/* CLOCK_MONOTONIC */
	_Atomic uint64_t ended_nsec;
	_Atomic uint64_t rss_before_bytes; /* resident set as the worker sees it */
	_Atomic uint64_t rss_after_bytes;
	_Atomic uint64_t purged_bytes; /* dropped inside CPython's arenas */
	_Atomic uint64_t n_served;
	_Atomic uint64_t n_foreign_signals; /* our number, but not from the supervisor */
	_Atomic uint32_t waits;	       /* enum trimtab_wake: how the helper waits now */
	_Atomic uint32_t n_late_trims; /* after a collection that came late */
	_Atomic uint32_t pymalloc;     /* enum trimtab_pymalloc, as last found */
	_Atomic uint32_t n_odd_arenas; /* left alone by the last purge */
	_Atomic uint64_t arena_bytes;  /* in CPython's arenas, at the last purge */
	_Atomic uint64_t live_bytes;   /* in use there; the rest is free or gone */
	/* The longest that this request, and any since the worker began, held a lock without a
	 * pause: the GIL exactly, an allocator's at most so long. */
	_Atomic uint64_t hold_nsec;
	_Atomic uint64_t longest_hold_nsec;
	/* By how much the resident set fell while the allocator worked. */
	_Atomic uint64_t released_bytes;
	/* What could go, as seen before anything went. Of the allocator, what is resident and what
	 * of it is in use, 0 where it does not say: glibc's own counters predict nothing (512 MiB
	 * "free" with nothing to give back) and take longer to read than a trim. Of CPython's
	 * arenas, the pages of pools that are wholly free. */
	_Atomic uint64_t heap_bytes;
	_Atomic uint64_t heap_live_bytes;
	_Atomic uint64_t free_pool_bytes;
	_Atomic uint32_t n_plain_trims; /* asked for by a plain signal */
};

/* In a process forked from a template the constructor ran long before there was a worker, and the
 * environment that it saw named no page. Such a process calls this once, in its only thread, with
 * what TRIMTAB_PAGE would say and its own pid; the page's worker_pid and worker_start are zero and
 * are filled in. The library keeps track of CPython's arenas in a process that has
 * TRIMTAB_TEMPLATE in its environment, so that its children can purge them.
 *
 * Returns 0 when the helper waits, else -1 and nothing has changed. The one exported symbol; find
 * it with dlsym(3), it is there only where the library was preloaded. */
#define TRIMTAB_TEMPLATE_ENV "TRIMTAB_TEMPLATE"
int trimtab_preload_adopt(const char *page_variable);

_Static_assert(sizeof(struct trimtab_page) <= TRIMTAB_PAGE_SIZE, "one page");
