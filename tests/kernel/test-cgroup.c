/* The files of a cgroup, played by plain files. What plain files cannot play (ENODEV, poll,
 * refused writes) is in test-cgroup-real.c. */
#include "kernel/cgroup.h"

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>

#include "fixture.h"

#define MIB ((uint64_t)1 << 20)

Test(cgroup, usage_as_6_1_prints_it)
{
	auto_close int fd = fixture_dir("6.1/slice/pool/worker-0");
	struct cgroup_usage usage;

	cr_assert_eq(cgroup_read_usage(fd, &usage), 0);
	cr_assert_eq(usage.charged_bytes, 65 * MIB);
	cr_assert_eq(usage.own_bytes, (40 + 5 + 3) * MIB);
	cr_assert_eq(usage.file_bytes, 15 * MIB, "without shmem and swap cache");
	cr_assert_eq(usage.scanned_pages, 9000);
	cr_assert_eq(usage.stolen_pages, 300);
	cr_assert_eq(usage.refaulted_pages, 207);
}

Test(cgroup, cpu_time)
{
	auto_scratch struct scratch leaf = scratch_copy("6.1/slice/pool/worker-0");
	auto_close int fd = openat(leaf.dir_fd, "cpu.stat", O_WRONLY | O_CREAT, 0600);
	uint64_t usec = 7;

	cr_assert_geq(
		dprintf(fd, "usage_usec 123456\nuser_usec 100000\nsystem_usec 23456\n"),
		0);
	cr_assert_eq(cgroup_read_cpu(leaf.dir_fd, &usec), 0);
	cr_assert_eq(usec, 123456);
}

Test(cgroup, usage_where_kernel_memory_comes_in_parts)
{
	auto_close int fd = fixture_dir("5.10");
	struct cgroup_usage usage;

	cr_assert_eq(cgroup_read_usage(fd, &usage), 0);
	cr_assert_eq(usage.own_bytes, 45 * MIB + 65536 + 4096 + MIB / 2);
}

Test(cgroup, usage_as_6_18_prints_it)
{
	auto_close int fd = fixture_dir("6.18");
	struct cgroup_usage usage;

	cr_assert_eq(cgroup_read_usage(fd, &usage), 0);
	cr_assert_eq(usage.own_bytes, 48 * MIB);
	cr_assert_eq(usage.scanned_pages, 9000);
}

Test(cgroup, usage_from_a_memory_stat_of_any_length)
{
	auto_scratch struct scratch leaf = scratch_copy("6.1/slice/pool/worker-0");
	auto_close int fd = openat(leaf.dir_fd, "memory.stat", O_WRONLY | O_TRUNC);
	struct cgroup_usage usage;

	/* 40 KiB of counters that no kernel has yet, and ours in between. */
	cr_assert_geq(dprintf(fd, "anon 1000\n"), 0);
	for (int i = 0; i < 1000; i++)
		cr_assert_geq(dprintf(fd, "a_counter_to_come_%d 12345678901234\n", i), 0);
	cr_assert_geq(dprintf(fd, "kernel 20\nshmem 300\n"), 0);
	for (int i = 0; i < 1000; i++)
		cr_assert_geq(dprintf(fd, "another_one_%d 12345678901234\n", i), 0);
	cr_assert_geq(dprintf(fd, "pgsteal 4"), 0);

	cr_assert_eq(cgroup_read_usage(leaf.dir_fd, &usage), 0);
	cr_assert_eq(usage.own_bytes, 1320);
	cr_assert_eq(usage.stolen_pages, 4);
}

Test(cgroup, no_memory_controller_is_not_a_vanished_leaf)
{
	auto_close int fd = fixture_dir("no-memory");
	struct cgroup_usage usage = { .charged_bytes = 7 };
	struct cgroup_events events;
	int events_fd = -7;

	cr_assert_eq(cgroup_read_usage(fd, &usage), -ENOENT);
	cr_assert_eq(usage.charged_bytes, 7);
	cr_assert_eq(cgroup_read_local_events(fd, &events), -ENOENT);
	cr_assert_eq(cgroup_open_events(fd, &events_fd), -ENOENT);
	cr_assert_eq(events_fd, -7);
	cr_assert_eq(cgroup_write_u64(fd, "memory.high", 1), -ENOENT);
	cr_assert_not(cgroup_offers(fd, "memory"));
}

Test(cgroup, a_vanished_leaf_is_an_outcome)
{
	auto_scratch struct scratch pool = scratch_copy("6.1/slice/pool");
	auto_close int leaf = -1;
	struct cgroup_usage usage;
	uint64_t value;
	pid_t pids[4];
	bool populated;
	char command[128];

	cr_assert_eq(cgroup_make(pool.dir_fd, "worker-0", &leaf), 0);
	(void)snprintf(command, sizeof(command), "rm -r %s/worker-0", pool.path);
	cr_assert_eq(system(command), 0);

	cr_expect_eq(cgroup_read_usage(leaf, &usage), CGROUP_GONE);
	cr_expect_eq(cgroup_read_u64(leaf, "memory.peak", &value), CGROUP_GONE);
	cr_expect_eq(cgroup_write(leaf, "memory.high", "max"), CGROUP_GONE);
	cr_expect_eq(cgroup_enter(leaf, 0), CGROUP_GONE);
	cr_expect_eq(cgroup_kill(leaf), CGROUP_GONE);
	cr_expect_eq(cgroup_enable(leaf, "memory"), CGROUP_GONE);
	cr_expect_eq(cgroup_populated(leaf, &populated), CGROUP_GONE);
	cr_expect_eq(cgroup_pids(leaf, pids, 4), -ENODEV);
	cr_expect_eq(cgroup_effective_limit(leaf, &value), CGROUP_GONE);
	cr_expect_eq(cgroup_remove(pool.dir_fd, "worker-0"), CGROUP_GONE);
}

static void expect_events(const char *name, struct cgroup_events expected)
{
	auto_close int fd = fixture_dir(name);
	auto_close int events_fd = -1;
	struct cgroup_events events;

	cr_assert_eq(cgroup_read_local_events(fd, &events), 0);
	cr_assert_arr_eq(&events, &expected, sizeof(events), "%s", name);
	cr_assert_eq(cgroup_open_events(fd, &events_fd), 0);
	for (int i = 0; i < 2; i++) {
		memset(&events, 0xff, sizeof(events));
		cr_assert_eq(cgroup_read_events(events_fd, &events), 0);
		cr_assert_arr_eq(&events, &expected, sizeof(events), "%s", name);
	}
}

Test(cgroup, events_of_several_kernels)
{
	expect_events("6.1/slice/pool/worker-1",
		      (struct cgroup_events){ 0, 12, 0, 0, 1, 1 });
	expect_events("5.10", (struct cgroup_events){ 0, 1, 2, 3, 4, 0 });
	expect_events("6.18", (struct cgroup_events){ 0, 1, 2, 3, 4, 5 });
}

Test(cgroup, numbers_and_max)
{
	auto_scratch struct scratch leaf = scratch_copy("6.1/slice/pool/worker-0");
	uint64_t value = 7;
	char text[64];

	cr_assert_eq(cgroup_read_u64(leaf.dir_fd, "memory.high", &value), 0);
	cr_assert_eq(value, 96 * MIB);
	cr_assert_eq(cgroup_write_u64(leaf.dir_fd, "memory.high", UINT64_MAX), 0);
	(void)file_text(leaf.dir_fd, "memory.high", text, sizeof(text));
	cr_assert_str_eq(text, "max\n");
	cr_assert_eq(cgroup_read_u64(leaf.dir_fd, "memory.high", &value), 0);
	cr_assert_eq(value, UINT64_MAX);
	cr_assert_eq(cgroup_write_u64(leaf.dir_fd, "memory.high", 4096), 0);
	cr_assert_eq(cgroup_read_u64(leaf.dir_fd, "memory.high", &value), 0);
	cr_assert_eq(value, 4096);
	cr_assert_eq(cgroup_read_u64(leaf.dir_fd, "cgroup.type", &value), -EINVAL);
	cr_assert_eq(cgroup_read_u64(leaf.dir_fd, "memory.none", &value), -ENOENT);
	cr_assert_eq(value, 4096);
}

Test(cgroup, what_is_written_for_each_wish)
{
	auto_scratch struct scratch pool = scratch_copy("6.1/slice/pool");
	char text[64];

	cr_assert_eq(cgroup_enter(pool.dir_fd, 0), 0);
	(void)file_text(pool.dir_fd, "cgroup.procs", text, sizeof(text));
	cr_assert_str_eq(text, "0\n");
	cr_assert_eq(cgroup_enter(pool.dir_fd, 4711), 0);
	(void)file_text(pool.dir_fd, "cgroup.procs", text, sizeof(text));
	cr_assert_str_eq(text, "4711\n");
	cr_assert_eq(cgroup_enter(pool.dir_fd, -1), -EINVAL);

	cr_assert_eq(cgroup_enable(pool.dir_fd, "memory"), 0);
	(void)file_text(pool.dir_fd, "cgroup.subtree_control", text, sizeof(text));
	cr_assert_str_eq(text, "+memory\n");
	cr_assert_eq(cgroup_disable(pool.dir_fd, "memory"), 0);
	(void)file_text(pool.dir_fd, "cgroup.subtree_control", text, sizeof(text));
	cr_assert_str_eq(text, "-memory\n");
}

Test(cgroup, controllers)
{
	auto_close int fd = fixture_dir("6.1");

	cr_assert(cgroup_offers(fd, "memory"));
	cr_assert(cgroup_offers(fd, "io"));
	cr_assert_not(cgroup_offers(fd, "hugetlb"));
	cr_assert(cgroup_enabled(fd, "memory"));
	cr_assert_not(cgroup_enabled(fd, "io"));
}

Test(cgroup, directories)
{
	auto_scratch struct scratch pool = scratch_copy("6.1/slice/pool");
	auto_close int again = -1;
	auto_close int leaf = -1;
	char long_name[300] = "";
	struct stat st;

	cr_assert_eq(cgroup_make(pool.dir_fd, "worker-7", &leaf), 0);
	cr_assert_eq(cgroup_make(pool.dir_fd, "worker-7", &again), 0, "reused");
	cr_assert_neq(leaf, again);
	cr_assert_eq(fstatat(pool.dir_fd, "worker-7", &st, 0), 0);
	cr_assert(fcntl(leaf, F_GETFD) & FD_CLOEXEC);
	cr_assert_eq(cgroup_remove(pool.dir_fd, "worker-7"), 0);
	cr_assert_eq(cgroup_remove(pool.dir_fd, "worker-7"), CGROUP_GONE);

	memset(long_name, 'x', sizeof(long_name) - 1);
	(void)close_fd(TAKE_FD(again));
	cr_assert_eq(cgroup_make(pool.dir_fd, long_name, &again), -ENAMETOOLONG);
	cr_assert_eq(cgroup_make(pool.dir_fd, "a/b", &again), -EINVAL);
	cr_assert_eq(cgroup_make(pool.dir_fd, "..", &again), -EINVAL);
	cr_assert_eq(cgroup_make(pool.dir_fd, ".", &again), -EINVAL);
	cr_assert_eq(cgroup_make(pool.dir_fd, "", &again), -EINVAL);
	cr_assert_eq(cgroup_remove(pool.dir_fd, ".."), -EINVAL);
	cr_assert_eq(symlinkat("worker-0", pool.dir_fd, "link"), 0);
	cr_assert_lt(cgroup_make(pool.dir_fd, "link", &again), 0, "never through a link");
	cr_assert_eq(again, -1);
}

Test(cgroup, processes_outside_our_namespace_are_left_out)
{
	auto_scratch struct scratch leaf = scratch_copy("6.1/slice/pool/worker-0");
	pid_t pids[4] = { 0 };

	cr_assert_eq(cgroup_pids(leaf.dir_fd, pids, 4), 2);
	cr_assert_eq(pids[0], 100);
	cr_assert_eq(pids[1], 200);
	cr_assert_eq(cgroup_pids(leaf.dir_fd, pids, 1), 1, "no more than asked for");
	cr_assert_eq(cgroup_write(leaf.dir_fd, "cgroup.procs", "0\n17\n0\n"), 0);
	cr_assert_eq(cgroup_pids(leaf.dir_fd, pids, 4), 1);
	cr_assert_eq(pids[0], 17);
	cr_assert_eq(cgroup_write(leaf.dir_fd, "cgroup.procs", ""), 0);
	cr_assert_eq(cgroup_pids(leaf.dir_fd, pids, 4), 0);
	cr_assert_eq(cgroup_write(leaf.dir_fd, "cgroup.procs", "x\n"), 0);
	cr_assert_eq(cgroup_pids(leaf.dir_fd, pids, 4), -EINVAL);
}

Test(cgroup, kill_writes_where_it_can)
{
	auto_scratch struct scratch leaf = scratch_copy("6.18");
	char text[16];

	cr_assert_eq(cgroup_kill(leaf.dir_fd), 0);
	(void)file_text(leaf.dir_fd, "cgroup.kill", text, sizeof(text));
	cr_assert_str_eq(text, "1\n");
}

Test(cgroup, kill_one_by_one_on_old_kernels)
{
	auto_scratch struct scratch leaf = scratch_copy("5.10");
	char text[32];
	pid_t child = fork();
	int status;

	if (child == 0)
		for (;;)
			pause();
	(void)snprintf(text, sizeof(text), "%d\n", child);
	cr_assert_eq(cgroup_write(leaf.dir_fd, "cgroup.procs", text), 0);
	cr_assert_eq(cgroup_kill(leaf.dir_fd), 0);
	cr_assert_eq(waitpid(child, &status, 0), child);
	cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	cr_assert_eq(cgroup_kill(leaf.dir_fd), 0,
		     "a process that has gone is no trouble");
}

Test(cgroup, populated)
{
	auto_close int full = fixture_dir("5.10");
	auto_close int empty = fixture_dir("6.18");
	auto_close int root = fixture_dir("6.1");
	auto_close int watch_fd = -1;
	bool populated = false;

	cr_assert_eq(cgroup_populated(full, &populated), 0);
	cr_assert(populated);
	cr_assert_eq(cgroup_populated(empty, &populated), 0);
	cr_assert_not(populated);
	cr_assert_eq(cgroup_populated(root, &populated), -ENOENT);
	cr_assert_eq(cgroup_open_populated(full, &watch_fd), 0);
	cr_assert_eq(cgroup_read_populated(watch_fd, &populated), 0);
	cr_assert(populated);
}

Test(cgroup, limits_up_the_tree)
{
	auto_scratch struct scratch root = scratch_copy("6.1");
	auto_close int slice = openat(root.dir_fd, "slice", O_RDONLY | O_DIRECTORY);
	auto_close int pool = openat(slice, "pool", O_RDONLY | O_DIRECTORY);
	uint64_t value = 7;

	cr_assert_eq(cgroup_effective_limit(pool, &value), 0);
	cr_assert_eq(value, 512 * MIB);
	cr_assert_eq(cgroup_headroom(pool, &value), 0);
	cr_assert_eq(value, (124 + 60) * MIB,
		     "the slice is nearly full of others, page cache aside");

	cr_assert_eq(cgroup_write_u64(slice, "memory.high", 256 * MIB), 0);
	cr_assert_eq(cgroup_effective_limit(pool, &value), 0);
	cr_assert_eq(value, 256 * MIB, "memory.high above us counts");
	cr_assert_eq(cgroup_headroom(pool, &value), 0);
	cr_assert_eq(value, 0, "usage above the limit leaves nothing");

	cr_assert_eq(cgroup_write_u64(slice, "memory.high", UINT64_MAX), 0);
	cr_assert_eq(cgroup_write_u64(slice, "memory.max", UINT64_MAX), 0);
	cr_assert_eq(cgroup_write_u64(pool, "memory.max", UINT64_MAX), 0);
	cr_assert_eq(cgroup_effective_limit(pool, &value), 0);
	cr_assert_eq(value, UINT64_MAX);
	cr_assert_eq(cgroup_headroom(pool, &value), 0);
	cr_assert_eq(value, UINT64_MAX);
	cr_assert_eq(cgroup_effective_limit(root.dir_fd, &value), 0,
		     "the root has no limit");
	cr_assert_eq(value, UINT64_MAX);
}
