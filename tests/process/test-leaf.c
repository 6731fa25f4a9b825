/* Leaves on the real hierarchy: names, reuse, and what a worker's leftovers do to them. */
#include "process/leaf.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/kernel/host.h"

static struct leaves leaves;

static void prepare(void)
{
	host_init();
	leaves = (struct leaves){ .root_fd = host.fd };
}

TestSuite(leaf, .init = prepare, .fini = host_done);

static struct leaf *taken(unsigned number)
{
	struct leaf *leaf = NULL;
	int r = leaf_take(&leaves, number, &leaf);

	cr_assert_eq(r, 0, "%s", strerror(-r));
	cr_assert(leaf->taken);
	cr_assert_eq(leaf->number, number);
	return leaf;
}

static bool there(const char *name)
{
	return faccessat(host.fd, name, F_OK, 0) == 0;
}

/* A process that sleeps in the leaf; it is there when this returns. */
static pid_t sleeper(const struct leaf *leaf)
{
	pid_t pid = fork();

	cr_assert_geq(pid, 0);
	if (pid == 0)
		for (;;)
			(void)pause();
	cr_assert_eq(cgroup_enter(leaf->dir_fd, pid), 0);
	return pid;
}

static void check_killed(pid_t pid)
{
	int status = 0;

	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "%#x", status);
}

Test(leaf, has_the_name_of_its_slot)
{
	HOST_NEEDED();
	struct leaf *one = taken(1), *seven = taken(7);

	cr_assert_str_eq(one->name, "worker-1");
	cr_assert_str_eq(seven->name, "worker-7");
	cr_assert(there("worker-1") && there("worker-7"));
	cr_assert(fcntl(one->dir_fd, F_GETFD) & FD_CLOEXEC);
	cr_assert_not(one->killed || one->unclean);
	leaves_done(&leaves);
	cr_assert_not(there("worker-1") || there("worker-7"));
	cr_assert_null(leaves.first);
}

Test(leaf, is_used_again)
{
	HOST_NEEDED();
	for (int i = 0; i < 50; i++) {
		struct leaf *leaf = taken(1);

		cr_assert_str_eq(leaf->name, "worker-1");
		leaf_release(leaf);
	}
	cr_assert_null(leaves.first->next);
	leaves_done(&leaves);
}

Test(leaf, a_second_one_while_the_first_is_taken)
{
	HOST_NEEDED();
	struct leaf *old = taken(1), *new = taken(1), *third = taken(1);

	cr_assert_str_eq(new->name, "worker-1.2");
	cr_assert_str_eq(third->name, "worker-1.3");
	leaf_release(old);
	leaf_release(third);
	/* The plainest name that is free. */
	cr_assert_str_eq(taken(1)->name, "worker-1");
	cr_assert_str_eq(taken(1)->name, "worker-1.3");
	cr_assert_str_eq(taken(1)->name, "worker-1.4");
	leaves_done(&leaves);
}

Test(leaf, slots_do_not_share)
{
	HOST_NEEDED();
	leaf_release(taken(1));
	cr_assert_str_eq(taken(2)->name, "worker-2");
	leaves_done(&leaves);
}

Test(leaf, a_clean_end_does_not_kill)
{
	HOST_NEEDED();
	struct leaf *leaf = taken(1);

	leaf_release(leaf);
	cr_assert_not(leaf->killed, "a leaf that was empty lost its clone3");
	cr_assert_not(leaf->unclean);
	leaves_done(&leaves);
}

Test(leaf, leftovers_are_killed)
{
	HOST_NEEDED();
	struct leaf *leaf = taken(1);
	pid_t pid = sleeper(leaf);

	leaf_release(leaf);
	check_killed(pid);
	cr_assert(leaf->killed);
	cr_assert(leaf_settle(leaf), "a zombie that was reaped holds nothing");
	cr_assert_not(leaf->unclean);
	leaves_done(&leaves);
}

/* Who is taken for a dying leaf gets another one; later it is clean and used again. */
Test(leaf, one_that_is_still_dying_is_left_alone)
{
	HOST_NEEDED();
	struct leaf *leaf = taken(1);

	leaf_release(leaf);
	leaf->unclean = true;
	pid_t pid = sleeper(leaf); /* stands for one that SIGKILL has not reached yet */

	cr_assert_not(leaf_settle(leaf));
	cr_assert_str_eq(taken(1)->name, "worker-1.2");
	cr_assert_eq(leaf_kill(leaf), 0);
	check_killed(pid);
	cr_assert_str_eq(taken(1)->name, "worker-1");
	leaves_done(&leaves);
}

Test(leaf, a_directory_that_a_dead_supervisor_left)
{
	HOST_NEEDED();
	auto_close int left = -1;
	struct leaf stale = { .dir_fd = -1 }, *leaf;

	cr_assert_eq(cgroup_make(host.fd, "worker-1", &left), 0);
	stale.dir_fd = left;
	pid_t pid = sleeper(&stale);

	leaf = taken(1);
	check_killed(pid);
	cr_assert(leaf->killed, "what was killed must be joined, not cloned into");
	leaf_release(leaf);
	leaves_done(&leaves);
	cr_assert_not(there("worker-1"));
}

/* A pool with more workers than the new one has, of whose leaves some are not to be used. */
Test(leaf, all_that_a_dead_supervisor_left_is_taken_over)
{
	static const char *const names[] = { "worker-1.2", "worker-7",	   "template",
					     "worker-x",   "worker-1.2.3", "supervisor" };
	struct leaf stale[ELEMENTS(names)];
	pid_t pids[ELEMENTS(names)];

	HOST_NEEDED();
	for (size_t i = 0; i < ELEMENTS(names); i++) {
		cr_assert_eq(cgroup_make(host.fd, names[i], &stale[i].dir_fd), 0);
		pids[i] = sleeper(&stale[i]);
	}
	leaves_take_over(&leaves);
	for (size_t i = 0; i < 3; i++)
		check_killed(pids[i]);
	for (size_t i = 3; i < ELEMENTS(names); i++)
		cr_assert_eq(waitpid(pids[i], NULL, WNOHANG), 0, "%s is not ours",
			     names[i]);

	/* Known by their names, and joined, not cloned into. */
	struct leaf *used = taken(1), *fresh = taken(1), *template = NULL;

	cr_assert_str_eq(used->name, "worker-1.2");
	cr_assert(used->killed);
	cr_assert_str_eq(fresh->name, "worker-1");
	cr_assert_eq(leaf_take_named(&leaves, "template", &template), 0);
	cr_assert(template->killed);

	leaves_done(&leaves);
	for (size_t i = 0; i < 3; i++)
		cr_assert_not(there(names[i]), "%s stays behind", names[i]);
	for (size_t i = 3; i < ELEMENTS(names); i++)
		cr_assert(there(names[i]));
	cr_assert_not(there("worker-1"));
	for (size_t i = 0; i < ELEMENTS(names); i++)
		(void)close(stale[i].dir_fd);
}

Test(leaf, nothing_to_take_over)
{
	HOST_NEEDED();
	leaves_take_over(&leaves);
	cr_assert_null(leaves.first);
	leaves.root_fd = -1;
	leaves_take_over(&leaves);
	cr_assert_null(leaves.first);
}

Test(leaf, by_a_name_of_its_own)
{
	HOST_NEEDED();
	struct leaf *leaf = NULL;

	cr_assert_eq(leaf_take_named(&leaves, "template", &leaf), 0);
	cr_assert_str_eq(leaf->name, "template");
	cr_assert(leaf->taken);
	/* Never given to a slot. */
	leaf_release(leaf);
	cr_assert_str_eq(taken(1)->name, "worker-1");
	leaves_done(&leaves);
	cr_assert_not(there("template"));
}

Test(leaf, spent_is_removed_and_not_given_out_again)
{
	HOST_NEEDED();
	struct leaf *leaf = taken(1);
	struct leaf inside = *leaf;
	pid_t pid = sleeper(&inside);

	leaf->spent = true;
	cr_assert_str_eq(taken(1)->name, "worker-1.2", "it has a worker still");
	cr_assert(there("worker-1"));
	leaf_release(leaf);
	check_killed(pid);
	while (!leaf_settle(leaf))
		;
	cr_assert_str_eq(taken(2)->name, "worker-2");
	cr_assert_not(there("worker-1"));
	cr_assert_str_eq(taken(1)->name, "worker-1", "a new one");
	leaves_done(&leaves);
}

Test(leaf, the_end_kills_and_removes_everything)
{
	HOST_NEEDED();
	pid_t a = sleeper(taken(1)), b = sleeper(taken(2));

	leaves_done(&leaves);
	check_killed(a);
	check_killed(b);
	cr_assert_null(leaves.first);
	leaf_release(NULL);
}

Test(leaf, no_place_for_one)
{
	HOST_NEEDED();
	auto_close int file = open("/dev/null", O_RDONLY | O_CLOEXEC);
	struct leaf *leaf = (struct leaf *)&leaves;

	leaves.root_fd = file;
	cr_assert_lt(leaf_take(&leaves, 1, &leaf), 0);
	cr_assert_eq(leaf, (struct leaf *)&leaves);
	cr_assert_null(leaves.first);
}
