/* What a worker finds in its environment, and what it must never find there. */
#include "process/environment.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "process/spawn.h"
#include "util/cleanup.h"

static void cleanup_environment(char ***env)
{
	*env = environment_free(*env);
}

#define auto_environment CLEANUP(cleanup_environment)

static const struct environment_plan plain = { .worker = 3, .pool = "shop" };

static unsigned count(char *const *env, const char *name)
{
	size_t length = strlen(name);
	unsigned n = 0;

	for (; *env; env++)
		n += strncmp(*env, name, length) == 0 && (*env)[length] == '=';
	return n;
}

/* The value; absence is a failure of the test. */
static const char *value(char *const *env, const char *name)
{
	cr_assert_eq(count(env, name), 1, "%s is there %u times", name, count(env, name));
	return environment_get(env, name);
}

Test(environment, says_who_the_worker_is)
{
	char *base[] = { NULL };
	auto_environment char **env = environment_new(base, &plain);
	char pid[16];

	(void)snprintf(pid, sizeof(pid), "%d", getpid());
	cr_assert_str_eq(value(env, "TRIMTAB_WORKER"), "3");
	cr_assert_str_eq(value(env, "TRIMTAB_POOL"), "shop");
	cr_assert_str_eq(value(env, "TRIMTAB_SUPERVISOR_PID"), pid);
	cr_assert_str_eq(value(env, "MEMORY_PRESSURE_WATCH"), "/dev/null");
	/* What was not asked for is not there. */
	cr_assert_eq(count(env, "LISTEN_FDS"), 0);
	cr_assert_eq(count(env, "LISTEN_PID"), 0);
	cr_assert_eq(count(env, "LISTEN_FDNAMES"), 0);
	cr_assert_eq(count(env, "NOTIFY_SOCKET"), 0);
	cr_assert_eq(count(env, "WATCHDOG_USEC"), 0);
	cr_assert_eq(count(env, "WATCHDOG_PID"), 0);
	cr_assert_eq(count(env, "LD_PRELOAD"), 0);
	cr_assert_eq(count(env, "TRIMTAB_PAGE"), 0);
	cr_assert_eq(count(env, "MALLOC_ARENA_MAX"), 0);
}

Test(environment, keeps_what_is_the_users)
{
	char *base[] = { (char *)"PATH=/bin", (char *)"EMPTY=", (char *)"A=b=c",
			 (char *)"BASH_FUNC_f%%=() { :; }", NULL };
	auto_environment char **env = environment_new(base, &plain);

	cr_assert_str_eq(value(env, "PATH"), "/bin");
	cr_assert_str_eq(value(env, "EMPTY"), "");
	cr_assert_str_eq(value(env, "A"), "b=c");
	cr_assert_str_eq(value(env, "BASH_FUNC_f%%"), "() { :; }");
}

Test(environment, drops_what_was_meant_for_us)
{
	static const char *const ours[] = {
		"NOTIFY_SOCKET",    "WATCHDOG_USEC",
		"WATCHDOG_PID",	    "LISTEN_FDS",
		"LISTEN_PID",	    "LISTEN_FDNAMES",
		"FDSTORE",	    "JOURNAL_STREAM",
		"GUNICORN_FD",	    "MEMORY_PRESSURE_WRITE",
		"TRIMTAB_PAGE",	    "GUNICORN_PID",
		"SYSTEMD_EXEC_PID", "TRIMTAB_TEMPLATE",
	};
	char text[ELEMENTS(ours)][64];
	char *base[ELEMENTS(ours) + 2];

	for (size_t i = 0; i < ELEMENTS(ours); i++) {
		(void)snprintf(text[i], sizeof(text[i]), "%s=stale", ours[i]);
		base[i] = text[i];
	}
	base[ELEMENTS(ours)] =
		(char *)"MEMORY_PRESSURE_WATCH=/sys/fs/cgroup/memory.pressure";
	base[ELEMENTS(ours) + 1] = NULL;

	auto_environment char **env = environment_new(base, &plain);

	for (char **e = env; *e; e++)
		cr_assert_null(strstr(*e, "stale"), "%s", *e);
	cr_assert_str_eq(value(env, "MEMORY_PRESSURE_WATCH"), "/dev/null");
}

Test(environment, names_that_only_begin_alike_stay)
{
	char *base[] = { (char *)"LISTEN_FDS_EXTRA=1", (char *)"NOTIFY_SOCKETS=2",
			 (char *)"LD_PRELOAD_X=3", NULL };
	auto_environment char **env = environment_new(base, &plain);

	cr_assert_str_eq(value(env, "LISTEN_FDS_EXTRA"), "1");
	cr_assert_str_eq(value(env, "NOTIFY_SOCKETS"), "2");
	cr_assert_str_eq(value(env, "LD_PRELOAD_X"), "3");
}

Test(environment, the_configuration_wins)
{
	char *base[] = { (char *)"MODE=host", (char *)"MALLOC_ARENA_MAX=9", NULL };
	char *extra[] = { (char *)"MODE=pool", (char *)"NEW=1", (char *)"MODE=last" };
	struct environment_plan plan = plain;

	plan.extra = extra;
	plan.n_extra = ELEMENTS(extra);
	plan.arena_max = 2;

	auto_environment char **env = environment_new(base, &plan);

	cr_assert_str_eq(value(env, "MODE"), "last");
	cr_assert_str_eq(value(env, "NEW"), "1");
	cr_assert_str_eq(value(env, "MALLOC_ARENA_MAX"), "9",
			 "the user's own value stays");
}

Test(environment, the_configuration_cannot_forge_the_conventions)
{
	char *base[] = { NULL };
	char *extra[] = { (char *)"NOTIFY_SOCKET=/run/systemd/notify",
			  (char *)"LISTEN_FDS=9", (char *)"TRIMTAB_WORKER=99" };
	struct environment_plan plan = plain;

	plan.extra = extra;
	plan.n_extra = ELEMENTS(extra);
	plan.notify_path = "/run/trimtab/shop.d/notify";
	plan.n_listen_fds = 1;
	plan.listen_names = "a";

	auto_environment char **env = environment_new(base, &plan);

	cr_assert_str_eq(value(env, "NOTIFY_SOCKET"), "/run/trimtab/shop.d/notify");
	cr_assert_str_eq(value(env, "LISTEN_FDS"), "1");
	cr_assert_str_eq(value(env, "TRIMTAB_WORKER"), "3");
}

Test(environment, sockets_and_watchdog_have_room_for_the_pid)
{
	char *base[] = { NULL };
	struct environment_plan plan = plain;

	plan.n_listen_fds = 2;
	plan.listen_names = "http:admin";
	plan.watchdog_usec = 30 * USEC_PER_SEC;

	auto_environment char **env = environment_new(base, &plan);

	cr_assert_str_eq(value(env, "LISTEN_FDS"), "2");
	cr_assert_str_eq(value(env, "LISTEN_FDNAMES"), "http:admin");
	cr_assert_str_eq(value(env, "LISTEN_PID"), SPAWN_PID_ROOM);
	cr_assert_str_eq(value(env, "WATCHDOG_USEC"), "30000000");
	cr_assert_str_eq(value(env, "WATCHDOG_PID"), SPAWN_PID_ROOM);
}

Test(environment, the_page_has_descriptor_pid_and_cookie)
{
	char *base[] = { NULL };
	struct environment_plan plan = plain;

	plan.preload = "/usr/lib/trimtab/libtrimtab-preload.so";
	plan.n_listen_fds = 2;
	plan.listen_names = "a:b";

	auto_environment char **env = environment_new(base, &plan);

	cr_assert_str_eq(value(env, "TRIMTAB_PAGE"),
			 "5:" SPAWN_PID_ROOM ":0000000000000000");
	environment_set_cookie(env, 0x0123456789abcdef);
	cr_assert_str_eq(value(env, "TRIMTAB_PAGE"),
			 "5:" SPAWN_PID_ROOM ":0123456789abcdef");
	environment_set_cookie(env, UINT64_MAX);
	cr_assert_str_eq(value(env, "TRIMTAB_PAGE"),
			 "5:" SPAWN_PID_ROOM ":ffffffffffffffff");
}

Test(environment, a_cookie_without_a_page_changes_nothing)
{
	char *base[] = { (char *)"X=1", NULL };
	auto_environment char **env = environment_new(base, &plain);

	environment_set_cookie(env, 42);
	cr_assert_eq(count(env, "TRIMTAB_PAGE"), 0);
	cr_assert_str_eq(value(env, "X"), "1");
}

Test(environment, preloaded_libraries_are_joined)
{
	static const struct {
		const char *base, *extra, *ours, *expected;
	} rows[] = {
		{ NULL, NULL, "/our.so", "/our.so" },
		{ "LD_PRELOAD=/host.so", NULL, "/our.so", "/our.so:/host.so" },
		{ "LD_PRELOAD=/host.so", "LD_PRELOAD=/pool.so", "/our.so",
		  "/our.so:/pool.so" },
		{ "LD_PRELOAD=/host.so", "LD_PRELOAD=", "/our.so", "/our.so" },
		{ "LD_PRELOAD=", NULL, "/our.so", "/our.so" },
		{ "LD_PRELOAD=/host.so", NULL, NULL, "/host.so" },
		{ "LD_PRELOAD=/host.so", "LD_PRELOAD=/pool.so", NULL, "/pool.so" },
	};

	for (size_t i = 0; i < ELEMENTS(rows); i++) {
		char *base[] = { (char *)rows[i].base, NULL };
		char *extra[] = { (char *)rows[i].extra };
		struct environment_plan plan = plain;

		plan.extra = extra;
		plan.n_extra = rows[i].extra ? 1 : 0;
		plan.preload = rows[i].ours;

		auto_environment char **env = environment_new(base, &plan);

		cr_assert_str_eq(value(env, "LD_PRELOAD"), rows[i].expected, "row %zu",
				 i);
	}
}

Test(environment, a_pressure_path_is_passed_without_a_write)
{
	char *base[] = { (char *)"MEMORY_PRESSURE_WRITE=c29tZQ==", NULL };
	struct environment_plan plan = plain;

	plan.pressure_path = "/run/trimtab/shop.d/pressure-3";

	auto_environment char **env = environment_new(base, &plan);

	cr_assert_str_eq(value(env, "MEMORY_PRESSURE_WATCH"),
			 "/run/trimtab/shop.d/pressure-3");
	cr_assert_eq(count(env, "MEMORY_PRESSURE_WRITE"), 0);
}

Test(environment, the_template_gets_its_own_mark_and_no_page)
{
	char *base[] = { (char *)"TRIMTAB_WORKER=7", NULL };
	struct environment_plan plan = plain;

	plan.worker = 0;
	plan.preload = "/our.so";
	plan.n_listen_fds = 1;
	plan.listen_names = "a";

	auto_environment char **env = environment_new(base, &plan);

	cr_assert_str_eq(value(env, "TRIMTAB_TEMPLATE"), "4");
	cr_assert_eq(count(env, "TRIMTAB_WORKER"), 0);
	cr_assert_eq(count(env, "TRIMTAB_PAGE"), 0);
	cr_assert_str_eq(value(env, "LD_PRELOAD"), "/our.so");
}

/* Where the same name is given twice one value remains; many entries and long ones fit. */
Test(environment, survives_an_odd_base)
{
	enum { N = 3000 };
	static char text[N][32], long_value[64 << 10];
	static char *base[N + 4];

	for (size_t i = 0; i < N; i++) {
		(void)snprintf(text[i], sizeof(text[i]), "NAME%zu=%zu", i % (N / 2), i);
		base[i] = text[i];
	}
	memset(long_value, 'v', sizeof(long_value) - 1);
	memcpy(long_value, "LONG=", 5);
	base[N] = long_value;
	base[N + 1] = (char *)"without an equals sign";
	base[N + 2] = (char *)"=no name";

	auto_environment char **env = environment_new(base, &plain);

	cr_assert_not_null(env);
	cr_assert_str_eq(value(env, "NAME7"), "1507");
	cr_assert_eq(strlen(value(env, "LONG")), sizeof(long_value) - 6);
}

Test(environment, nothing_to_free)
{
	cr_assert_null(environment_free(NULL));
}
