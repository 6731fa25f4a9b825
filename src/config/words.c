/* Splitting and joining of command lines.
 *
 * Must never expand anything: what looks like a variable, a pattern or a pipe is an ordinary
 * character, so a configuration file cannot run more than the program it names. */
#include "config/words.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "util/cleanup.h"

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\n';
}

/* Copies one word from *text to *to, unquoted and terminated, and moves both on. */
static int take_word(const char **text, char **to)
{
	const char *p = *text;
	char *out = *to;
	char quote = '\0';

	for (; *p && (quote || !is_blank(*p)); p++) {
		if (!quote && (*p == '\'' || *p == '"')) {
			quote = *p;
		} else if (quote && *p == quote) {
			quote = '\0';
		} else if (*p == '\\' && quote != '\'') {
			if (!p[1])
				return quote ? WORDS_OPEN_QUOTE : WORDS_OPEN_BACKSLASH;
			/* In double quotes a shell keeps a backslash that escapes nothing. */
			if (quote && !strchr("\"\\$`", p[1]))
				*out++ = *p;
			*out++ = *++p;
		} else {
			*out++ = *p;
		}
	}
	if (quote)
		return WORDS_OPEN_QUOTE;
	*out++ = '\0';
	*text = p;
	*to = out;
	return 0;
}

/* One block: the pointers, then the words. A word ends with a blank or with the text, so no more
 * than half of the characters (rounded up) begin one, and the words with their terminators are
 * never longer than the text with its own. */
int config_split_words(const char *text, char ***ret_words, size_t *ret_n)
{
	size_t length = strlen(text), max_words = length / 2 + 2;
	auto_free char **words = malloc(max_words * sizeof(char *) + length + 1);
	size_t n = 0;

	if (!words)
		return -ENOMEM;

	char *out = (char *)(words + max_words);

	for (;;) {
		while (is_blank(*text))
			text++;
		if (!*text)
			break;
		words[n++] = out;

		int r = take_word(&text, &out);
		if (r != 0)
			return r;
	}
	words[n] = NULL;
	*ret_words = TAKE(words);
	*ret_n = n;
	return 0;
}

static bool is_bare(const char *word)
{
	static const char bare[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				   "0123456789%+,-./:=@_";

	return *word && !word[strspn(word, bare)];
}

/* In single quotes, with each ' as '\'' the way a shell needs it too. */
static char *put_quoted(char *out, const char *word)
{
	*out++ = '\'';
	for (; *word; word++) {
		if (*word == '\'')
			out = stpcpy(out, "'\\''");
		else
			*out++ = *word;
	}
	*out++ = '\'';
	return out;
}

int config_join_words(const char *const *words, size_t n, char **ret_text)
{
	size_t size = 1;

	for (size_t i = 0; i < n; i++)
		size += 4 * strlen(words[i]) + 3;

	char *text = malloc(size), *out = text;

	if (!text)
		return -ENOMEM;
	*out = '\0';
	for (size_t i = 0; i < n; i++) {
		if (i > 0)
			*out++ = ' ';
		out = is_bare(words[i]) ? stpcpy(out, words[i])
					: put_quoted(out, words[i]);
		*out = '\0';
	}
	*ret_text = text;
	return 0;
}

void config_free_words(char **words)
{
	free(words);
}
