/* Probing and checking without starting anything. The limits that `check` shows are computed by
 * the same code that a running pool uses. */
#include "doctor.h"

#include <stdio.h>
#include <stdlib.h>

#include "kernel/pool.h"
#include "kernel/probe.h"
#include "supervisor/limits.h"
#include "util/cleanup.h"
#include "util/format.h"

static void show_program(const struct launch *launch)
{
	(void)printf("\npool: %s\n", launch->what);
	if (!launch->preload)
		(void)printf(
			"%-4s %-16s [trim] preload-library is off, or the library is not "
			"installed\n",
			"no", "trims");
	else if (launch->untrimmable)
		(void)printf("%-4s %-16s %s\n", "no", "trims", launch->untrimmable);
	else
		(void)printf("%-4s %-16s by %s\n", "yes", "trims", launch->preload);
}

int doctor(const struct launch *launch)
{
	struct capability_state states[N_CAPABILITIES];
	struct pool pool = POOL_NONE;
	int r = pool_open("doctor", &pool);
	bool full;

	probe(r < 0 ? NULL : &pool, r < 0 ? r : 0, states);
	full = states[CAPABILITY_LEAVES].there && states[CAPABILITY_MEMORY].there;
	for (unsigned i = 0; i < N_CAPABILITIES; i++) {
		const struct capability_state *c = &states[i];

		(void)printf("%-4s %-16s %s\n", c->there ? "yes" : "no",
			     capability_name(i), capability_gives(i));
		if (!c->there)
			(void)printf("     %-16s because %s\n     %-16s remedy: %s\n", "",
				     c->cause, "", c->remedy);
	}
	(void)printf(
		"\n%s\n",
		full ? "Full control: workers are limited, watched and attributed by "
		       "the kernel."
		     : "Degraded mode: the same policy, on figures from /proc, without "
		       "limits set by the kernel.");
	if (r == 0)
		(void)pool_close(&pool);
	if (launch)
		show_program(launch);
	return full ? EXIT_SUCCESS : EXIT_FAILURE;
}

int check(const struct config *config, const struct launch *launch)
{
	struct capability_state states[N_CAPABILITIES];
	struct pool pool = POOL_NONE;
	struct limits limits;
	struct contradiction found[N_INFEASIBILITIES];
	size_t n;
	int r = pool_open(config->pool_name, &pool);

	probe(r < 0 ? NULL : &pool, r < 0 ? r : 0, states);
	limits_resolve(config, launch, r < 0 ? -1 : pool.dir_fd, launch->workers,
		       states[CAPABILITY_MEMORY].there, &limits);
	if (r == 0)
		(void)pool_close(&pool);

	(void)printf("pool %s: %s\n", config->pool_name, launch->what);
	for (size_t i = 0; i < launch->n_binds; i++)
		(void)printf("  listens on %s\n", launch->binds[i]);
	(void)printf("  %u workers of at most %s each, trimmed from %s on\n",
		     launch->workers, format_bytes(limits.worker_max_bytes).s,
		     format_bytes(limits.trim_at_bytes).s);
	(void)printf("  budget %s, of which %s in reserve\n",
		     format_bytes(limits.budget_bytes).s,
		     format_bytes(limits.reserve_bytes).s);
	(void)printf("  mode: %s\n", states[CAPABILITY_MEMORY].there
					     ? "full control"
					     : "degraded; see trimtab doctor");
	if (launch->untrimmable)
		(void)printf("  warning: %s\n", launch->untrimmable);
	for (size_t i = 0; i < launch->n_warnings; i++)
		(void)printf("  warning: %s\n", launch->warnings[i]);
	n = limits_contradictions(config, &limits, launch->workers, USEC_NEVER, 0, found);
	for (size_t i = 0; i < n; i++)
		(void)printf("  not feasible: %s\n", found[i].message.text);
	if (n > 0)
		return EXIT_FAILURE;
	(void)printf("ok\n");
	return EXIT_SUCCESS;
}
