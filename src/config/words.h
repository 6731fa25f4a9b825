/* Command lines as one string <-> words, with a shell's quoting and nothing else of a shell. */
#pragma once

#include <stddef.h>

/* Outcomes of config_split_words(). */
enum {
	WORDS_OPEN_QUOTE = 1, /* a ' or " is never closed */
	WORDS_OPEN_BACKSLASH, /* ends in a backslash that has nothing to escape */
};

/* Splits at blanks. 'single quotes' keep everything; "double quotes" and bare text know \ as
 * an escape: before any character outside quotes, before " \ $ ` inside. $, *, ~ and the like
 * mean themselves. ret_words: NULL-terminated, free it with config_free_words().
 * 0 (ret_n may be 0), a positive outcome above, or -ENOMEM. */
int config_split_words(const char *text, char ***ret_words, size_t *ret_n);

/* The reverse: quotes where needed, so that splitting gives the same words. 0 or -ENOMEM. */
int config_join_words(const char *const *words, size_t n, char **ret_text);

/* Accepts NULL. */
void config_free_words(char **words);
