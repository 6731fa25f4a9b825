/* sim: runs fleets through the policy and through what people do today, and prints a table.
 *
 *	sim [--hours H] [--seed N] [--jobs N] [--csv FILE | --trace] [--strategy NAME] [--list]
 *	    [SCENARIO...]
 *
 * Exit status 1: a promise was broken or a goal missed. */
#include <getopt.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fleet.h"

static const char *const strategy_names[N_STRATEGIES] = {
	[STRATEGY_TRIMTAB] = "trimtab",	      [STRATEGY_LIMIT] = "limit only",
	[STRATEGY_JITTER_10] = "jitter 10 %", [STRATEGY_JITTER_50] = "jitter 50 %",
	[STRATEGY_ROTATION] = "rotation",
};

static struct run_options main_arg_options = { .hours = 200, .seed = 1 };
static int main_arg_strategy = -1;
static unsigned int main_arg_jobs = 1;

static void run(const struct scenario *s, enum strategy strategy, struct ledger *ret)
{
	struct run_options o = main_arg_options;

	if (s->hours_share > 0)
		o.hours *= s->hours_share;
	if (strategy == STRATEGY_TRIMTAB)
		run_trimtab(s, &o, ret);
	else
		run_baseline(s, strategy, &o, ret);
}

static void print_head(void)
{
	printf("%-12s %-12s %7s %8s %8s %7s %6s %6s %4s %4s %6s %6s %6s %7s %6s\n",
	       "scenario", "strategy", "hours", "restarts", "vs limit", "in gap", "<60 s",
	       "kills", "dbl", "out", "life", "budget", "held s", "trims", "looks");
}

/* looks: decisions for each worker and hour, what an event loop would wake for. */
static void print_row(const struct ledger *l, enum strategy strategy, double more)
{
	double n = l->restarts ? (double)l->restarts : 1;

	printf("%-12s %-12s %7.0f %8lu %+7.1f%% %6.1f%% %5.1f%% %6lu %4lu %4u %5.1f%% "
	       "%5.0f%% %6.1f "
	       "%7lu %6.1f\n",
	       l->scenario->name, strategy_names[strategy], l->hours, l->restarts, more,
	       100.0 * (double)l->close_pairs / n, 100.0 * (double)l->minute_pairs / n,
	       l->kills, l->double_kills, l->out_max,
	       l->life_allowed > 0 ? 100 * l->life / l->life_allowed : NAN,
	       100 * l->budget_used, l->held_max, l->trims,
	       (double)l->decisions / l->hours / l->scenario->n_slots);
	fflush(stdout);
}

static double more_than(const struct ledger *l, const struct ledger *limit)
{
	return limit->restarts
		       ? 100.0 * ((double)l->restarts / (double)limit->restarts - 1)
		       : 0;
}

/* The goals hold in the long run: the first generation starts together, and parting ways costs
 * it some life. */
static unsigned long judge(struct ledger *l, double more)
{
	const struct scenario *s = l->scenario;
	double life = l->life_allowed > 0 ? 100 * l->life / l->life_allowed : 100;

	if (s->no_kills && l->kills)
		ledger_broken(l, 0, "%lu kernel kills", l->kills);
	if (l->double_kills)
		ledger_broken(l, 0, "%lu kernel kills closer than the floor of the gap",
			      l->double_kills);
	if (s->no_restarts && l->restarts)
		ledger_broken(l, 0, "%lu restarts for nothing", l->restarts);
	if (l->restarts < 100 * (unsigned long)s->n_slots)
		return l->broken;
	if (s->more_max > 0 && more > s->more_max)
		ledger_broken(l, 0, "%.2f %% more restarts, above %.2f %%", more,
			      s->more_max);
	if (life < s->life_min)
		ledger_broken(l, 0, "%.2f %% of the life allowed, below %.2f %%", life,
			      s->life_min);
	return l->broken;
}

static unsigned long run_scenario(const struct scenario *s)
{
	struct ledger limit = { 0 };
	unsigned long broken = 0;

	if (main_arg_strategy < 0 && s->limits.worker_max_bytes != UINT64_MAX)
		run(s, STRATEGY_LIMIT, &limit);
	for (int k = 0; k < N_STRATEGIES; k++) {
		struct ledger l;
		double more;

		if (main_arg_strategy >= 0 && k != main_arg_strategy)
			continue;
		if (k != STRATEGY_TRIMTAB && s->limits.worker_max_bytes == UINT64_MAX)
			continue; /* the others know only limits of a worker */
		run(s, (enum strategy)k, &l);
		more = more_than(&l, &limit);
		print_row(&l, (enum strategy)k, more);
		if (k == STRATEGY_TRIMTAB)
			broken = judge(&l, more);
	}
	return broken;
}

/* ---- several at once ---- */

/* A scenario in a process of its own. What it says goes to a file, to be shown in its turn. */
struct job {
	pid_t pid; /* 0: has not begun, or has ended */
	FILE *said;
	bool failed;
};

static void job_begin(struct job *job, const struct scenario *s)
{
	job->said = tmpfile();
	if (!job->said) {
		perror("sim: a file for the output");
		exit(2);
	}
	fflush(stdout);
	job->pid = fork();
	if (job->pid < 0) {
		perror("sim: fork");
		exit(2);
	}
	if (job->pid > 0)
		return;
	if (dup2(fileno(job->said), STDOUT_FILENO) < 0 ||
	    dup2(fileno(job->said), STDERR_FILENO) < 0)
		_exit(2);
	job->failed = run_scenario(s) > 0;
	fflush(stdout);
	_exit(job->failed);
}

static void job_await_any(struct job *jobs, size_t n)
{
	int status;
	pid_t pid = wait(&status);

	for (size_t i = 0; i < n; i++) {
		if (pid <= 0 || jobs[i].pid != pid)
			continue;
		jobs[i].pid = 0;
		jobs[i].failed = !WIFEXITED(status) || WEXITSTATUS(status) != 0;
	}
}

static void job_show(struct job *job)
{
	char text[4096];
	size_t n;

	rewind(job->said);
	while ((n = fread(text, 1, sizeof(text), job->said)) > 0)
		fwrite(text, 1, n, stdout);
	fclose(job->said);
	fflush(stdout);
}

/* Returns how many of the scenarios broke a promise. */
static unsigned long run_jobs(const struct scenario *const *wanted, size_t n)
{
	struct job *jobs = calloc(n, sizeof(*jobs));
	size_t n_begun = 0, n_shown = 0;
	unsigned int n_running = 0;
	unsigned long broken = 0;

	if (!jobs)
		abort();
	while (n_shown < n) {
		for (; n_begun < n && n_running < main_arg_jobs; n_running++, n_begun++)
			job_begin(&jobs[n_begun], wanted[n_begun]);
		job_await_any(jobs, n_begun);
		n_running--;
		for (; n_shown < n_begun && jobs[n_shown].pid == 0; n_shown++) {
			job_show(&jobs[n_shown]);
			broken += jobs[n_shown].failed;
		}
	}
	free(jobs);
	return broken;
}

static bool is_wanted(const struct scenario *s, char **names, int n)
{
	for (int i = 0; i < n; i++)
		if (strcmp(names[i], s->name) == 0)
			return true;
	return n == 0;
}

static int strategy_by_name(const char *name)
{
	for (int i = 0; i < N_STRATEGIES; i++)
		if (strncmp(strategy_names[i], name, strlen(name)) == 0)
			return i;
	fprintf(stderr, "sim: no strategy %s\n", name);
	exit(2);
}

static FILE *open_csv(const char *path)
{
	FILE *csv = fopen(path, "we");

	if (!csv) {
		perror(path);
		exit(2);
	}
	fputs("seconds,slot,mib,event\n", csv);
	return csv;
}

static void list_scenarios(void)
{
	for (size_t i = 0; i < n_scenarios; i++)
		printf("%-12s %s\n", scenarios[i].name, scenarios[i].about);
	exit(0);
}

static void parse_args(int argc, char **argv)
{
	static const struct option options[] = {
		{ "hours", required_argument, NULL, 'h' },
		{ "seed", required_argument, NULL, 's' },
		{ "csv", required_argument, NULL, 'c' },
		{ "trace", no_argument, NULL, 't' },
		{ "jobs", required_argument, NULL, 'j' },
		{ "strategy", required_argument, NULL, 'S' },
		{ "list", no_argument, NULL, 'l' },
		{ 0 },
	};
	int opt;

	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (opt) {
		case 'h':
			main_arg_options.hours = strtod(optarg, NULL);
			break;
		case 's':
			main_arg_options.seed = strtoull(optarg, NULL, 0);
			break;
		case 'c':
			main_arg_options.csv = open_csv(optarg);
			break;
		case 't':
			main_arg_options.trace = stdout;
			break;
		case 'j':
			main_arg_jobs = (unsigned int)strtoul(optarg, NULL, 0);
			break;
		case 'S':
			main_arg_strategy = strategy_by_name(optarg);
			break;
		case 'l':
			list_scenarios();
			break;
		default:
			exit(2);
		}
	}
}

int main(int argc, char **argv)
{
	const struct scenario **wanted = calloc(n_scenarios, sizeof(*wanted));
	size_t n_wanted = 0;
	unsigned long broken = 0;

	if (!wanted)
		abort();
	parse_args(argc, argv);
	if (main_arg_jobs > 1 && main_arg_options.csv) {
		fputs("sim: one CSV file, one job\n", stderr);
		return 2;
	}
	print_head();
	for (size_t i = 0; i < n_scenarios; i++)
		if (is_wanted(&scenarios[i], argv + optind, argc - optind))
			wanted[n_wanted++] = &scenarios[i];
	if (main_arg_jobs > 1)
		broken = run_jobs(wanted, n_wanted);
	else
		for (size_t i = 0; i < n_wanted; i++)
			broken += run_scenario(wanted[i]) > 0;
	free(wanted);
	if (main_arg_options.csv && fclose(main_arg_options.csv) != 0) {
		perror("csv");
		return 2;
	}
	if (broken)
		printf("%lu of %zu scenarios broke a promise\n", broken, n_wanted);
	return broken ? 1 : 0;
}
