/* Every parser against what kernels print, what they do not, and what users can put between. */
#include "kernel/parse.h"

#include <errno.h>

#include "fixture.h"

Test(parse, numbers)
{
	static const struct {
		const char *text;
		int r;
		uint64_t value;
	} cases[] = {
		{ "0", 0, 0 },
		{ "123\n", 0, 123 },
		{ "18446744073709551615\n", 0, UINT64_MAX },
		{ "18446744073709551616\n", -ERANGE, 7 },
		{ "99999999999999999999999\n", -ERANGE, 7 },
		{ "max\n", 0, UINT64_MAX },
		{ "max", 0, UINT64_MAX },
		{ "maximum\n", -EINVAL, 7 },
		{ "", -EINVAL, 7 },
		{ "\n", -EINVAL, 7 },
		{ "-1\n", -EINVAL, 7 },
		{ "+1\n", -EINVAL, 7 },
		{ " 1\n", -EINVAL, 7 },
		{ "1 \n", -EINVAL, 7 },
		{ "0x10\n", -EINVAL, 7 },
		{ "1.5\n", -EINVAL, 7 },
	};

	for (size_t i = 0; i < ELEMENTS(cases); i++) {
		uint64_t value = 7;

		cr_expect_eq(parse_u64(cases[i].text, &value), cases[i].r, "'%s'",
			     cases[i].text);
		cr_expect_eq(value, cases[i].value, "'%s'", cases[i].text);
	}
}

Test(parse, a_key_is_a_whole_word)
{
	const char *text = "oom 1\noom_kill 2\noom_group_kill 3\nlast 4";
	uint64_t value = 7;

	cr_assert_eq(parse_keyed_u64(text, "oom", &value), 0);
	cr_assert_eq(value, 1);
	cr_assert_eq(parse_keyed_u64(text, "oom_kill", &value), 0);
	cr_assert_eq(value, 2);
	cr_assert_eq(parse_keyed_u64(text, "last", &value), 0);
	cr_assert_eq(value, 4);
	cr_assert_eq(parse_keyed_u64(text, "oom_", &value), -ENOENT);
	cr_assert_eq(parse_keyed_u64(text, "kill", &value), -ENOENT);
	cr_assert_eq(parse_keyed_u64("", "oom", &value), -ENOENT);
	cr_assert_eq(value, 4, "a failed look-up must leave the value alone");
}

Test(parse, a_keyed_value_is_a_number)
{
	uint64_t value = 7;

	cr_assert_eq(parse_keyed_u64("oom x\n", "oom", &value), -EINVAL);
	cr_assert_eq(parse_keyed_u64("oom \n", "oom", &value), -EINVAL);
	cr_assert_eq(parse_keyed_u64("oom 1x\n", "oom", &value), -EINVAL);
	cr_assert_eq(parse_keyed_u64("oom 1 2\n", "oom", &value), -EINVAL);
	cr_assert_eq(parse_keyed_u64("oom 18446744073709551616\n", "oom", &value),
		     -ERANGE);
	cr_assert_eq(value, 7);
}

Test(parse, kilobytes_become_bytes)
{
	uint64_t value = 7;

	cr_assert_eq(parse_keyed_u64("Rss:                1380 kB\n", "Rss:", &value), 0);
	cr_assert_eq(value, 1380 * 1024);
	cr_assert_eq(
		parse_keyed_u64("HugePages_Total:       3\n", "HugePages_Total:", &value),
		0);
	cr_assert_eq(value, 3);
	cr_assert_eq(parse_keyed_u64("Rss: 18446744073709551615 kB\n", "Rss:", &value),
		     -ERANGE);
	cr_assert_eq(parse_keyed_u64("Rss: 1 kBytes\n", "Rss:", &value), -EINVAL);
}

Test(parse, fields_in_any_order_and_number)
{
	uint64_t a = 100, b = 200, c = 300;
	const struct parse_field fields[] = { { "a", &a }, { "b", &b }, { "c", &c } };

	cr_assert_eq(parse_fields("new 9\nb 2\nnot-a-number x\na 1\n", fields, 3), 0);
	cr_assert_eq(a, 1);
	cr_assert_eq(b, 2);
	cr_assert_eq(c, 300, "a missing key keeps its value");
	cr_assert_eq(parse_fields("", fields, 3), 0);
	cr_assert_eq(parse_fields("a 5\nb x\n", fields, 3), -EINVAL);
}

Test(parse, words_of_a_list)
{
	cr_assert(parse_list_has("cpu io memory\n", "memory"));
	cr_assert(parse_list_has("memory", "memory"));
	cr_assert(parse_list_has("cpuset cpu\n", "cpu"));
	cr_assert_not(parse_list_has("cpuset\n", "cpu"));
	cr_assert_not(parse_list_has("cpu\n", "cpuset"));
	cr_assert_not(parse_list_has("\n", "cpu"));
	cr_assert_not(parse_list_has("", "cpu"));
	cr_assert_not(parse_list_has("cpu\n", ""));

	cr_assert(parse_options_have("rw,memory", "memory"));
	cr_assert(parse_options_have("memory\n", "memory"));
	cr_assert(parse_options_have("cpu,memory:/x", "memory"));
	cr_assert_not(parse_options_have("name=memory", "memory"));
	cr_assert_not(parse_options_have("cpu:/,memory", "memory"));
	cr_assert_not(parse_options_have("", "memory"));
}

Test(parse, controllers_of_a_kernel)
{
	uint64_t hierarchy = 7;
	bool enabled = false;

	cr_assert_eq(
		parse_controller("memory\t4\t15\t1\n", "memory", &hierarchy, &enabled),
		0);
	cr_assert_eq(hierarchy, 4);
	cr_assert(enabled);
	cr_assert_eq(parse_controller("memory\t0\t1\t0", "memory", &hierarchy, &enabled),
		     0);
	cr_assert_eq(hierarchy, 0);
	cr_assert_not(enabled);
	cr_assert_eq(parse_controller("#subsys_name\thierarchy\tnum_cgroups\tenabled",
				      "memory", &hierarchy, &enabled),
		     -ENOENT);
	cr_assert_eq(parse_controller("memory\t4\t15\n", "memory", &hierarchy, &enabled),
		     -EINVAL);
	cr_assert_eq(
		parse_controller("memory\t4\t15\t1x", "memory", &hierarchy, &enabled),
		-EINVAL);
}

static void expect_cgroup(const char *text, const char *expected)
{
	const char *start = NULL;
	size_t length = 0;
	int r = parse_cgroup_line(text, &start, &length);

	if (!expected) {
		cr_expect_eq(r, -ENOENT, "'%s'", text);
		return;
	}
	cr_expect_eq(r, 0, "'%s'", text);
	cr_expect(length == strlen(expected) && strncmp(start, expected, length) == 0,
		  "'%s' gave '%.*s'", text, (int)length, start);
}

Test(parse, the_version_2_line_of_a_process)
{
	expect_cgroup("0::/\n", "/");
	expect_cgroup("0::/a/b", "/a/b");
	expect_cgroup("9:name=systemd:/x\n4:memory:/y\n0::/a b\n", "/a b");
	expect_cgroup("0::/gone (deleted)\n", "/gone");
	expect_cgroup("0::/../x (deleted)\n", "/../x");
	expect_cgroup("0::/x (deleted) y\n", "/x (deleted) y");
	expect_cgroup("4:memory:/0::/y\n", NULL);
	expect_cgroup("10::/y\n", NULL);
	expect_cgroup("0::\n", NULL);
	expect_cgroup("0:", NULL);
	expect_cgroup("", NULL);
}

Test(parse, the_version_2_line_of_samples)
{
	static const char *const samples[][2] = {
		{ "proc/cgroup-hybrid", "/" },
		{ "proc/cgroup-unified", "/system.slice/shop.service" },
		{ "proc/cgroup-container-host-ns", "/kubepods.slice/pod1/c1" },
		{ "proc/cgroup-container-own-ns", "/../other" },
	};

	for (size_t i = 0; i < ELEMENTS(samples); i++) {
		auto_free char *text = fixture_text(samples[i][0]);

		expect_cgroup(text, samples[i][1]);
	}
}

static void expect_cgroup1(const char *text, const char *controller, const char *expected)
{
	const char *start = NULL;
	size_t length = 0;
	int r = parse_cgroup1_line(text, controller, &start, &length);

	cr_expect_eq(r, expected ? 0 : -ENOENT, "'%s'", text);
	if (r == 0)
		cr_expect(length == strlen(expected) &&
				  strncmp(start, expected, length) == 0,
			  "'%s' gave '%.*s'", text, (int)length, start);
}

Test(parse, the_version_1_line_of_a_controller)
{
	auto_free char *hybrid = fixture_text("proc/cgroup-hybrid");

	expect_cgroup1(hybrid, "memory", "/jobs/a");
	expect_cgroup1(hybrid, "cpu", "/");
	expect_cgroup1("3:cpu,cpuacct:/x\n", "cpuacct", "/x");
	expect_cgroup1("0::/memory\n", "memory", NULL);
	expect_cgroup1("1:name=memory:/x\n", "memory", NULL);
	expect_cgroup1("1:cpu:/a:memory:/x\n", "memory", NULL);
	expect_cgroup1("1:memory\n:/x\n", "memory", NULL);
	expect_cgroup1("memory", "memory", NULL);
	expect_cgroup1("", "memory", NULL);
}

Test(parse, permyriad)
{
	uint32_t value = 7;

	cr_assert_eq(parse_permyriad("12.34", &value), 0);
	cr_assert_eq(value, 1234);
	cr_assert_eq(parse_permyriad("0.07 avg60=", &value), 0);
	cr_assert_eq(value, 7);
	cr_assert_eq(parse_permyriad("100.00\n", &value), 0);
	cr_assert_eq(value, 10000);
	cr_assert_eq(parse_permyriad("1", &value), -EINVAL);
	cr_assert_eq(parse_permyriad("1.", &value), -EINVAL);
	cr_assert_eq(parse_permyriad("1.2", &value), -EINVAL);
	cr_assert_eq(parse_permyriad("1.234", &value), -EINVAL);
	cr_assert_eq(parse_permyriad(".50", &value), -EINVAL);
	cr_assert_eq(parse_permyriad("99999999999.00", &value), -EINVAL);
	cr_assert_eq(value, 10000);
}

Test(parse, pressure_of_several_kernels)
{
	auto_free char *memory = fixture_text("proc/pressure-6.1-memory");
	auto_free char *cpu = fixture_text("proc/pressure-5.10-cpu");
	auto_free char *irq = fixture_text("proc/pressure-6.18-irq");
	uint32_t avg = 7;
	uint64_t total = 7;

	cr_assert_eq(parse_pressure(memory, "some", &avg, &total), 0);
	cr_assert_eq(avg, 10000);
	cr_assert_eq(total, 123456);
	cr_assert_eq(parse_pressure(memory, "full", &avg, &total), 0);
	cr_assert_eq(avg, 75);
	cr_assert_eq(total, 65432);

	cr_assert_eq(parse_pressure(cpu, "some", &avg, &total), 0);
	cr_assert_eq(total, 1234);
	cr_assert_eq(parse_pressure(cpu, "full", &avg, &total), -ENOENT);

	cr_assert_eq(parse_pressure(irq, "some", &avg, &total), -ENOENT);
	cr_assert_eq(parse_pressure(irq, "full", &avg, &total), 0);
	cr_assert_eq(avg, 321);
	cr_assert_eq(total, UINT64_MAX);
}

Test(parse, pressure_that_no_kernel_prints)
{
	uint32_t avg = 7;
	uint64_t total = 7;

	cr_assert_eq(parse_pressure("some\n", "some", &avg, &total), -ENOENT);
	cr_assert_eq(parse_pressure("some avg10=0.00\ntotal=5\n", "some", &avg, &total),
		     -EINVAL);
	cr_assert_eq(parse_pressure("some total=5\n", "some", &avg, &total), -EINVAL);
	cr_assert_eq(parse_pressure("some avg10=x total=5\n", "some", &avg, &total),
		     -EINVAL);
	cr_assert_eq(parse_pressure("some avg10=0.00 total=5x\n", "some", &avg, &total),
		     -EINVAL);
	cr_assert_eq(parse_pressure("some avg10=0.00 total=18446744073709551616\n",
				    "some", &avg, &total),
		     -ERANGE);
	cr_assert_eq(avg, 7);
	cr_assert_eq(total, 7);
}

/* Follows a process's cgroup through a mount table, as cgroup_open_own() does; -1 when no mount
 * shows it. */
static int locate(const char *mounts, const char *own, char *path, size_t size)
{
	auto_free char *text = fixture_text(mounts);
	struct parse_mount mount;
	char *rest = text, *line;

	while ((line = strsep(&rest, "\n"))) {
		const char *below;

		if (parse_mount_line(line, &mount) < 0 ||
		    strcmp(mount.type, "cgroup2") != 0)
			continue;
		below = parse_path_below(own, mount.root);
		if (below)
			return snprintf(path, size, "%s%s", mount.point, below);
	}
	return -1;
}

Test(parse, our_place_in_a_mount_table)
{
	static const struct {
		const char *mounts, *own, *path;
	} cases[] = {
		{ "proc/mountinfo-hybrid", "/", "/sys/fs/cgroup/unified" },
		{ "proc/mountinfo-hybrid", "/a", "/sys/fs/cgroup/unified/a" },
		{ "proc/mountinfo-unified", "/system.slice/shop.service",
		  "/sys/fs/cgroup/system.slice/shop.service" },
		{ "proc/mountinfo-container-host-ns", "/kubepods.slice/pod1/c1",
		  "/sys/fs/cgroup" },
		{ "proc/mountinfo-container-host-ns", "/kubepods.slice/pod1/c1/w",
		  "/sys/fs/cgroup/w" },
		{ "proc/mountinfo-container-host-ns", "/kubepods.slice/pod1/c11", NULL },
		{ "proc/mountinfo-container-host-ns", "/../x", NULL },
		{ "proc/mountinfo-container-own-ns", "/../other", "/host-cgroup/other" },
		{ "proc/mountinfo-container-own-ns", "/", "/sys/fs/cgroup" },
	};

	for (size_t i = 0; i < ELEMENTS(cases); i++) {
		char path[256] = "";
		int r = locate(cases[i].mounts, cases[i].own, path, sizeof(path));

		if (cases[i].path)
			cr_expect_str_eq(path, cases[i].path, "%s: %s gave %s",
					 cases[i].mounts, cases[i].own, path);
		else
			cr_expect_eq(r, -1, "%s: %s gave %s", cases[i].mounts,
				     cases[i].own, path);
	}
}

Test(parse, a_mount_line_with_tags_and_escapes)
{
	char line[] = "90 28 0:26 /a\\040b\\134 /srv/x\\011y\\012 rw shared:1 master:2 - "
		      "cgroup2 none rw";
	struct parse_mount mount;

	cr_assert_eq(parse_mount_line(line, &mount), 0);
	cr_assert_str_eq(mount.root, "/a b\\");
	cr_assert_str_eq(mount.point, "/srv/x\ty\n");
	cr_assert_str_eq(mount.type, "cgroup2");
	cr_assert_str_eq(mount.options, "rw");
}

Test(parse, a_mount_line_cut_short)
{
	static const char whole[] = "90 28 0:26 / /x rw shared:1 - cgroup2";
	struct parse_mount mount;

	/* Only the last five cuts leave a (shortened) type behind the dash. */
	for (size_t length = 0; length < sizeof(whole); length++) {
		char line[sizeof(whole)] = "";

		memcpy(line, whole, length);
		cr_expect_eq(parse_mount_line(line, &mount) == 0,
			     length > strlen("90 28 0:26 / /x rw shared:1 - "), "'%s'",
			     line);
	}
}

Test(parse, below_means_whole_components)
{
	cr_assert_str_eq(parse_path_below("/a/b", "/a"), "/b");
	cr_assert_str_eq(parse_path_below("/a/b", "/"), "/a/b");
	cr_assert_str_eq(parse_path_below("/a", "/a"), "");
	cr_assert_str_eq(parse_path_below("/", "/"), "");
	cr_assert_null(parse_path_below("/ab", "/a"));
	cr_assert_null(parse_path_below("/a", "/a/b"));
	cr_assert_null(parse_path_below("/../x", "/a"));
	cr_assert_str_eq(parse_path_below("/../x", "/.."), "/x");
}

Test(parse, statm)
{
	uint64_t resident = 7, shared = 7;

	cr_assert_eq(parse_statm("653 345 321 5 0 90 0\n", &resident, &shared), 0);
	cr_assert_eq(resident, 345);
	cr_assert_eq(shared, 321);
	cr_assert_eq(parse_statm("653 345\n", &resident, &shared), -EINVAL);
	cr_assert_eq(parse_statm("653 345 x\n", &resident, &shared), -EINVAL);
	cr_assert_eq(parse_statm("", &resident, &shared), -EINVAL);
}

Test(parse, start_time_behind_any_command)
{
	static const char tail[] =
		" S 1 0 0 0 -1 4194304 160 0 4 0 3 0 0 0 20 0 1 0 282 2674688";
	static const char *const commands[] = {
		"(sh)",	 "(a b)", "(a) S 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9 (b)",
		"())))", "(\n)",
	};

	for (size_t i = 0; i < ELEMENTS(commands); i++) {
		char text[256];
		uint64_t ticks = 7;

		(void)snprintf(text, sizeof(text), "712 %s%s", commands[i], tail);
		cr_expect_eq(parse_start_ticks(text, &ticks), 0, "'%s'", text);
		cr_expect_eq(ticks, 282, "'%s'", text);
	}

	uint64_t ticks = 7;
	cr_assert_eq(parse_start_ticks("712 (sh) S 1 0 0", &ticks), -EINVAL);
	cr_assert_eq(parse_start_ticks("712", &ticks), -EINVAL);
	cr_assert_eq(parse_start_ticks("", &ticks), -EINVAL);
	cr_assert_eq(ticks, 7);
}

Test(parse, forked_only)
{
	bool only = false;

	cr_assert_eq(parse_forked_only("7 (a) b) R 1 2 3 4 5 4194368 0", &only), 0);
	cr_expect(only);
	cr_assert_eq(parse_forked_only("7 (a) R 1 2 3 4 5 4194304 0", &only), 0);
	cr_expect_not(only);
	cr_assert_eq(parse_forked_only("7 (a) R 1 2 3 4 5", &only), -EINVAL);
}

Test(parse, cpu_ticks)
{
	uint64_t ticks = 7;

	cr_assert_eq(parse_cpu_ticks("7 (a) b) R 1 2 3 4 5 6 7 8 9 10 40 2 0", &ticks),
		     0);
	cr_assert_eq(ticks, 42);
	cr_assert_eq(parse_cpu_ticks("7 (a) R 1 2 3 4 5 6 7 8 9 10 40", &ticks), -EINVAL);
	cr_assert_eq(
		parse_cpu_ticks("7 (a) R 1 2 3 4 5 6 7 8 9 10 18446744073709551615 1 ",
				&ticks),
		-ERANGE);
	cr_assert_eq(ticks, 42);
}

Test(parse, signal_masks)
{
	auto_free char *status = fixture_text("proc/status");
	uint64_t mask = 7;

	cr_assert_eq(parse_signal_mask(status, "SigCgt", &mask), 0);
	cr_assert_eq(mask, 0x180000802);
	cr_assert_eq(parse_signal_mask(status, "SigIgn", &mask), 0);
	cr_assert_eq(mask, 0x1001000);
	cr_assert_eq(parse_signal_mask(status, "Sig", &mask), -ENOENT);
	cr_assert_eq(parse_signal_mask("SigCgt:\tffffffffffffffff", "SigCgt", &mask), 0);
	cr_assert_eq(mask, UINT64_MAX);
	cr_assert_eq(parse_signal_mask("SigCgt:\t10000000000000000", "SigCgt", &mask),
		     -EINVAL);
	cr_assert_eq(parse_signal_mask("SigCgt:\t\n", "SigCgt", &mask), -EINVAL);
	cr_assert_eq(parse_signal_mask("SigCgt:\t0g\n", "SigCgt", &mask), -EINVAL);
}
