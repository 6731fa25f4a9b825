/* The table that options.def expands to. Owns no state: constant data, and the spelling of
 * keys, which are C identifiers here and have dashes in the file. */
#include "config/option.h"

#include <string.h>

#include "config/error.h"
#include "config/suggest.h"

#define WORD(choices, id, word) word,

const struct config_section config_sections[] = {
#define SECTION(section, heading) { #section, heading },
#include "config/options.def"
	{ NULL, NULL },
};

#define ROW(section_, key_, kind_, default_, min_, max_, words_, help_)             \
	[KEY_##section_##_##key_] = {                                               \
		.section = #section_,                                               \
		.identifier = #key_,                                                \
		.spec = { KIND_##kind_, (int64_t)(min_), (int64_t)(max_), words_ }, \
		.default_text = default_,                                           \
		.help = help_,                                                      \
		.offset = offsetof(struct config, section_##_##key_),               \
	},

const struct config_option config_options[N_KEYS] = {
#define OPTION(section, key, kind, default_text, min, max, help) \
	ROW(section, key, kind, default_text, min, max, NULL, help)
#define CHOICE_OPTION(section, key, choices, default_text, help) \
	ROW(section, key, CHOICE, default_text, 0, 0,            \
	    ((const char *const[]){ CONFIG_CHOICES_##choices(WORD) NULL }), help)
#include "config/options.def"
};

/* value_parse() fills a choice through an unsigned. */
#define SECTION(section, heading)
#define CHOICE_OPTION(section, key, choices, ...)                         \
	_Static_assert(sizeof(CONFIG_ENUM_##choices) == sizeof(unsigned), \
		       "the enum of " #section "." #key " is not an unsigned");
#include "config/options.def"

/* And the buffer of a name holds the longest. */
#define OPTION(section, key, ...)                                                   \
	_Static_assert(sizeof(#section "." #key) <= sizeof(struct config_key_name), \
		       #section "." #key " does not fit in struct config_key_name");
#define CHOICE_OPTION OPTION
#include "config/options.def"

static void spell(char *text)
{
	for (; *text; text++)
		if (*text == '_')
			*text = '-';
}

struct config_key_name option_key(const struct config_option *option)
{
	struct config_key_name name;

	(void)snprintf(name.text, sizeof(name.text), "%s", option->identifier);
	spell(name.text);
	return name;
}

struct config_key_name config_key_name(enum config_key key)
{
	const struct config_option *option = &config_options[key];
	struct config_key_name name;

	(void)snprintf(name.text, sizeof(name.text), "%s.%s", option->section,
		       option->identifier);
	spell(name.text);
	return name;
}

/* ---- finding ---- */

int option_find_section(const char *section, const char *where, struct config_error *err)
{
	char quoted[ERROR_QUOTE_MAX];
	const char *names[ELEMENTS(config_sections)];
	size_t n = 0;

	for (const struct config_section *s = config_sections; s->name; s++) {
		if (strcmp(s->name, section) == 0)
			return 0;
		names[n++] = s->name;
	}
	names[n] = NULL;

	const char *nearest = suggest_word(section, names);

	(void)error_set(err, "%s: [%s]: unknown section; ", where,
			error_quote(section, quoted));
	if (nearest)
		error_add(err, "did you mean [%s]?", nearest);
	else
		error_add(err, "allowed:");
	for (size_t i = 0; i < n && !nearest; i++)
		error_add(err, " [%s]", names[i]);
	return CONFIG_BAD;
}

static const struct config_option *nearest_option(const char *section, const char *key)
{
	const struct config_option *nearest = NULL;
	size_t shortest = SIZE_MAX;

	for (size_t i = 0; i < N_KEYS; i++) {
		const struct config_option *o = &config_options[i];
		size_t distance = suggest_distance(key, option_key(o).text);

		if (!suggest_is_near(key, distance))
			continue;
		/* Half an edit more for another section: min-gap in [pool] was meant for
		 * [restart], but a slip of the finger stays at home. */
		distance = 2 * distance + (strcmp(o->section, section) != 0);
		if (distance < shortest) {
			shortest = distance;
			nearest = o;
		}
	}
	return nearest;
}

static int fail_key(const char *section, const char *key, const char *value,
		    const char *where, struct config_error *err)
{
	const struct config_option *nearest = nearest_option(section, key);
	const char *before = "";
	char quoted[ERROR_QUOTE_MAX];

	(void)error_at(err, where, section, error_quote(key, quoted), value);
	error_add(err, "unknown key; ");
	if (nearest) {
		error_add(err, "did you mean %s", option_key(nearest).text);
		if (strcmp(nearest->section, section) != 0)
			error_add(err, " of [%s]", nearest->section);
		error_add(err, "?");
		return CONFIG_BAD;
	}
	error_add(err, "keys of [%s]: ", section);
	for (size_t i = 0; i < N_KEYS; i++) {
		if (strcmp(config_options[i].section, section) != 0)
			continue;
		error_add(err, "%s%s", before, option_key(&config_options[i]).text);
		before = ", ";
	}
	return CONFIG_BAD;
}

int option_find(const char *section, const char *key, const char *value,
		const char *where, struct config_error *err, enum config_key *ret)
{
	int r = option_find_section(section, where, err);

	if (r != 0)
		return r;
	for (size_t i = 0; i < N_KEYS; i++) {
		if (strcmp(config_options[i].section, section) == 0 &&
		    strcmp(option_key(&config_options[i]).text, key) == 0) {
			*ret = (enum config_key)i;
			return 0;
		}
	}
	return fail_key(section, key, value, where, err);
}
