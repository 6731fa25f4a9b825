/* The list of capabilities is complete for an operator, and a look at the host leaves no trace. */
#include "kernel/probe.h"

#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "host.h"
#include "kernel/pool.h"

TestSuite(probe, .init = host_init, .fini = host_done);

static void expect_complete(const struct capability_state *states)
{
	for (int i = 0; i < N_CAPABILITIES; i++) {
		const struct capability_state *state = &states[i];
		const char *name = capability_name((enum capability)i);

		cr_expect_eq(state->there, state->error == 0, "%s", name);
		cr_expect_eq(state->there, state->cause == NULL, "%s", name);
		cr_expect_eq(state->there, state->remedy == NULL, "%s", name);
		cr_log_info("%s: %s", name, state->there ? "yes" : state->cause);
	}
}

Test(probe, every_capability_has_a_name_of_its_own)
{
	for (int i = 0; i < N_CAPABILITIES; i++) {
		cr_expect_not_null(capability_name((enum capability)i));
		cr_expect_not_null(capability_gives((enum capability)i));
		for (int j = 0; j < i; j++)
			cr_expect_str_neq(capability_name((enum capability)i),
					  capability_name((enum capability)j));
	}
}

Test(probe, every_capability_has_a_last_resort)
{
	int last[N_CAPABILITIES] = { 0 };

#define CAUSE(id, error, cause, remedy)                                                 \
	cr_expect_eq(last[CAPABILITY_##id], 0, #id ": a cause behind the last resort"); \
	cr_expect(cause[strlen(cause) - 1] != '.' && strlen(remedy) > 0);               \
	last[CAPABILITY_##id] = (error) == 0;
#include "kernel/capabilities.def"

	for (int i = 0; i < N_CAPABILITIES; i++)
		cr_expect_eq(last[i], 1, "%s", capability_name((enum capability)i));
}

Test(probe, without_a_pool)
{
	static const int errors[] = { -EROFS,	   -EACCES,    -EPERM, -EAGAIN,
				      -EADDRINUSE, -ECANCELED, -ENOMEM };
	struct capability_state states[N_CAPABILITIES];

	HOST_NEEDED();
	for (size_t i = 0; i < ELEMENTS(errors); i++) {
		memset(states, 0xa5, sizeof(states));
		probe(NULL, errors[i], states);
		expect_complete(states);
		cr_expect(states[CAPABILITY_CGROUP_V2].there);
		cr_expect_eq(states[CAPABILITY_LEAVES].error, -errors[i]);
		cr_expect_eq(states[CAPABILITY_MEMORY].error, ECANCELED);
	}
}

static int look_without_v2(void)
{
	struct capability_state states[N_CAPABILITIES];
	struct pool pool = POOL_NONE;
	auto_free char *path = NULL;
	auto_close int fd = -1;
	int r;

	if (cgroup_open_own(&fd, &path) != 0 || unshare(CLONE_NEWNS) < 0 ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("none", path, "tmpfs", 0, NULL) < 0)
		return 1;
	r = pool_open("shop", &pool);
	if (r != -ENOENT)
		return 2;
	probe(NULL, r, states);
	if (states[CAPABILITY_CGROUP_V2].error != ENOENT ||
	    states[CAPABILITY_LEAVES].error != ENOENT ||
	    states[CAPABILITY_MEMORY].error != ECANCELED)
		return 3;
	return strcmp(states[CAPABILITY_LEAVES].remedy, "see cgroup-v2") == 0 ? 0 : 4;
}

Test(probe, without_cgroup_v2)
{
	int status;
	pid_t pid;

	HOST_NEEDED();
	if (getuid() != 0)
		HOST_SKIP("only root can hide the hierarchy");
	pid = fork();
	if (pid == 0)
		_exit(look_without_v2());
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert_eq(status, 0, "%d", WEXITSTATUS(status));
}

Test(probe, with_a_pool)
{
	struct capability_state states[N_CAPABILITIES];
	auto_pool struct pool pool = POOL_NONE;
	struct stat st;

	HOST_NEEDED();
	cr_assert_eq(cgroup_enter(host.fd, 0), 0);
	cr_assert_eq(pool_open("shop", &pool), 0);
	memset(states, 0xa5, sizeof(states));
	probe(&pool, 0, states);
	expect_complete(states);
	cr_expect(states[CAPABILITY_CGROUP_V2].there);
	cr_expect(states[CAPABILITY_LEAVES].there);
	cr_expect_eq(states[CAPABILITY_MEMORY].there, host.memory);
	cr_expect_eq(fstatat(pool.dir_fd, "probe", &st, 0), -1);
	cr_assert_eq(pool_close(&pool), 0);
}

Test(probe, the_service_manager_shows_in_the_environment)
{
	struct capability_state states[N_CAPABILITIES];

	(void)unsetenv("NOTIFY_SOCKET");
	(void)unsetenv("INVOCATION_ID");
	probe(NULL, -EACCES, states);
	cr_expect_not(states[CAPABILITY_MANAGER].there);
	cr_assert_eq(setenv("NOTIFY_SOCKET", "@none", 1), 0);
	probe(NULL, -EACCES, states);
	cr_expect(states[CAPABILITY_MANAGER].there);
}
