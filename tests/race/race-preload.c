/* The preload library and the supervisor's side of its page (src/process/trimpage.c) in one process
 * and on one mapping of the page, where ThreadSanitizer sees both ends: requests as fast as they are
 * served, plain and foreign signals beside them, and an application that resets its disposition.
 *
 * The page's own fields are atomic, so a store with too weak an order would be no race. What tells is
 * `witness`, plain on purpose: each side writes it when the page says that it is its turn. The library
 * gets there by an allocator of ours, which it takes for jemalloc.
 *
 *   race-preload signal|futex [SECONDS] */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "preload/allocator.h"
#include "preload/helper.h"
#include "preload/notify.h"
#include "process/trimpage.h"
#include "util/cleanup.h"
#include "util/time.h"

enum {
	DEFAULT_SECONDS = 5,
	PATIENCE_MSEC = 60000, /* longer: it hangs */
	RESET_EVERY = 16,
};

static struct {
	unsigned long asked, served;
} witness;

static struct trimpage page;
static int notify_fd = -1;
static atomic_bool stopping;
static atomic_ulong n_purges, n_raised, n_foreign, n_resets;

/* A datagram or a read must not pass for the order that the page alone is to give. */
const char *__tsan_default_options(void);

const char *__tsan_default_options(void)
{
	return "io_sync=0";
}

/* ---- the allocator ---- */

int mallctl(const char *name, void *old, size_t *old_size, void *new, size_t size);

/* "epoch" is written for a request alone, and first; a purge may be for a plain signal. */
__attribute__((visibility("default"))) int
mallctl(const char *name, void *old, size_t *old_size, void *new, size_t size)
{
	(void)new;
	(void)size;
	if (strcmp(name, "epoch") == 0)
		witness.served = witness.asked;
	else if (strcmp(name, "arena.4096.purge") == 0)
		atomic_fetch_add_explicit(&n_purges, 1, memory_order_relaxed);
	else if (old)
		memset(old, 0, *old_size);
	return 0;
}

/* ---- the application ---- */

static bool disposition_is_default(void)
{
	struct sigaction action;

	return sigaction(SIGUSR2, NULL, &action) == 0 && action.sa_handler == SIG_DFL;
}

static void pause_msec(long msec)
{
	const struct timespec pause = { .tv_nsec = msec * 1000000L };

	(void)nanosleep(&pause, NULL);
}

static pthread_mutex_t disposition = PTHREAD_MUTEX_INITIALIZER;

/* As `kill -USR2` would, but delivered before the call returns: none is left that would kill us once
 * the disposition is the default one. The next request sets the library's again. */
static void *signal_and_reset(void *unused)
{
	(void)unused;
	for (unsigned long n = 1; !atomic_load(&stopping); n++) {
		pthread_mutex_lock(&disposition);
		if (!disposition_is_default()) {
			(void)raise(SIGUSR2);
			atomic_fetch_add(&n_raised, 1);
			if (n % RESET_EVERY == 0) {
				(void)signal(SIGUSR2, SIG_DFL);
				atomic_fetch_add(&n_resets, 1);
			}
		}
		pthread_mutex_unlock(&disposition);
		pause_msec(1);
	}
	return NULL;
}

/* Ours by number, but not from the supervisor. */
static void *queue_foreign(void *unused)
{
	siginfo_t info = { .si_code = SI_QUEUE };

	(void)unused;
	info.si_signo = SIGUSR2;
	info.si_pid = getpid();
	info.si_value.sival_int = (int)(uint32_t)page.cookie + 1;
	while (!atomic_load(&stopping)) {
		if (syscall(SYS_rt_tgsigqueueinfo, getpid(),
			    atomic_load(&page.page->helper_tid), SIGUSR2, &info) == 0)
			atomic_fetch_add(&n_foreign, 1);
		pause_msec(20);
	}
	return NULL;
}

/* ---- the supervisor ---- */

static int listen_for_words(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	socklen_t length = sizeof(address);
	char path[sizeof(address.sun_path) + 1];

	notify_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	/* Without a name the kernel gives it one, abstract. */
	if (notify_fd < 0 ||
	    bind(notify_fd, (struct sockaddr *)&address, sizeof(sa_family_t)) < 0 ||
	    getsockname(notify_fd, (struct sockaddr *)&address, &length) < 0)
		return -errno;
	(void)snprintf(path, sizeof(path), "@%.*s",
		       (int)(length - offsetof(struct sockaddr_un, sun_path) - 1),
		       address.sun_path + 1);
	return setenv("NOTIFY_SOCKET", path, 1) < 0 ? -errno : 0;
}

/* Returns when the library has said something; false: it hangs. */
static bool await_word(void)
{
	struct pollfd p = { .fd = notify_fd, .events = POLLIN };
	char word[64];

	if (poll(&p, 1, PATIENCE_MSEC) == 0)
		return false;
	(void)recv(notify_fd, word, sizeof(word), 0);
	return true;
}

/* One request, up to its answer. */
static bool ask(unsigned long number)
{
	struct trim_answer answer;
	struct trim_view view;

	witness.asked = number;
	if (trimpage_request(&page, getpid(), TRIMTAB_OP_TRIM, 0) < 0)
		return false;
	while (trimpage_answer(&page, &answer) == 0) {
		trimpage_view(&page, &view);
		if (!await_word())
			return false;
	}
	return witness.served == number;
}

int main(int argc, char **argv)
{
	enum trimtab_wake wake = argc > 1 && strcmp(argv[1], "futex") == 0
					 ? TRIMTAB_WAKE_FUTEX
					 : TRIMTAB_WAKE_SIGNAL;
	usec_t seconds = argc > 2 ? strtoull(argv[2], NULL, 10) : DEFAULT_SECONDS;
	unsigned long n = 0;
	pthread_t threads[3];
	usec_t end;
	bool good;

	if (listen_for_words() < 0 || trimpage_init(&page, SIGUSR2, wake) < 0)
		return 2;
	notify_capture();
	if (allocator_detect() != TRIMTAB_ALLOCATOR_JEMALLOC ||
	    helper_start(page.page, TRIMTAB_ALLOCATOR_JEMALLOC) < 0)
		return 2;
	good = await_word();
	(void)pthread_create(&threads[0], NULL, signal_and_reset, NULL);
	(void)pthread_create(&threads[1], NULL, signal_and_reset, NULL);
	(void)pthread_create(&threads[2], NULL, queue_foreign, NULL);
	for (end = time_now_usec() + seconds * USEC_PER_SEC;
	     good && time_now_usec() < end;)
		good = ask(++n);
	atomic_store(&stopping, true);
	for (size_t i = 0; i < ELEMENTS(threads); i++)
		(void)pthread_join(threads[i], NULL);
	(void)printf(
		"%lu requests, %lu purges, %lu plain signals, %lu foreign, reset %lu times%s\n",
		n, n_purges, n_raised, n_foreign, n_resets,
		good ? "" : "; the last request was not served as it should");
	return !good;
}
