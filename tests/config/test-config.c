/* Defaults, --set, rules that span keys, messages. */
#include "config/config.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "config/option.h"

static struct config *c;
static struct config_error err;

static void setup(void)
{
	cr_assert_eq(config_new(&c), 0);
}

static void teardown(void)
{
	config_free(c);
}

TestSuite(config, .init = setup, .fini = teardown);

static void load(const char *text)
{
	cr_assert_eq(config_load_text(c, "shop.ini", text, strlen(text), &err), 0, "%s",
		     err.text);
}

static void set(const char *assignment)
{
	cr_assert_eq(config_set(c, assignment, &err), 0, "%s", err.text);
}

static void expect_set_refused(const char *assignment, const char *message)
{
	cr_expect_eq(config_set(c, assignment, &err), CONFIG_BAD, "<%s> was taken",
		     assignment);
	cr_expect_str_eq(err.text, message, "<%s> said\n%s\nnot\n%s", assignment,
			 err.text, message);
}

static void expect_valid(void)
{
	cr_expect_eq(config_validate(c, &err), 0, "%s", err.text);
}

static void expect_invalid(const char *message)
{
	cr_expect_eq(config_validate(c, &err), CONFIG_BAD);
	cr_expect_str_eq(err.text, message, "said\n%s\nnot\n%s", err.text, message);
}

/* ---- defaults ---- */

/* Each row of options.def is whole: its default parses, lies within its range, and has a help. */
Test(config, every_default_is_a_value_of_its_kind)
{
	for (size_t i = 0; i < N_KEYS; i++) {
		const struct config_option *o = &config_options[i];
		const char *name = o->identifier;
		size_t n = strlen(o->help);
		char field[64] __attribute__((aligned(16))) = { 0 };

		cr_expect(n > 10 && o->help[n - 1] == '.', "%s: no sentence", name);
		cr_expect_leq(o->spec.min, o->spec.max, "%s", name);
		cr_expect_null(c->where[i]);
		if (value_is_list(o->spec.kind)) {
			cr_expect_str_empty(o->default_text, "%s", name);
			continue;
		}
		cr_expect_eq(value_parse(&o->spec, o->default_text, field), VALUE_OK,
			     "%s", name);
		if (value_is_string(o->spec.kind))
			free(*(char **)field);
	}
}

Test(config, defaults_are_those_of_the_manual)
{
	cr_expect_null(c->pool_name);
	cr_expect_eq(c->pool_workers, 0);
	cr_expect_eq(c->pool_backlog, 2048);
	cr_expect_eq(c->pool_preload, CONFIG_PRELOAD_SERVER);
	cr_expect(config_is(c->pool_python, "auto"));
	cr_expect_eq(c->pool_socket_mode, 0666);
	cr_expect_eq(c->pool_bind.n, 0);
	cr_expect_eq(c->memory_budget.kind, SIZE_AUTO);
	cr_expect(c->memory_trim_at.kind == SIZE_PERMYRIAD &&
		  c->memory_trim_at.value == 7000);
	cr_expect_eq(c->memory_spread, 1000);
	cr_expect_eq(c->restart_min_gap, USEC_PER_HOUR);
	cr_expect_eq(c->restart_min_gap_floor, 30 * USEC_PER_SEC);
	cr_expect_eq(c->restart_max_lifetime, 0);
	cr_expect_eq(c->restart_watchdog, CONFIG_TIME_AUTO);
	cr_expect_eq(c->restart_abort_grace, 2 * USEC_PER_SEC);
	cr_expect_null(c->restart_on_recycle);
	cr_expect_eq(c->restart_on_recycle_timeout, 10 * USEC_PER_SEC);
	cr_expect_eq(c->restart_quarantine, 10 * USEC_PER_MIN);
	cr_expect_eq(c->restart_hold_max, 2 * USEC_PER_MIN);
	cr_expect_eq(c->restart_surge, CONFIG_SURGE_AUTO);
	cr_expect_eq(c->trim_mode, CONFIG_TRIM_PRESSURE);
	cr_expect_eq(c->trim_signal, SIGUSR2);
	cr_expect_eq(c->trim_wake, CONFIG_WAKE_SIGNAL);
	cr_expect_eq(c->trim_min_yield, 2 << 20);
	cr_expect(!c->trim_gc);
	cr_expect_eq(c->trim_pymalloc, CONFIG_PYMALLOC_AUTO);
	cr_expect_eq(c->trim_max_pause, 0);
	cr_expect_eq(c->pressure_some.stall_usec, 200 * USEC_PER_MSEC);
	cr_expect_eq(c->pressure_some.window_usec, 2 * USEC_PER_SEC);
	cr_expect(c->pressure_tell_workers);
	cr_expect_eq(c->log_level, CONFIG_LOG_LEVEL_INFO);
	cr_expect_eq(c->cgroup_use, CONFIG_CGROUP_AUTO);
}

/* Of each kind that is compared in a way of its own. */
Test(config, same_values_whatever_they_come_from)
{
	struct config *other;

	cr_assert_eq(config_new(&other), 0);
	for (unsigned i = 0; i < N_KEYS; i++)
		cr_expect(config_same(c, other, (enum config_key)i));
	set("restart.min-gap=60m"); /* the default is 1h */
	cr_expect(config_same(c, other, KEY_restart_min_gap));
	set("restart.min-gap=61m");
	cr_expect_not(config_same(c, other, KEY_restart_min_gap));
	set("pool.bind=:1");
	cr_expect_not(config_same(c, other, KEY_pool_bind));
	cr_assert_eq(config_set(other, "pool.bind=:2", &err), 0);
	cr_expect_not(config_same(c, other, KEY_pool_bind));
	set("pool.chdir=/");
	cr_expect_not(config_same(c, other, KEY_pool_chdir));
	cr_assert_eq(config_set(other, "pool.chdir=/", &err), 0);
	cr_expect(config_same(c, other, KEY_pool_chdir));
	set("log.level=debug");
	cr_expect_not(config_same(c, other, KEY_log_level));
	config_free(other);
}

Test(config, keys_are_spelled_with_dashes)
{
	cr_expect_str_eq(config_key_name(KEY_restart_min_gap_floor).text,
			 "restart.min-gap-floor");
	cr_expect_str_eq(config_key_name(KEY_pool_workers).text, "pool.workers");
}

/* ---- single values ---- */

Test(config, set_wins_over_the_file_and_the_last_one_wins)
{
	load("[pool]\nworkers = 2\n");
	set("pool.workers=3");
	set("pool.workers = 4 ");
	cr_expect_eq(c->pool_workers, 4);
	cr_expect_str_eq(c->where[KEY_pool_workers], "--set");
}

Test(config, set_adds_to_a_list)
{
	load("[pool]\nbind = :80\n");
	set("pool.bind=:81");
	cr_assert_eq(c->pool_bind.n, 2);
	cr_expect_str_eq(c->pool_bind.items[1], ":81");
	cr_expect_str_eq(c->pool_bind.where[0], "shop.ini:2");
	cr_expect_str_eq(c->pool_bind.where[1], "--set");
	set("pool.bind=");
	cr_expect_eq(c->pool_bind.n, 0);
	set("pool.bind=:82");
	cr_expect_eq(c->pool_bind.n, 1);
}

Test(config, an_empty_string_is_the_default_again)
{
	load("[pool]\ngunicorn = a:app\npython = /opt/python\n");
	set("pool.gunicorn=");
	set("pool.python=");
	cr_expect_null(c->pool_gunicorn);
	cr_expect_str_eq(c->pool_python, "auto");
}

Test(config, set_takes_any_value_as_it_stands)
{
	set("pool.gunicorn=-b :80 ; # a=b 'x y'");
	cr_expect_str_eq(c->pool_gunicorn, "-b :80 ; # a=b 'x y'");
	set("pool.env=A=b=c");
	cr_expect_str_eq(c->pool_env.items[0], "A=b=c");
}

Test(config, set_refuses)
{
	expect_set_refused("", "--set: : cannot be read; allowed: SECTION.KEY=VALUE");
	expect_set_refused(
		"workers=3",
		"--set: workers=3: cannot be read; allowed: SECTION.KEY=VALUE");
	expect_set_refused(
		"pool.workers",
		"--set: pool.workers: cannot be read; allowed: SECTION.KEY=VALUE");
	expect_set_refused(
		"workers=1.5",
		"--set: workers=1.5: cannot be read; allowed: SECTION.KEY=VALUE");
	expect_set_refused("pol.workers=3",
			   "--set: [pol]: unknown section; did you mean [pool]?");
	expect_set_refused("pool.worker=3",
			   "--set: [pool] worker = 3: unknown key; did you "
			   "mean workers?");
	expect_set_refused(
		"pool.workers=x",
		"--set: [pool] workers = x: cannot be read; allowed: auto, or a "
		"whole number from 1 to 4096");
	expect_set_refused("pool.env=A=b\nc",
			   "--set: [pool] env = A=b?c: contains a control character; "
			   "allowed: NAME=VALUE");
}

Test(config, what_is_refused_changes_nothing)
{
	load("[pool]\nworkers = 2\nname = shop\nbind = :80\n");
	cr_expect_eq(config_set(c, "pool.workers=x", &err), CONFIG_BAD);
	cr_expect_eq(config_set(c, "pool.name=a b", &err), CONFIG_BAD);
	cr_expect_eq(config_set(c, "pool.env=x", &err), CONFIG_BAD);
	cr_expect_eq(c->pool_workers, 2);
	cr_expect_str_eq(c->where[KEY_pool_workers], "shop.ini:2");
	cr_expect_str_eq(c->pool_name, "shop");
	cr_expect_eq(c->pool_env.n, 0);
	cr_expect_null(c->where[KEY_pool_env]);
}

Test(config, set_value_names_its_origin)
{
	cr_assert_eq(config_set_value(c, KEY_pool_workers, "8", "-w", &err), 0);
	cr_expect_str_eq(c->where[KEY_pool_workers], "-w");
	cr_expect_eq(config_set_value(c, KEY_pool_workers, "x", "-w", &err), CONFIG_BAD);
	cr_expect_str_eq(err.text,
			 "-w: [pool] workers = x: cannot be read; allowed: auto, or "
			 "a whole number from 1 to 4096");
}

/* ---- rules that span keys ---- */

Test(config, the_pool_is_named_after_the_file)
{
	set("pool.command=./worker");
	expect_valid();
	cr_expect_str_eq(c->pool_name, "trimtab");
	cr_expect_str_eq(c->where[KEY_pool_name], "default");
}

Test(config, a_name_wins_over_the_file)
{
	load("[pool]\nname = blue\ncommand = ./worker\n");
	expect_valid();
	cr_expect_str_eq(c->pool_name, "blue");
}

Test(config, a_file_whose_name_will_not_do)
{
	cr_assert_eq(config_load_text(c, "/etc/trimtab/my shop.ini", "", 0, &err), 0);
	set("pool.command=./worker");
	expect_invalid(
		"/etc/trimtab/my shop.ini: [pool] name = my shop: the name of the file "
		"cannot be that of the pool; set name; allowed: at most 48 of the "
		"characters A-Z a-z 0-9 _ . - with no dot or dash first");
	set("pool.name=shop");
	expect_valid();
}

Test(config, a_file_that_is_all_suffix_or_none)
{
	cr_assert_eq(config_load_text(c, "/etc/.ini", "", 0, &err), 0);
	set("pool.command=./worker");
	cr_expect_eq(config_validate(c, &err), CONFIG_BAD);
	cr_assert_eq(config_load_text(c, "/srv/shop", "", 0, &err), 0);
	expect_valid();
	cr_expect_str_eq(c->pool_name, "shop");
}

Test(config, one_program)
{
	expect_invalid("trimtab: [pool]: nothing to run; set gunicorn (its arguments) or "
		       "command (a program), or name one on the command line");
	load("[pool]\ngunicorn = a:app\ncommand = ./worker\n");
	expect_invalid(
		"shop.ini:3: [pool] command = ./worker: gunicorn is set as well, at "
		"shop.ini:2; allowed: one of the two; remove one");
	set("pool.gunicorn=");
	expect_valid();
	set("pool.command=");
	expect_invalid(
		"shop.ini: [pool]: nothing to run; set gunicorn (its arguments) or "
		"command (a program), or name one on the command line");
}

Test(config, a_floor_above_the_gap)
{
	load("[pool]\ncommand = ./worker\n[restart]\nmin-gap = 10s\nmin-gap-floor = "
	     "20s\n");
	expect_invalid(
		"shop.ini:5: [restart] min-gap-floor = 20s: is longer than min-gap "
		"(shop.ini:4), which it is the lower end of");
}

Test(config, a_default_floor_gives_way)
{
	load("[pool]\ncommand = ./worker\n[restart]\nmin-gap = 10s\n");
	expect_valid();
	cr_expect_eq(c->restart_min_gap_floor, 10 * USEC_PER_SEC);
	cr_expect_str_eq(c->where[KEY_restart_min_gap_floor], "shop.ini:4");
}

Test(config, ready_before_it_is_killed)
{
	load("[pool]\ncommand = ./worker\n[restart]\nready-after = 60s\n");
	expect_invalid(
		"shop.ini:4: [restart] ready-after = 1m: ready-after must be shorter "
		"than boot-timeout, or every program that never says READY=1 is killed "
		"before it counts as ready");
	set("restart.ready-after=1s");
	set("restart.boot-timeout=500ms");
	cr_expect_eq(config_validate(c, &err), CONFIG_BAD);
	cr_expect_not_null(strstr(err.text, "--set: [restart] ready-after = 1s: "));
}

Test(config, parts_within_the_whole)
{
	load("[pool]\ncommand = ./worker\n[memory]\nbudget = 1G\nworker-max = 2G\n");
	expect_invalid("shop.ini:5: [memory] worker-max = 2G: is more than budget = 1G "
		       "(shop.ini:4)");
	set("memory.worker-max=1G");
	expect_valid();
	set("memory.reserve=1025M");
	cr_expect_eq(config_validate(c, &err), CONFIG_BAD);
	set("memory.reserve=50%");
	set("memory.trim-at=1025M");
	expect_invalid("--set: [memory] trim-at = 1025M: is more than worker-max = 1G "
		       "(--set)");
	set("memory.worker-max=auto");
	cr_expect_eq(config_validate(c, &err), CONFIG_BAD);
	set("memory.trim-at=100%");
	expect_valid();
}

Test(config, trims_without_a_library)
{
	set("pool.command=./worker");
	set("trim.preload-library=off");
	expect_valid();
	set("trim.mode=periodic");
	expect_invalid("--set: [trim] mode = periodic: nothing can be trimmed while "
		       "preload-library is off (--set)");
	set("trim.mode=off");
	expect_valid();
}

/* ---- messages ---- */

Test(config, blame_names_file_line_and_value)
{
	load("[pool]\nbind = :80\n\nbind = nonsense\n");
	cr_expect_eq(config_blame(c, KEY_pool_bind, 1, &err, "no %s", "port"),
		     CONFIG_BAD);
	cr_expect_str_eq(err.text, "shop.ini:4: [pool] bind = nonsense: no port");
	cr_expect_eq(config_blame(c, KEY_pool_bind, 0, &err, "taken"), CONFIG_BAD);
	cr_expect_str_eq(err.text, "shop.ini:2: [pool] bind = :80: taken");
	cr_expect_eq(config_blame(c, KEY_pool_bind, 9, &err, "gone"), CONFIG_BAD);
	cr_expect_str_eq(err.text, "shop.ini:4: [pool] bind: gone");
	cr_expect_eq(config_blame(c, KEY_pool_python, 0, &err, "not found"), CONFIG_BAD);
	cr_expect_str_eq(err.text, "default: [pool] python = auto: not found");
	cr_expect_eq(config_blame(c, KEY_memory_trim_at, 0, &err, "odd"), CONFIG_BAD);
	cr_expect_str_eq(err.text, "default: [memory] trim-at = 70%: odd");
}

Test(config, freeing_nothing)
{
	config_free(NULL);
}
