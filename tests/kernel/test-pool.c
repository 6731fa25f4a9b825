/* The way into the pool and out of it, from every place that a process may start in. Needs a
 * writable cgroup v2 hierarchy, and root for the places that only root can make. */
#include "kernel/pool.h"

#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "host.h"
#include "kernel/procfs.h"

TestSuite(pool, .init = host_init, .fini = host_done);

/* ---- what is seen from outside ---- */

/* Our own cgroup relative to the test's, "" for the test's itself. Static; one call at a time. */
static const char *place(void)
{
	static char text[256];
	auto_free char *path = NULL;
	const char *found;

	cr_assert_eq(proc_cgroup(getpid(), &path), 0);
	found = strstr(path, host.name);
	(void)snprintf(text, sizeof(text), "%s",
		       found ? found + strlen(host.name) : "elsewhere");
	return text;
}

static bool exists(const char *name)
{
	struct stat st;

	return fstatat(host.fd, name, &st, 0) == 0;
}

/* Runs a function in a child, which is a clean process with its own place. */
static int in_child(int (*function)(void))
{
	pid_t pid = fork();
	int status;

	if (pid == 0)
		_exit(function());
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 255;
}

/* Somebody else who sits in a cgroup until killed. */
static pid_t stranger(int dir_fd)
{
	pid_t pid = fork();

	if (pid == 0)
		for (;;)
			pause();
	cr_assert_eq(cgroup_enter(dir_fd, pid), 0);
	return pid;
}

static void end(pid_t pid)
{
	cr_assert_eq(kill(pid, SIGKILL), 0);
	cr_assert_eq(waitpid(pid, NULL, 0), pid);
}

#define START_AT_HOME() \
	HOST_NEEDED();  \
	cr_assert_eq(cgroup_enter(host.fd, 0), 0)

/* ---- the three places for P ---- */

Test(pool, alone_in_our_cgroup)
{
	START_AT_HOME();
	auto_pool struct pool pool = POOL_NONE;
	auto_close int leaf = -1;

	cr_assert_eq(pool_open("shop", &pool), 0);
	cr_expect_str_eq(place(), "/supervisor");
	cr_expect_null(pool.made);
	cr_expect_not_null(strstr(pool.path, host.name));
	cr_expect_eq(!!(pool.controllers & POOL_MEMORY), host.memory);
	cr_expect_eq(pool.memory_error, host.memory ? 0 : -ENOENT);
	cr_assert_eq(cgroup_make(pool.dir_fd, "worker-0", &leaf), 0);
	cr_expect_eq(cgroup_offers(leaf, "memory"), host.memory);

	cr_assert_eq(pool_close(&pool), 0);
	cr_expect_str_eq(place(), "");
	cr_expect_not(exists("supervisor"));
	cr_expect_not(exists("worker-0"));
	cr_expect_not(cgroup_enabled(host.fd, "memory"));
	cr_expect_eq(pool.dir_fd, -1);
}

Test(pool, beside_others)
{
	START_AT_HOME();
	auto_pool struct pool pool = POOL_NONE;
	pid_t other = stranger(host.fd);

	cr_assert_eq(pool_open("shop", &pool), 0);
	cr_expect_str_eq(place(), "/trimtab-shop/supervisor");
	cr_expect_str_eq(pool.made, "trimtab-shop");
	cr_expect_not_null(strstr(pool.path, "/trimtab-shop"));
	cr_expect_not(exists("supervisor"));
	cr_expect_eq(pool.controllers, 0);
	cr_expect_eq(pool.memory_error, host.memory ? -EBUSY : -ENOENT);

	cr_assert_eq(pool_close(&pool), 0);
	cr_expect_str_eq(place(), "");
	cr_expect_not(exists("trimtab-shop"));
	end(other);
}

static int open_on_root(void)
{
	struct pool pool = POOL_NONE;
	bool offered = cgroup_offers(host.parent_fd, "memory");
	bool there = cgroup_enabled(host.parent_fd, "memory");
	int wrong = 0;

	if (cgroup_enter(host.parent_fd, 0) != 0 || pool_open(host.name, &pool) != 0)
		return 1;
	if (!pool.made || offered != !!(pool.controllers & POOL_MEMORY))
		wrong |= 2;
	if (pool_close(&pool) != 0)
		wrong |= 4;
	/* The test's own directory is a neighbour: what it may count on stays. */
	if (cgroup_enabled(host.parent_fd, "memory") != (offered || there))
		wrong |= 8;
	return wrong;
}

Test(pool, on_the_root_of_the_hierarchy)
{
	HOST_NEEDED();
	if (faccessat(host.parent_fd, "cgroup.type", F_OK, 0) == 0)
		HOST_SKIP("the test was not started on the root of the hierarchy");
	cr_assert_eq(in_child(open_on_root), 0);
}

/* ---- refusals leave everything as it was ---- */

static int open_same_name(void)
{
	struct pool pool = POOL_NONE;

	if (cgroup_enter(host.fd, 0) != 0)
		return 1;
	return pool_open("shop", &pool) == -EADDRINUSE && strcmp(place(), "") == 0 &&
			       pool.dir_fd == -1
		       ? 0
		       : 2;
}

Test(pool, one_of_each_name)
{
	START_AT_HOME();
	auto_pool struct pool pool = POOL_NONE;
	pid_t other = stranger(host.fd);

	cr_assert_eq(pool_open("shop", &pool), 0);
	cr_assert_eq(in_child(open_same_name), 0);
	cr_expect(exists("trimtab-shop/supervisor"), "the first one keeps its place");
	cr_assert_eq(pool_close(&pool), 0);
	end(other);
}

static int open_other_name(void)
{
	struct pool pool = POOL_NONE;

	if (cgroup_enter(host.fd, 0) != 0 || pool_open("b", &pool) != 0)
		return 1;
	if (strcmp(place(), "/trimtab-b/supervisor") != 0)
		return 2;
	return pool_close(&pool) == 0 && strcmp(place(), "") == 0 ? 0 : 3;
}

Test(pool, two_of_different_names_from_one_cgroup)
{
	START_AT_HOME();
	auto_pool struct pool pool = POOL_NONE;
	pid_t other = stranger(host.fd);

	cr_assert_eq(pool_open("a", &pool), 0);
	cr_assert_eq(in_child(open_other_name), 0);
	cr_assert_eq(pool_close(&pool), 0);
	end(other);
}

Test(pool, names)
{
	START_AT_HOME();
	auto_pool struct pool pool = POOL_NONE;

	cr_expect_eq(pool_open("a/b", &pool), -EINVAL);
	cr_expect_eq(pool_open("", &pool), -EINVAL);
	cr_expect_eq(pool.dir_fd, -1);
	cr_expect_str_eq(place(), "");
}

static int open_as_nobody(void)
{
	struct pool pool = POOL_NONE;

	if (setuid(65534) < 0)
		return 1;
	if (pool_open("shop", &pool) != -EACCES)
		return 2;
	return strcmp(place(), "") == 0 && pool.dir_fd == -1 ? 0 : 3;
}

Test(pool, without_permission)
{
	START_AT_HOME();
	if (getuid() != 0)
		HOST_SKIP("only root can become nobody");
	cr_assert_eq(in_child(open_as_nobody), 0);
	cr_expect_not(exists("supervisor"));
	cr_expect_not(exists("trimtab-shop"));
}

static int open_delegated(void)
{
	struct pool pool = POOL_NONE;

	if (cgroup_enter(host.fd, 0) != 0 || setuid(65534) < 0)
		return 1;
	if (pool_open("shop", &pool) != 0)
		return 2;
	if (strcmp(place(), "/supervisor") != 0 ||
	    host.memory != !!(pool.controllers & POOL_MEMORY))
		return 3;
	return pool_close(&pool) == 0 && strcmp(place(), "") == 0 ? 0 : 4;
}

/* As a service manager delegates: the directory, and the three files of /sys/kernel/cgroup/delegate
 * that matter. */
Test(pool, delegated_to_a_user)
{
	static const char *const delegated[] = { ".", "cgroup.procs", "cgroup.threads",
						 "cgroup.subtree_control" };

	HOST_NEEDED();
	if (getuid() != 0)
		HOST_SKIP("only root can delegate");
	for (size_t i = 0; i < ELEMENTS(delegated); i++)
		cr_assert_eq(fchownat(host.fd, delegated[i], 65534, (gid_t)-1, 0), 0);
	cr_assert_eq(in_child(open_delegated), 0);
	cr_expect_not(exists("supervisor"));
}

static int open_read_only(void)
{
	struct pool pool = POOL_NONE;
	char path[] = "/tmp/trimtab-ro-XXXXXX";
	int r = 0;

	if (unshare(CLONE_NEWNS) < 0 ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return 1;
	if (!mkdtemp(path))
		return 2;
	/* A cgroup namespace hides the mounts made outside of it. */
	if (unshare(CLONE_NEWCGROUP) < 0 || mount("none", path, "cgroup2", 0, NULL) < 0)
		r = 3;
	if (r == 0 && mount(NULL, path, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL) < 0)
		r = 4;
	if (r == 0 && pool_open("shop", &pool) != -EROFS)
		r = 5;
	(void)umount2(path, MNT_DETACH);
	(void)rmdir(path);
	return r;
}

Test(pool, in_a_read_only_container)
{
	START_AT_HOME();
	if (getuid() != 0)
		HOST_SKIP("only root can make namespaces");
	cr_assert_eq(in_child(open_read_only), 0);
}

static int open_in_namespace(void)
{
	struct pool pool = POOL_NONE;
	char path[] = "/tmp/trimtab-ns-XXXXXX";
	int r = 0;

	if (unshare(CLONE_NEWNS) < 0 ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return 1;
	if (!mkdtemp(path))
		return 2;
	if (cgroup_make(host.fd, "container", &(int){ -1 }) != 0)
		r = 3;
	else if (cgroup_enter(host.fd, 0) != 0 || unshare(CLONE_NEWCGROUP) < 0 ||
		 mount("none", path, "cgroup2", 0, NULL) < 0)
		r = 4;
	else if (pool_open("shop", &pool) != 0)
		r = 5;
	else if (strncmp(pool.path, path, strlen(path)) != 0)
		r = 6;
	else if (pool_close(&pool) != 0)
		r = 7;
	(void)umount2(path, MNT_DETACH);
	(void)rmdir(path);
	return r;
}

Test(pool, in_a_writable_container)
{
	HOST_NEEDED();
	if (getuid() != 0)
		HOST_SKIP("only root can make namespaces");
	cr_assert_eq(in_child(open_in_namespace), 0);
	cr_expect_not(exists("supervisor"));
}

/* ---- taking up what is there ---- */

Test(pool, the_same_process_takes_its_pool_up_again)
{
	START_AT_HOME();
	auto_pool struct pool first = POOL_NONE;
	auto_pool struct pool second = POOL_NONE;

	cr_assert_eq(pool_open("shop", &first), 0);
	cr_assert_eq(pool_open("shop", &second), 0);
	cr_expect_str_eq(second.path, first.path);
	cr_expect_eq(second.controllers, first.controllers);
	cr_expect_str_eq(place(), "/supervisor");
	cr_assert_eq(pool_close(&second), 0);
	cr_expect_str_eq(place(), "");
	cr_expect_not(exists("supervisor"));
}

Test(pool, the_same_process_takes_a_made_pool_up_again)
{
	START_AT_HOME();
	auto_pool struct pool first = POOL_NONE;
	auto_pool struct pool second = POOL_NONE;
	pid_t other = stranger(host.fd);

	cr_assert_eq(pool_open("shop", &first), 0);
	cr_assert_eq(pool_open("shop", &second), 0);
	cr_expect_str_eq(second.path, first.path);
	cr_expect_str_eq(second.made, "trimtab-shop");
	cr_assert_eq(pool_close(&second), 0);
	cr_expect_str_eq(place(), "");
	cr_expect_not(exists("trimtab-shop"));
	end(other);
}

static int open_inside(void)
{
	struct pool pool = POOL_NONE;

	if (pool_open("inner", &pool) != 0)
		return 1;
	if (strcmp(place(), "/supervisor/trimtab-inner/supervisor") != 0)
		return 2;
	return pool_close(&pool) == 0 && strcmp(place(), "/supervisor") == 0 ? 0 : 3;
}

Test(pool, a_child_of_the_supervisor_is_not_the_supervisor)
{
	START_AT_HOME();
	auto_pool struct pool pool = POOL_NONE;

	(void)fsetxattr(host.fd, "user.delegate", "1", 1, 0);
	cr_assert_eq(pool_open("shop", &pool), 0);
	cr_assert_eq(in_child(open_inside), 0);
	cr_assert_eq(pool_close(&pool), 0);
}

Test(pool, a_subgroup_that_the_service_manager_made)
{
	HOST_NEEDED();
	auto_pool struct pool pool = POOL_NONE;
	auto_close int subgroup = -1;

	if (fsetxattr(host.fd, "user.delegate", "1", 1, 0) < 0)
		HOST_SKIP("this kernel has no user attributes on cgroups: %s",
			  strerror(errno));
	cr_assert_eq(cgroup_make(host.fd, "supervisor", &subgroup), 0);
	cr_assert_eq(cgroup_enter(subgroup, 0), 0);

	cr_assert_eq(pool_open("shop", &pool), 0);
	cr_expect_str_eq(place(), "/supervisor");
	cr_expect_not_null(strstr(pool.path, host.name));
	cr_expect_null(strstr(pool.path, "/supervisor"));
	cr_expect_not(pool.moved);
	cr_expect_eq(!!(pool.controllers & POOL_MEMORY), host.memory);
	cr_assert_eq(pool_close(&pool), 0);
	cr_expect_str_eq(place(), "/supervisor", "what is the manager's stays");
}

Test(pool, leaves_that_are_still_in_use)
{
	START_AT_HOME();
	auto_pool struct pool pool = POOL_NONE;
	auto_close int leaf = -1;
	pid_t worker;

	cr_assert_eq(pool_open("shop", &pool), 0);
	cr_assert_eq(cgroup_make(pool.dir_fd, "worker-0", &leaf), 0);
	worker = stranger(leaf);
	cr_expect_eq(pool_close(&pool), -EBUSY);
	cr_expect(exists("worker-0"));
	cr_expect_str_eq(place(), "/supervisor");

	cr_assert_eq(pool_open("shop", &pool), 0, "and can be taken up again");
	end(worker);
	cr_assert_eq(pool_close(&pool), 0);
	cr_expect_not(exists("worker-0"));
	cr_expect_str_eq(place(), "");
}

Test(pool, leaves_of_a_predecessor)
{
	START_AT_HOME();
	auto_pool struct pool pool = POOL_NONE;
	auto_close int leaf = -1;
	auto_close int again = -1;
	pid_t worker, found;

	cr_assert_eq(cgroup_make(host.fd, "worker-0", &leaf), 0);
	worker = stranger(leaf);
	cr_assert_eq(pool_open("shop", &pool), 0);
	cr_expect_null(pool.made);
	cr_assert_eq(cgroup_make(pool.dir_fd, "worker-0", &again), 0);
	cr_assert_eq(cgroup_pids(again, &found, 1), 1);
	cr_expect_eq(found, worker);
	end(worker);
	cr_assert_eq(pool_close(&pool), 0);
}
