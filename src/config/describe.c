/* options.def as text for people: the sample file, the list of the man page, the help. Reads
 * the table and writes to a stream; owns nothing. */
#include "config/describe.h"

#include <errno.h>
#include <string.h>

#include "config/option.h"

struct style {
	const char *indent; /* before each line of a paragraph */
	size_t width;	    /* of a line in all, the indent counted as 8 a tab */
	bool scdoc;	    /* escape what scdoc would format */
};

static const struct style styles[] = {
	[CONFIG_FORMAT_SAMPLE] = { "# ", 90, false },
	[CONFIG_FORMAT_SCDOC] = { "\t", 90, true },
	[CONFIG_FORMAT_HELP] = { "      ", 78, false },
};

static void put_text(const char *text, size_t n, bool scdoc, FILE *out)
{
	for (size_t i = 0; i < n; i++) {
		if (scdoc && strchr("\\_*<>~`#", text[i]))
			(void)fputc('\\', out);
		(void)fputc(text[i], out);
	}
}

/* Fills lines with words. */
static void put_paragraph(const struct style *style, const char *text, FILE *out)
{
	size_t indent = *style->indent == '\t' ? 8 : strlen(style->indent);
	size_t column = 0;

	while (*text) {
		size_t n = strcspn(text, " ");

		if (column > 0 && column + 1 + n > style->width) {
			(void)fputc('\n', out);
			column = 0;
		}
		if (column == 0) {
			(void)fputs(style->indent, out);
			column = indent;
			/* At the start of a line these begin a list or a table. */
			if (style->scdoc && strchr("-.|:[]", *text))
				(void)fputc('\\', out);
		} else {
			(void)fputc(' ', out);
			column++;
		}
		put_text(text, n, style->scdoc, out);
		column += n;
		text += n;
		text += strspn(text, " ");
	}
	(void)fputc('\n', out);
}

static void put_allowed(const struct style *style, const struct config_option *o,
			FILE *out)
{
	char allowed[VALUE_ALLOWED_MAX], line[VALUE_ALLOWED_MAX + 64];

	value_allowed(&o->spec, allowed);
	(void)snprintf(line, sizeof(line), "Allowed: %s.%s", allowed,
		       value_is_list(o->spec.kind) ? " May be given more than once."
						   : "");
	put_paragraph(style, line, out);
}

/* ---- the three formats ---- */

static const char sample_head[] = "# trimtab: every key with its default. Remove the ; "
				  "in front of a key to change it.\n"
				  "#\n"
				  "# The smallest useful file:\n"
				  "#\n"
				  "#     [pool]\n"
				  "#     gunicorn = -k gthread --threads 4 myapp:app\n"
				  "#     bind = 127.0.0.1:8000\n"
				  "#\n"
				  "# A line that ends in a backslash goes on in the "
				  "next. A ; after a blank begins a\n"
				  "# comment; \\; is the character itself. "
				  "trimtab.conf(5) says more; `trimtab check -c\n"
				  "# FILE` tests a file.\n";

static void sample_section(const struct config_section *s, FILE *out)
{
	(void)fprintf(out, "\n\n# %s\n[%s]\n", s->heading, s->name);
}

static void sample_option(const struct config_option *o, FILE *out)
{
	const struct style *style = &styles[CONFIG_FORMAT_SAMPLE];

	(void)fputc('\n', out);
	put_paragraph(style, o->help, out);
	put_allowed(style, o, out);
	(void)fprintf(out, ";%s =%s%s\n", option_key(o).text, *o->default_text ? " " : "",
		      o->default_text);
}

static void scdoc_section(const struct config_section *s, FILE *out)
{
	(void)fprintf(out, "\n## [%s]\n\n%s\n", s->name, s->heading);
}

static void scdoc_option(const struct config_option *o, FILE *out)
{
	const struct style *style = &styles[CONFIG_FORMAT_SCDOC];

	(void)fprintf(out, "\n*%s* = ", option_key(o).text);
	if (*o->default_text) {
		(void)fputc('_', out);
		put_text(o->default_text, strlen(o->default_text), true, out);
		(void)fputs("_\n", out);
	} else {
		(void)fputs("(unset)\n", out);
	}
	put_paragraph(style, o->help, out);
	(void)fputc('\n', out);
	put_allowed(style, o, out);
}

static void help_option(const struct config_option *o, FILE *out)
{
	(void)fprintf(out, "  %s.%s = %s\n", o->section, option_key(o).text,
		      *o->default_text ? o->default_text : "(unset)");
	put_paragraph(&styles[CONFIG_FORMAT_HELP], o->help, out);
}

static void put_section(const struct config_section *s, enum config_format format,
			FILE *out)
{
	switch (format) {
	case CONFIG_FORMAT_SAMPLE:
		sample_section(s, out);
		break;
	case CONFIG_FORMAT_SCDOC:
		scdoc_section(s, out);
		break;
	case CONFIG_FORMAT_HELP:
		break;
	}
}

static void put_option(const struct config_option *o, enum config_format format,
		       FILE *out)
{
	switch (format) {
	case CONFIG_FORMAT_SAMPLE:
		sample_option(o, out);
		break;
	case CONFIG_FORMAT_SCDOC:
		scdoc_option(o, out);
		break;
	case CONFIG_FORMAT_HELP:
		help_option(o, out);
		break;
	}
}

int config_describe(FILE *out, enum config_format format)
{
	if (format == CONFIG_FORMAT_SAMPLE)
		(void)fputs(sample_head, out);
	for (const struct config_section *s = config_sections; s->name; s++) {
		put_section(s, format, out);
		for (size_t i = 0; i < N_KEYS; i++)
			if (strcmp(config_options[i].section, s->name) == 0)
				put_option(&config_options[i], format, out);
	}
	if (fflush(out) != 0)
		return -errno;
	return ferror(out) ? -EIO : 0;
}
