/* The text of a trigger and of the figures. Whether a kernel takes it: test-cgroup-real.c. */
#include "kernel/psi.h"

#include <errno.h>

#include "fixture.h"

Test(psi, a_trigger_is_sent_with_its_nul)
{
	auto_scratch struct scratch leaf = scratch_copy("6.18");
	auto_close int fd = -1;
	usec_t window = 0;
	char text[256];

	/* A plain file keeps what stood behind the trigger; the kernel's does not. */
	cr_assert_eq(unlinkat(leaf.dir_fd, "memory.pressure", 0), 0);
	fd = openat(leaf.dir_fd, "memory.pressure", O_CREAT | O_RDWR, 0600);
	(void)close_fd(TAKE_FD(fd));

	cr_assert_eq(
		psi_arm(leaf.dir_fd, "memory.pressure", 200000, 2000000, &fd, &window),
		0);
	cr_assert_eq(window, 2000000);
	cr_assert(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	cr_assert(fcntl(fd, F_GETFL) & O_NONBLOCK);
	cr_assert_eq(file_text(leaf.dir_fd, "memory.pressure", text, sizeof(text)),
		     (ssize_t)sizeof("some 200000 2000000"));
	cr_assert_str_eq(text, "some 200000 2000000");
}

Test(psi, a_trigger_that_no_kernel_takes)
{
	auto_scratch struct scratch leaf = scratch_copy("6.18");
	usec_t window = 7;
	int fd = -7;

	cr_expect_eq(psi_arm(leaf.dir_fd, "memory.pressure", 0, 2000000, &fd, &window),
		     -EINVAL);
	cr_expect_eq(psi_arm(leaf.dir_fd, "memory.pressure", 3, 2, &fd, &window),
		     -EINVAL);
	cr_expect_eq(psi_arm(leaf.dir_fd, "memory.pressure", 1, 10000001, &fd, &window),
		     -EINVAL);
	cr_expect_eq(psi_arm(leaf.dir_fd, "memory.pressure", 1, USEC_NEVER, &fd, &window),
		     -EINVAL);
	cr_expect_eq(psi_arm(leaf.dir_fd, "none.pressure", 1, 2000000, &fd, &window),
		     -ENOENT);
	cr_expect_eq(fd, -7);
	cr_expect_eq(window, 7);
}

Test(psi, figures)
{
	auto_close int dir_fd = fixture_dir("6.18");
	auto_close int fd = openat(dir_fd, "memory.pressure", O_RDONLY);
	struct psi psi = { 0 };

	cr_assert_eq(psi_read(dir_fd, "memory.pressure", &psi), 0);
	cr_assert_eq(psi.some_avg10_permyriad, 125);
	cr_assert_eq(psi.full_avg10_permyriad, 75);
	cr_assert_eq(psi.some_total_usec, 123456);
	cr_assert_eq(psi.full_total_usec, 65432);

	psi = (struct psi){ 0 };
	cr_assert_eq(psi_read_fd(fd, &psi), 0);
	cr_assert_eq(psi_read_fd(fd, &psi), 0, "from the start each time");
	cr_assert_eq(psi.some_total_usec, 123456);
}

Test(psi, figures_without_a_full_line)
{
	auto_close int fd =
		open(FIXTURES "/proc/pressure-5.10-cpu", O_RDONLY | O_CLOEXEC);
	struct psi psi = { .full_total_usec = 7 };

	cr_assert_eq(psi_read_fd(fd, &psi), 0);
	cr_assert_eq(psi.some_total_usec, 1234);
	cr_assert_eq(psi.full_total_usec, 0);
}

Test(psi, figures_that_are_not_there)
{
	auto_close int fd = open(FIXTURES "/proc/status", O_RDONLY | O_CLOEXEC);
	auto_close int dir_fd = fixture_dir("5.10");
	struct psi psi;

	cr_assert_eq(psi_read(dir_fd, "memory.pressure", &psi), -ENOENT);
	cr_assert_lt(psi_read_fd(fd, &psi), 0);
}
