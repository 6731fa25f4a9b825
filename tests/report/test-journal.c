/* Each record of the journal with its exact figures: what scripts and dashboards read. */
#include "report/journal.h"

#include <criterion/criterion.h>
#include <errno.h>

#include "output.h"

static void open_all(void)
{
	output_redirect();
	cr_assert_eq(record_open("shop", RECORD_STDERR, RECORD_JSON, LOG_DEBUG), 0);
}

TestSuite(journal, .init = open_all);

static struct json_object *object;

static void take(const char *event, const char *priority)
{
	output_await_lines(1);
	output_finish();
	object = output_object(0);
	cr_assert_str_eq(output_field(object, "TRIMTAB_EVENT"), event);
	cr_assert_str_eq(output_field(object, "PRIORITY"), priority);
	cr_assert_str_eq(output_field(object, "TRIMTAB_POOL"), "shop");
}

static void expect(const char *key, const char *value)
{
	cr_assert_str_eq(output_field(object, key), value, "%s is %s", key,
			 output_field(object, key));
}

static void expect_message(const char *text)
{
	expect("MESSAGE", text);
	json_object_put(object);
}

Test(journal, pool)
{
	journal_pool("ready", "The pool %s serves", "shop");
	take("pool", "6");
	expect("TRIMTAB_STATE", "ready");
	expect_message("The pool shop serves");
}

Test(journal, hazard)
{
	journal_hazard(42, "threads", "Threads do not exist in workers",
		       "poller, writer");
	take("hazard", "4");
	expect("TRIMTAB_PID", "42");
	expect("TRIMTAB_STATE", "threads");
	expect("TRIMTAB_NAMES", "poller, writer");
	expect_message("Threads do not exist in workers: poller, writer");
}

Test(journal, limits)
{
	journal_limits(&(struct journal_limits){ 4, 128 << 20, 96 << 20, 640 << 20 });
	take("pool", "6");
	expect("TRIMTAB_STATE", "limits");
	expect("TRIMTAB_WORKERS", "4");
	expect("TRIMTAB_WORKER_MAX_BYTES", "134217728");
	expect("TRIMTAB_TRIM_AT_BYTES", "100663296");
	expect("TRIMTAB_BUDGET_BYTES", "671088640");
	expect_message(
		"4 workers of at most 128.0 MiB each, trimmed from 96.0 MiB on; budget "
		"640.0 MiB");
}

Test(journal, start)
{
	journal_worker_started(3, 4711, "worker-3", "first start");
	take("start", "6");
	expect("TRIMTAB_WORKER", "3");
	expect("TRIMTAB_PID", "4711");
	expect("TRIMTAB_LEAF", "worker-3");
	expect("TRIMTAB_REASON", "first start");
	expect_message("Worker 3 started as pid 4711: first start");
}

Test(journal, start_without_a_leaf)
{
	journal_worker_started(3, 4711, NULL, "first start");
	take("start", "6");
	expect("TRIMTAB_LEAF", "(none)");
	json_object_put(object);
}

Test(journal, ready)
{
	journal_worker_ready(3, 4711, 1500 * USEC_PER_MSEC, 20 << 20);
	take("ready", "6");
	expect("TRIMTAB_USEC", "1500000");
	expect("TRIMTAB_USAGE_BYTES", "20971520");
	expect_message("Worker 3 (pid 4711) is ready after 1.5 s, using 20.0 MiB");
}

Test(journal, exit)
{
	journal_worker_exited(&(struct journal_exit){
		.worker = 3,
		.pid = 4711,
		.cause = "oom-worker",
		.sentence = "was killed",
		.status = 9,
		.age_usec = 3 * USEC_PER_HOUR,
		.usage_bytes = UINT64_MAX - 1,
		.n_oom = 1,
		.n_oom_kill = 2,
		.n_max = 3,
	});
	take("exit", "3");
	expect("TRIMTAB_CAUSE", "oom-worker");
	expect("TRIMTAB_REASON", "was killed");
	expect("TRIMTAB_STATUS", "9");
	expect("TRIMTAB_USEC", "10800000000");
	expect("TRIMTAB_USAGE_BYTES", "18446744073709551614");
	expect("TRIMTAB_OOM", "1");
	expect("TRIMTAB_OOM_KILL", "2");
	expect("TRIMTAB_MAX", "3");
	expect_message("Worker 3 (pid 4711) was killed, at the age of 3 h 0 min");
}

Test(journal, an_expected_exit_is_no_error)
{
	journal_worker_exited(&(struct journal_exit){
		.worker = 1, .cause = "asked", .sentence = "ended", .expected = true });
	take("exit", "6");
	json_object_put(object);
}

Test(journal, black_box)
{
	journal_black_box(&(struct journal_black_box){
		.worker = 3,
		.pid = 4711,
		.reason = "reload",
		.alive = true,
		.age_usec = 3 * USEC_PER_HOUR,
		.n_requests = 1234,
		.usage_bytes = 100 << 20,
		.limit_bytes = 200 << 20,
		.tripwire_bytes = UINT64_MAX,
		.rss_bytes = 120 << 20,
		.pss_bytes = 110 << 20,
		.private_bytes = 90 << 20,
		.file_bytes = 4096,
		.peak_bytes = 150 << 20,
		.n_crossings = 7,
		.stalled_ago_usec = 5,
		.n_trims = 2,
		.trim_ago_usec = 10 * USEC_PER_MIN,
		.trim_before_bytes = 130 << 20,
		.trim_after_bytes = 90 << 20,
	});
	take("black-box", "6");
	expect("TRIMTAB_STATE", "restart");
	expect("TRIMTAB_REASON", "reload");
	expect("TRIMTAB_USEC", "10800000000");
	expect("TRIMTAB_USAGE_BYTES", "104857600");
	expect("TRIMTAB_LIMIT_BYTES", "209715200");
	expect("TRIMTAB_TRIPWIRE_BYTES", "(none)");
	expect("TRIMTAB_RSS_BYTES", "125829120");
	expect("TRIMTAB_PSS_BYTES", "115343360");
	expect("TRIMTAB_PRIVATE_BYTES", "94371840");
	expect("TRIMTAB_FILE_BYTES", "4096");
	expect("TRIMTAB_PEAK_BYTES", "157286400");
	expect("TRIMTAB_CROSSINGS", "7");
	expect("TRIMTAB_REQUESTS", "1234");
	expect("TRIMTAB_STALLED_AGO_USEC", "5");
	expect("TRIMTAB_TRIMS", "2");
	expect("TRIMTAB_TRIM_AGO_USEC", "600000000");
	expect("TRIMTAB_BEFORE_BYTES", "136314880");
	expect("TRIMTAB_AFTER_BYTES", "94371840");
	expect_message(
		"Worker 3 (pid 4711) before its restart, 3 h 0 min old: 100.0 MiB of "
		"200.0 MiB, 120.0 MiB resident, 90.0 MiB private; 2 trims, the last "
		"10 min ago: 130.0 MiB -> 90.0 MiB; reload");
}

Test(journal, black_box_of_the_dead)
{
	journal_black_box(&(struct journal_black_box){
		.worker = 1,
		.pid = 7,
		.reason = "oom-worker",
		.age_usec = USEC_PER_SEC,
		.n_requests = UINT64_MAX,
		.usage_bytes = 1 << 20,
		.limit_bytes = UINT64_MAX,
		.peak_bytes = UINT64_MAX,
		.stalled_ago_usec = USEC_NEVER,
		.trim_ago_usec = USEC_NEVER,
	});
	take("black-box", "6");
	expect("TRIMTAB_STATE", "death");
	expect("TRIMTAB_RSS_BYTES", "(none)");
	expect("TRIMTAB_PEAK_BYTES", "(none)");
	expect("TRIMTAB_LIMIT_BYTES", "(none)");
	expect("TRIMTAB_STALLED_AGO_USEC", "(none)");
	expect("TRIMTAB_BEFORE_BYTES", "(none)");
	expect("TRIMTAB_REQUESTS", "(none)");
	expect_message(
		"Worker 1 (pid 7) as last seen, 1.0 s old: 1.0 MiB of no limit; never "
		"trimmed; oom-worker");
}

Test(journal, black_box_after_a_quarantine)
{
	journal_black_box(&(struct journal_black_box){
		.worker = 1,
		.pid = 7,
		.reason = "its time is over",
		.alive = true,
		.kept = true,
		.age_usec = USEC_PER_SEC,
		.n_requests = UINT64_MAX,
		.usage_bytes = 1 << 20,
		.limit_bytes = UINT64_MAX,
		.stalled_ago_usec = USEC_NEVER,
		.trim_ago_usec = USEC_NEVER,
	});
	take("black-box", "6");
	expect("TRIMTAB_STATE", "quarantine");
	expect_message(
		"Worker 1 (pid 7) at the end of its quarantine, 1.0 s old: 1.0 MiB of no "
		"limit; never trimmed; its time is over");
}

Test(journal, quarantine_begun)
{
	journal_quarantine(&(struct journal_quarantine){
		.state = QUARANTINE_BEGUN,
		.worker = 3,
		.pid = 4711,
		.successor = 4712,
		.usec = 10 * USEC_PER_MIN,
		.drained = true,
		.usage_bytes = 100 << 20,
	});
	take("quarantine", "5");
	expect("TRIMTAB_STATE", "begun");
	expect("TRIMTAB_WORKER", "3");
	expect("TRIMTAB_PID", "4711");
	expect("TRIMTAB_REASON", "(none)");
	expect("TRIMTAB_USEC", "600000000");
	expect("TRIMTAB_USAGE_BYTES", "104857600");
	expect("TRIMTAB_DRAINED", "1");
	expect_message(
		"Worker 3 (pid 4711) is in quarantine for 10 min, pid 4712 serves in its "
		"place: gdb -p 4711");
}

Test(journal, quarantine_of_one_that_hangs)
{
	journal_quarantine(&(struct journal_quarantine){
		.state = QUARANTINE_BEGUN,
		.worker = 3,
		.pid = 4711,
		.usec = 10 * USEC_PER_MIN,
	});
	take("quarantine", "5");
	expect("TRIMTAB_DRAINED", "0");
	expect_message(
		"Worker 3 (pid 4711) is in quarantine for 10 min, with requests that it "
		"has not finished: gdb -p 4711");
}

Test(journal, quarantine_ended)
{
	journal_quarantine(&(struct journal_quarantine){
		.state = QUARANTINE_ENDED,
		.worker = 3,
		.pid = 4711,
		.reason = "the pool stops",
		.usec = 90 * USEC_PER_SEC,
	});
	take("quarantine", "5");
	expect("TRIMTAB_STATE", "ended");
	expect("TRIMTAB_REASON", "the pool stops");
	expect("TRIMTAB_USEC", "90000000");
	expect_message(
		"The quarantine of worker 3 (pid 4711) ends after 90.0 s: the pool "
		"stops");
}

Test(journal, quarantine_refused)
{
	journal_quarantine(&(struct journal_quarantine){
		.state = QUARANTINE_REFUSED,
		.worker = 3,
		.pid = 4711,
		.reason = "the pool stops",
	});
	take("quarantine", "4");
	expect("TRIMTAB_STATE", "refused");
	expect("TRIMTAB_USEC", "(none)");
	expect_message("Worker 3 (pid 4711) does not go into quarantine: the pool stops");
}

Test(journal, trim)
{
	journal_worker_trimmed(&(struct journal_trim){
		.worker = 3,
		.pid = 4711,
		.reason = "asked by an operator",
		.before_bytes = 200 << 20,
		.after_bytes = 50 << 20,
		.limit_bytes = 512 << 20,
		.took_usec = 9000,
		.worked_usec = 8000,
		.allocator = "glibc",
		.verified = true,
	});
	take("trim", "6");
	expect("TRIMTAB_BEFORE_BYTES", "209715200");
	expect("TRIMTAB_AFTER_BYTES", "52428800");
	expect("TRIMTAB_LIMIT_BYTES", "536870912");
	expect("TRIMTAB_USEC", "9000");
	expect("TRIMTAB_WORKED_USEC", "8000");
	expect("TRIMTAB_ALLOCATOR", "glibc");
	expect("TRIMTAB_VERIFIED", "1");
	expect_message("Worker 3 (pid 4711) trimmed: 200.0 MiB -> 50.0 MiB in 8.00 ms; "
		       "asked by an "
		       "operator");
}

Test(journal, a_trim_without_an_answer)
{
	journal_trim_lost(3, 4711, 10 * USEC_PER_SEC);
	take("trim", "4");
	expect("TRIMTAB_REASON", "no answer");
	expect("TRIMTAB_USEC", "10000000");
	expect("TRIMTAB_AFTER_BYTES", "(none)");
	json_object_put(object);
}

static const struct journal_plan plan = {
	.worker = 3,
	.pid = 4711,
	.reason = "forecast to reach its limit",
	.in_usec = 90 * USEC_PER_SEC,
	.usage_bytes = 1 << 30,
	.limit_bytes = UINT64_MAX,
	.rate_bytes_per_sec = -5,
	.gap_usec = USEC_PER_HOUR,
};

Test(journal, a_plan)
{
	journal_restart_planned(&plan);
	take("plan", "6");
	expect("TRIMTAB_WORKER", "3");
	expect("TRIMTAB_PID", "4711");
	expect("TRIMTAB_REASON", "forecast to reach its limit");
	expect("TRIMTAB_IN_USEC", "90000000");
	expect("TRIMTAB_USAGE_BYTES", "1073741824");
	expect("TRIMTAB_LIMIT_BYTES", "18446744073709551615");
	expect("TRIMTAB_RATE_BYTES_PER_SEC", "-5");
	expect("TRIMTAB_GAP_USEC", "3600000000");
	expect_message("Worker 3 (pid 4711) is to be replaced in 90.0 s: forecast to "
		       "reach its limit");
}

Test(journal, a_restart)
{
	journal_restart_begun(&plan, "surge");
	take("restart", "6");
	expect("TRIMTAB_HOW", "surge");
	expect("TRIMTAB_RATE_BYTES_PER_SEC", "-5");
	expect_message("Worker 3 (pid 4711) is being replaced, the new one first: "
		       "forecast to reach "
		       "its limit");
}

Test(journal, a_retirement)
{
	journal_restart_begun(&plan, "retire");
	take("restart", "6");
	expect("TRIMTAB_HOW", "retire");
	expect_message("Worker 3 (pid 4711) goes for good: forecast to reach its limit");
}

Test(journal, a_hold)
{
	journal_hold(&plan, true, 120 * USEC_PER_SEC - 1);
	take("hold", "5");
	expect("TRIMTAB_HELD", "1");
	expect("TRIMTAB_AT_MOST_USEC", "119999999");
	expect("TRIMTAB_USAGE_BYTES", "1073741824");
	expect_message(
		"Worker 3 (pid 4711) uses 1024.0 MiB of no limit and is slowed until its "
		"turn comes, for at most 120.0 s");
}

Test(journal, the_end_of_a_hold)
{
	journal_hold(&plan, false, 5300000);
	take("hold", "5");
	expect("TRIMTAB_HELD", "0");
	expect("TRIMTAB_USEC", "5300000");
	expect("TRIMTAB_AT_MOST_USEC", "(none)");
	expect_message(
		"Worker 3 (pid 4711) is no longer slowed, after 5.3 s: forecast to reach "
		"its limit");
}

Test(journal, a_decision)
{
	journal_decision(&(struct journal_decision){
		.worker = 3,
		.pid = 4711,
		.action = "tripwire",
		.reason = "set at the next mark",
		.bytes = 256 << 20,
		.usage_bytes = 200 << 20,
		.limit_bytes = 512 << 20,
		.rate_bytes_per_sec = 1000,
		.deadline_in_usec = 5 * USEC_PER_SEC,
		.gap_usec = USEC_PER_HOUR,
	});
	take("decision", "7");
	expect("TRIMTAB_ACTION", "tripwire");
	expect("TRIMTAB_REASON", "set at the next mark");
	expect("TRIMTAB_BYTES", "268435456");
	expect("TRIMTAB_USAGE_BYTES", "209715200");
	expect("TRIMTAB_LIMIT_BYTES", "536870912");
	expect("TRIMTAB_RATE_BYTES_PER_SEC", "1000");
	expect("TRIMTAB_DEADLINE_IN_USEC", "5000000");
	expect("TRIMTAB_GAP_USEC", "3600000000");
	expect_message("Worker 3: tripwire 256.0 MiB: set at the next mark");
}

Test(journal, a_decision_without_figures)
{
	journal_decision(&(struct journal_decision){ .worker = 3,
						     .action = "start",
						     .reason = "first start",
						     .deadline_in_usec = USEC_NEVER });
	take("decision", "7");
	expect("TRIMTAB_DEADLINE_IN_USEC", "(none)");
	expect("TRIMTAB_GAP_USEC", "(none)");
	expect_message("Worker 3: start: first start");
}

Test(journal, pressure_of_a_worker)
{
	journal_pressure("worker", 3, 250000, 1234);
	take("pressure", "5");
	expect("TRIMTAB_SCOPE", "worker");
	expect("TRIMTAB_WORKER", "3");
	expect("TRIMTAB_USEC", "250000");
	expect("TRIMTAB_SOME_AVG10_PERMYRIAD", "1234");
	json_object_put(object);
}

Test(journal, pressure_of_the_host)
{
	journal_pressure("host", 0, 250000, 1234);
	take("pressure", "5");
	expect("TRIMTAB_WORKER", "(none)");
	expect_message("The host waits for memory: 250 ms stalled since the last report");
}

Test(journal, a_capability_that_is_missed)
{
	journal_capability("memory", false, true, "no controller", "boot so");
	take("capability", "5");
	expect("TRIMTAB_CAPABILITY", "memory");
	expect("TRIMTAB_FOUND", "0");
	expect("TRIMTAB_REASON", "no controller");
	expect_message("memory: no; no controller; remedy: boot so");
}

Test(journal, a_capability_that_is_there)
{
	journal_capability("memory", true, true, NULL, NULL);
	take("capability", "7");
	expect("TRIMTAB_FOUND", "1");
	expect_message("memory: yes");
}

Test(journal, a_configuration_refused)
{
	journal_config(false, "shop.ini:3: 100% wrong");
	take("config", "3");
	expect("TRIMTAB_ACCEPTED", "0");
	expect_message("shop.ini:3: 100% wrong");
}

Test(journal, what_is_not_feasible)
{
	journal_infeasible(&(struct journal_infeasible){
		.what = "footprint",
		.text = "shop.ini:3: too little",
		.grave = true,
		.would_do = 120 << 20,
		.workers = 4,
		.limit_bytes = 100 << 20,
		.budget_bytes = 400 << 20,
		.footprint_bytes = 99 << 20,
		.gap_usec = USEC_PER_HOUR,
		.life_usec = USEC_PER_MIN,
	});
	take("infeasible", "3");
	expect("TRIMTAB_WHAT", "footprint");
	expect("TRIMTAB_REASON", "shop.ini:3: too little");
	expect("TRIMTAB_WOULD_DO", "125829120");
	expect("TRIMTAB_WORKERS", "4");
	expect("TRIMTAB_LIMIT_BYTES", "104857600");
	expect("TRIMTAB_BUDGET_BYTES", "419430400");
	expect("TRIMTAB_FOOTPRINT_BYTES", "103809024");
	expect("TRIMTAB_GAP_USEC", "3600000000");
	expect("TRIMTAB_LIFE_USEC", "60000000");
	expect_message("Not feasible: shop.ini:3: too little");
}

Test(journal, what_is_not_feasible_but_harmless)
{
	journal_infeasible(&(struct journal_infeasible){
		.what = "gap", .text = "x", .life_usec = USEC_NEVER });
	take("infeasible", "4");
	expect("TRIMTAB_FOOTPRINT_BYTES", "(none)");
	expect("TRIMTAB_LIFE_USEC", "(none)");
	json_object_put(object);
}

Test(journal, a_problem)
{
	journal_problem(3, -ENOENT, "Cannot %s", "go on");
	take("problem", "4");
	expect("TRIMTAB_WORKER", "3");
	expect("ERRNO", "2");
	expect_message("Cannot go on: No such file or directory");
}

Test(journal, a_problem_of_no_worker_and_no_errno)
{
	journal_problem(0, 0, "Odd");
	take("problem", "4");
	expect("TRIMTAB_WORKER", "(none)");
	expect("ERRNO", "(none)");
	expect_message("Odd");
}

/* A negative number that is no errno has no text: it must not be fatal. */
Test(journal, a_problem_with_an_error_nobody_knows)
{
	journal_problem(0, -99999, "Odd");
	take("problem", "4");
	expect("ERRNO", "99999");
	json_object_put(object);
}
