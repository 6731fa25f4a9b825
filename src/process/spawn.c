/* From a description to a running worker.
 *
 * Between fork and exec the child runs only async-signal-safe calls: the supervisor has a writer
 * thread, so any lock may be held for ever in the copy. Everything that needs memory is prepared
 * by the caller. */
#include "process/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "trimtab/preload.h"
#include "util/cleanup.h"

enum {
	FIRST_LISTEN_FD = 3,
	CLOSE_AT_MOST = 65536, /* where they must be closed one by one */
};

static bool clone3_refused;
static struct rlimit started_with; /* RLIMIT_NOFILE; rlim_max 0: not raised */

void spawn_raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur == limit.rlim_max)
		return;
	started_with = limit;
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		started_with = (struct rlimit){ 0 };
}

void spawn_restore_descriptor_limit(void)
{
	if (started_with.rlim_max > 0)
		(void)setrlimit(RLIMIT_NOFILE, &started_with);
}

void spawn_distrust_clone3(void)
{
	clone3_refused = true;
}

bool spawn_distrusts_clone3(void)
{
	return clone3_refused;
}

struct spawn_report *spawn_report_new(void)
{
	void *p = mmap(NULL, sizeof(struct spawn_report), PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

struct spawn_report *spawn_report_free(struct spawn_report *report)
{
	if (report)
		(void)munmap(report, sizeof(*report));
	return NULL;
}

const char *spawn_step_text(enum spawn_step step)
{
	switch (step) {
	case SPAWN_UNBORN:
		return "was killed before it ran";
	case SPAWN_UNDER_WAY:
		return "started";
	case SPAWN_PARENT_GONE:
		return "lost its supervisor";
	case SPAWN_LEAF:
		return "could not enter its cgroup";
	case SPAWN_DESCRIPTORS:
		return "could not arrange its descriptors";
	case SPAWN_DIRECTORY:
		return "could not change to its directory";
	case SPAWN_EXEC:
		return "could not execute its program";
	}
	return "failed";
}

/* ---- in the child: async-signal-safe only ---- */

_Noreturn static void give_up(const struct spawn *how, enum spawn_step step)
{
	atomic_store(&how->report->error, errno);
	atomic_store(&how->report->step, (int)step);
	_exit(127);
}

static size_t put_decimal(char *to, uint64_t value)
{
	char digits[20];
	size_t n = 0, length;

	do
		digits[n++] = (char)('0' + value % 10);
	while ((value /= 10) > 0);
	length = n;
	while (n > 0)
		*to++ = digits[--n];
	return length;
}

/* Replaces SPAWN_PID_ROOM at the first such place behind the prefix by pid, keeping what follows. */
static void complete_with_pid(char **env, const char *prefix, pid_t pid)
{
	for (; *env; env++) {
		char *room, number[20];

		if (strncmp(*env, prefix, strlen(prefix)) != 0)
			continue;
		room = strstr(*env, SPAWN_PID_ROOM);
		if (!room)
			return;

		size_t length = put_decimal(number, (uint64_t)pid);
		const char *rest = room + strlen(SPAWN_PID_ROOM);

		memcpy(room, number, length);
		memmove(room + length, rest, strlen(rest) + 1);
		return;
	}
}

/* Field 22 of /proc/self/stat: the same before and after exec. 0 when /proc is not there, which
 * leaves the library inert. */
static uint64_t own_start_ticks(void)
{
	char text[1024];
	int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return 0;

	ssize_t n = read(fd, text, sizeof(text) - 1);

	(void)close(fd);
	if (n <= 0)
		return 0;
	text[n] = '\0';

	char *p = strrchr(text, ')'); /* the name before it may hold anything */
	uint64_t ticks = 0;

	for (int field = 2; p && field < 22; field++)
		p = strchr(p + 1, ' ');
	if (!p)
		return 0;
	for (p++; *p >= '0' && *p <= '9'; p++)
		ticks = ticks * 10 + (uint64_t)(*p - '0');
	return ticks;
}

static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return;
	n = write(fd, text, strlen(text));
	(void)n;
	(void)close(fd);
}

static void reset_signals(void)
{
	sigset_t none;

	for (int i = 1; i < _NSIG; i++)
		(void)signal(i, SIG_DFL);
	/* Scaling signals of a gunicorn habit, sent to a worker by mistake, would stop it. */
	(void)signal(SIGTTIN, SIG_IGN);
	(void)signal(SIGTTOU, SIG_IGN);
	sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Copies a descriptor above every target, so that dup2 below overwrites no source. */
static int lift(int fd, int above)
{
	return fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, above);
}

/* All of ours are CLOEXEC, but whoever started us may have left some open that are not. */
static void close_from(int first)
{
	struct rlimit limit;

	if (syscall(SYS_close_range, first, ~0U, 0) == 0)
		return;
	/* Before Linux 5.9, or behind a filter that does not know the call. */
	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur > CLOSE_AT_MOST)
		limit.rlim_cur = CLOSE_AT_MOST;
	for (int fd = first; fd < (int)limit.rlim_cur; fd++)
		(void)close(fd);
}

static int arrange_descriptors(const struct spawn *how)
{
	int above = FIRST_LISTEN_FD + (int)how->n_listen_fds + 1;
	int null = lift(open("/dev/null", O_RDWR | O_CLOEXEC), above);
	int output = lift(how->output_fd, above);
	int extra = lift(how->extra_fd, above);

	if (null < 0 || dup2(null, STDIN_FILENO) < 0)
		return -1;
	if (output >= 0 &&
	    (dup2(output, STDOUT_FILENO) < 0 || dup2(output, STDERR_FILENO) < 0))
		return -1;

	/* A listening socket may sit on another one's target: lift all, then place all. */
	int lifted[SPAWN_MAX_LISTEN_FDS];

	for (size_t i = 0; i < how->n_listen_fds; i++)
		if ((lifted[i] = lift(how->listen_fds[i], above)) < 0)
			return -1;
	for (size_t i = 0; i < how->n_listen_fds; i++)
		if (dup2(lifted[i], FIRST_LISTEN_FD + (int)i) < 0)
			return -1;
	if (extra >= 0 && dup2(extra, above - 1) < 0)
		return -1;
	close_from(extra >= 0 ? above : above - 1);
	return 0;
}

static void sign_page(const struct spawn *how, pid_t pid)
{
	if (!how->page)
		return;
	how->page->worker_start = own_start_ticks();
	how->page->worker_pid = pid;
}

_Noreturn static void become_worker(const struct spawn *how, pid_t parent, int procs_fd)
{
	pid_t pid = getpid();

	atomic_store(&how->report->step, SPAWN_UNDER_WAY);
	/* Before anything that touches memory: pages belong to the cgroup that first used them. */
	if (procs_fd >= 0 && write(procs_fd, "0", 1) != 1)
		give_up(how, SPAWN_LEAF);
	if (how->die_with_parent) {
		(void)prctl(PR_SET_PDEATHSIG, SIGTERM);
		if (getppid() != parent)
			give_up(how, SPAWN_PARENT_GONE);
	}
	(void)setsid();
	if (how->oom_score_adj)
		write_file("/proc/self/oom_score_adj", how->oom_score_adj);
	if (arrange_descriptors(how) < 0)
		give_up(how, SPAWN_DESCRIPTORS);
	if (how->directory && chdir(how->directory) < 0)
		give_up(how, SPAWN_DIRECTORY);
	complete_with_pid(how->env, "LISTEN_PID=", pid);
	complete_with_pid(how->env, "WATCHDOG_PID=", pid);
	complete_with_pid(how->env, TRIMTAB_PAGE_ENV "=", pid);
	sign_page(how, pid);
	reset_signals();
	spawn_restore_descriptor_limit();
	execve(how->program, how->argv, how->env);
	give_up(how, SPAWN_EXEC);
}

/* ---- in the supervisor ---- */

static pid_t clone_into(int leaf_fd, int *ret_pidfd)
{
	struct clone_args args = {
		.flags = CLONE_PIDFD | (leaf_fd >= 0 ? CLONE_INTO_CGROUP : 0),
		.pidfd = (uintptr_t)ret_pidfd,
		.exit_signal = SIGCHLD,
		.cgroup = leaf_fd >= 0 ? (unsigned)leaf_fd : 0,
	};

	return (pid_t)syscall(SYS_clone3, &args, sizeof(args));
}

/* What a container's seccomp filter or an old kernel says, or a leaf that clone3 cannot enter
 * from where we are (EACCES) while a write to cgroup.procs might. */
static bool is_refusal(int error)
{
	return error == ENOSYS || error == EPERM || error == EINVAL || error == E2BIG ||
	       error == EOPNOTSUPP || error == EACCES;
}

static int fork_and_join(const struct spawn *how, pid_t *ret_pid, int *ret_pidfd)
{
	auto_close int procs_fd = -1;
	pid_t parent = getpid();

	if (how->leaf_fd >= 0) {
		procs_fd = openat(how->leaf_fd, "cgroup.procs", O_WRONLY | O_CLOEXEC);
		if (procs_fd < 0)
			return -errno;
	}

	pid_t pid = fork();

	if (pid < 0)
		return -errno;
	if (pid == 0)
		become_worker(how, parent, procs_fd);

	/* Not reaped yet, so the pid is still its own. */
	int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);

	if (pidfd < 0) {
		int error = errno;

		(void)kill(pid, SIGKILL);
		(void)waitpid(pid, NULL, 0);
		return -error;
	}
	*ret_pid = pid;
	*ret_pidfd = pidfd;
	return 0;
}

int spawn(const struct spawn *how, pid_t *ret_pid, int *ret_pidfd)
{
	pid_t parent = getpid(), pid;
	int pidfd = -1;

	if (clone3_refused || how->join)
		return fork_and_join(how, ret_pid, ret_pidfd);

	pid = clone_into(how->leaf_fd, &pidfd);
	if (pid == 0)
		become_worker(how, parent, -1);
	if (pid < 0) {
		if (!is_refusal(errno))
			return -errno;
		clone3_refused = true;
		return fork_and_join(how, ret_pid, ret_pidfd);
	}
	*ret_pid = pid;
	*ret_pidfd = pidfd;
	return 0;
}
