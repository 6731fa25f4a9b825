/* The supervisor's side of the trim page against a worker that writes whatever it likes. */
#include "process/trimpage.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "util/cleanup.h"

static struct trimpage page;

static void make_futex_page(void)
{
	page = TRIMPAGE_NONE;
	cr_assert_eq(trimpage_init(&page, SIGUSR2, TRIMTAB_WAKE_FUTEX), 0);
}

static void drop_page(void)
{
	trimpage_done(&page);
}

TestSuite(trimpage, .init = make_futex_page, .fini = drop_page);

/* What the library does at its start. */
static void come_alive(enum trimtab_wake waits)
{
	atomic_store(&page.page->helper_tid, (int)syscall(SYS_gettid));
	atomic_store(&page.page->waits, waits);
	atomic_store(&page.page->state, TRIMTAB_STATE_READY);
}

static void serve(void)
{
	atomic_store(&page.page->done, atomic_load(&page.page->request));
}

Test(trimpage, is_made_for_one_worker)
{
	struct trimpage other = TRIMPAGE_NONE;

	cr_assert_eq(page.page->magic, TRIMTAB_PAGE_MAGIC);
	cr_assert_eq(page.page->version, TRIMTAB_PAGE_VERSION);
	cr_assert_eq(page.page->size, TRIMTAB_PAGE_SIZE);
	cr_assert_eq(page.page->wake, TRIMTAB_WAKE_FUTEX);
	cr_assert_eq(page.page->signal_number, SIGUSR2);
	cr_assert_eq(page.page->cookie, page.cookie);
	cr_assert_eq(page.page->worker_pid, 0, "the child signs it");
	cr_assert_eq(trimpage_init(&other, SIGUSR2, TRIMTAB_WAKE_SIGNAL), 0);
	cr_assert_neq(other.cookie, page.cookie);
	trimpage_done(&other);
}

Test(trimpage, can_neither_shrink_nor_grow)
{
	cr_assert(fcntl(page.fd, F_GETFD) & FD_CLOEXEC);
	cr_assert_lt(ftruncate(page.fd, 0), 0, "a worker could make us fault");
	cr_assert_lt(ftruncate(page.fd, 2 * TRIMTAB_PAGE_SIZE), 0);
	cr_assert_lt(fcntl(page.fd, F_ADD_SEALS, F_SEAL_WRITE), 0,
		     "sealed against more seals");
}

Test(trimpage, is_shared_by_its_descriptor)
{
	void *theirs = mmap(NULL, TRIMTAB_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
			    page.fd, 0);

	cr_assert_neq(theirs, MAP_FAILED);
	((struct trimtab_page *)theirs)->worker_pid = 77;
	cr_assert_eq(page.page->worker_pid, 77);
	(void)munmap(theirs, TRIMTAB_PAGE_SIZE);
}

Test(trimpage, nothing_there)
{
	struct trimpage none = TRIMPAGE_NONE;
	struct trim_answer answer;

	cr_assert_not(trimpage_is_live(&none));
	cr_assert_eq(trimpage_request(&none, getpid(), TRIMTAB_OP_TRIM, 0), -ENOTCONN);
	cr_assert_eq(trimpage_answer(&none, &answer), 0);
	trimpage_done(&none);
}

Test(trimpage, is_asked_only_while_the_library_lives)
{
	static const struct {
		uint32_t state;
		bool live;
	} rows[] = {
		{ TRIMTAB_STATE_NONE, false },	     { TRIMTAB_STATE_READY, true },
		{ TRIMTAB_STATE_BUSY, true },	     { TRIMTAB_STATE_FAILED, false },
		{ TRIMTAB_STATE_FAILED + 1, false }, { UINT32_MAX, false },
	};

	for (size_t i = 0; i < ELEMENTS(rows); i++) {
		atomic_store(&page.page->state, rows[i].state);
		cr_assert_eq(trimpage_is_live(&page), rows[i].live, "state %u",
			     rows[i].state);
		if (!rows[i].live) {
			cr_assert_eq(
				trimpage_request(&page, getpid(), TRIMTAB_OP_TRIM, 0),
				-ENOTCONN);
			cr_assert_eq(atomic_load(&page.page->request), 0);
		}
	}
}

Test(trimpage, a_request_and_its_answer)
{
	struct trim_answer answer;

	come_alive(TRIMTAB_WAKE_FUTEX);
	cr_assert_eq(
		trimpage_request(&page, getpid(), TRIMTAB_OP_TRIM | TRIMTAB_OP_GC, 250),
		0);
	cr_assert_eq(atomic_load(&page.page->request), 1);
	cr_assert_eq(atomic_load(&page.page->operations),
		     TRIMTAB_OP_TRIM | TRIMTAB_OP_GC);
	cr_assert_eq(atomic_load(&page.page->gc_wait_msec), 250);
	cr_assert_eq(trimpage_answer(&page, &answer), 0);

	atomic_store(&page.page->began_nsec, 1000000);
	atomic_store(&page.page->ended_nsec, 3500000);
	atomic_store(&page.page->rss_before_bytes, 100 << 20);
	atomic_store(&page.page->rss_after_bytes, 40 << 20);
	atomic_store(&page.page->purged_bytes, 4096);
	atomic_store(&page.page->released_bytes, 50 << 20);
	atomic_store(&page.page->hold_nsec, 2100000);
	atomic_store(&page.page->gc_result, TRIMTAB_GC_DONE);
	atomic_store(&page.page->allocator, TRIMTAB_ALLOCATOR_GLIBC);
	serve();
	cr_assert_eq(trimpage_answer(&page, &answer), 1);
	cr_assert_eq(answer.worked_usec, 2500);
	cr_assert_eq(answer.rss_before_bytes, 100 << 20);
	cr_assert_eq(answer.rss_after_bytes, 40 << 20);
	cr_assert_eq(answer.purged_bytes, 4096);
	cr_assert_eq(answer.released_bytes, 50 << 20);
	cr_assert_eq(answer.hold_usec, 2100);
	cr_assert_eq(answer.gc, TRIMTAB_GC_DONE);
	cr_assert_eq(answer.allocator, TRIMTAB_ALLOCATOR_GLIBC);
}

Test(trimpage, one_request_at_a_time)
{
	come_alive(TRIMTAB_WAKE_FUTEX);
	cr_assert_eq(trimpage_request(&page, getpid(), TRIMTAB_OP_TRIM, 0), 0);
	cr_assert_eq(trimpage_request(&page, getpid(), TRIMTAB_OP_TRIM, 0), -EBUSY);
	cr_assert_eq(atomic_load(&page.page->request), 1);
	serve();
	cr_assert_eq(trimpage_request(&page, getpid(), TRIMTAB_OP_TRIM, 0), 0);
	cr_assert_eq(atomic_load(&page.page->request), 2);
}

/* Nobody waits for a look, so what is really wanted need not wait for it either. */
Test(trimpage, a_look_gives_way)
{
	struct trim_answer answer;

	come_alive(TRIMTAB_WAKE_FUTEX);
	cr_assert_eq(
		trimpage_request(&page, getpid(), TRIMTAB_OP_TRIM | TRIMTAB_OP_LOOK, 0),
		0);
	cr_assert_eq(trimpage_request(&page, getpid(), TRIMTAB_OP_TRIM, 0), 0);
	cr_assert_eq(atomic_load(&page.page->operations), TRIMTAB_OP_TRIM);
	atomic_store(&page.page->done, 1);
	cr_assert_eq(trimpage_answer(&page, &answer), 0, "that was the look");
	cr_assert_eq(trimpage_request(&page, getpid(), TRIMTAB_OP_LOOK, 0), -EBUSY);
	serve();
	cr_assert_eq(trimpage_answer(&page, &answer), 1);
}

/* Numbers from the worker that never were: of requests that nobody made. */
Test(trimpage, an_answer_to_no_request)
{
	static const uint32_t claims[] = { 2, 3, UINT32_MAX, 0 };
	struct trim_answer answer;

	come_alive(TRIMTAB_WAKE_FUTEX);
	cr_assert_eq(trimpage_request(&page, getpid(), TRIMTAB_OP_TRIM, 0), 0);
	for (size_t i = 0; i < ELEMENTS(claims); i++) {
		atomic_store(&page.page->done, claims[i]);
		cr_assert_eq(trimpage_answer(&page, &answer), 0, "%u", claims[i]);
	}
	/* What it writes into our side is ignored too: the number kept is our own. */
	atomic_store(&page.page->request, 9);
	atomic_store(&page.page->done, 9);
	cr_assert_eq(trimpage_answer(&page, &answer), 0);
	atomic_store(&page.page->done, 1);
	cr_assert_eq(trimpage_answer(&page, &answer), 1);
}

Test(trimpage, figures_beyond_their_range)
{
	struct trim_answer answer;

	come_alive(TRIMTAB_WAKE_FUTEX);
	cr_assert_eq(trimpage_request(&page, getpid(), TRIMTAB_OP_TRIM, 0), 0);
	memset(&page.page->done, 0xff,
	       TRIMTAB_PAGE_SIZE - offsetof(struct trimtab_page, done));
	atomic_store(&page.page->began_nsec, UINT64_MAX);
	atomic_store(&page.page->ended_nsec, 1);
	atomic_store(&page.page->done, 1);
	cr_assert_eq(trimpage_answer(&page, &answer), 1);
	cr_assert_eq(answer.worked_usec, 0, "it ended before it began");
	cr_assert_eq(answer.hold_usec, 0, "longer than it worked");
	cr_assert_eq(answer.gc, TRIMTAB_GC_NOT_ASKED);
	cr_assert_eq(answer.allocator, TRIMTAB_ALLOCATOR_UNKNOWN);
	cr_assert_str_eq(trimpage_allocator_name(answer.allocator), "unknown");
	cr_assert_eq(answer.released_bytes, 0, "more than any process has");
	cr_assert_eq(answer.purged_bytes, 0);
	cr_assert_eq(answer.rss_before_bytes, 0);
	cr_assert_eq(answer.rss_after_bytes, 0);
}

Test(trimpage, what_it_says_of_itself)
{
	struct trimpage none = TRIMPAGE_NONE;
	struct trim_view view;

	trimpage_view(&none, &view);
	cr_assert_eq(view.allocator, TRIMTAB_ALLOCATOR_UNKNOWN);
	come_alive(TRIMTAB_WAKE_SIGNAL);
	atomic_store(&page.page->allocator, TRIMTAB_ALLOCATOR_JEMALLOC);
	atomic_store(&page.page->pymalloc, TRIMTAB_PYMALLOC_ON);
	atomic_store(&page.page->longest_hold_nsec, 5000000);
	atomic_store(&page.page->heap_bytes, 7);
	atomic_store(&page.page->heap_live_bytes, 6);
	atomic_store(&page.page->arena_bytes, 5);
	atomic_store(&page.page->live_bytes, 4);
	atomic_store(&page.page->free_pool_bytes, 3);
	trimpage_view(&page, &view);
	cr_assert_not(view.failed);
	cr_assert_eq(view.waits, TRIMTAB_WAKE_SIGNAL);
	cr_assert_eq(view.allocator, TRIMTAB_ALLOCATOR_JEMALLOC);
	cr_assert_str_eq(trimpage_pymalloc_text(view.pymalloc), "on");
	cr_assert_eq(view.longest_hold_usec, 5000);
	cr_assert_eq(view.heap_bytes, 7);
	cr_assert_eq(view.heap_live_bytes, 6);
	cr_assert_eq(view.arena_bytes, 5);
	cr_assert_eq(view.arena_live_bytes, 4);
	cr_assert_eq(view.free_pool_bytes, 3);
	atomic_store(&page.page->state, TRIMTAB_STATE_FAILED);
	atomic_store(&page.page->waits, 77);
	atomic_store(&page.page->pymalloc, 99);
	trimpage_view(&page, &view);
	cr_assert(view.failed);
	cr_assert_eq(view.waits, 0);
	cr_assert_eq(view.pymalloc, TRIMTAB_PYMALLOC_UNKNOWN);
	memset(&page.page->done, 0xff,
	       TRIMTAB_PAGE_SIZE - offsetof(struct trimtab_page, done));
	trimpage_view(&page, &view);
	cr_assert_eq(view.longest_hold_usec, 0, "longer than anybody waits");
	cr_assert_eq(view.heap_bytes, 0, "more than any process has");
	cr_assert_eq(view.heap_live_bytes, 0);
	cr_assert_eq(view.arena_bytes, 0);
	cr_assert_eq(view.arena_live_bytes, 0);
	cr_assert_eq(view.free_pool_bytes, 0);
}

Test(trimpage, has_a_word_for_each_state_of_pymalloc)
{
	for (uint32_t i = 0; i <= TRIMTAB_PYMALLOC_SELF_TEST; i++)
		for (uint32_t k = 0; k < i; k++)
			cr_assert_str_neq(trimpage_pymalloc_text(i),
					  trimpage_pymalloc_text(k));
}

Test(trimpage, tells_whether_the_helper_is_there)
{
	static const int tids[] = { 0, -1, INT32_MIN, 1, INT32_MAX };

	come_alive(TRIMTAB_WAKE_SIGNAL);
	cr_assert(trimpage_has_helper(&page, getpid()));
	cr_assert_not(trimpage_has_helper(&page, getppid()),
		      "a thread of another process");
	for (size_t i = 0; i < ELEMENTS(tids); i++) {
		atomic_store(&page.page->helper_tid, tids[i]);
		cr_assert_not(trimpage_has_helper(&page, getpid()), "%d", tids[i]);
	}
}

/* The page as a whole is the worker's to spoil, our own numbers included. */
Test(trimpage, a_page_of_noise)
{
	uint32_t seed = 1;
	struct trim_answer answer;
	struct sigaction ignore = { .sa_handler = SIG_IGN };

	cr_assert_eq(sigaction(SIGUSR2, &ignore, NULL), 0);
	for (int round = 0; round < 2000; round++) {
		unsigned char *p = (unsigned char *)page.page;

		for (size_t i = 0; i < sizeof(struct trimtab_page); i++) {
			seed = seed * 1664525 + 1013904223;
			p[i] = (unsigned char)(seed >> 24);
		}
		if (round % 3 == 0)
			atomic_store(&page.page->state, TRIMTAB_STATE_READY);
		(void)trimpage_is_live(&page);
		(void)trimpage_request(&page, getpid(), TRIMTAB_OP_TRIM, 0);
		if (round % 5 == 0)
			atomic_store(&page.page->done, page.requested);
		if (trimpage_answer(&page, &answer) == 1) {
			cr_assert_leq(answer.gc, TRIMTAB_GC_REFUSED);
			cr_assert_leq(answer.allocator, TRIMTAB_ALLOCATOR_MIMALLOC);
		}
	}
}

/* ---- by signal ---- */

static struct trimpage by_signal(void)
{
	struct trimpage t = TRIMPAGE_NONE;
	sigset_t usr2;

	sigemptyset(&usr2);
	sigaddset(&usr2, SIGUSR2);
	cr_assert_eq(sigprocmask(SIG_BLOCK, &usr2, NULL), 0);
	trimpage_done(&page);
	cr_assert_eq(trimpage_init(&t, SIGUSR2, TRIMTAB_WAKE_SIGNAL), 0);
	return t;
}

static bool take_signal(siginfo_t *si)
{
	struct timespec now = { 0 };
	sigset_t usr2;

	sigemptyset(&usr2);
	sigaddset(&usr2, SIGUSR2);
	return sigtimedwait(&usr2, si, &now) == SIGUSR2;
}

Test(trimpage, the_signal_goes_to_the_helper_and_carries_the_cookie)
{
	siginfo_t si;

	page = by_signal();
	come_alive(TRIMTAB_WAKE_SIGNAL);
	cr_assert_eq(trimpage_request(&page, getpid(), TRIMTAB_OP_TRIM, 0), 0);
	cr_assert(take_signal(&si));
	cr_assert_eq(si.si_code, SI_QUEUE);
	cr_assert_eq(si.si_pid, getpid());
	cr_assert_eq((uint32_t)si.si_value.sival_int, (uint32_t)page.cookie);
	cr_assert_not(take_signal(&si), "one request, one signal");
}

/* The library turns to the futex where the application waits for the same signal: a signal sent
 * then would stay pending there, or be taken for the application's own. */
Test(trimpage, no_signal_to_a_helper_that_waits_by_futex)
{
	siginfo_t si;

	page = by_signal();
	come_alive(TRIMTAB_WAKE_FUTEX);
	cr_assert_eq(trimpage_request(&page, getpid(), TRIMTAB_OP_TRIM, 0), 0);
	cr_assert_not(take_signal(&si));
	cr_assert_eq(atomic_load(&page.page->request), 1);
}

/* The thread number is the worker's word: nothing but a thread of the worker gets a signal. */
Test(trimpage, a_helper_that_is_gone)
{
	static const int tids[] = { 0, -1, INT32_MIN, 1, INT32_MAX };
	siginfo_t si;

	page = by_signal();
	come_alive(TRIMTAB_WAKE_SIGNAL);
	for (size_t i = 0; i < ELEMENTS(tids); i++) {
		atomic_store(&page.page->helper_tid, tids[i]);
		cr_assert_eq(trimpage_request(&page, getpid(), TRIMTAB_OP_TRIM, 0),
			     -ESRCH, "%d", tids[i]);
		cr_assert_not(take_signal(&si));
		serve();
	}
}

Test(trimpage, has_a_name_for_each_allocator)
{
	cr_assert_str_eq(trimpage_allocator_name(TRIMTAB_ALLOCATOR_GLIBC), "glibc");
	cr_assert_str_eq(trimpage_allocator_name(TRIMTAB_ALLOCATOR_JEMALLOC), "jemalloc");
	cr_assert_str_eq(trimpage_allocator_name(TRIMTAB_ALLOCATOR_TCMALLOC), "tcmalloc");
	cr_assert_str_eq(trimpage_allocator_name(TRIMTAB_ALLOCATOR_MIMALLOC), "mimalloc");
	cr_assert_str_eq(trimpage_allocator_name((enum trimtab_allocator)99), "unknown");
}

/* ---- taken over ---- */

Test(trimpage, is_mapped_again_by_another_program)
{
	struct trimpage next = { .fd = dup(page.fd), .cookie = page.cookie };

	cr_assert_eq(trimpage_resume(&next), 0);
	cr_assert_neq(next.page, page.page);
	atomic_store(&page.page->state, TRIMTAB_STATE_READY);
	cr_expect(trimpage_is_live(&next));
	trimpage_done(&next);
	cr_expect_eq(next.fd, -1);
}

Test(trimpage, only_a_sealed_page_is_mapped)
{
	struct trimpage next = { .fd = memfd_create("other",
						    MFD_CLOEXEC | MFD_ALLOW_SEALING) };

	cr_assert_eq(ftruncate(next.fd, TRIMTAB_PAGE_SIZE), 0);
	cr_expect_eq(trimpage_resume(&next), -EBADF, "it could be cut under us");
	cr_assert_eq(ftruncate(next.fd, 1), 0);
	cr_assert_eq(fcntl(next.fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
	cr_expect_eq(trimpage_resume(&next), -EBADF, "it is too short");
	(void)close(next.fd);
	next.fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	cr_expect_eq(trimpage_resume(&next), -EBADF, "it is no memfd");
	cr_expect_null(next.page);
	(void)close(next.fd);
}
