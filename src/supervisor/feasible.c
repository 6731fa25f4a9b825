/* Can the settings hold, now that so much is known of the workers? Asked at every step, which costs
 * a few divisions, and told once: whoever reads the journal has changed them or means them. What is
 * infeasible is never refused here: the pool runs, and the policy does what can be done. */
#include "supervisor/supervisor.h"

#include "report/journal.h"
#include "supervisor/limits.h"

/* Of those that the answer depends on. */
static bool same_settings(const struct limits *a, const struct limits *b)
{
	return a->budget_bytes == b->budget_bytes &&
	       a->reserve_bytes == b->reserve_bytes &&
	       a->worker_max_bytes == b->worker_max_bytes &&
	       a->min_gap_usec == b->min_gap_usec &&
	       a->max_lifetime_usec == b->max_lifetime_usec;
}

static const char *name_of(enum infeasible what)
{
	switch (what) {
	case INFEASIBLE_FOOTPRINT:
		return "footprint";
	case INFEASIBLE_LIMITS:
		return "limits";
	case INFEASIBLE_GAP:
		return "gap";
	case N_INFEASIBILITIES:
		break;
	}
	return "unknown";
}

static void report(struct supervisor *s, const struct contradiction *c,
		   const struct pool_outlook *k)
{
	journal_infeasible(&(struct journal_infeasible){
		.what = name_of(c->what),
		.text = c->message.text,
		.grave = c->what == INFEASIBLE_FOOTPRINT,
		.would_do = c->would_do,
		.workers = s->target,
		.limit_bytes = s->limits.worker_max_bytes,
		.budget_bytes = s->limits.budget_bytes,
		.footprint_bytes = k->footprint_bytes,
		.gap_usec = s->limits.min_gap_usec,
		.life_usec = k->life_usec,
	});
}

void report_feasibility(struct supervisor *s)
{
	struct infeasibility found[N_INFEASIBILITIES];
	struct contradiction told[N_INFEASIBILITIES];
	struct pool_outlook k;
	unsigned news = 0;
	size_t n;

	if (!same_settings(&s->limits, &s->infeasible_limits) ||
	    s->target != s->infeasible_target) {
		s->infeasible_told = 0;
		s->infeasible_limits = s->limits;
		s->infeasible_target = s->target;
	}
	policy_pool_outlook(s->policy, &k);
	n = policy_infeasible(&s->limits, s->target, k.life_usec, k.footprint_bytes,
			      found);
	for (size_t i = 0; i < n; i++)
		news |= (1u << found[i].what) & ~s->infeasible_told;
	if (news == 0)
		return;
	n = limits_contradictions(s->config, &s->limits, s->target, k.life_usec,
				  k.footprint_bytes, told);
	for (size_t i = 0; i < n; i++)
		if (news & (1u << told[i].what))
			report(s, &told[i], &k);
	s->infeasible_told |= news;
}
