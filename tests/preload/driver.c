/* Owns one program under test and the supervisor's end of its page.
 *
 * As in the supervisor, the child fills in its own pid and start time between fork and exec,
 * and nothing that comes back from the page is used as an address or a length. */
#include "driver.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/time.h"

static const uint64_t cookie = 0x1234567890abcdefu;
static const struct driver nothing = {
	.page_fd = -1,
	.notify_fd = -1,
	.in_fd = -1,
	.out_fd = -1,
	.patience_msec = DRIVER_PATIENCE_MSEC,
};

static uint64_t start_ticks(void)
{
	char text[1024] = "";
	auto_file FILE *f = fopen("/proc/self/stat", "re");
	unsigned long long ticks = 0;
	const char *p;

	if (!f || !fgets(text, sizeof text, f))
		return 0;
	p = strrchr(text, ')');
	(void)sscanf(p + 2,
		     "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d "
		     "%*d %*d %*d %llu",
		     &ticks);
	return ticks;
}

static int make_page(struct driver *driver, const struct driver_setup *setup)
{
	const off_t size =
		setup->fault == FAULT_SIZE ? 2 * TRIMTAB_PAGE_SIZE : TRIMTAB_PAGE_SIZE;
	struct trimtab_page *page;

	driver->page_fd = memfd_create("trimtab-page", MFD_ALLOW_SEALING);
	if (driver->page_fd < 0 || ftruncate(driver->page_fd, size) < 0)
		return -errno;
	if (setup->fault != FAULT_NO_SEAL &&
	    fcntl(driver->page_fd, F_ADD_SEALS,
		  F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return -errno;
	page = mmap(NULL, TRIMTAB_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
		    driver->page_fd, 0);
	if (page == MAP_FAILED)
		return -errno;
	page->magic = TRIMTAB_PAGE_MAGIC - (setup->fault == FAULT_MAGIC);
	page->version = TRIMTAB_PAGE_VERSION + (setup->fault == FAULT_VERSION);
	page->size = TRIMTAB_PAGE_SIZE - (setup->fault == FAULT_SIZE_FIELD);
	page->wake = setup->wake ? setup->wake : TRIMTAB_WAKE_SIGNAL;
	page->signal_number =
		(uint32_t)(setup->signal_number ? setup->signal_number : SIGUSR2);
	page->cookie = cookie ^ (setup->fault == FAULT_COOKIE);
	if (setup->fault == FAULT_WAKE)
		page->wake = 3;
	if (setup->fault == FAULT_SIGNAL)
		page->signal_number = SIGTERM;
	driver->page = page;
	return 0;
}

static int make_socket(struct driver *driver, bool abstract)
{
	const int on = 1;
	const char *directory = getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp";
	static unsigned n;
	char *path = driver->address.sun_path;
	int length;

	driver->notify_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (driver->notify_fd < 0 ||
	    setsockopt(driver->notify_fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof on) < 0)
		return -errno;
	length = snprintf(path, sizeof driver->address.sun_path, "%s/trimtab-test-%d-%u",
			  abstract ? "@" : directory, (int)getpid(), n++);
	driver->address.sun_family = AF_UNIX;
	driver->address_length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) +
					     (size_t)length + !abstract);
	if (abstract)
		path[0] = '\0';
	else
		(void)unlink(path); /* of a test that failed under the same pid */
	if (bind(driver->notify_fd, (struct sockaddr *)&driver->address,
		 driver->address_length) < 0)
		return -errno;
	/* The program may change its user. */
	return abstract || chmod(path, 0666) == 0 ? 0 : -errno;
}

static const char *library_of(const struct driver_setup *setup)
{
	const char *path =
		setup->library ? setup->library : getenv("TRIMTAB_PRELOAD_LIBRARY");

	return path ? path : "";
}

static void set_page_variable(const struct driver *driver, enum driver_fault fault)
{
	char text[64];

	(void)snprintf(text, sizeof text, "%d:%d:%016llx%s", driver->page_fd,
		       (int)getpid() + (fault == FAULT_PID), (unsigned long long)cookie,
		       fault == FAULT_TEXT ? "0" : "");
	if (fault == FAULT_NO_VARIABLE)
		(void)unsetenv(TRIMTAB_PAGE_ENV);
	else
		(void)setenv(TRIMTAB_PAGE_ENV, text, 1);
	if (fault == FAULT_CLOSED)
		(void)close(driver->page_fd);
}

static void set_environment(const struct driver *driver, const struct driver_setup *setup)
{
	char preload[4096], address[sizeof driver->address.sun_path + 1];
	const char *path = driver->address.sun_path;

	(void)snprintf(preload, sizeof preload, "%s:%s:%s",
		       setup->preload_before ? setup->preload_before : "",
		       library_of(setup),
		       setup->preload_after ? setup->preload_after : "");
	(void)setenv("LD_PRELOAD", preload, 1);
	(void)snprintf(address, sizeof address, "%s%s", path[0] ? "" : "@",
		       path[0] ? path : path + 1);
	(void)setenv("NOTIFY_SOCKET", address, 1);
	(void)unsetenv("LD_LIBRARY_PATH");
	(void)unsetenv("MEMORY_PRESSURE_WATCH");
	(void)unsetenv("MEMORY_PRESSURE_WRITE");
	(void)unsetenv("SYSTEMD_EXEC_PID");
	for (const char *const *p = setup->environment; p && *p; p++)
		(void)putenv((char *)*p);
	set_page_variable(driver, setup->fault);
	if (setup->exec_pid) {
		(void)snprintf(preload, sizeof preload, "%d", (int)getpid());
		(void)setenv("SYSTEMD_EXEC_PID", preload, 1);
	}
	if (setup->template) {
		(void)setenv("GUEST_PAGE", getenv(TRIMTAB_PAGE_ENV), 1);
		(void)unsetenv(TRIMTAB_PAGE_ENV);
		(void)setenv(TRIMTAB_TEMPLATE_ENV, "1", 1);
	}
}

/* Only one thread came over the fork, and the test process has one, so anything may be called. */
_Noreturn static void become(struct driver *driver, const struct driver_setup *setup,
			     char *const arguments[], const int input[2],
			     const int output[2])
{
	if (!setup->template) {
		driver->page->worker_pid = (int32_t)getpid();
		driver->page->worker_start =
			start_ticks() + (setup->fault == FAULT_START);
	}
	if (!setup->own_streams) {
		(void)dup2(input[0], STDIN_FILENO);
		(void)dup2(output[1], STDOUT_FILENO);
	}
	/* What the frame around the tests blocks or ignores is not the program's business. */
	for (int number = 1; number < NSIG; number++)
		(void)signal(number, SIG_DFL);
	sigset_t none;
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	set_environment(driver, setup);
	(void)execvp(arguments[0], arguments);
	_exit(127);
}

int driver_start(struct driver *driver, const struct driver_setup *setup,
		 char *const arguments[])
{
	int input[2], output[2], r;

	*driver = nothing;
	if (access(library_of(setup), R_OK) < 0)
		return -errno; /* the loader would only print a warning */
	r = make_page(driver, setup);
	if (r == 0)
		r = make_socket(driver, setup->abstract_socket);
	if (r < 0)
		return r;
	if (pipe2(input, O_CLOEXEC) < 0 || pipe2(output, O_CLOEXEC) < 0)
		return -errno;
	driver->pid = fork();
	if (driver->pid == 0)
		become(driver, setup, arguments, input, output);
	(void)close(input[0]);
	(void)close(output[1]);
	driver->in_fd = input[1];
	driver->out_fd = output[0];
	return driver->pid < 0 ? -errno : 0;
}

/* Milliseconds left of our patience, for poll(2). */
static int patience(const struct driver *driver, usec_t since)
{
	usec_t spent = (time_now_usec() - since) / USEC_PER_MSEC;

	return (int)usec_sub(driver->patience_msec, spent);
}

/* False when patience is at its end. */
static bool poll_patiently(const struct driver *driver, usec_t since,
			   struct pollfd *watched, nfds_t n_watched)
{
	int r;

	do
		r = poll(watched, n_watched, patience(driver, since));
	while (r < 0 && errno == EINTR);
	return r > 0;
}

static void note_message(struct driver *driver)
{
	char text[256] = "";
	ssize_t n = recv(driver->notify_fd, text, sizeof text - 1, MSG_DONTWAIT);

	if (n <= 0)
		return;
	if (strcmp(text, "X_TRIMTAB=hello") == 0)
		driver->heard_hello = true;
	if (strcmp(text, "X_TRIMTAB=done") == 0)
		driver->heard_done = true;
	if (strcmp(text, "X_TRIMTAB=late") == 0)
		driver->heard_late = true;
	if (strcmp(text, "X_TRIMTAB=plain") == 0)
		driver->heard_plain = true;
}

static bool await_flag(struct driver *driver, const bool *flag)
{
	usec_t since = time_now_usec();
	auto_close int pid_fd = (int)syscall(SYS_pidfd_open, driver->pid, 0);

	while (!*flag) {
		struct pollfd watched[] = { { .fd = driver->notify_fd, .events = POLLIN },
					    { .fd = pid_fd, .events = POLLIN } };

		if (!poll_patiently(driver, since, watched, ELEMENTS(watched)))
			return false;
		if (watched[0].revents)
			note_message(driver);
		else
			return false; /* ended, and everything it said has been read */
	}
	return true;
}

bool driver_await_hello(struct driver *driver)
{
	return await_flag(driver, &driver->heard_hello);
}

bool driver_await_late(struct driver *driver)
{
	return await_flag(driver, &driver->heard_late);
}

bool driver_await_done(struct driver *driver)
{
	const struct trimtab_page *page = driver->page;

	/* One datagram may stand for several requests. */
	do {
		driver->heard_done = false;
		if (atomic_load(&page->done) == atomic_load(&page->request))
			return true;
	} while (await_flag(driver, &driver->heard_done));
	return false;
}

bool driver_await_plain(struct driver *driver)
{
	driver->heard_plain = false;
	return await_flag(driver, &driver->heard_plain);
}

int driver_queue_signal(const struct driver *driver, pid_t tid, int number,
			uint32_t value)
{
	siginfo_t info = { .si_code = SI_QUEUE };

	info.si_signo = number;
	info.si_pid = getpid();
	info.si_uid = getuid();
	info.si_value.sival_int = (int)value;
	if (syscall(SYS_rt_tgsigqueueinfo, driver->page->worker_pid, tid, number, &info) <
	    0)
		return -errno;
	return 0;
}

int driver_request(struct driver *driver, uint32_t operations)
{
	struct trimtab_page *page = driver->page;
	int r = 0;

	atomic_store_explicit(&page->operations, operations, memory_order_relaxed);
	atomic_fetch_add_explicit(&page->request, 1, memory_order_release);
	if (atomic_load(&page->waits) == TRIMTAB_WAKE_SIGNAL)
		r = driver_queue_signal(driver, atomic_load(&page->helper_tid),
					(int)page->signal_number, (uint32_t)cookie);
	(void)syscall(SYS_futex, &page->request, FUTEX_WAKE, 1, NULL, NULL, 0);
	return r;
}

bool driver_trim(struct driver *driver, uint32_t operations)
{
	return driver_request(driver, operations) == 0 && driver_await_done(driver);
}

void driver_say(const struct driver *driver, const char *line)
{
	(void)dprintf(driver->in_fd, "%s\n", line);
}

const char *driver_hear(const struct driver *driver)
{
	static char line[4096];
	struct pollfd watched = { .fd = driver->out_fd, .events = POLLIN };
	usec_t since = time_now_usec();
	size_t length = 0;

	while (length < sizeof line - 1) {
		if (!poll_patiently(driver, since, &watched, 1) ||
		    read(driver->out_fd, line + length, 1) <= 0)
			return NULL;
		if (line[length] == '\n')
			break;
		length++;
	}
	line[length] = '\0';
	return line;
}

long driver_ask(const struct driver *driver, const char *line)
{
	const char *answer;

	driver_say(driver, line);
	answer = driver_hear(driver);
	return answer ? strtol(answer, NULL, 10) : -1;
}

int driver_await_end(struct driver *driver)
{
	auto_close int pid_fd = (int)syscall(SYS_pidfd_open, driver->pid, 0);
	struct pollfd watched = { .fd = pid_fd, .events = POLLIN };

	if (!driver->ended) {
		if (pid_fd >= 0 && !poll_patiently(driver, time_now_usec(), &watched, 1))
			return -SIGALRM; /* it does not end */
		driver->ended = waitpid(driver->pid, &driver->status, 0) == driver->pid;
	}
	return WIFEXITED(driver->status) ? WEXITSTATUS(driver->status)
					 : -WTERMSIG(driver->status);
}

/* Nothing tells when a thread falls asleep, so this looks again and again. */
static bool await_call(const struct driver *driver, pid_t tid, const char *wanted)
{
	usec_t since = time_now_usec();
	char path[64];

	(void)snprintf(path, sizeof path, "/proc/%d/task/%d/syscall", (int)driver->pid,
		       (int)tid);
	while (patience(driver, since) > 0) {
		auto_file FILE *f = fopen(path, "re");
		char line[256] = "";

		if (f && fgets(line, sizeof line, f) &&
		    strncmp(line, wanted, strlen(wanted)) == 0)
			return true;
		(void)sched_yield();
	}
	return false;
}

bool driver_await_reading(const struct driver *driver)
{
	char wanted[32];

	(void)snprintf(wanted, sizeof wanted, "%d 0x0 ", SYS_read);
	return await_call(driver, driver->pid, wanted);
}

bool driver_await_idle(const struct driver *driver)
{
	char wanted[32];

	(void)snprintf(wanted, sizeof wanted, "%d 0x", SYS_rt_sigtimedwait);
	return await_call(driver, atomic_load(&driver->page->helper_tid), wanted);
}

uint64_t driver_rss_bytes(const struct driver *driver)
{
	char path[64];
	unsigned long long pages = 0;
	auto_file FILE *f = NULL;

	(void)snprintf(path, sizeof path, "/proc/%d/statm", (int)driver->pid);
	f = fopen(path, "re");
	if (!f || fscanf(f, "%*u %llu", &pages) != 1)
		return 0;
	return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

void driver_stop(struct driver *driver)
{
	if (driver->pid > 0 && !driver->ended) {
		(void)kill(driver->pid, SIGKILL);
		(void)waitpid(driver->pid, &driver->status, 0);
	}
	if (driver->page)
		(void)munmap(driver->page, TRIMTAB_PAGE_SIZE);
	if (driver->address.sun_path[0])
		(void)unlink(driver->address.sun_path);
	(void)close_fd(driver->page_fd);
	(void)close_fd(driver->notify_fd);
	(void)close_fd(driver->in_fd);
	(void)close_fd(driver->out_fd);
	*driver = nothing;
}
