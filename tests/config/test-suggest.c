/* What was meant by what was typed. */
#include "config/suggest.h"

#include <criterion/criterion.h>
#include <stdint.h>
#include <string.h>

Test(suggest, distances)
{
	cr_expect_eq(suggest_distance("", ""), 0);
	cr_expect_eq(suggest_distance("", "abc"), 3);
	cr_expect_eq(suggest_distance("abc", ""), 3);
	cr_expect_eq(suggest_distance("workers", "workers"), 0);
	cr_expect_eq(suggest_distance("wokers", "workers"), 1);
	cr_expect_eq(suggest_distance("wrokers", "workers"), 1); /* neighbours swapped */
	cr_expect_eq(suggest_distance("worker", "workers"), 1);
	cr_expect_eq(suggest_distance("kitten", "sitting"), 3);
	cr_expect_eq(suggest_distance("MIN_GAP", "min-gap"), 0);
	cr_expect_eq(suggest_distance("ca", "abc"), 3);
}

Test(suggest, distance_has_no_direction_and_obeys_its_bounds)
{
	static const char *const words[] = { "",	"a",
					     "min-gap", "min-gap-floor",
					     "spread",	"worker-max",
					     "gap-min", "xyzzy" };

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		for (size_t j = 0; j < sizeof(words) / sizeof(words[0]); j++) {
			size_t a = strlen(words[i]), b = strlen(words[j]);
			size_t d = suggest_distance(words[i], words[j]);

			cr_expect_eq(d, suggest_distance(words[j], words[i]));
			cr_expect_geq(d, a > b ? a - b : b - a);
			cr_expect_leq(d, a > b ? a : b);
			cr_expect_eq(d == 0, i == j);
		}
	}
}

Test(suggest, long_words_are_far_from_everything)
{
	char word[200];

	memset(word, 'a', sizeof(word));
	word[63] = '\0';
	cr_expect_eq(suggest_distance(word, word), 0);
	cr_expect_eq(suggest_distance("", word), 63);
	word[63] = 'a';
	word[64] = '\0';
	cr_expect_eq(suggest_distance(word, word), SIZE_MAX);
	word[64] = 'a';
	word[199] = '\0';
	cr_expect_eq(suggest_distance("a", word), SIZE_MAX);
}

Test(suggest, only_what_is_near)
{
	static const char *const words[] = { "auto", "always", "never", NULL };

	cr_expect_str_eq(suggest_word("allways", words), "always");
	cr_expect_str_eq(suggest_word("Auto", words), "auto");
	cr_expect_str_eq(suggest_word("nevr", words), "never");
	cr_expect_null(suggest_word("sometimes", words));
	cr_expect_null(suggest_word("", words));
	cr_expect_null(suggest_word("x", words));
}
