/* Of src/preload/page.c and self.c: what is believed of a text. */
#include <criterion/criterion.h>
#include <unistd.h>

#include "preload/page.h"
#include "preload/self.h"

Test(page, name_is_three_numbers)
{
	struct page_name name;

	cr_assert(page_parse_name("5:77:00000000deadBEEF", &name));
	cr_assert_eq(name.fd, 5);
	cr_assert_eq(name.pid, 77);
	cr_assert_eq(name.cookie, 0xdeadbeef);
}

Test(page, name_is_nothing_else)
{
	static const char *const wrong[] = {
		"",
		"5",
		"5:77",
		"5:77:",
		"5:77:deadbeef",
		"5:77:00000000deadbeef0",
		"5:77:00000000deadbeef ",
		" 5:77:00000000deadbeef",
		"5:0:00000000deadbeef",
		"-5:77:00000000deadbeef",
		"5:-77:00000000deadbeef",
		"5:4294967296:00000000deadbeef",
		"99999999999999999999999:77:00000000deadbeef",
		"5:77:0x000000deadbeef",
	};
	struct page_name name = { .fd = -7 };

	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
		cr_expect_not(page_parse_name(wrong[i], &name), "took \"%s\"", wrong[i]);
	cr_assert_eq(name.fd, -7, "written although refused");
}

Test(self, stat_fields_are_found_behind_any_name)
{
	uint64_t value = 0;

	cr_assert(self_parse_stat("12 (a b) S) R 9 8 7", 4, &value));
	cr_assert_eq(value, 9);
	cr_assert_not(self_parse_stat("12 (a) R 9", 22, &value));
	cr_assert_not(self_parse_stat("12 (a", 4, &value));
	cr_assert_not(self_parse_stat("", 4, &value));
}

Test(self, statm_second_number_is_resident)
{
	uint64_t pages = 0;

	cr_assert(self_parse_statm_resident("1000 42 7 1 0 9 0\n", &pages));
	cr_assert_eq(pages, 42);
	cr_assert_not(self_parse_statm_resident("1000", &pages));
	cr_assert_not(self_parse_statm_resident("1000 x", &pages));
}

Test(self, blocked_signals_are_a_hex_mask)
{
	uint64_t mask = 0;

	cr_assert(self_parse_blocked("Name:\tx\nSigBlk:\t0000000000000a00\nSigIgn:\t0\n",
				     &mask));
	cr_assert_eq(mask, 0xa00);
	cr_assert_not(self_parse_blocked("Name:\tx\n", &mask));
}

Test(self, numbers_do_not_overflow)
{
	const char *text = "18446744073709551615";
	uint64_t value = 0;

	cr_assert(self_parse_number(&text, 10, &value));
	cr_assert_eq(value, UINT64_MAX);
	text = "18446744073709551616";
	cr_assert_not(self_parse_number(&text, 10, &value));
	text = "x";
	cr_assert_not(self_parse_number(&text, 10, &value));
}

Test(self, this_process_is_known)
{
	cr_assert_gt(self_rss_bytes(), 100 * 1024);
	cr_assert_gt(self_start_ticks(), 0);
	cr_assert_eq(self_start_ticks(), self_start_ticks());
	cr_assert_not(self_main_ended(1));
	cr_assert_not(self_main_blocks(12));
}
