/* The figures of real processes: ourselves, a child, a zombie, one that has gone. */
#include "kernel/procfs.h"

#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "fixture.h"

/* A pid that was ours a moment ago and is free now. */
static pid_t gone(void)
{
	pid_t child = fork();

	if (child == 0)
		_exit(0);
	cr_assert_eq(waitpid(child, NULL, 0), child);
	return child;
}

Test(procfs, a_process_that_has_gone_is_an_outcome)
{
	pid_t pid = gone();
	struct proc_usage usage;
	auto_free char *path = NULL;
	uint64_t value = 7;
	bool catches, forked_only;

	cr_expect_eq(proc_estimate(pid, &value), PROC_GONE);
	cr_expect_eq(proc_usage(pid, &usage), PROC_GONE);
	cr_expect_eq(proc_start_ticks(pid, &value), PROC_GONE);
	cr_expect_eq(proc_cpu(pid, &value), PROC_GONE);
	cr_expect_eq(proc_forked_only(pid, &forked_only), PROC_GONE);
	cr_expect_eq(proc_catches(pid, SIGUSR2, &catches), PROC_GONE);
	cr_expect_eq(proc_set_oom_score(pid, 1000), PROC_GONE);
	cr_expect_eq(proc_cgroup(pid, &path), PROC_GONE);
	cr_expect_eq(value, 7);
	cr_expect_null(path);
}

Test(procfs, a_zombie_uses_nothing)
{
	struct proc_usage usage;
	uint64_t value = 7;
	siginfo_t info;
	pid_t child = fork();

	if (child == 0)
		_exit(0);
	cr_assert_eq(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT), 0);
	cr_expect_eq(proc_estimate(child, &value), 0);
	cr_expect_eq(value, 0);
	cr_expect_eq(proc_usage(child, &usage), PROC_GONE);
	cr_expect_eq(proc_start_ticks(child, &value), 0);
	(void)waitpid(child, NULL, 0);
}

Test(procfs, tells_a_fork_from_a_program)
{
	int go[2], executed[2];
	bool only = false;
	char byte;

	cr_assert_eq(pipe2(go, O_CLOEXEC), 0);
	cr_assert_eq(pipe2(executed, O_CLOEXEC), 0);

	pid_t child = fork();

	if (child == 0) {
		(void)close(executed[0]);
		(void)read(go[0], &byte, 1);
		(void)execl("/bin/sleep", "sleep", "60", NULL);
		_exit(1);
	}
	(void)close(executed[1]);
	cr_assert_eq(proc_forked_only(child, &only), 0);
	cr_expect(only);
	cr_assert_eq(write(go[1], "x", 1), 1);
	cr_assert_eq(read(executed[0], &byte, 1), 0);
	cr_assert_eq(proc_forked_only(child, &only), 0);
	cr_expect_not(only);
	(void)kill(child, SIGKILL);
	(void)waitpid(child, NULL, 0);
	for (int i = 0; i < 2; i++)
		(void)close(go[i]);
	(void)close(executed[0]);
}

Test(procfs, cpu_follows_what_we_compute)
{
	uint64_t before, after;

	cr_assert_eq(proc_cpu(getpid(), &before), 0);
	do
		cr_assert_eq(proc_cpu(getpid(), &after), 0);
	while (after < before + 50000);
}

Test(procfs, usage_follows_what_we_touch)
{
	const size_t size = 32 << 20, slack = 8 << 20;
	struct proc_usage before, after;
	uint64_t estimate_before, estimate_after;
	char *memory;

	cr_assert_eq(proc_usage(getpid(), &before), 0);
	cr_assert_eq(proc_estimate(getpid(), &estimate_before), 0);
	memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		      0);
	cr_assert_neq(memory, MAP_FAILED);
	memset(memory, 1, size);
	cr_assert_eq(proc_usage(getpid(), &after), 0);
	cr_assert_eq(proc_estimate(getpid(), &estimate_after), 0);

	/* Pages that were private a moment ago may be shared now, with a sibling of the test. */
	cr_expect_geq(after.private_bytes, before.private_bytes + size - slack);
	cr_expect_geq(after.rss_bytes, before.rss_bytes + size - slack);
	cr_expect_geq(after.pss_bytes, before.pss_bytes + size - slack);
	cr_expect_leq(after.private_bytes, after.pss_bytes);
	cr_expect_leq(after.pss_bytes, after.rss_bytes);
	/* The cheap counters may be folded late, by 64 pages a thread and processor. */
	cr_expect_geq(estimate_after, estimate_before + size - slack);
}

Test(procfs, start_time_tells_processes_apart_whatever_their_name)
{
	uint64_t first, second;

	cr_assert_eq(proc_start_ticks(getpid(), &first), 0);
	cr_assert_gt(first, 0);
	cr_assert_eq(prctl(PR_SET_NAME, ") R 1 2 (3"), 0);
	cr_assert_eq(proc_start_ticks(getpid(), &second), 0);
	cr_assert_eq(first, second);
}

Test(procfs, oom_score_is_raised)
{
	char text[16] = "";
	FILE *file;

	cr_assert_eq(proc_set_oom_score(getpid(), 1000), 0);
	file = fopen("/proc/self/oom_score_adj", "re");
	cr_assert(file && fgets(text, sizeof(text), file));
	(void)fclose(file);
	cr_assert_str_eq(text, "1000\n");
	cr_assert_eq(proc_set_oom_score(getpid(), 1001), -EINVAL);
}

static void on_signal(int signal_number)
{
	(void)signal_number;
}

Test(procfs, which_signals_are_caught)
{
	bool catches = true;

	(void)signal(SIGUSR2, SIG_DFL);
	cr_assert_eq(proc_catches(getpid(), SIGUSR2, &catches), 0);
	cr_assert_not(catches);
	(void)signal(SIGUSR2, on_signal);
	cr_assert_eq(proc_catches(getpid(), SIGUSR2, &catches), 0);
	cr_assert(catches);
	(void)signal(SIGUSR2, SIG_IGN);
	cr_assert_eq(proc_catches(getpid(), SIGUSR2, &catches), 0);
	cr_assert_not(catches, "ignored is not caught");
	(void)signal(SIGRTMAX, on_signal);
	cr_assert_eq(proc_catches(getpid(), SIGRTMAX, &catches), 0);
	cr_assert(catches);
	cr_assert_eq(proc_catches(getpid(), 0, &catches), -EINVAL);
	cr_assert_eq(proc_catches(getpid(), 65, &catches), -EINVAL);
}

Test(procfs, our_cgroup)
{
	auto_free char *path = NULL;
	int r = proc_cgroup(getpid(), &path);

	if (r == -ENODATA)
		cr_skip("this kernel has no cgroup v2");
	cr_assert_eq(r, 0);
	cr_assert_eq(path[0], '/');
}

Test(procfs, the_host)
{
	uint64_t total = 0, available = 0;

	cr_assert_eq(proc_meminfo(&total, &available), 0);
	cr_assert_gt(total, 16 << 20);
	cr_assert_gt(available, 0);
	cr_assert_leq(available, total);
}
