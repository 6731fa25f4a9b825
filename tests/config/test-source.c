/* Lines of a file: comments, continuation, numbers, and nothing cut. */
#include "config/source.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static struct source *source;

static void setup(void)
{
	source = malloc(sizeof(*source));
}

static void teardown(void)
{
	free(source);
}

TestSuite(source, .init = setup, .fini = teardown);

static void begin(const char *text)
{
	source_init(source, text, strlen(text));
}

static void expect_line(unsigned number, const char *line)
{
	cr_assert_eq(source_next(source), SOURCE_LINE, "line %u", number);
	cr_expect_eq(source->number, number, "<%s> is line %u, not %u", source->line,
		     source->number, number);
	cr_expect_str_eq(source->line, line, "line %u is <%s>, not <%s>", number,
			 source->line, line);
}

static void expect_end(void)
{
	cr_expect_eq(source_next(source), 0);
	cr_expect_eq(source_next(source), 0);
}

Test(source, ends_and_marks)
{
	begin("");
	expect_end();
	begin("\xef\xbb\xbf");
	expect_end();
	begin("\xef\xbb\xbf[pool]\r\na = b\r\n\r\nc = d");
	expect_line(1, "[pool]");
	expect_line(2, "a = b");
	expect_line(3, "");
	expect_line(4, "c = d");
	expect_end();
	begin("\n\n a\t\n");
	expect_line(1, "");
	expect_line(2, "");
	expect_line(3, "a");
	expect_end();
}

Test(source, comments)
{
	begin("# one\n  ; two\na = b ; three\na = b;c\na = b # c\na =;b\na = \t; "
	      "x\n#\\\nd\n");
	expect_line(1, "");
	expect_line(2, "");
	expect_line(3, "a = b");
	expect_line(4, "a = b;c");
	expect_line(5, "a = b # c");
	expect_line(6, "a =;b");
	expect_line(7, "a =");
	expect_line(8, "");
	expect_line(9, "d");
	expect_end();
}

Test(source, semicolons_that_are_meant)
{
	begin("a = b \\; c\na = \\;\na = b \\\\; c\na = b\\;c\na = \\x\n");
	expect_line(1, "a = b ; c");
	expect_line(2, "a = ;");
	expect_line(3, "a = b \\; c");
	expect_line(4, "a = b\\;c");
	expect_line(5, "a = \\x");
	expect_end();
}

Test(source, continuation)
{
	begin("a = b \\\n   c\\\n  d\ne\nf \\\n# between\n; too\ng\nh\\\n\ni\nj \\");
	expect_line(1, "a = b c d");
	expect_line(4, "e");
	expect_line(5, "f g");
	expect_line(9, "h");
	expect_line(11, "i");
	expect_line(12, "j");
	expect_end();
}

Test(source, backslashes_that_do_not_continue)
{
	begin("a = b\\\\\nc = d\\ ; comment\ne = f ; comment \\\ng\n");
	expect_line(1, "a = b\\\\");
	expect_line(2, "c = d\\");
	expect_line(3, "e = f");
	expect_line(4, "g");
	expect_end();
}

Test(source, nul_is_refused_where_it_stands)
{
	source_init(source, "a\nb \\\nc\0d\ne", 12);
	expect_line(1, "a");
	cr_expect_eq(source_next(source), SOURCE_NUL);
	cr_expect_eq(source->number, 3);
}

/* A line of the greatest length is whole; one more byte is an error, not a shorter line. */
Test(source, length)
{
	char *text = malloc(2 * SOURCE_LINE_MAX);

	memset(text, 'x', 2 * SOURCE_LINE_MAX);
	text[0] = '\n';
	text[SOURCE_LINE_MAX + 1] = '\n';
	source_init(source, text, SOURCE_LINE_MAX + 2);
	expect_line(1, "");
	cr_assert_eq(source_next(source), SOURCE_LINE);
	cr_expect_eq(strlen(source->line), SOURCE_LINE_MAX);
	expect_end();

	text[SOURCE_LINE_MAX + 1] = 'x';
	text[SOURCE_LINE_MAX + 2] = '\n';
	source_init(source, text, SOURCE_LINE_MAX + 3);
	expect_line(1, "");
	cr_assert_eq(source_next(source), SOURCE_TOO_LONG);
	cr_expect_eq(source->number, 2);

	/* Also when it is made of many. */
	text[SOURCE_LINE_MAX + 2] = 'x';
	for (size_t i = 0; i + 1 < 2 * SOURCE_LINE_MAX; i += 64) {
		text[i] = '\\';
		text[i + 1] = '\n';
	}
	source_init(source, text, 2 * SOURCE_LINE_MAX);
	cr_assert_eq(source_next(source), SOURCE_TOO_LONG);
	cr_expect_eq(source->number, 1);
	free(text);
}
