/* Of the built library itself: what it needs and what it shows. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *library;
static char text[65536];

/* Runs a command on the library and keeps what it printed. */
static void run(const char *format)
{
	char command[4096];
	size_t length;
	FILE *f;

	library = getenv("TRIMTAB_PRELOAD_LIBRARY");
	cr_assert_not_null(library);
	(void)snprintf(command, sizeof command, format, library);
	f = popen(command, "re");
	cr_assert_not_null(f);
	length = fread(text, 1, sizeof text - 1, f);
	text[length] = '\0';
	cr_assert_eq(pclose(f), 0, "%s", command);
}

Test(object, shows_one_symbol)
{
	run("nm -D --defined-only '%s' | cut -d ' ' -f 3");
	cr_assert_str_eq(text, "trimtab_preload_adopt\n");
}

Test(object, needs_nothing_but_libc)
{
	run("LC_ALL=C readelf -d '%s' | grep NEEDED | sed 's/.*\\[//; s/\\]//'");
	cr_assert_str_eq(text, "libc.so.6\n");
}

/* What only glibc has is looked up at run time: a name that a libc lacks would stop every
 * program that inherits LD_PRELOAD. */
Test(object, names_nothing_that_only_glibc_has)
{
	static const char *const names[] = {
		"__register_atfork", "dladdr1",	 "malloc_trim",
		"mallinfo",	     "__isoc23", "_chk@",
		"fcntl64",	     "gnu_get_", "pthread_atfork",
	};

	run("nm -D '%s'");
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		cr_expect_null(strstr(text, names[i]), "%s", names[i]);
}

Test(object, is_small)
{
	run("LC_ALL=C size '%s' | awk 'NR == 2 { print $4 }'");
	cr_assert_lt(strtoul(text, NULL, 10), 64 * 1024, "%s bytes", text);
}

Test(object, runs_under_musl)
{
	if (TRIMTAB_GUEST_MUSL[0] == '\0')
		cr_skip_test("musl-gcc is not installed");
	run("LD_PRELOAD='%s' " TRIMTAB_GUEST_MUSL " </dev/null");
	cr_assert_str_empty(text);
}
