/* One shared page for each worker. The worker may write any of it at any time: what is read here
 * is copied, checked and used for reports and waiting only. */
#include "process/trimpage.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "util/cleanup.h"

/* The address space of a process; the longest that anybody could have noticed. */
#define MAX_BYTES     (UINT64_C(1) << 47)
#define MAX_HOLD_USEC USEC_PER_HOUR

int trimpage_init(struct trimpage *t, int signal_number, enum trimtab_wake wake)
{
	auto_close int fd = memfd_create("trimtab-page", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	uint64_t cookie;

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, TRIMTAB_PAGE_SIZE) < 0)
		return -errno;
	/* A worker that shrank it would make us fault. */
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return -errno;
	if (getrandom(&cookie, sizeof(cookie), 0) != sizeof(cookie))
		return -errno;

	void *p =
		mmap(NULL, TRIMTAB_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (p == MAP_FAILED)
		return -errno;

	struct trimtab_page *page = p;

	page->magic = TRIMTAB_PAGE_MAGIC;
	page->version = TRIMTAB_PAGE_VERSION;
	page->size = TRIMTAB_PAGE_SIZE;
	page->wake = wake;
	page->cookie = cookie;
	page->signal_number = (uint32_t)signal_number;
	*t = (struct trimpage){
		.page = page,
		.fd = TAKE_FD(fd),
		.cookie = cookie,
		.signal_number = signal_number,
		.wake = wake,
	};
	return 0;
}

int trimpage_resume(struct trimpage *t)
{
	int seals = fcntl(t->fd, F_GET_SEALS);
	struct stat st;
	void *p;

	/* Sealed against being cut, and long enough: or touching it would be fatal. */
	if (seals < 0 || !(seals & F_SEAL_SHRINK) || fstat(t->fd, &st) < 0 ||
	    st.st_size != TRIMTAB_PAGE_SIZE)
		return -EBADF;
	p = mmap(NULL, TRIMTAB_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, t->fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	t->page = p;
	return 0;
}

void trimpage_done(struct trimpage *t)
{
	t->fd = close_fd(t->fd);
	if (t->page)
		(void)munmap(t->page, TRIMTAB_PAGE_SIZE);
	t->page = NULL;
}

bool trimpage_is_live(const struct trimpage *t)
{
	uint32_t state;

	if (!t->page)
		return false;
	state = atomic_load_explicit(&t->page->state, memory_order_acquire);
	return state == TRIMTAB_STATE_READY || state == TRIMTAB_STATE_BUSY;
}

/* The number of a thread is the worker's word, but the kernel checks that it belongs to pid: at
 * worst a worker signals itself. */
static int wake_by_signal(const struct trimpage *t, pid_t pid)
{
	pid_t tid = atomic_load_explicit(&t->page->helper_tid, memory_order_relaxed);
	siginfo_t info;

	if (tid <= 0)
		return -ESRCH;
	memset(&info, 0, sizeof(info));
	info.si_signo = t->signal_number;
	info.si_code = SI_QUEUE;
	info.si_pid = getpid();
	info.si_uid = getuid();
	info.si_value.sival_int = (int)(uint32_t)t->cookie;
	if (syscall(SYS_rt_tgsigqueueinfo, pid, tid, t->signal_number, &info) < 0)
		return -errno;
	return 0;
}

/* Not where the library turned to the futex because the application takes this signal itself. */
static bool waits_for_signal(const struct trimpage *t)
{
	return t->wake == TRIMTAB_WAKE_SIGNAL &&
	       atomic_load_explicit(&t->page->waits, memory_order_relaxed) ==
		       TRIMTAB_WAKE_SIGNAL;
}

int trimpage_request(struct trimpage *t, pid_t pid, uint32_t operations,
		     uint32_t gc_wait_msec)
{
	struct trimtab_page *page = t->page;
	struct trim_answer unused;

	if (!trimpage_is_live(t))
		return -ENOTCONN;
	if (t->requested > 0 && !t->looking && trimpage_answer(t, &unused) == 0)
		return -EBUSY;

	t->looking = operations & TRIMTAB_OP_LOOK;
	atomic_store_explicit(&page->operations, operations, memory_order_relaxed);
	atomic_store_explicit(&page->gc_wait_msec, gc_wait_msec, memory_order_relaxed);
	t->requested++;
	atomic_store_explicit(&page->request, t->requested, memory_order_release);

	int r = waits_for_signal(t) ? wake_by_signal(t, pid) : 0;

	/* Always: the helper may be turning from one to the other just now. */
	(void)syscall(SYS_futex, &page->request, FUTEX_WAKE, 1, NULL, NULL, 0);
	return r;
}

static uint32_t get32(const _Atomic uint32_t *field)
{
	return atomic_load_explicit(field, memory_order_relaxed);
}

static uint64_t get64(const _Atomic uint64_t *field)
{
	return atomic_load_explicit(field, memory_order_relaxed);
}

/* More than a process can have is a lie: not known. */
static uint64_t get_bytes(const _Atomic uint64_t *field)
{
	uint64_t bytes = get64(field);

	return bytes <= MAX_BYTES ? bytes : 0;
}

static usec_t get_hold_usec(const _Atomic uint64_t *field)
{
	usec_t hold = get64(field) / 1000;

	return hold <= MAX_HOLD_USEC ? hold : 0;
}

static enum trimtab_allocator allocator_of(const struct trimtab_page *page)
{
	uint32_t allocator = get32(&page->allocator);

	return allocator <= TRIMTAB_ALLOCATOR_MIMALLOC ? allocator
						       : TRIMTAB_ALLOCATOR_UNKNOWN;
}

int trimpage_answer(const struct trimpage *t, struct trim_answer *ret)
{
	const struct trimtab_page *page = t->page;

	if (!page ||
	    atomic_load_explicit(&page->done, memory_order_acquire) != t->requested)
		return 0;

	uint64_t began = get64(&page->began_nsec), ended = get64(&page->ended_nsec);
	usec_t worked = ended > began ? (ended - began) / 1000 : 0;
	usec_t hold = get64(&page->hold_nsec) / 1000;
	uint32_t gc = get32(&page->gc_result);

	*ret = (struct trim_answer){
		.worked_usec = worked,
		.hold_usec = hold < worked ? hold : worked,
		.rss_before_bytes = get_bytes(&page->rss_before_bytes),
		.rss_after_bytes = get_bytes(&page->rss_after_bytes),
		.released_bytes = get_bytes(&page->released_bytes),
		.purged_bytes = get_bytes(&page->purged_bytes),
		.gc = gc <= TRIMTAB_GC_REFUSED ? gc : TRIMTAB_GC_NOT_ASKED,
		.allocator = allocator_of(page),
	};
	return 1;
}

bool trimpage_has_helper(const struct trimpage *t, pid_t pid)
{
	pid_t tid =
		t->page ? atomic_load_explicit(&t->page->helper_tid, memory_order_relaxed)
			: 0;

	return pid > 0 && tid > 0 && syscall(SYS_tgkill, pid, tid, 0) == 0;
}

void trimpage_view(const struct trimpage *t, struct trim_view *ret)
{
	const struct trimtab_page *page = t->page;
	uint32_t waits, pymalloc;

	*ret = (struct trim_view){ 0 };
	if (!page)
		return;
	waits = get32(&page->waits);
	pymalloc = get32(&page->pymalloc);
	*ret = (struct trim_view){
		.failed = get32(&page->state) == TRIMTAB_STATE_FAILED,
		.allocator = allocator_of(page),
		.waits = waits <= TRIMTAB_WAKE_FUTEX ? waits : 0,
		.pymalloc = pymalloc <= TRIMTAB_PYMALLOC_SELF_TEST
				    ? pymalloc
				    : TRIMTAB_PYMALLOC_UNKNOWN,
		.longest_hold_usec = get_hold_usec(&page->longest_hold_nsec),
		.heap_bytes = get_bytes(&page->heap_bytes),
		.heap_live_bytes = get_bytes(&page->heap_live_bytes),
		.arena_bytes = get_bytes(&page->arena_bytes),
		.arena_live_bytes = get_bytes(&page->live_bytes),
		.free_pool_bytes = get_bytes(&page->free_pool_bytes),
	};
}

const char *trimpage_pymalloc_text(enum trimtab_pymalloc pymalloc)
{
	switch (pymalloc) {
	case TRIMTAB_PYMALLOC_ON:
		return "on";
	case TRIMTAB_PYMALLOC_NO_PYTHON:
		return "off: no CPython 3.10 or later in the program";
	case TRIMTAB_PYMALLOC_VERSION:
		return "off: not CPython 3.10 to 3.13 on 64 bit";
	case TRIMTAB_PYMALLOC_FREE_THREADED:
		return "off: a free-threaded CPython has no pymalloc";
	case TRIMTAB_PYMALLOC_PAGE_SIZE:
		return "off: pages are as large as pools";
	case TRIMTAB_PYMALLOC_NOT_USED:
		return "off: PYTHONMALLOC names another allocator";
	case TRIMTAB_PYMALLOC_HOOK:
		return "off: another arena allocator was set";
	case TRIMTAB_PYMALLOC_INTERPRETERS:
		return "off: there are sub-interpreters";
	case TRIMTAB_PYMALLOC_SELF_TEST:
		return "off: its blocks do not lie as expected";
	case TRIMTAB_PYMALLOC_UNKNOWN:
		break;
	}
	return "not looked at yet";
}

const char *trimpage_allocator_name(enum trimtab_allocator allocator)
{
	switch (allocator) {
	case TRIMTAB_ALLOCATOR_GLIBC:
		return "glibc";
	case TRIMTAB_ALLOCATOR_JEMALLOC:
		return "jemalloc";
	case TRIMTAB_ALLOCATOR_TCMALLOC:
		return "tcmalloc";
	case TRIMTAB_ALLOCATOR_MIMALLOC:
		return "mimalloc";
	case TRIMTAB_ALLOCATOR_UNKNOWN:
		break;
	}
	return "unknown";
}
