/* trimtab: the command. Parses, resolves, and hands over to the supervisor; all that can be wrong
 * with what the operator typed is said here, in one line, before anything is started. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "arguments.h"
#include "config/describe.h"
#include "doctor.h"
#include "launch.h"
#include "process/state.h"
#include "supervisor/supervisor.h"

enum {
	STATUS_USAGE = 2
}; /* sysexits has no better one; gunicorn and getopt use it too */

static const char usage[] =
	"trimtab: keeps web workers, each in its own cgroup, trims them, restarts them apart\n"
	"\n"
	"  trimtab [OPTIONS] gunicorn ARGUMENTS...        gunicorn's workers, without its master\n"
	"  trimtab [OPTIONS] exec [-w N] [-b ADDRESS]... -- COMMAND...\n"
	"                                                 any program that takes LISTEN_FDS\n"
	"  trimtab [OPTIONS] -c FILE                      a pool from an INI file\n"
	"  trimtab check [OPTIONS] [-c FILE | gunicorn ...]  say whether that would start\n"
	"  trimtab doctor [-c FILE | gunicorn ...]        say what this host allows, and remedies;\n"
	"                                                 and whether that could be trimmed\n"
	"\n"
	"  -c, --config FILE            INI file; see trimtab.conf(5)\n"
	"  -s, --set SECTION.KEY=VALUE  set any key of the file; may be repeated\n"
	"      --dump-config            print the configuration as a file, and end\n"
	"  -h, --help                   this text\n"
	"  -V, --version                the version\n"
	"\n"
	"Signals: TERM stops gracefully, INT and QUIT at once, HUP reloads and replaces the\n"
	"workers one by one, TTIN and TTOU add and remove one, USR1 reopens the workers' logs,\n"
	"USR2 has the program that is installed now take over in place.\n"
	"\n"
	"Keys:\n";

static int print_help(void)
{
	(void)fputs(usage, stdout);
	return config_describe(stdout, CONFIG_FORMAT_HELP) < 0 ? EXIT_FAILURE
							       : EXIT_SUCCESS;
}

static int fail(int r, const struct config_error *err)
{
	if (err->text[0])
		(void)fprintf(stderr, "trimtab: %s\n", err->text);
	else
		(void)fprintf(stderr, "trimtab: %s\n", strerrordesc_np(-r));
	return r > 0 ? STATUS_USAGE : EXIT_FAILURE;
}

static void free_all(struct state *state, struct launch *launch, struct config *config)
{
	(void)launch_free(launch);
	config_free(config);
	carry_close(state);
}

/* In the place of another trimtab, whose state this is. */
static int go_on(const struct arguments *a, struct state *state)
{
	struct config_error err = { "" };
	struct launch *launch = NULL;
	struct config *config = NULL;
	int r = upgrade_configure(state, &config, &launch, &err);

	r = r == 0 ? supervisor_run(a, config, launch, state) : fail(r, &err);
	carry_close(state);
	return r;
}

/* A trial by the trimtab that runs: would that work? */
static int check_state(const struct arguments *a)
{
	struct config_error err = { "" };
	struct launch *launch = NULL;
	struct config *config = NULL;
	struct state state = { 0 };
	int r = upgrade_read(a->state_fd, &state, &err);

	if (r == 0)
		r = upgrade_configure(&state, &config, &launch, &err);
	if (r == 0)
		r = puts(UPGRADE_PASSED TRIMTAB_VERSION) < 0 || fflush(stdout) != 0
			    ? EXIT_FAILURE
			    : EXIT_SUCCESS;
	else
		r = fail(r, &err);
	free_all(&state, launch, config);
	return r;
}

static int run(const struct arguments *a)
{
	struct config_error err = { "" };
	struct launch *launch = NULL;
	struct config *config = NULL;
	struct state state;
	int r = 0;

	if (a->mode == RUN_POOL) {
		spawn_raise_descriptor_limit();
		r = upgrade_receive(&state, &err);
	}
	if (r != 0)
		return r > 0 ? go_on(a, &state) : fail(r, &err);
	r = arguments_configure(a, &config, &err);
	if (r == 0 && a->mode == RUN_DUMP) {
		r = config_dump(config, stdout);
		config_free(config);
		return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
	}
	if (r == 0)
		r = launch_new(config, NULL, -1, &launch, &err);
	if (r == 0)
		r = launch_check_binds(config, launch, &err);
	if (r == 0 && a->mode == RUN_POOL)
		return supervisor_run(a, config, launch, NULL);
	if (r == 0)
		r = a->mode == RUN_DOCTOR ? doctor(launch) : check(config, launch);
	else if (r == LAUNCH_PRINTED)
		r = EXIT_SUCCESS;
	else
		r = fail(r, &err);
	(void)launch_free(launch);
	config_free(config);
	return r;
}

/* Whoever starts us may have closed them: what is opened first would be taken for the log. */
static void fill_standard_descriptors(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		(void)close(fd);
}

int main(int argc, char **argv)
{
	struct config_error err = { "" };
	struct arguments a;
	int r;

	fill_standard_descriptors();
	r = arguments_parse(argc, argv, &a, &err);
	if (r != 0)
		return fail(r, &err);
	switch (a.mode) {
	case RUN_HELP:
		r = print_help();
		break;
	case RUN_VERSION:
		r = puts("trimtab " TRIMTAB_VERSION) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
		break;
	case RUN_DOCTOR:
		r = a.path || a.n_overrides > 0 ? run(&a) : doctor(NULL);
		break;
	case RUN_CHECK_STATE:
		r = check_state(&a);
		break;
	case RUN_POOL:
	case RUN_CHECK:
	case RUN_DUMP:
		r = run(&a);
		break;
	}
	arguments_done(&a);
	return r;
}
