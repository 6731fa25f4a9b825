/* Edit distance between what was typed and what exists (optimal string alignment). No state,
 * no heap: three rows on the stack, as the words are short. */
#include "config/suggest.h"

#include <stdint.h>
#include <string.h>

#define WORD_MAX 63

static char fold(char c)
{
	if (c >= 'A' && c <= 'Z')
		return (char)(c - 'A' + 'a');
	return c == '_' ? '-' : c;
}

static size_t least(size_t a, size_t b)
{
	return a < b ? a : b;
}

size_t suggest_distance(const char *a, const char *b)
{
	size_t n = strlen(a), m = strlen(b);
	size_t rows[3][WORD_MAX + 1];
	size_t *before = rows[0], *above = rows[1], *row = rows[2];

	if (n > WORD_MAX || m > WORD_MAX)
		return SIZE_MAX;
	for (size_t j = 0; j <= m; j++)
		row[j] = j;
	for (size_t i = 1; i <= n; i++) {
		size_t *free_row = before;

		before = above;
		above = row;
		row = free_row;
		row[0] = i;
		for (size_t j = 1; j <= m; j++) {
			size_t differ = fold(a[i - 1]) != fold(b[j - 1]);

			row[j] = least(above[j - 1] + differ,
				       least(above[j], row[j - 1]) + 1);
			if (i > 1 && j > 1 && fold(a[i - 1]) == fold(b[j - 2]) &&
			    fold(a[i - 2]) == fold(b[j - 1]))
				row[j] = least(row[j], before[j - 2] + 1);
		}
	}
	return row[m];
}

int suggest_is_near(const char *word, size_t distance)
{
	return distance <= strlen(word) / 3 || distance == 1;
}

const char *suggest_word(const char *word, const char *const *words)
{
	const char *nearest = NULL;
	size_t shortest = SIZE_MAX;

	for (; *words; words++) {
		size_t distance = suggest_distance(word, *words);

		if (distance < shortest && suggest_is_near(word, distance)) {
			shortest = distance;
			nearest = *words;
		}
	}
	return nearest;
}
