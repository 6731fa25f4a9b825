/* Owns the conversation with the supervisor: waits, serves, publishes.
 *
 * It runs in the helper thread (thread.h) and must not allocate there, since that would give the
 * thread an arena of its own; it must not wait for the application without bound, and it never
 * returns. */
#include "preload/helper.h"

#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "preload/allocator.h"
#include "preload/notify.h"
#include "preload/plain.h"
#include "preload/pymalloc.h"
#include "preload/python.h"
#include "preload/ruby.h"
#include "preload/self.h"
#include "preload/thread.h"

enum {
	DEFAULT_GC_WAIT_MSEC = 1000,
	MAX_GC_WAIT_MSEC = 60000,
};

/* Before a signal that the main thread blocks counts as kept for the application. */
static const long block_pauses_msec[] = { 10, 50, 250 };

#define FIRST_LATE_PAUSE_NSEC UINT64_C(50000000)
#define MAX_LATE_PAUSE_NSEC   UINT64_C(30000000000)

static struct {
	struct trimtab_page *page;
	pid_t tid;
	/* Copied once: the application may scribble over the page. */
	enum trimtab_wake wake;
	int signal_number;
	uint32_t cookie_low;
	uint32_t served;
	/* The newest request when a signal of the supervisor's came last. */
	uint32_t heard;
	uint32_t operations; /* of the newest request */
	/* While a collection is late: when to look again. 0: none is. */
	uint64_t late_pause_nsec;
} helper;

static void publish(_Atomic uint32_t *field, uint32_t value)
{
	atomic_store_explicit(field, value, memory_order_relaxed);
}

static void publish64(_Atomic uint64_t *field, uint64_t value)
{
	atomic_store_explicit(field, value, memory_order_relaxed);
}

static unsigned gc_wait_msec(void)
{
	uint32_t msec =
		atomic_load_explicit(&helper.page->gc_wait_msec, memory_order_relaxed);

	if (msec == 0)
		return DEFAULT_GC_WAIT_MSEC;
	return msec < MAX_GC_WAIT_MSEC ? msec : MAX_GC_WAIT_MSEC;
}

static enum trimtab_gc_result collect(void)
{
	enum trimtab_gc_result result = ruby_is_there() ? ruby_collect(gc_wait_msec())
							: python_collect(gc_wait_msec());

	if (result == TRIMTAB_GC_TIMEOUT)
		helper.late_pause_nsec = FIRST_LATE_PAUSE_NSEC;
	return result;
}

static bool collection_is_due(void)
{
	return python_collection_is_due() || ruby_collection_is_due();
}

typedef enum trimtab_pymalloc arenas_fn(unsigned wait_msec, struct pymalloc_result *ret);

static uint64_t visit_arenas(arenas_fn *work)
{
	struct trimtab_page *page = helper.page;
	struct pymalloc_result result;

	publish(&page->pymalloc, work(gc_wait_msec(), &result));
	publish(&page->n_odd_arenas, result.n_odd_arenas);
	publish64(&page->arena_bytes, result.arena_bytes);
	publish64(&page->live_bytes, result.live_bytes);
	publish64(&page->free_pool_bytes, result.free_pool_bytes);
	publish64(&page->purged_bytes, result.purged_bytes);
	return result.longest_hold_nsec;
}

static void look_at_heap(void)
{
	uint64_t heap = 0, live = 0;

	if (!allocator_look(&heap, &live))
		heap = live = 0;
	publish64(&helper.page->heap_bytes, heap);
	publish64(&helper.page->heap_live_bytes, live);
}

/* Returns how long it took, which is the longest that a lock of it can have been held. */
static uint64_t trim(void)
{
	uint64_t before = self_rss_bytes(), began = self_now_nsec(), took, after;

	publish(&helper.page->trim_returned, (uint32_t)allocator_release());
	took = self_now_nsec() - began;
	after = self_rss_bytes();
	publish64(&helper.page->released_bytes, before > after ? before - after : 0);
	return took;
}

static void publish_longest_hold(uint64_t nsec)
{
	_Atomic uint64_t *longest = &helper.page->longest_hold_nsec;

	if (nsec > atomic_load_explicit(longest, memory_order_relaxed))
		publish64(longest, nsec);
}

static void publish_hold(uint64_t nsec)
{
	publish64(&helper.page->hold_nsec, nsec);
	publish_longest_hold(nsec);
}

static uint64_t longer(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static void serve(uint32_t operations)
{
	struct trimtab_page *page = helper.page;
	enum trimtab_gc_result gc = TRIMTAB_GC_NOT_ASKED;
	bool only_look = operations & TRIMTAB_OP_LOOK;
	uint64_t hold = 0;

	publish(&page->state, TRIMTAB_STATE_BUSY);
	publish64(&page->began_nsec, self_now_nsec());
	publish64(&page->rss_before_bytes, self_rss_bytes());
	publish64(&page->purged_bytes, 0);
	publish64(&page->released_bytes, 0);
	publish(&page->trim_returned, 0);
	if (operations & TRIMTAB_OP_GC && !only_look)
		gc = collect();
	publish(&page->gc_result, gc);
	if (operations & TRIMTAB_OP_PYMALLOC)
		hold = visit_arenas(only_look ? pymalloc_look : pymalloc_purge);
	if (operations & TRIMTAB_OP_TRIM)
		look_at_heap();
	if (operations & TRIMTAB_OP_TRIM && !only_look)
		hold = longer(hold, trim());
	publish_hold(hold);
	publish64(&page->rss_after_bytes, self_rss_bytes());
	publish64(&page->ended_nsec, self_now_nsec());
	atomic_fetch_add_explicit(&page->n_served, 1, memory_order_relaxed);
	publish(&page->state, TRIMTAB_STATE_READY);
}

/* By plain signal: nobody waits for figures, and those of the newest request stand. */
static void serve_plain(void)
{
	struct pymalloc_result unused;
	uint64_t hold = 0;

	if (helper.operations & TRIMTAB_OP_GC)
		(void)collect();
	if (helper.operations & TRIMTAB_OP_PYMALLOC) {
		(void)pymalloc_purge(gc_wait_msec(), &unused);
		hold = unused.longest_hold_nsec;
	}
	(void)allocator_release();
	publish_longest_hold(hold);
	atomic_fetch_add_explicit(&helper.page->n_plain_trims, 1, memory_order_relaxed);
	notify_send("X_TRIMTAB=plain");
}

/* What a collection frees after we stopped waiting for it goes back as well. The results of the
 * request stay as they are. */
static void trim_after_late_collection(void)
{
	helper.late_pause_nsec = 0;
	(void)allocator_release();
	atomic_fetch_add_explicit(&helper.page->n_late_trims, 1, memory_order_relaxed);
	notify_send("X_TRIMTAB=late");
}

/* A signal of our number that was not for us. While we wait for it the kernel may choose us for
 * one that was sent to the process, if every thread of the application blocks it too and takes
 * it by sigwait(3) or signalfd(2), or, rarely, while the main thread is busy with another. Then
 * it goes back, exactly as it was, and we wait by the futex from now on, so that it cannot come
 * here again.
 *
 * One that was directed at this very thread must end here: sent on, it could kill a process
 * that never asked for it. SI_TKILL is always such a one. Others may be either, and go back only
 * where the application is prepared for the signal: where it is not, the kernel would have
 * killed the process at once instead of handing it to us.
 *
 * Blocked by the main thread is not yet prepared: the C library blocks everything for a moment
 * in pthread_create(3), posix_spawn(3) and others, and what came back to such a process killed
 * it as soon as the moment was over. */
static bool main_keeps_blocking(int number)
{
	for (size_t i = 0; i < sizeof block_pauses_msec / sizeof *block_pauses_msec;
	     i++) {
		const struct timespec pause = {
			.tv_nsec = block_pauses_msec[i] * 1000000L,
		};

		if (!self_main_blocks(number))
			return false;
		(void)nanosleep(&pause, NULL);
	}
	return self_main_blocks(number);
}

static bool meant_for_process(const siginfo_t *info)
{
	struct sigaction action;

	if (info->si_code == SI_TKILL || sigaction(info->si_signo, NULL, &action) < 0)
		return false;
	if (action.sa_handler != SIG_DFL && !plain_is_ours(&action))
		return true;
	if (main_keeps_blocking(info->si_signo))
		return true;
	if (plain_is_ours(&action))
		plain_want();
	return false;
}

static void turn_to_futex(void)
{
	helper.wake = TRIMTAB_WAKE_FUTEX;
	publish(&helper.page->waits, TRIMTAB_WAKE_FUTEX);
}

static void take_foreign_signal(siginfo_t *info)
{
	atomic_fetch_add_explicit(&helper.page->n_foreign_signals, 1,
				  memory_order_relaxed);
	if (!meant_for_process(info))
		return;
	turn_to_futex();
	/* To our own tid, which stands for the process as its pid does: the kernel compares the
	 * number with the caller's tid before it lets a process send what claims to come from
	 * kill(2), and answers EPERM to the pid. */
	(void)syscall(SYS_rt_sigqueueinfo, helper.tid, info->si_signo, info);
}

/* One without a value is the supervisor's too if there is a request that had no signal yet: where
 * RLIMIT_SIGPENDING is used up, the kernel delivers a signal without what was queued with it. It
 * then looks like kill(2) by a process of another name space, and if it went back, the application
 * would see it. */
static bool is_for_us(const siginfo_t *info)
{
	uint32_t request =
		atomic_load_explicit(&helper.page->request, memory_order_relaxed);
	bool ours = info->si_code == SI_QUEUE &&
		    (uint32_t)info->si_value.sival_int == helper.cookie_low;

	if (info->si_code == SI_USER && info->si_pid == 0)
		ours = request != helper.heard;
	if (ours)
		helper.heard = request;
	return ours;
}

static void wait_for_signal(const struct timespec *timeout)
{
	siginfo_t info = { 0 };
	sigset_t set;

	(void)sigemptyset(&set);
	(void)sigaddset(&set, helper.signal_number);
	/* Not sigtimedwait(3): glibc shows SI_TKILL as SI_USER. */
	if (syscall(SYS_rt_sigtimedwait, &set, &info, timeout, (size_t)_NSIG / 8) < 0) {
		/* EINTR is the C library's own signal for setuid(2), or SIGCONT. Anything else
		 * is a filter's word, and would come again at once. */
		if (errno != EINTR && errno != EAGAIN)
			turn_to_futex();
		return;
	}
	if (!is_for_us(&info))
		take_foreign_signal(&info);
}

/* Sleeps without end, but for the time in which a collection is late. Its end is looked for
 * ever more rarely: a main thread that sleeps for long has nothing to free either. */
static void wait_for_request(void)
{
	struct timespec pause, *timeout = NULL;

	if (helper.late_pause_nsec > 0) {
		pause.tv_sec = (time_t)(helper.late_pause_nsec / 1000000000u);
		pause.tv_nsec = (long)(helper.late_pause_nsec % 1000000000u);
		timeout = &pause;
		if (helper.late_pause_nsec < MAX_LATE_PAUSE_NSEC)
			helper.late_pause_nsec *= 2;
	}
	if (helper.wake == TRIMTAB_WAKE_SIGNAL)
		wait_for_signal(timeout);
	else
		(void)syscall(SYS_futex, &helper.page->request, FUTEX_WAIT, helper.served,
			      timeout, NULL, 0);
}

static void serve_request(uint32_t request)
{
	struct trimtab_page *page = helper.page;

	helper.operations = atomic_load_explicit(&page->operations, memory_order_relaxed);
	if (helper.wake == TRIMTAB_WAKE_SIGNAL)
		plain_arm(helper.signal_number, helper.tid);
	serve(helper.operations);
	helper.served = request;
	atomic_store_explicit(&page->done, request, memory_order_release);
	notify_send("X_TRIMTAB=done");
}

static void *helper_main(void *unused)
{
	struct trimtab_page *page = helper.page;

	(void)unused;
	thread_settle("trimtab");
	helper.tid = (pid_t)syscall(SYS_gettid);
	atomic_store_explicit(&page->helper_tid, helper.tid, memory_order_relaxed);
	publish(&page->waits, helper.wake);
	atomic_store_explicit(&page->state, TRIMTAB_STATE_READY, memory_order_release);
	notify_send("X_TRIMTAB=hello");
	for (;;) {
		uint32_t request =
			atomic_load_explicit(&page->request, memory_order_acquire);

		if (request != helper.served)
			serve_request(request);
		else if (plain_take())
			serve_plain();
		else if (helper.late_pause_nsec > 0 && !collection_is_due())
			trim_after_late_collection();
		else
			wait_for_request();
	}
	return NULL;
}

int helper_start(struct trimtab_page *page, enum trimtab_allocator allocator)
{
	int r;

	/* Where a worker became a template, there was a helper before us. */
	helper.operations = 0;
	helper.late_pause_nsec = 0;
	helper.page = page;
	/* Whoever forked us may have had a late collection. */
	helper.late_pause_nsec = 0;
	helper.wake = (enum trimtab_wake)page->wake;
	helper.signal_number = (int)page->signal_number;
	helper.cookie_low = (uint32_t)page->cookie;
	/* After an exec a request may be under way that the image before this one was asked. */
	helper.served = atomic_load_explicit(&page->done, memory_order_relaxed);
	helper.heard = helper.served;
	publish(&page->allocator, allocator);
	r = thread_start(helper_main);
	if (r < 0)
		publish(&page->state, TRIMTAB_STATE_FAILED);
	return r;
}
