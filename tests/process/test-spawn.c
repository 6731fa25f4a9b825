/* Real children: what they are born with, by both ways into a leaf, and how a failure between
 * fork and exec is told. */
#include "process/spawn.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel/procfs.h"
#include "process/trimpage.h"
#include "tests/kernel/host.h"

#define LISTEN_PID "LISTEN_PID=" SPAWN_PID_ROOM
#define PAGE_ENTRY "TRIMTAB_PAGE=4:" SPAWN_PID_ROOM ":00ff"

static char report_text[64 << 10];
static struct spawn_report *report;
static char listen_pid[64], watchdog_pid[64], page_entry[64];
static char *env[8];
static char *look_argv[] = { (char *)"look", NULL, NULL };

static void prepare(void)
{
	report = spawn_report_new();
	cr_assert_not_null(report);
	(void)snprintf(listen_pid, sizeof(listen_pid), LISTEN_PID);
	(void)snprintf(watchdog_pid, sizeof(watchdog_pid),
		       "WATCHDOG_PID=" SPAWN_PID_ROOM);
	(void)snprintf(page_entry, sizeof(page_entry), PAGE_ENTRY);
	env[0] = listen_pid;
	env[1] = watchdog_pid;
	env[2] = page_entry;
	env[3] = (char *)"LISTEN_PIDFDID=" SPAWN_PID_ROOM;
	env[4] = NULL;
	/* What the supervisor lives with must not reach a worker. */
	sigset_t all;

	sigfillset(&all);
	cr_assert_eq(sigprocmask(SIG_SETMASK, &all, NULL), 0);
	(void)signal(SIGPIPE, SIG_IGN);
	(void)signal(SIGWINCH, SIG_IGN);
	(void)signal(SIGCHLD, SIG_DFL);
}

static void release(void)
{
	report = spawn_report_free(report);
}

TestSuite(spawn, .init = prepare, .fini = release);

static struct spawn plain(void)
{
	return (struct spawn){
		.program = LOOK,
		.argv = look_argv,
		.env = env,
		.leaf_fd = -1,
		.output_fd = -1,
		.extra_fd = -1,
		.report = report,
	};
}

struct child {
	pid_t pid;
	int pidfd, output_fd;
};

/* Starts it with a pipe for its output, unless the test has another idea. */
static struct child started(struct spawn *how)
{
	struct child c = { .output_fd = -1 };
	int fds[2], r;

	cr_assert_eq(pipe2(fds, O_CLOEXEC), 0);
	how->output_fd = fds[1];
	r = spawn(how, &c.pid, &c.pidfd);
	cr_assert_eq(r, 0, "%s", strerror(-r));
	(void)close(fds[1]);
	c.output_fd = fds[0];
	return c;
}

static int ended(const struct child *c)
{
	int status = 0;

	cr_assert_eq(waitpid(c->pid, &status, 0), c->pid);
	(void)close(c->pidfd);
	(void)close(c->output_fd);
	return status;
}

/* Reads the report up to its last line. */
static void listen_to(const struct child *c)
{
	size_t n = 0;

	while (n < sizeof(report_text) - 1 &&
	       !(n >= 4 && memcmp(report_text + n - 4, "end\n", 4) == 0)) {
		ssize_t got =
			read(c->output_fd, report_text + n, sizeof(report_text) - 1 - n);

		cr_assert_gt(got, 0, "the child ended early: step %d, errno %d",
			     report->step, report->error);
		n += (size_t)got;
	}
	report_text[n] = '\0';
}

static void look(struct spawn *how)
{
	struct child c = started(how);

	listen_to(&c);
	cr_assert_eq(ended(&c), 0);
}

static bool said(const char *line)
{
	char whole[512];

	(void)snprintf(whole, sizeof(whole), "\n%s\n", line);
	return strstr(report_text, whole);
}

static unsigned n_said(const char *prefix)
{
	unsigned n = 0;
	char start[64];

	(void)snprintf(start, sizeof(start), "\n%s", prefix);
	for (const char *p = report_text; (p = strstr(p, start)); p++)
		n++;
	return n;
}

__attribute__((format(printf, 1, 2))) static void expect_said(const char *format, ...)
{
	char line[256];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	cr_assert(said(line), "not said: %s\n%s", line, report_text);
}

static int pid_said(void)
{
	int pid = 0;

	cr_assert_eq(sscanf(report_text, "pid %d", &pid), 1);
	return pid;
}

/* ---- environment ---- */

Test(spawn, the_pid_is_in_the_environment)
{
	struct spawn how = plain();

	look(&how);
	expect_said("env LISTEN_PID=%d", pid_said());
	expect_said("env WATCHDOG_PID=%d", pid_said());
	expect_said("env TRIMTAB_PAGE=4:%d:00ff", pid_said());
	expect_said("env LISTEN_PIDFDID=" SPAWN_PID_ROOM);
	/* Ours has its room still: the next start uses it again. */
	cr_assert_str_eq(listen_pid, LISTEN_PID);
	cr_assert_str_eq(page_entry, PAGE_ENTRY);
}

Test(spawn, arguments_and_directory)
{
	struct spawn how = plain();

	look_argv[1] = (char *)"a b";
	how.directory = "/usr";
	look(&how);
	look_argv[1] = NULL;
	expect_said("argument look");
	expect_said("argument a b");
	expect_said("directory /usr");
}

/* ---- descriptors ---- */

static int listening(void)
{
	struct sockaddr_in sin = { .sin_family = AF_INET,
				   .sin_addr = { htonl(INADDR_LOOPBACK) } };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	cr_assert_eq(bind(fd, (struct sockaddr *)&sin, sizeof(sin)), 0);
	cr_assert_eq(listen(fd, 1), 0);
	return fd;
}

static unsigned long inode_of(int fd)
{
	struct stat st;

	cr_assert_eq(fstat(fd, &st), 0);
	return st.st_ino;
}

Test(spawn, nothing_but_the_three)
{
	struct spawn how = plain();

	look(&how);
	expect_said("fd 0 /dev/null");
	cr_assert_eq(n_said("fd 1 pipe:"), 1);
	cr_assert_eq(n_said("fd 2 pipe:"), 1);
	cr_assert_eq(n_said("fd "), 3, "%s", report_text);
}

Test(spawn, sockets_then_the_page)
{
	int sockets[] = { listening(), listening() };
	struct trimpage page = TRIMPAGE_NONE;
	struct spawn how = plain();

	cr_assert_eq(trimpage_init(&page, SIGUSR2, TRIMTAB_WAKE_SIGNAL), 0);
	how.listen_fds = sockets;
	how.n_listen_fds = 2;
	how.extra_fd = page.fd;
	how.page = page.page;
	look(&how);
	expect_said("fd 3 socket:[%lu]", inode_of(sockets[0]));
	expect_said("fd 4 socket:[%lu]", inode_of(sockets[1]));
	expect_said("fd 5 /memfd:trimtab-page (deleted)");
	cr_assert_eq(n_said("fd "), 6, "%s", report_text);
	cr_assert_eq(page.page->worker_pid, pid_said());
	cr_assert_neq(page.page->worker_start, 0);
	trimpage_done(&page);
}

/* The page names the process so that nobody else comes alive with it. */
Test(spawn, the_page_is_signed_with_the_start_time)
{
	struct trimpage page = TRIMPAGE_NONE;
	struct spawn how = plain();
	struct child c;
	uint64_t ticks = 0;

	cr_assert_eq(trimpage_init(&page, SIGUSR2, TRIMTAB_WAKE_SIGNAL), 0);
	how.extra_fd = page.fd;
	how.page = page.page;
	look_argv[1] = (char *)"wait";
	c = started(&how);
	listen_to(&c);
	cr_assert_eq(proc_start_ticks(c.pid, &ticks), 0);
	cr_assert_eq(page.page->worker_start, ticks);
	cr_assert_eq(page.page->worker_pid, c.pid);
	cr_assert_eq(kill(c.pid, SIGTERM), 0);
	cr_assert_eq(ended(&c), SIGTERM);
	trimpage_done(&page);
}

/* Criterion has descriptors of its own on the low numbers: a process in the middle may overwrite
 * them, arranges what arrange() says, and starts the child. */
static void look_from_the_middle(struct spawn *how, void (*arrange)(struct spawn *))
{
	struct child c = { 0 };
	int fds[2], status = 0;
	pid_t middle;

	cr_assert_eq(pipe2(fds, O_CLOEXEC), 0);
	middle = fork();
	if (middle == 0) {
		struct child in_there;

		how->output_fd = fcntl(fds[1], F_DUPFD_CLOEXEC, 500);
		arrange(how);
		if (spawn(how, &in_there.pid, &in_there.pidfd) < 0)
			_exit(1);
		_exit(waitpid(in_there.pid, NULL, 0) == in_there.pid ? 0 : 2);
	}
	(void)close(fds[1]);
	c.output_fd = fds[0];
	listen_to(&c);
	(void)close(fds[0]);
	cr_assert_eq(waitpid(middle, &status, 0), middle);
	cr_assert_eq(status, 0);
}

static int crossed[2];
static unsigned long crossed_inodes[2];

/* The first is to become 3 and sits on 4; the second is to become 4 and sits on 5; the extra one
 * is to become 5 and sits on 3. */
static void cross(struct spawn *how)
{
	if (dup3(crossed[0], 4, O_CLOEXEC) != 4 || dup3(crossed[1], 5, O_CLOEXEC) != 5 ||
	    dup3(how->extra_fd, 3, O_CLOEXEC) != 3)
		_exit(3);
	crossed[0] = 4;
	crossed[1] = 5;
	how->extra_fd = 3;
}

Test(spawn, sockets_on_each_others_places)
{
	struct spawn how = plain();

	for (size_t i = 0; i < 2; i++) {
		int fd = listening();

		crossed_inodes[i] = inode_of(fd);
		crossed[i] = fcntl(fd, F_DUPFD_CLOEXEC, 100);
	}
	how.listen_fds = crossed;
	how.n_listen_fds = 2;
	how.extra_fd =
		fcntl(open("/etc/passwd", O_RDONLY | O_CLOEXEC), F_DUPFD_CLOEXEC, 100);
	look_from_the_middle(&how, cross);
	expect_said("fd 3 socket:[%lu]", crossed_inodes[0]);
	expect_said("fd 4 socket:[%lu]", crossed_inodes[1]);
	expect_said("fd 5 /etc/passwd");
	cr_assert_eq(n_said("fd "), 6, "%s", report_text);
}

Test(spawn, as_many_sockets_as_there_may_be)
{
	int sockets[SPAWN_MAX_LISTEN_FDS];
	struct spawn how = plain();

	for (int i = 0; i < SPAWN_MAX_LISTEN_FDS; i++)
		sockets[i] = listening();
	how.listen_fds = sockets;
	how.n_listen_fds = SPAWN_MAX_LISTEN_FDS;
	look(&how);
	for (int i = 0; i < SPAWN_MAX_LISTEN_FDS; i++)
		expect_said("fd %d socket:[%lu]", 3 + i, inode_of(sockets[i]));
	cr_assert_eq(n_said("fd "), 3 + SPAWN_MAX_LISTEN_FDS);
}

/* Somebody who started us may have left descriptors open in us: they are not the workers'. */
static void litter(struct spawn *how)
{
	int file = open("/etc/passwd", O_RDONLY);
	struct rlimit limit;

	(void)how;
	for (int fd = 3; fd < 20; fd++)
		if (fd != file && dup2(file, fd) != fd)
			_exit(3);
	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 ||
	    dup2(file, (int)(limit.rlim_cur < 60000 ? limit.rlim_cur : 60000) - 1) < 0)
		_exit(4);
}

Test(spawn, what_we_inherited_is_not_passed_on)
{
	struct spawn how = plain();

	look_from_the_middle(&how, litter);
	cr_assert_eq(n_said("fd "), 3, "%s", report_text);
}

Test(spawn, without_an_output_it_writes_to_ours)
{
	struct spawn how = plain();
	struct child c = { .output_fd = -1 };
	int fds[2], saved = dup(STDOUT_FILENO);

	cr_assert_eq(pipe2(fds, O_CLOEXEC), 0);
	cr_assert_eq(dup2(fds[1], STDOUT_FILENO), STDOUT_FILENO);
	cr_assert_eq(spawn(&how, &c.pid, &c.pidfd), 0);
	cr_assert_eq(dup2(saved, STDOUT_FILENO), STDOUT_FILENO);
	(void)close(fds[1]);
	c.output_fd = fds[0];
	listen_to(&c);
	cr_assert_eq(ended(&c), 0);
}

Test(spawn, the_pidfd_is_the_childs_and_ours_alone)
{
	struct spawn how = plain();
	struct child c;

	look_argv[1] = (char *)"wait";
	c = started(&how);
	listen_to(&c);
	cr_assert(fcntl(c.pidfd, F_GETFD) & FD_CLOEXEC);
	cr_assert_eq(syscall(SYS_pidfd_send_signal, c.pidfd, SIGKILL, NULL, 0), 0);
	cr_assert_eq(ended(&c), SIGKILL);
}

/* ---- signals, session, scores ---- */

static unsigned long long mask_said(const char *name)
{
	unsigned long long mask = 0;
	char start[64];
	const char *p;

	(void)snprintf(start, sizeof(start), "\nstatus %s:", name);
	p = strstr(report_text, start);
	cr_assert_not_null(p);
	cr_assert_eq(sscanf(p + strlen(start), "%llx", &mask), 1);
	return mask;
}

static unsigned long long bit(int signal_number)
{
	return 1ull << (signal_number - 1);
}

Test(spawn, signals_are_as_at_login)
{
	struct spawn how = plain();

	look(&how);
	cr_assert_eq(mask_said("SigBlk"), 0);
	cr_assert_eq(mask_said("SigCgt"), 0);
	/* Sent to a worker by a gunicorn habit, these would stop it. */
	cr_assert_eq(mask_said("SigIgn"), bit(SIGTTIN) | bit(SIGTTOU));
	cr_assert_eq(mask_said("SigPnd"), 0);
}

Test(spawn, it_leads_a_session)
{
	struct spawn how = plain();

	look(&how);
	expect_said("session %d", pid_said());
	expect_said("parent %d", getpid());
	expect_said("death-signal 0");
}

Test(spawn, the_oom_score_is_what_we_were_started_with)
{
	struct spawn how = plain();

	how.oom_score_adj = "123";
	look(&how);
	expect_said("oom 123");
}

/* ---- a parent that dies ---- */

/* A middle process starts the child and dies; the child's end closes its output. */
static pid_t orphaned(bool die_with_parent, int *ret_output)
{
	int fds[2], pids[2];
	pid_t middle, child = 0;

	cr_assert_eq(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
	cr_assert(pipe2(fds, O_CLOEXEC) == 0 && pipe2(pids, O_CLOEXEC) == 0);
	middle = fork();
	if (middle == 0) {
		struct spawn how = plain();
		struct child c;
		char byte;

		look_argv[1] = (char *)"wait";
		how.output_fd = fds[1];
		how.die_with_parent = die_with_parent;
		if (spawn(&how, &c.pid, &c.pidfd) < 0)
			_exit(1);
		(void)close(fds[1]);
		/* It has executed once it has said something. */
		if (read(fds[0], &byte, 1) != 1 ||
		    write(pids[1], &c.pid, sizeof(c.pid)) < 0)
			_exit(1);
		_exit(0);
	}
	(void)close(fds[1]);
	(void)close(pids[1]);
	cr_assert_eq(read(pids[0], &child, sizeof(child)), (ssize_t)sizeof(child));
	cr_assert_eq(waitpid(middle, NULL, 0), middle);
	*ret_output = fds[0];
	return child;
}

Test(spawn, dies_with_its_parent_when_told)
{
	int output = -1, status = 0;
	pid_t child = orphaned(true, &output);

	cr_assert_eq(waitpid(child, &status, 0), child);
	cr_assert_eq(status, SIGTERM);
	(void)close(output);
}

Test(spawn, outlives_its_parent_otherwise)
{
	int output = -1, status = 0;
	pid_t child = orphaned(false, &output);

	cr_assert_eq(waitpid(child, &status, WNOHANG), 0, "status %d", status);
	cr_assert_eq(kill(child, SIGKILL), 0);
	cr_assert_eq(waitpid(child, &status, 0), child);
	cr_assert_eq(status, SIGKILL, "something else killed it");
	(void)close(output);
}

/* ---- failures ---- */

static void check_failure(struct spawn *how, enum spawn_step step, int error)
{
	struct child c = started(how);
	int status = ended(&c);

	cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 127, "%#x", status);
	cr_assert_eq(report->step, (int)step, "step %d", report->step);
	cr_assert_eq(report->error, error, "%s", strerror(report->error));
	cr_assert_neq(spawn_step_text(step)[0], '\0');
}

Test(spawn, a_program_that_is_not_there)
{
	struct spawn how = plain();

	how.program = "/nonexistent/program";
	check_failure(&how, SPAWN_EXEC, ENOENT);
}

Test(spawn, a_file_that_is_no_program)
{
	struct spawn how = plain();

	how.program = "/etc/passwd";
	check_failure(&how, SPAWN_EXEC, EACCES);
}

Test(spawn, a_directory_that_is_not_there)
{
	struct spawn how = plain();

	how.directory = "/nonexistent";
	check_failure(&how, SPAWN_DIRECTORY, ENOENT);
}

Test(spawn, a_socket_that_is_closed)
{
	const int sockets[] = { 5555 };
	struct spawn how = plain();

	how.listen_fds = sockets;
	how.n_listen_fds = 1;
	check_failure(&how, SPAWN_DESCRIPTORS, EBADF);
}

Test(spawn, a_success_leaves_no_error)
{
	struct spawn how = plain();

	look(&how);
	cr_assert_eq(report->step, SPAWN_UNDER_WAY);
	cr_assert_eq(report->error, 0);
}

Test(spawn, every_step_has_words)
{
	for (int step = SPAWN_UNBORN; step <= SPAWN_EXEC; step++)
		cr_assert_gt(strlen(spawn_step_text((enum spawn_step)step)), 4);
	cr_assert_gt(strlen(spawn_step_text((enum spawn_step)999)), 4);
}

Test(spawn, a_directory_that_is_no_leaf)
{
	auto_close int tmp = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct spawn how = plain();
	struct child c = { .pid = -7 };

	how.leaf_fd = tmp;
	how.join = true;
	cr_assert_eq(spawn(&how, &c.pid, &c.pidfd), -ENOENT);
	cr_assert_eq(c.pid, -7);
	cr_assert(waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD,
		  "a child is left behind");
}

/* ---- the leaf ---- */

static void prepare_both(void)
{
	host_init();
	prepare();
}

static void release_both(void)
{
	release();
	host_done();
}

TestSuite(spawn_leaf, .init = prepare_both, .fini = release_both);

static void check_leaf(struct spawn *how)
{
	auto_close int leaf = -1;
	struct child c;
	char end[96];
	const char *line;

	cr_assert_eq(cgroup_make(host.fd, "worker-1", &leaf), 0);
	how->leaf_fd = leaf;
	look_argv[1] = (char *)"wait";
	c = started(how);
	listen_to(&c);
	(void)snprintf(end, sizeof(end), "/%s/worker-1\n", host.name);
	line = strstr(report_text, "\ncgroup 0::");
	cr_assert(line && strstr(line, end), "%s", line);
	cr_assert_eq(n_said("fd "), 3, "%s", report_text);
	cr_assert_eq(kill(c.pid, SIGKILL), 0);
	cr_assert_eq(ended(&c), SIGKILL);
}

Test(spawn_leaf, is_cloned_into)
{
	struct spawn how = plain();

	HOST_NEEDED();
	check_leaf(&how);
}

Test(spawn_leaf, is_joined_where_asked)
{
	struct spawn how = plain();

	HOST_NEEDED();
	how.join = true;
	check_leaf(&how);
}

Test(spawn_leaf, is_joined_where_clone3_is_not_trusted)
{
	struct spawn how = plain();

	HOST_NEEDED();
	spawn_distrust_clone3();
	check_leaf(&how);
}

/* A leaf that was killed once: kernels with kill_seq kill what is cloned into it. */
Test(spawn_leaf, is_joined_after_a_kill)
{
	struct spawn how = plain();
	auto_close int leaf = -1;

	HOST_NEEDED();
	cr_assert_eq(cgroup_make(host.fd, "worker-1", &leaf), 0);
	if (cgroup_kill(leaf) != 0)
		HOST_SKIP("this kernel has no cgroup.kill");
	how.join = true;
	check_leaf(&how);
}

Test(spawn_leaf, that_has_gone)
{
	struct spawn how = plain();
	auto_close int leaf = -1;
	struct child c;

	HOST_NEEDED();
	cr_assert_eq(cgroup_make(host.fd, "worker-1", &leaf), 0);
	cr_assert_eq(cgroup_remove(host.fd, "worker-1"), 0);
	how.leaf_fd = leaf;
	cr_assert(spawn(&how, &c.pid, &c.pidfd) < 0);
	how.join = true;
	cr_assert(spawn(&how, &c.pid, &c.pidfd) < 0);
	cr_assert(waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD,
		  "a child is left behind");
}
