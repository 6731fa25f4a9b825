/* The word somebody meant. Pure. */
#pragma once

#include <stddef.h>

/* Insertions, deletions, replacements and swaps of neighbours that turn a into b; case and the
 * difference of - and _ count nothing. Words above 63 characters are infinitely far (SIZE_MAX)
 * from everything. */
size_t suggest_distance(const char *a, const char *b);

/* Whether a distance is small enough for a word of that length to be worth a suggestion. */
int suggest_is_near(const char *word, size_t distance);

/* The nearest of words (ends in NULL; the first of equals), or NULL where none is near. */
const char *suggest_word(const char *word, const char *const *words);
