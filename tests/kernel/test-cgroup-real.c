/* What only a kernel can play: refusals, events, death. Needs a writable cgroup v2 hierarchy;
 * the tests of memory need its memory controller as well. */
#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/mman.h>

#include "host.h"
#include "kernel/parse.h"
#include "kernel/psi.h"

#define MIB ((uint64_t)1 << 20)

TestSuite(real, .init = host_init, .fini = host_done);

/* ---- a worker: it sits in the leaf and touches as many MiB as the pipe says ---- */

struct hand {
	pid_t pid;
	int order_fd, done_fd;
};

static void work(int orders, int done)
{
	unsigned char mib;

	while (read(orders, &mib, 1) == 1) {
		size_t size = mib * MIB;
		char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		for (size_t i = 0; memory != MAP_FAILED && i < size; i += 4096)
			memory[i] = 1;
		if (write(done, "", 1) != 1)
			break;
	}
	_exit(0);
}

static struct hand hand_start(int leaf)
{
	int orders[2], done[2];
	pid_t pid;
	char c;

	cr_assert_eq(pipe2(orders, O_CLOEXEC), 0);
	cr_assert_eq(pipe2(done, O_CLOEXEC), 0);
	pid = fork();
	cr_assert_geq(pid, 0);
	if (pid == 0) {
		(void)close(orders[1]);
		(void)close(done[0]);
		if (cgroup_enter(leaf, 0) != 0 || write(done[1], "", 1) != 1)
			_exit(1);
		work(orders[0], done[1]);
	}
	(void)close(orders[0]);
	(void)close(done[1]);
	cr_assert_eq(read(done[0], &c, 1), 1, "the worker cannot enter its leaf");
	return (struct hand){ .pid = pid, .order_fd = orders[1], .done_fd = done[0] };
}

static void hand_order(const struct hand *hand, unsigned char mib)
{
	cr_assert_eq(write(hand->order_fd, &mib, 1), 1);
}

/* Whether it finished; false when it died over it. */
static bool hand_finished(const struct hand *hand)
{
	char c;

	return read(hand->done_fd, &c, 1) == 1;
}

static int make_leaf(void)
{
	int leaf = -1;

	cr_assert_eq(cgroup_make(host.fd, "leaf", &leaf), 0);
	return leaf;
}

static int wait_for(int epoll_fd, int timeout_msec)
{
	struct epoll_event event;
	int n = epoll_wait(epoll_fd, &event, 1, timeout_msec);

	return n > 0 ? (int)event.events : n;
}

static int epoll_on(int fd)
{
	struct epoll_event event = { .events = EPOLLPRI };
	int epoll_fd = epoll_create1(EPOLL_CLOEXEC);

	cr_assert_geq(epoll_fd, 0);
	cr_assert_eq(epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event), 0);
	return epoll_fd;
}

/* ---- the tree ---- */

Test(real, the_end_of_a_leaf)
{
	HOST_NEEDED();
	auto_close int leaf = make_leaf();
	auto_close int watch = -1;
	auto_close int epoll_fd = -1;
	struct hand hand = hand_start(leaf);
	bool populated = false;
	pid_t pids[4];
	uint64_t value;
	int status;

	cr_assert_eq(cgroup_pids(leaf, pids, 4), 1);
	cr_assert_eq(pids[0], hand.pid);
	cr_assert_eq(cgroup_remove(host.fd, "leaf"), -EBUSY);

	cr_assert_eq(cgroup_open_populated(leaf, &watch), 0);
	epoll_fd = epoll_on(watch);
	cr_assert_eq(wait_for(epoll_fd, 0), 0, "no event before anything happened");

	cr_assert_eq(cgroup_kill(leaf), 0);
	do {
		cr_assert(wait_for(epoll_fd, -1) & EPOLLPRI);
		cr_assert_eq(cgroup_read_populated(watch, &populated), 0);
	} while (populated);
	cr_assert_eq(wait_for(epoll_fd, 0), 0, "reading re-arms");

	/* The zombie is still there and does not count. */
	cr_assert_eq(cgroup_populated(leaf, &populated), 0);
	cr_assert_not(populated);
	cr_assert_eq(cgroup_remove(host.fd, "leaf"), 0);
	cr_assert_eq(waitpid(hand.pid, &status, 0), hand.pid);
	cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);

	cr_expect_eq(cgroup_read_populated(watch, &populated), CGROUP_GONE);
	cr_expect_eq(cgroup_populated(leaf, &populated), CGROUP_GONE);
	cr_expect_eq(cgroup_enter(leaf, 0), CGROUP_GONE);
	cr_expect_eq(cgroup_kill(leaf), CGROUP_GONE);
	cr_expect_eq(cgroup_enable(leaf, "memory"), CGROUP_GONE);
	cr_expect_eq(cgroup_pids(leaf, pids, 4), -ENODEV);
	cr_expect_eq(cgroup_effective_limit(leaf, &value), CGROUP_GONE);
	cr_expect_eq(cgroup_remove(host.fd, "leaf"), CGROUP_GONE);
}

Test(real, refusals)
{
	HOST_NEEDED();
	auto_close int leaf = make_leaf();
	auto_close int more = -1;
	pid_t gone = fork();

	if (gone == 0)
		_exit(0);
	cr_assert_eq(waitpid(gone, NULL, 0), gone);

	cr_expect_eq(cgroup_enter(leaf, gone), -ESRCH);
	cr_expect_eq(cgroup_enable(leaf, "nonsense"), -EINVAL);
	if (!cgroup_offers(leaf, "memory"))
		cr_expect_eq(cgroup_enable(leaf, "memory"), -ENOENT);
	cr_expect_eq(cgroup_write(leaf, "cgroup.controllers", "x"), -EINVAL);
	cr_expect_eq(cgroup_write(leaf, "nonsense.max", "1"), -ENOENT);
	cr_expect_eq(cgroup_write(leaf, "cgroup.kill", "2"), -ERANGE);

	cr_assert_eq(cgroup_write_u64(host.fd, "cgroup.max.descendants", 1), 0);
	cr_expect_eq(cgroup_make(host.fd, "another", &more), -EAGAIN);
	cr_expect_eq(more, -1);
	cr_assert_eq(cgroup_write_u64(host.fd, "cgroup.max.descendants", UINT64_MAX), 0);
}

Test(real, threaded_cgroups_are_of_no_use)
{
	HOST_NEEDED();
	auto_close int leaf = make_leaf();
	auto_close int invalid = -1;
	pid_t pids[4];

	cr_assert_eq(cgroup_write(leaf, "cgroup.type", "threaded"), 0);
	cr_expect_eq(cgroup_kill(leaf), -EOPNOTSUPP);
	cr_expect_eq(cgroup_pids(leaf, pids, 4), -EOPNOTSUPP);

	cr_assert_eq(cgroup_make(leaf, "invalid", &invalid), 0);
	cr_expect_eq(cgroup_enter(invalid, 0), -EOPNOTSUPP);
	cr_assert_eq(cgroup_remove(leaf, "invalid"), 0);
}

/* ---- in any mode ---- */

static char *read_all(const char *path)
{
	auto_file FILE *file = fopen(path, "re");
	auto_free char *text = NULL;
	size_t size = 0;

	if (!file || getdelim(&text, &size, '\0', file) < 0)
		return NULL;
	return TAKE(text);
}

Test(real, our_own_limit)
{
	uint64_t limit = 0, tree;
	int r = cgroup_own_limit(&limit);

	cr_assert_eq(r, 0, "%s", strerror(-r));
	cr_assert_gt(limit, 0);
	HOST_NEEDED();
	cr_assert_eq(cgroup_effective_limit(host.fd, &tree), 0);
	cr_assert_leq(limit, tree);
}

Test(real, our_own_limit_when_it_is_tight)
{
	HOST_MEMORY_NEEDED();
	uint64_t limit = 0;

	cr_assert_eq(cgroup_write_u64(host.fd, "memory.max", 256 * MIB), 0);
	cr_assert_eq(cgroup_enter(host.fd, 0), 0);
	cr_assert_eq(cgroup_own_limit(&limit), 0);
	cr_assert_leq(limit, 256 * MIB);
}

/* The directory of the version 1 memory controller, -1 where there is none or where we are not on
 * its root: a limit that others rely on is not ours to leave. */
static int open_version1(void)
{
	auto_file FILE *mounts = fopen("/proc/self/mountinfo", "re");
	auto_free char *own = NULL;
	const char *start;
	size_t length;
	char line[4096];
	struct parse_mount mount;

	own = read_all("/proc/self/cgroup");
	if (!own || parse_cgroup1_line(own, "memory", &start, &length) < 0 || length != 1)
		return -1;
	while (mounts && fgets(line, sizeof(line), mounts))
		if (parse_mount_line(line, &mount) == 0 &&
		    strcmp(mount.type, "cgroup") == 0 &&
		    parse_options_have(mount.options, "memory"))
			return open(mount.point, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return -1;
}

Test(real, our_own_limit_on_version_1)
{
	auto_close int root = open_version1();
	auto_close int limited = -1;
	uint64_t limit = 0;

	if (root < 0)
		HOST_SKIP("we are not on the root of a version 1 memory hierarchy");
	cr_assert_eq(cgroup_make(root, "trimtab-test", &limited), 0);
	cr_assert_eq(cgroup_write_u64(limited, "memory.limit_in_bytes", 256 * MIB), 0);
	cr_assert_eq(cgroup_enter(limited, 0), 0);
	cr_expect_eq(cgroup_own_limit(&limit), 0);
	cr_expect_eq(limit, 256 * MIB);
	cr_assert_eq(cgroup_enter(root, 0), 0);
	cr_assert_eq(cgroup_remove(root, "trimtab-test"), 0);
}

/* ---- pressure ---- */

Test(real, a_trigger_lives_and_dies_with_its_leaf)
{
	HOST_NEEDED();
	auto_close int leaf = make_leaf();
	auto_close int fd = -1;
	auto_close int epoll_fd = -1;
	usec_t window = 0;
	struct psi psi;
	int r;

	r = psi_arm(leaf, "memory.pressure", 100000, 1000000, &fd, &window);
	if (r == -ENOENT || r == -EOPNOTSUPP)
		HOST_SKIP("no pressure files per cgroup here: %s", strerror(-r));
	cr_assert_eq(r, 0, "%s", strerror(-r));
	/* With the capability as asked, without it the next even number of seconds. */
	cr_assert(window == 1000000 || window == 2000000, "%ju", (uintmax_t)window);

	epoll_fd = epoll_on(fd);
	cr_assert_eq(wait_for(epoll_fd, 0), 0);
	cr_assert_eq(psi_read_fd(fd, &psi), 0);
	cr_assert_eq(write(fd, "some 1 2000000", 15), -1, "one trigger per descriptor");
	cr_assert_eq(errno, EBUSY);

	cr_assert_eq(cgroup_remove(host.fd, "leaf"), 0);
	cr_assert_eq(wait_for(epoll_fd, -1), EPOLLPRI | EPOLLERR);
	cr_assert_eq(psi_read_fd(fd, &psi), -ENODEV);
}

Test(real, a_trigger_on_the_host)
{
	auto_close int fd = -1;
	usec_t window = 0;
	struct psi psi;
	int r;

	r = psi_arm(AT_FDCWD, "/proc/pressure/memory", 200000, 2000000, &fd, &window);
	if (r == -ENOENT || r == -EOPNOTSUPP || r == -EACCES || r == -EPERM)
		HOST_SKIP("no pressure of the host for us: %s", strerror(-r));
	cr_assert_eq(r, 0, "%s", strerror(-r));
	cr_assert_eq(window, 2000000);
	cr_assert_eq(psi_read(AT_FDCWD, "/proc/pressure/memory", &psi), 0);
}

/* ---- memory ---- */

static int make_memory_leaf(void)
{
	cr_assert_eq(cgroup_enable(host.fd, "memory"), 0);
	return make_leaf();
}

Test(real, processes_inside_forbid_controllers)
{
	HOST_MEMORY_NEEDED();
	struct hand hand = hand_start(host.fd);

	cr_assert_eq(cgroup_enable(host.fd, "memory"), -EBUSY);
	(void)close(hand.order_fd);
	(void)hand_finished(&hand);
	host_wait_empty(host.fd);
	cr_assert_eq(cgroup_enable(host.fd, "memory"), 0);
	cr_assert(cgroup_enabled(host.fd, "memory"));
	cr_assert_eq(cgroup_enter(host.fd, 0), -EBUSY);
}

Test(real, usage_counts_what_the_worker_touches)
{
	HOST_MEMORY_NEEDED();
	auto_close int leaf = make_memory_leaf();
	struct hand hand = hand_start(leaf);
	struct cgroup_usage before, after;

	cr_assert_eq(cgroup_read_usage(leaf, &before), 0);
	hand_order(&hand, 16);
	cr_assert(hand_finished(&hand));
	cr_assert_eq(cgroup_read_usage(leaf, &after), 0);
	/* Charges are counted in batches per processor. */
	cr_expect_geq(after.charged_bytes, before.charged_bytes + 15 * MIB);
	cr_expect_geq(after.own_bytes, before.own_bytes + 15 * MIB);
}

Test(real, a_tripwire_wakes_and_lets_pass)
{
	HOST_MEMORY_NEEDED();
	auto_close int leaf = make_memory_leaf();
	auto_close int events_fd = -1;
	auto_close int epoll_fd = -1;
	struct hand hand = hand_start(leaf);
	struct cgroup_events events;
	uint64_t high;

	hand_order(&hand, 8);
	cr_assert(hand_finished(&hand));
	cr_assert_eq(cgroup_write_u64(leaf, "memory.high", 16 * MIB), 0);
	cr_assert_eq(cgroup_open_events(leaf, &events_fd), 0);
	epoll_fd = epoll_on(events_fd);
	cr_assert_eq(wait_for(epoll_fd, 0), 0);

	hand_order(&hand, 32);
	cr_assert(wait_for(epoll_fd, -1) & EPOLLPRI);
	cr_assert_eq(cgroup_write_u64(leaf, "memory.high", UINT64_MAX), 0);
	cr_assert_eq(cgroup_read_events(events_fd, &events), 0);
	cr_assert_gt(events.high, 0);
	cr_assert_eq(events.oom_kill, 0);
	cr_assert(hand_finished(&hand));
	cr_assert_eq(cgroup_read_u64(leaf, "memory.high", &high), 0);
	cr_assert_eq(high, UINT64_MAX);
}

Test(real, a_kernel_kill_is_counted_before_the_death_is_seen)
{
	HOST_MEMORY_NEEDED();
	auto_close int leaf = make_memory_leaf();
	struct hand hand = hand_start(leaf);
	struct cgroup_events events;
	uint64_t limit, headroom;
	int status;

	cr_assert_eq(cgroup_write_u64(leaf, "memory.max", 32 * MIB), 0);
	(void)cgroup_write(leaf, "memory.swap.max", "0");
	cr_assert_eq(cgroup_write(leaf, "memory.oom.group", "1"), 0);
	cr_assert_eq(cgroup_effective_limit(leaf, &limit), 0);
	cr_assert_leq(limit, 32 * MIB);
	cr_assert_eq(cgroup_headroom(leaf, &headroom), 0);
	cr_assert_lt(headroom, limit);

	hand_order(&hand, 64);
	cr_assert_eq(waitpid(hand.pid, &status, 0), hand.pid);
	cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	cr_assert_eq(cgroup_read_local_events(leaf, &events), 0);
	cr_assert_gt(events.oom_kill, 0);
	cr_assert_gt(events.max, 0);
}

Test(real, events_of_a_removed_leaf)
{
	HOST_MEMORY_NEEDED();
	auto_close int leaf = make_memory_leaf();
	auto_close int events_fd = -1;
	struct cgroup_events events;
	struct cgroup_usage usage;

	cr_assert_eq(cgroup_open_events(leaf, &events_fd), 0);
	cr_assert_eq(cgroup_remove(host.fd, "leaf"), 0);
	cr_assert_eq(cgroup_read_events(events_fd, &events), CGROUP_GONE);
	cr_assert_eq(cgroup_read_local_events(leaf, &events), CGROUP_GONE);
	cr_assert_eq(cgroup_read_usage(leaf, &usage), CGROUP_GONE);
	cr_assert_eq(cgroup_write_u64(leaf, "memory.high", 1), CGROUP_GONE);
}
