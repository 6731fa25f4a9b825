/* What the fleets are made of. */
#include "fleet.h"

#define M	 (1024.0 * 1024)
#define HOURS(h) ((usec_t)((h)*3600) * USEC_PER_SEC)
#define LIMITS(workers, max_mib, gap_s)                                               \
	.budget_bytes = ((workers) * (uint64_t)(max_mib) + 512 + 64) * MIB,           \
	.reserve_bytes = 512 * MIB, .worker_max_bytes = (uint64_t)(max_mib)*MIB,      \
	.trim_at_bytes = (uint64_t)(max_mib)*MIB / 10 * 7, .spread_permyriad = 1000,  \
	.min_gap_usec = (usec_t)(gap_s)*USEC_PER_SEC,                                 \
	.min_gap_floor_usec = 30 * USEC_PER_SEC, .hold_max_usec = 300 * USEC_PER_SEC, \
	.backoff_max_usec = 30 * USEC_PER_SEC, .graceful_usec = 30 * USEC_PER_SEC,    \
	.max_unavailable = 1, .max_booting = 2, .surge = SURGE_AUTO,                  \
	.trim_enabled = true, .trim_interval_min_usec = 30 * USEC_PER_SEC,            \
	.trim_interval_max_usec = 60 * USEC_PER_SEC, .trim_min_yield_bytes = 2 * MIB, \
	.tripwire = true

/* What is asked of a pool whose gap fits into its life. */
#define GOALS .feasible = true, .no_kills = true, .more_max = 2, .life_min = 97

/* From 60 MiB to 512 MiB in so many hours. */
#define LEAK(hours) (452 * M / ((hours)*3600))

#define APP(hours)                                                          \
	.footprint = 60 * M, .footprint_spread = 0.05, .leak = LEAK(hours), \
	.growth_spread = 0.05, .boot_seconds = 2, .boot_spread = 0.2, .drain_seconds = 2

const struct scenario scenarios[] = {
	{
		.name = "equal",
		.about = "16 equal workers started together, 4 h +-5 % to the limit",
		.n_slots = 16,
		.app = { APP(4) },
		.limits = { LIMITS(16, 512, 450) },
		GOALS,
	},
	{
		.name = "equal-4",
		.about = "4 equal workers, 12 h to the limit",
		.n_slots = 4,
		.app = { APP(12) },
		.limits = { LIMITS(4, 512, 3600) },
		GOALS,
	},
	{
		.name = "unequal",
		.about =
			"16 workers, growth from a quarter to seven quarters of the mean",
		.n_slots = 16,
		.app = { APP(6), .growth_spread = 0.75 },
		.limits = { LIMITS(16, 512, 450) },
		GOALS,
	},
	{
		.name = "no-reserve",
		.about = "as equal, but the budget is what the workers may use, with "
			 "nothing to lend",
		.n_slots = 16,
		.app = { APP(4) },
		.limits = { LIMITS(16, 512, 450), .budget_bytes = 16 * 512 * MIB,
			    .reserve_bytes = 0 },
		GOALS,
	},
	{
		.name = "stop-first",
		.about = "as equal, but the old worker stops before the new one starts",
		.n_slots = 16,
		.app = { APP(4) },
		.limits = { LIMITS(16, 512, 450), .surge = SURGE_NEVER },
		GOALS,
	},
	{
		.name = "slow-boot",
		.about =
			"8 workers that take a minute to start and half a minute to stop",
		.n_slots = 8,
		.app = { APP(6), .boot_seconds = 60, .drain_seconds = 30 },
		.limits = { LIMITS(8, 512, 900) },
		GOALS,
	},
	{
		.name = "sawtooth",
		.about = "8 workers, requests of up to 80 MiB on top of the leak",
		.n_slots = 8,
		.app = { APP(6), .saw = 80 * M, .saw_spread = 1 },
		.limits = { LIMITS(8, 512, 900) },
		GOALS,
	},
	{
		.name = "alone",
		.about = "one worker, slow to start, requests of up to 80 MiB: a new one "
			 "looks "
			 "like a runaway",
		.n_slots = 1,
		.app = { APP(4), .saw = 80 * M, .saw_spread = 1, .boot_seconds = 60,
			 .drain_seconds = 30 },
		.limits = { LIMITS(1, 512, 900) },
		.feasible = true,
		.no_kills = true,
		.life_min = 95,
	},
	{
		.name = "heap",
		.about = "8 workers, nine tenths of the growth is free heap",
		.n_slots = 8,
		.app = { APP(6), .leak = LEAK(60), .heap = LEAK(2) },
		.limits = { LIMITS(8, 512, 900) },
		GOALS,
	},
	{
		.name = "mixed",
		.about = "8 workers, half of the growth is free heap: the picture in "
			 "docs/",
		.n_slots = 8,
		.app = { APP(12), .heap = LEAK(12) },
		.limits = { LIMITS(8, 512, 900) },
		GOALS,
	},
	{
		.name = "bursts",
		.about = "8 workers, bursts of 300 MiB free heap in 5 s, a slow leak "
			 "below",
		.n_slots = 8,
		.app = { APP(24), .burst_every = 3600, .burst_bytes = 300 * M,
			 .burst_seconds = 5 },
		.limits = { LIMITS(8, 512, 900) },
	},
	{
		.name = "flat",
		.about = "8 workers that grow to 200 MiB and stay, noisy: nothing is to "
			 "be done",
		.n_slots = 8,
		.app = { APP(4), .saw = 40 * M, .saw_spread = 1, .plateau = 200 * M },
		.limits = { LIMITS(8, 512, 900) },
		.feasible = true,
		.no_restarts = true,
	},
	{
		.name = "cache",
		.about = "the same with 800 MiB of page cache each: still nothing is to "
			 "be done",
		.n_slots = 8,
		.app = { APP(4), .plateau = 200 * M, .cache = 800 * M,
			 .cache_rate = 1 * M },
		.limits = { LIMITS(8, 512, 900) },
		.feasible = true,
		.no_restarts = true,
	},
	{
		.name = "lifetime",
		.about = "8 workers that do not grow but may live for 6 h only",
		.n_slots = 8,
		.app = { APP(4), .plateau = 100 * M },
		.limits = { LIMITS(8, 512, 900), .max_lifetime_usec = 6 * USEC_PER_HOUR },
		.feasible = true,
	},
	{
		.name = "requests",
		.about = "8 workers that do not grow and reach max-requests every 3 h, "
			 "all at once",
		.n_slots = 8,
		.app = { APP(4), .plateau = 100 * M },
		.limits = { LIMITS(8, 512, 900) },
		.requests_every = 3 * 3600,
		.feasible = true,
	},
	{
		.name = "deploys",
		.about = "8 workers, a reload every 5 h",
		.n_slots = 8,
		.app = { APP(12) },
		.limits = { LIMITS(8, 512, 900) },
		.deploy_every = 5 * 3600,
	},
	{
		.name = "crashes",
		.about = "8 workers, each crashes every 3 h; one cannot boot for 20 min "
			 "in 4 h",
		.n_slots = 8,
		.app = { APP(6), .crash_every = 3 * 3600 },
		.limits = { LIMITS(8, 512, 450) },
		.stuck_every = 4 * 3600,
		.stuck_seconds = 1200,
	},
	{
		.name = "degraded",
		.about = "8 workers without cgroups: no tripwire, no limit, looks by the "
			 "clock",
		.n_slots = 8,
		.app = { APP(6), .saw = 20 * M, .saw_spread = 1 },
		.limits = { LIMITS(8, 512, 900), .tripwire = false },
		GOALS,
		.hours_share = 0.1,
	},
	{
		.name = "liars",
		.about = "the same, and one sample in twenty is nonsense",
		.n_slots = 8,
		.app = { APP(6), .saw = 20 * M, .saw_spread = 1 },
		.limits = { LIMITS(8, 512, 900), .tripwire = false },
		.lies = 0.05,
		GOALS,
		.hours_share = 0.1,
	},
	{
		.name = "clock",
		.about = "8 workers, one decision in ten is told a time in the past",
		.n_slots = 8,
		.app = { APP(6) },
		.limits = { LIMITS(8, 512, 900) },
		.clock_steps = 0.1,
		GOALS,
	},
	{
		.name = "storm",
		.about = "8 workers, 20 MiB/s each from the same moment, then a calm day",
		.n_slots = 8,
		.app = { APP(24), .growth_spread = 0, .boot_spread = 0, .runaway_at = 60,
			 .runaway = 20 * M, .runaway_until = 60 },
		.limits = { LIMITS(8, 512, 600) },
		.no_kills = true,
	},
	{
		.name = "storm-again",
		.about =
			"the same, and every worker born in the first hour runs away too",
		.n_slots = 8,
		.app = { APP(24), .growth_spread = 0, .boot_spread = 0, .runaway_at = 60,
			 .runaway = 20 * M, .runaway_until = 3600 },
		.limits = { LIMITS(8, 512, 600) },
		.no_kills = true,
	},
	{
		.name = "storm-bare",
		.about = "the storm with nothing to lend and no room beside the old "
			 "worker",
		.n_slots = 8,
		.app = { APP(24), .growth_spread = 0, .boot_spread = 0, .runaway_at = 60,
			 .runaway = 20 * M, .runaway_until = 60 },
		.limits = { LIMITS(8, 512, 600), .budget_bytes = 8 * 512 * MIB,
			    .reserve_bytes = 0 },
		.no_kills = true,
	},
	{
		.name = "storm-32",
		.about = "32 workers at once, more than turns half a minute apart can "
			 "save",
		.n_slots = 32,
		.app = { APP(24), .growth_spread = 0, .boot_spread = 0, .runaway_at = 60,
			 .runaway = 20 * M, .runaway_until = 60 },
		.limits = { LIMITS(32, 512, 600) },
		.no_kills = true,
		.too_many = true,
	},
	{
		.name = "storm-slow",
		.about = "16 run away two by two and take half a minute to replace",
		.n_slots = 16,
		.app = { APP(24), .growth_spread = 0, .boot_seconds = 30,
			 .runaway_at = 300, .runaway = 20 * M, .runaway_until = 300 },
		.limits = { LIMITS(16, 512, 600) },
		.no_kills = true,
		.too_many = true,
	},
	{
		.name = "host",
		.about = "8 workers with free heap, the host short of memory 10 min in 6 "
			 "h",
		.n_slots = 8,
		.app = { APP(12), .heap = LEAK(24) },
		.limits = { LIMITS(8, 512, 900) },
		.host_pressure_every = 6 * 3600,
		.host_pressure_seconds = 600,
		.feasible = true,
	},
	{
		.name = "overcommit",
		.about = "16 workers whose limits add up to twice the budget",
		.n_slots = 16,
		.app = { APP(8) },
		.limits = { LIMITS(16, 512, 450), .budget_bytes = 16 * 256 * MIB },
	},
	{
		.name = "unlimited",
		.about = "8 workers without a limit of their own, only the pool has one",
		.n_slots = 8,
		.app = { APP(12) },
		.limits = { LIMITS(8, 512, 450), .worker_max_bytes = UINT64_MAX },
	},
	{
		.name = "crowded",
		.about = "8 workers whose gap of an hour does not fit into their life of "
			 "two",
		.n_slots = 8,
		.app = { APP(2) },
		.limits = { LIMITS(8, 512, 3600) },
	},
	{
		.name = "fleet-100",
		.about = "100 workers, two days to the limit, gap 10 min",
		.n_slots = 100,
		.app = { APP(48) },
		.limits = { LIMITS(100, 512, 600) },
		GOALS,
	},
	{
		.name = "fleet-1000",
		.about = "1,000 workers, ten days to the limit, gap 5 min",
		.n_slots = 1000,
		.app = { APP(240) },
		.limits = { LIMITS(1000, 512, 300) },
		GOALS,
		.hours_share = 0.2,
	},
};

const size_t n_scenarios = sizeof(scenarios) / sizeof(scenarios[0]);
