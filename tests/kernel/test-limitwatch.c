/* inotify sees a write to a plain file as it sees one to a file of cgroupfs; that it does see the
 * latter is shown in the virtual machine (limit-change). */
#include "kernel/limitwatch.h"

#include <errno.h>
#include <poll.h>

#include "fixture.h"
#include "kernel/cgroup.h"

static bool has_told(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, 0) == 1 && p.revents == POLLIN;
}

static void expect_told(int fd, int dir_fd, const char *file)
{
	cr_assert_not(has_told(fd), "before %s was written", file);
	cr_assert_eq(cgroup_write_u64(dir_fd, file, 1 << 20), 0);
	cr_assert(has_told(fd), "%s", file);
	limitwatch_drain(fd);
}

Test(limitwatch, tells_of_the_pool_and_of_what_is_above)
{
	auto_scratch struct scratch root = scratch_copy("6.1");
	auto_close int slice = openat(root.dir_fd, "slice", O_RDONLY | O_DIRECTORY);
	auto_close int pool = openat(slice, "pool", O_RDONLY | O_DIRECTORY);
	auto_close int leaf = openat(pool, "worker-1", O_RDONLY | O_DIRECTORY);
	auto_close int fd = -1;

	cr_assert_eq(limitwatch_open(pool, &fd), 0);
	expect_told(fd, pool, "memory.max");
	expect_told(fd, slice, "memory.high");
	cr_assert_eq(cgroup_write_u64(leaf, "memory.high", 1 << 20), 0);
	cr_assert_not(has_told(fd), "of a leaf, which is our own business");
}

Test(limitwatch, one_draining_is_enough_for_many_changes)
{
	auto_scratch struct scratch root = scratch_copy("6.1");
	auto_close int slice = openat(root.dir_fd, "slice", O_RDONLY | O_DIRECTORY);
	auto_close int fd = -1;

	cr_assert_eq(limitwatch_open(slice, &fd), 0);
	for (uint64_t i = 0; i < 500; i++)
		cr_assert_eq(
			cgroup_write_u64(slice, i % 2 ? "memory.max" : "memory.high", i),
			0);
	limitwatch_drain(fd);
	cr_assert_not(has_told(fd));
}

Test(limitwatch, nothing_to_watch)
{
	auto_scratch struct scratch root = scratch_copy("6.1");
	int fd = -1;

	cr_assert_eq(limitwatch_open(root.dir_fd, &fd), -ENOENT, "the root has no limit");
	cr_assert_eq(limitwatch_open(-1, &fd), -EBADF);
	cr_assert_eq(fd, -1);
}
