/* What people read about the options is what the program does. SAMPLE: config/trimtab.ini;
 * MANUAL: man/trimtab.conf.5.scd. */
#include "config/describe.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "config/config.h"
#include "config/option.h"

static char *describe(enum config_format format)
{
	char *text = NULL;
	size_t n = 0;
	FILE *out = open_memstream(&text, &n);

	cr_assert_not_null(out);
	cr_assert_eq(config_describe(out, format), 0);
	fclose(out);
	return text;
}

Test(describe, the_shipped_sample_is_current)
{
	char *want = describe(CONFIG_FORMAT_SAMPLE);
	char *have = calloc(1, 1 << 20);
	FILE *in = fopen(SAMPLE, "re");

	cr_assert_not_null(in, "%s is not there; run `ninja sample`", SAMPLE);
	cr_expect_gt(fread(have, 1, (1 << 20) - 1, in), 0);
	fclose(in);
	cr_expect(strcmp(have, want) == 0,
		  "%s is not what options.def says; run `ninja sample`", SAMPLE);
	free(have);
	free(want);
}

/* As it is, it changes nothing; with every ; removed, it sets every key to its default. */
Test(describe, the_sample_is_a_config)
{
	auto_config struct config *c = NULL, *all = NULL, *defaults = NULL;
	char *text = describe(CONFIG_FORMAT_SAMPLE);
	struct config_error err;

	cr_assert_eq(config_new(&c), 0);
	cr_assert_eq(config_new(&all), 0);
	cr_assert_eq(config_new(&defaults), 0);
	cr_expect_eq(config_load_text(c, "sample", text, strlen(text), &err), 0, "%s",
		     err.text);
	for (char *p = text; p; p = strstr(p, "\n;"))
		if (*p == '\n')
			p[1] = ' ';
	cr_expect_eq(config_load_text(all, "sample", text, strlen(text), &err), 0, "%s",
		     err.text);
	for (size_t i = 0; i < N_KEYS; i++) {
		const struct config_option *o = &config_options[i];
		char a[VALUE_TEXT_MAX], b[VALUE_TEXT_MAX];

		cr_expect_null(c->where[i], "%s", o->identifier);
		cr_expect_not_null(all->where[i], "%s", o->identifier);
		if (value_is_list(o->spec.kind))
			continue;
		cr_expect_str_eq(value_format(&o->spec, option_value(o, all), a),
				 value_format(&o->spec, option_value(o, defaults), b),
				 "%s", o->identifier);
	}
	free(text);
}

/* Longest line, a tab counted as 8. */
static size_t width(const char *text)
{
	size_t longest = 0, column = 0;

	for (; *text; text++) {
		column = *text == '\n' ? 0 : column + (*text == '\t' ? 8 : 1);
		longest = column > longest ? column : longest;
	}
	return longest;
}

Test(describe, every_format_has_every_key)
{
	for (unsigned f = CONFIG_FORMAT_SAMPLE; f <= CONFIG_FORMAT_HELP; f++) {
		char *text = describe((enum config_format)f);

		for (size_t i = 0; i < N_KEYS; i++) {
			char name[64];

			(void)snprintf(name, sizeof(name),
				       f == CONFIG_FORMAT_SAMPLE  ? "\n;%s ="
				       : f == CONFIG_FORMAT_SCDOC ? "\n*%s* = "
								  : ".%s = ",
				       option_key(&config_options[i]).text);
			cr_expect_not_null(strstr(text, name), "format %u lacks %s", f,
					   name);
		}
		if (f == CONFIG_FORMAT_HELP)
			cr_expect_leq(width(text), 79);
		if (f == CONFIG_FORMAT_SAMPLE)
			cr_expect_leq(width(text), 90);
		free(text);
	}
}

/* Each block between lines of ``` is a file that one could run. */
Test(describe, the_examples_of_the_manual_are_configs)
{
	FILE *in = fopen(MANUAL, "re");
	char line[200], text[2000] = "";
	bool inside = false;
	unsigned n = 0;

	cr_assert_not_null(in);
	while (fgets(line, sizeof(line), in)) {
		auto_config struct config *c = NULL;
		struct config_error err;
		char *escaped = strstr(line, "\\\\");

		if (strcmp(line, "```\n") != 0) {
			if (escaped) /* scdoc writes a backslash as two */
				memmove(escaped, escaped + 1, strlen(escaped));
			if (inside)
				strncat(text, line, sizeof(text) - strlen(text) - 1);
			continue;
		}
		inside = !inside;
		if (inside)
			continue;
		cr_assert_eq(config_new(&c), 0);
		cr_expect_eq(config_load_text(c, "shop.ini", text, strlen(text), &err), 0,
			     "%s", err.text);
		cr_expect_eq(config_validate(c, &err), 0, "%s\n%s", err.text, text);
		text[0] = '\0';
		n++;
	}
	fclose(in);
	cr_expect_eq(n, 3);
}

Test(describe, a_full_disk_is_reported)
{
	FILE *out = fopen("/dev/full", "w");

	cr_assert_not_null(out);
	cr_expect_lt(config_describe(out, CONFIG_FORMAT_SAMPLE), 0);
	fclose(out);
}
