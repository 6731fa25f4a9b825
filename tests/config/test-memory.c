/* Every allocation may fail, one after the other: the answer is -ENOMEM with its line of text, and
 * nothing leaks (the sanitizers watch). The linker sends the calls of the library here: --wrap. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "config/config.h"
#include "config/words.h"

static unsigned n_left; /* allocations that succeed; 0: the next fails */
static bool failing;

static bool refuse(void)
{
	return failing && n_left-- == 0;
}

void *__real_malloc(size_t n);
void *__wrap_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__wrap_realloc(void *p, size_t n);
char *__real_strdup(const char *s);
char *__wrap_strdup(const char *s);
char *__real_strndup(const char *s, size_t n);
char *__wrap_strndup(const char *s, size_t n);
int __wrap_asprintf(char **ret, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

void *__wrap_malloc(size_t n)
{
	return refuse() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
	return refuse() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t n)
{
	return refuse() ? NULL : __real_realloc(p, n);
}

char *__wrap_strdup(const char *s)
{
	return refuse() ? NULL : __real_strdup(s);
}

char *__wrap_strndup(const char *s, size_t n)
{
	return refuse() ? NULL : __real_strndup(s, n);
}

int __wrap_asprintf(char **ret, const char *format, ...)
{
	va_list args;
	int r;

	if (refuse())
		return -1;
	va_start(args, format);
	r = vasprintf(ret, format, args);
	va_end(args);
	return r;
}

static int fill(struct config *c, struct config_error *err)
{
	static const char text[] = "[pool]\nbind = :80\nenv = A=b\ngunicorn = a:app\n"
				   "python = /opt/python\n[restart]\nmin-gap = 10s\n";
	int r = config_load_text(c, "shop.ini", text, strlen(text), err);

	if (r == 0)
		r = config_set(c, "pool.bind=:81", err);
	if (r == 0)
		r = config_set(c, "pool.chdir=/srv", err);
	if (r == 0)
		r = config_validate(c, err);
	return r;
}

static int run(struct config_error *err)
{
	auto_config struct config *c = NULL;
	int r = config_new(&c);

	if (r == 0)
		return fill(c, err);
	strcpy(err->text, "Out of memory"); /* config_new() has nowhere to say it */
	return r;
}

Test(memory, any_allocation_may_fail)
{
	struct config_error err = { "" };
	int r = -ENOMEM;
	unsigned n = 0;

	for (; r != 0; n++) {
		err.text[0] = '\0';
		n_left = n;
		failing = true;
		r = run(&err);
		failing = false;
		cr_assert(r == 0 || r == -ENOMEM, "allocation %u: %d %s", n, r, err.text);
		cr_assert(r == 0 || strcmp(err.text, "Out of memory") == 0,
			  "allocation %u: %s", n, err.text);
	}
	cr_expect_gt(n, 40, "only %u allocations: are they ours?", n);
}

Test(memory, words_need_some_too)
{
	const char *const words[] = { "a" };
	char **split = NULL, *joined = NULL;
	size_t n;

	n_left = 0;
	failing = true;
	cr_expect_eq(config_split_words("a", &split, &n), -ENOMEM);
	n_left = 0;
	cr_expect_eq(config_join_words(words, 1, &joined), -ENOMEM);
	failing = false;
	cr_expect_null(split);
	cr_expect_null(joined);
}
