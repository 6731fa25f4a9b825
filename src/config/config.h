/* The configuration: an INI file and --set on top of built-in defaults.
 *
 * Options are declared in options.def and nowhere else. A config is filled in this order:
 * config_new() (defaults), config_load() (at most one file), config_set() or
 * config_set_value() (command line), config_validate() (rules that span keys; fills in
 * pool.name). Whatever fails leaves one line of text that names file, line, section, key, the
 * value read and what is allowed; the config is then good for config_free() alone.
 *
 * Results: 0, CONFIG_BAD, or -ENOMEM; err->text is filled in for both of the latter. */
#pragma once

#include <stdio.h>

#include "config/value.h"
#include "util/cleanup.h"

/* ---- choices: enumerator and word, declared once ---- */

#define CONFIG_CHOICES_PRELOAD(X) \
	X(PRELOAD, NONE, "none") X(PRELOAD, SERVER, "server") X(PRELOAD, APP, "app")
#define CONFIG_CHOICES_SURGE(X) \
	X(SURGE, AUTO, "auto") X(SURGE, ALWAYS, "always") X(SURGE, NEVER, "never")
#define CONFIG_CHOICES_TRIM(X) \
	X(TRIM, PRESSURE, "pressure") X(TRIM, PERIODIC, "periodic") X(TRIM, OFF, "off")
#define CONFIG_CHOICES_PYMALLOC(X) X(PYMALLOC, AUTO, "auto") X(PYMALLOC, OFF, "off")
#define CONFIG_CHOICES_WAKE(X)	   X(WAKE, SIGNAL, "signal") X(WAKE, FUTEX, "futex")
#define CONFIG_CHOICES_LOG_TARGET(X) \
	X(LOG_TARGET, AUTO, "auto")  \
	X(LOG_TARGET, JOURNAL, "journal") X(LOG_TARGET, STDERR, "stderr")
#define CONFIG_CHOICES_LOG_LEVEL(X)    \
	X(LOG_LEVEL, DEBUG, "debug")   \
	X(LOG_LEVEL, INFO, "info")     \
	X(LOG_LEVEL, NOTICE, "notice") \
	X(LOG_LEVEL, WARNING, "warning") X(LOG_LEVEL, ERROR, "error")
#define CONFIG_CHOICES_LOG_FORMAT(X) \
	X(LOG_FORMAT, TEXT, "text") X(LOG_FORMAT, JSON, "json")
#define CONFIG_CHOICES_CGROUP(X) \
	X(CGROUP, AUTO, "auto")  \
	X(CGROUP, SCOPE, "scope") X(CGROUP, OWN, "own") X(CGROUP, NO, "no")

/* CONFIG_SURGE_AUTO and so on; each counts from 0. */
#define CONFIG_ENUMERATOR(choices, id, word) CONFIG_##choices##_##id,

enum config_preload { CONFIG_CHOICES_PRELOAD(CONFIG_ENUMERATOR) };
enum config_surge { CONFIG_CHOICES_SURGE(CONFIG_ENUMERATOR) };
enum config_trim { CONFIG_CHOICES_TRIM(CONFIG_ENUMERATOR) };
enum config_pymalloc { CONFIG_CHOICES_PYMALLOC(CONFIG_ENUMERATOR) };
enum config_wake { CONFIG_CHOICES_WAKE(CONFIG_ENUMERATOR) };
enum config_log_target { CONFIG_CHOICES_LOG_TARGET(CONFIG_ENUMERATOR) };
enum config_log_level { CONFIG_CHOICES_LOG_LEVEL(CONFIG_ENUMERATOR) };
enum config_log_format { CONFIG_CHOICES_LOG_FORMAT(CONFIG_ENUMERATOR) };
enum config_cgroup { CONFIG_CHOICES_CGROUP(CONFIG_ENUMERATOR) };

#define CONFIG_ENUM_PRELOAD    enum config_preload
#define CONFIG_ENUM_SURGE      enum config_surge
#define CONFIG_ENUM_TRIM       enum config_trim
#define CONFIG_ENUM_PYMALLOC   enum config_pymalloc
#define CONFIG_ENUM_WAKE       enum config_wake
#define CONFIG_ENUM_LOG_TARGET enum config_log_target
#define CONFIG_ENUM_LOG_LEVEL  enum config_log_level
#define CONFIG_ENUM_LOG_FORMAT enum config_log_format
#define CONFIG_ENUM_CGROUP     enum config_cgroup

/* ---- keys and the struct ---- */

/* KEY_pool_workers and so on, to name a key to the calls below. */
enum config_key {
#define OPTION(section, key, ...)	 KEY_##section##_##key,
#define CHOICE_OPTION(section, key, ...) KEY_##section##_##key,
#include "config/options.def"
	N_KEYS,
};

struct config {
#define OPTION(section, key, kind, ...)		  CONFIG_TYPE_##kind section##_##key;
#define CHOICE_OPTION(section, key, choices, ...) CONFIG_ENUM_##choices section##_##key;
#include "config/options.def"

	char *path; /* the file loaded; NULL: none */

	/* Where each value comes from: "shop.ini:12", "--set", ...; NULL: the default. For a
	 * list, of its last item. */
	char *where[N_KEYS];
};

struct config_error {
	char text[1024]; /* one line without newline; "" as long as nothing failed */
};

enum {
	CONFIG_BAD = 1, /* the operator must change something; err->text says what */
};

/* ---- life ---- */

/* A config of defaults, owned by the caller. 0 or -ENOMEM. */
int config_new(struct config **ret);
/* Accepts NULL. */
void config_free(struct config *c);

static inline void cleanup_config(struct config **c)
{
	config_free(*c);
}
#define auto_config CLEANUP(cleanup_config)

/* ---- filling ---- */

/* Reads an INI file over the defaults. The first mention of a list replaces its default, more
 * mentions append. Refused: unknown sections and keys, keys given twice, NUL bytes, values
 * above 32 KiB, lines above 64 KiB, files above 1 MiB, and whatever cannot be read. Sets
 * c->path. */
int config_load(struct config *c, const char *path, struct config_error *err);

/* The same from memory; name stands for the file in messages. text need not end in NUL. */
int config_load_text(struct config *c, const char *name, const char *text, size_t n,
		     struct config_error *err);

/* "SECTION.KEY=VALUE", as --set gives it. A list key appends; an empty value empties it. */
int config_set(struct config *c, const char *assignment, struct config_error *err);

/* As config_set(), with the key known and an origin of the caller's: where is what messages
 * name, such as "-w". This is how main() enters -w, -b and the words after the verb, so that
 * config_dump() shows them too. */
int config_set_value(struct config *c, enum config_key key, const char *value,
		     const char *where, struct config_error *err);

/* Rules that span keys. Fills in pool.name where it is unset, and lowers a restart.min-gap-floor
 * that nobody set to a shorter min-gap. To be called once, when all is set. */
int config_validate(struct config *c, struct config_error *err);

/* Whether both have the same value for the key, wherever it comes from. */
bool config_same(const struct config *a, const struct config *b, enum config_key key);

/* ---- messages about a config ---- */

/* Fills err for a value that turned out wrong later on, say a bind address that does not
 * parse: "shop.ini:12: [pool] bind = 1.2.3.4:x: " and then the text given. item: which one of
 * a list; 0 otherwise. Always returns CONFIG_BAD. */
int config_blame(const struct config *c, enum config_key key, size_t item,
		 struct config_error *err, const char *format, ...)
	__attribute__((format(printf, 5, 6)));

/* By value, so that printf("%s", config_key_name(key).text) needs no buffer. */
struct config_key_name {
	char text[48];
};

/* "restart.min-gap". */
struct config_key_name config_key_name(enum config_key key);

/* Whether the value of a STRING option is this word ("auto", "off"). */
bool config_is(const char *value, const char *word);

/* ---- output ---- */

/* Writes a file that reads back to the same config; keys at their default are commented out.
 * 0, or -errno of the stream. */
int config_dump(const struct config *c, FILE *out);
