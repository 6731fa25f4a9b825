/* Splitting and joining command lines, against a table and against each other. */
#include "config/words.h"

#include <criterion/criterion.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static void expect_words(const char *text, const char *const *want)
{
	char **words = NULL;
	size_t n = 0, i;

	cr_assert_eq(config_split_words(text, &words, &n), 0, "<%s>", text);
	for (i = 0; want[i]; i++) {
		cr_assert_lt(i, n, "<%s> has only %zu words", text, n);
		cr_expect_str_eq(words[i], want[i], "<%s> word %zu is <%s>", text, i,
				 words[i]);
	}
	cr_expect_eq(n, i, "<%s> has %zu words", text, n);
	cr_expect_null(words[n]);
	config_free_words(words);
}

#define WORDS(...) ((const char *const[]){ __VA_ARGS__ __VA_OPT__(, ) NULL })

Test(words, split_as_a_shell_would)
{
	expect_words("", WORDS());
	expect_words("  \t ", WORDS());
	expect_words("a", WORDS("a"));
	expect_words("  a   b\tc ", WORDS("a", "b", "c"));
	expect_words("'a b' c", WORDS("a b", "c"));
	expect_words("\"a b\" c", WORDS("a b", "c"));
	expect_words("a'b 'c", WORDS("ab c"));
	expect_words("''", WORDS(""));
	expect_words("\"\" '' x", WORDS("", "", "x"));
	expect_words("a\\ b", WORDS("a b"));
	expect_words("\\'a", WORDS("'a"));
	expect_words("'\\'", WORDS("\\"));
	expect_words("'it'\\''s'", WORDS("it's"));
	expect_words("\"say \\\"hi\\\"\"", WORDS("say \"hi\""));
	expect_words("\"a\\nb\"", WORDS("a\\nb"));
	expect_words("\"a\\\\b\"", WORDS("a\\b"));
	expect_words("\"\\$HOME\"", WORDS("$HOME"));
	expect_words("\"it's\" '\"'", WORDS("it's", "\""));
	expect_words("-k gthread --threads 4 shop.wsgi:app",
		     WORDS("-k", "gthread", "--threads", "4", "shop.wsgi:app"));
	expect_words("shop:create_app('prod')", WORDS("shop:create_app(prod)"));
	expect_words("\"shop:create_app('prod')\"", WORDS("shop:create_app('prod')"));
}

Test(words, nothing_is_expanded)
{
	expect_words(
		"$HOME ~ *.py a|b >x `id` $(id) ; & #",
		WORDS("$HOME", "~", "*.py", "a|b", ">x", "`id`", "$(id)", ";", "&", "#"));
}

Test(words, unfinished_ones_are_refused)
{
	char **words = (char **)0x1;
	size_t n = 4711;

	cr_expect_eq(config_split_words("'a", &words, &n), WORDS_OPEN_QUOTE);
	cr_expect_eq(config_split_words("a \"b c", &words, &n), WORDS_OPEN_QUOTE);
	cr_expect_eq(config_split_words("\"a\\", &words, &n), WORDS_OPEN_QUOTE);
	cr_expect_eq(config_split_words("a b\\", &words, &n), WORDS_OPEN_BACKSLASH);
	cr_expect_eq(config_split_words("'", &words, &n), WORDS_OPEN_QUOTE);
	cr_expect_eq(words, (char **)0x1);
	cr_expect_eq(n, 4711);
}

Test(words, the_shortest_words_fit_the_block)
{
	char text[1001];
	char **words;
	size_t n;

	for (size_t i = 0; i < 1000; i++)
		text[i] = i % 2 ? ' ' : 'x';
	text[999] = 'y';
	text[1000] = '\0';
	cr_assert_eq(config_split_words(text, &words, &n), 0);
	cr_expect_eq(n, 500);
	cr_expect_str_eq(words[499], "xy");
	config_free_words(words);
}

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* Whatever the words, joining and splitting gives them back. */
Test(words, joining_is_undone_by_splitting)
{
	static const char letters[] = " \t\n'\"\\$`;#=ab-/:.%(){}*?~|&<>!\xc3\xbc";
	uint64_t state = 20240229;

	for (unsigned round = 0; round < 20000; round++) {
		char text[6][12];
		const char *words[6];
		size_t n = next_random(&state) % 7, back_n;
		char *joined, **back;

		for (size_t i = 0; i < n; i++) {
			size_t length = next_random(&state) % 11;

			for (size_t j = 0; j < length; j++)
				text[i][j] = letters[next_random(&state) %
						     (sizeof(letters) - 1)];
			text[i][length] = '\0';
			words[i] = text[i];
		}
		cr_assert_eq(config_join_words(words, n, &joined), 0);
		cr_assert_eq(config_split_words(joined, &back, &back_n), 0, "<%s>",
			     joined);
		cr_assert_eq(back_n, n, "<%s>", joined);
		for (size_t i = 0; i < n; i++)
			cr_assert_str_eq(back[i], words[i], "<%s>", joined);
		config_free_words(back);
		free(joined);
	}
}

Test(words, plain_words_stay_readable)
{
	const char *const words[] = { "-k",	  "gthread", "--bind=[::1]:80",
				      "shop:app", "",	     "it's" };
	char *text;

	cr_assert_eq(config_join_words(words, 6, &text), 0);
	cr_expect_str_eq(text, "-k gthread '--bind=[::1]:80' shop:app '' 'it'\\''s'");
	free(text);
}
