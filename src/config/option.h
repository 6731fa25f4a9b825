/* options.def as a table that code can walk. For the files of this folder. */
#pragma once

#include "config/config.h"

struct config_section {
	const char *name;
	const char *heading;
};

/* Ends in a row whose name is NULL. */
extern const struct config_section config_sections[];

struct config_option {
	const char *section;
	const char *identifier; /* the key with underscores, as C has it */
	struct value_spec spec;
	const char *default_text;
	const char *help;
	size_t offset; /* of the field in struct config */
};

/* Indexed by enum config_key. */
extern const struct config_option config_options[N_KEYS];

/* The key as the file has it: "min-gap". */
struct config_key_name option_key(const struct config_option *option);

/* Finds what the operator wrote. Otherwise fills err with what was probably meant: where stands
 * in front of it, value (may be NULL) behind the key. 0 or CONFIG_BAD. */
int option_find_section(const char *section, const char *where, struct config_error *err);
int option_find(const char *section, const char *key, const char *value,
		const char *where, struct config_error *err, enum config_key *ret);

static inline void *option_field(const struct config_option *option, struct config *c)
{
	return (char *)c + option->offset;
}

static inline const void *option_value(const struct config_option *option,
				       const struct config *c)
{
	return (const char *)c + option->offset;
}
