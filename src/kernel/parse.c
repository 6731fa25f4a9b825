/* Owns the formats of the kernel's text files: what a number, a list, a keyed line looks like.
 *
 * The text comes from the kernel but passes through names that users choose (a command, a
 * cgroup, a mount point), so it is read as hostile: no parser may look past the NUL, and none
 * may guess. It must never open anything, and never use strtoull and the like, which accept
 * signs, blanks and locales that no kernel file has. */
#include "kernel/parse.h"

#include <errno.h>
#include <string.h>

enum { FORKED_NO_EXEC = 0x40 };

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

static const char *skip_blanks(const char *text)
{
	while (is_blank(*text))
		text++;
	return text;
}

static bool at_line_end(const char *text)
{
	return *text == '\0' || *text == '\n';
}

/* The line after this one; the empty string after the last. */
static const char *next_line(const char *text)
{
	text += strcspn(text, "\n");
	return *text == '\n' ? text + 1 : text;
}

/* Reads digits and leaves the cursor behind them, on success only. */
static int scan_u64(const char **cursor, uint64_t *ret)
{
	const char *c = *cursor;
	uint64_t value = 0;

	if (!is_digit(*c))
		return -EINVAL;
	for (; is_digit(*c); c++)
		if (__builtin_mul_overflow(value, 10, &value) ||
		    __builtin_add_overflow(value, (uint64_t)(*c - '0'), &value))
			return -ERANGE;
	*cursor = c;
	*ret = value;
	return 0;
}

int parse_u64(const char *text, uint64_t *ret)
{
	uint64_t value = UINT64_MAX;
	int r;

	if (strncmp(text, "max", 3) == 0) {
		text += 3;
	} else {
		r = scan_u64(&text, &value);
		if (r < 0)
			return r;
	}
	if (!at_line_end(text))
		return -EINVAL;
	*ret = value;
	return 0;
}

/* What stands behind the key, or NULL when the line begins with another one. */
static const char *behind_key(const char *line, const char *key)
{
	size_t length = strlen(key);

	if (strncmp(line, key, length) != 0 || !is_blank(line[length]))
		return NULL;
	return skip_blanks(line + length);
}

static int line_value(const char *line, const char *key, uint64_t *ret)
{
	const char *c = behind_key(line, key);
	uint64_t value;
	int r;

	if (!c)
		return -ENOENT;
	r = scan_u64(&c, &value);
	if (r < 0)
		return r;
	if (strncmp(c, " kB", 3) == 0) {
		if (__builtin_mul_overflow(value, 1024, &value))
			return -ERANGE;
		c += 3;
	}
	if (!at_line_end(c))
		return -EINVAL;
	*ret = value;
	return 0;
}

int parse_keyed_u64(const char *text, const char *key, uint64_t *ret)
{
	for (const char *line = text; *line; line = next_line(line)) {
		int r = line_value(line, key, ret);

		if (r != -ENOENT)
			return r;
	}
	return -ENOENT;
}

int parse_fields(const char *text, const struct parse_field *fields, size_t n_fields)
{
	for (const char *line = text; *line; line = next_line(line)) {
		for (size_t i = 0; i < n_fields; i++) {
			int r = line_value(line, fields[i].key, fields[i].value);

			if (r == -ENOENT)
				continue;
			if (r < 0)
				return r;
			break;
		}
	}
	return 0;
}

/* Names that the kernel lists hold none of these. */
static bool words_have(const char *text, const char *between, const char *word)
{
	size_t length = strlen(word), n;

	text += strspn(text, between);
	while ((n = strcspn(text, " \n,:")) > 0) {
		if (n == length && strncmp(text, word, n) == 0)
			return true;
		text += n;
		text += strspn(text, between);
	}
	return false;
}

bool parse_list_has(const char *text, const char *word)
{
	return words_have(text, " \n", word);
}

bool parse_options_have(const char *text, const char *word)
{
	return words_have(text, ",", word);
}

/* Leaves out what the kernel adds for a cgroup that was removed under its last process. */
static size_t cgroup_path_length(const char *path)
{
	static const char deleted[] = " (deleted)";
	const size_t n_deleted = sizeof(deleted) - 1;
	size_t length = strcspn(path, "\n");

	if (length > n_deleted &&
	    strncmp(path + length - n_deleted, deleted, n_deleted) == 0)
		length -= n_deleted;
	return length;
}

int parse_cgroup_line(const char *text, const char **ret_start, size_t *ret_length)
{
	for (const char *line = text; *line; line = next_line(line)) {
		if (strncmp(line, "0::/", 4) != 0)
			continue;
		*ret_start = line + 3;
		*ret_length = cgroup_path_length(line + 3);
		return 0;
	}
	return -ENOENT;
}

/* number:controller,controller:path */
int parse_cgroup1_line(const char *text, const char *controller, const char **ret_start,
		       size_t *ret_length)
{
	for (const char *line = text; *line; line = next_line(line)) {
		const char *list = line + strcspn(line, ":\n");
		const char *path;

		if (*list != ':' || !parse_options_have(list + 1, controller))
			continue;
		path = list + 1 + strcspn(list + 1, ":\n");
		if (path[0] != ':' || path[1] != '/')
			continue;
		*ret_start = path + 1;
		*ret_length = cgroup_path_length(path + 1);
		return 0;
	}
	return -ENOENT;
}

/* name, hierarchy, number of cgroups, enabled: with tabs between. */
int parse_controller(const char *line, const char *name, uint64_t *ret_hierarchy,
		     bool *ret_enabled)
{
	const char *c = behind_key(line, name);
	uint64_t values[3];

	if (!c)
		return -ENOENT;
	for (size_t i = 0; i < 3; i++, c = skip_blanks(c)) {
		int r = scan_u64(&c, &values[i]);

		if (r < 0)
			return r;
	}
	if (!at_line_end(c))
		return -EINVAL;
	*ret_hierarchy = values[0];
	*ret_enabled = values[2] != 0;
	return 0;
}

/* Exactly two decimals, as the kernel prints them. */
int parse_permyriad(const char *text, uint32_t *ret)
{
	uint64_t whole;
	int r;

	r = scan_u64(&text, &whole);
	if (r < 0 || whole > UINT32_MAX / 100 - 1)
		return -EINVAL;
	if (text[0] != '.' || !is_digit(text[1]) || !is_digit(text[2]))
		return -EINVAL;
	if (!is_blank(text[3]) && !at_line_end(text + 3))
		return -EINVAL;
	*ret = (uint32_t)whole * 100 + (uint32_t)(text[1] - '0') * 10 +
	       (uint32_t)(text[2] - '0');
	return 0;
}

/* The value of a word "name=value" in the rest of this line, or NULL. */
static const char *word_value(const char *line, const char *name)
{
	size_t length = strlen(name);

	for (line = skip_blanks(line); !at_line_end(line); line = skip_blanks(line)) {
		if (strncmp(line, name, length) == 0 && line[length] == '=')
			return line + length + 1;
		line += strcspn(line, " \t\n");
	}
	return NULL;
}

static int pressure_values(const char *words, uint32_t *ret_avg10_permyriad,
			   uint64_t *ret_total_usec)
{
	const char *avg10 = word_value(words, "avg10");
	const char *total = word_value(words, "total");
	uint32_t avg10_permyriad;
	uint64_t total_usec;
	int r;

	if (!avg10 || !total)
		return -EINVAL;
	r = parse_permyriad(avg10, &avg10_permyriad);
	if (r < 0)
		return r;
	r = scan_u64(&total, &total_usec);
	if (r < 0)
		return r;
	if (!is_blank(*total) && !at_line_end(total))
		return -EINVAL;
	*ret_avg10_permyriad = avg10_permyriad;
	*ret_total_usec = total_usec;
	return 0;
}

int parse_pressure(const char *text, const char *kind, uint32_t *ret_avg10_permyriad,
		   uint64_t *ret_total_usec)
{
	for (const char *line = text; *line; line = next_line(line)) {
		const char *words = behind_key(line, kind);

		if (words)
			return pressure_values(words, ret_avg10_permyriad,
					       ret_total_usec);
	}
	return -ENOENT;
}

static bool is_octal(char c)
{
	return c >= '0' && c <= '7';
}

/* The kernel writes blank, tab, newline and backslash as three octal digits. */
static void unescape(char *text)
{
	char *to = text;

	for (const char *from = text; *from;) {
		if (from[0] == '\\' && from[1] >= '0' && from[1] <= '3' &&
		    is_octal(from[2]) && is_octal(from[3])) {
			*to++ = (char)((from[1] - '0') * 64 + (from[2] - '0') * 8 +
				       (from[3] - '0'));
			from += 4;
		} else {
			*to++ = *from++;
		}
	}
	*to = '\0';
}

/* Cuts the next blank-separated word off the cursor; NULL at the end of the line. */
static char *take_word(char **cursor)
{
	char *word = *cursor + strspn(*cursor, " ");
	size_t length = strcspn(word, " \n");

	if (length == 0)
		return NULL;
	*cursor = word + length;
	if (**cursor)
		*(*cursor)++ = '\0';
	return word;
}

/* proc_pid_mountinfo(5): id parent major:minor root point options [tags...] - type source ...
 * The number of tags varies; a lone "-" ends them. */
int parse_mount_line(char *line, struct parse_mount *ret)
{
	char *words[6], *word, *options;

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		words[i] = take_word(&line);
		if (!words[i])
			return -EINVAL;
	}
	do {
		word = take_word(&line);
		if (!word)
			return -EINVAL;
	} while (strcmp(word, "-") != 0);
	word = take_word(&line);
	if (!word)
		return -EINVAL;

	unescape(words[3]);
	unescape(words[4]);
	*ret = (struct parse_mount){ .root = words[3], .point = words[4], .type = word };
	(void)take_word(&line); /* the source: a name of no meaning */
	options = take_word(&line);
	ret->options = options ? options : line + strlen(line);
	return 0;
}

const char *parse_path_below(const char *path, const char *directory)
{
	size_t length = strlen(directory);

	if (length > 0 && directory[length - 1] == '/')
		length--;
	if (strncmp(path, directory, length) != 0)
		return NULL;
	path += length;
	if (*path != '/' && *path != '\0')
		return NULL;
	return path[0] == '/' && path[1] == '\0' ? path + 1 : path;
}

int parse_statm(const char *text, uint64_t *ret_resident_pages,
		uint64_t *ret_shared_pages)
{
	uint64_t pages[3]; /* size, resident, shared */

	for (size_t i = 0; i < 3; i++) {
		int r;

		text = skip_blanks(text);
		r = scan_u64(&text, &pages[i]);
		if (r < 0)
			return r;
		if (!is_blank(*text) && !at_line_end(text))
			return -EINVAL;
	}
	*ret_resident_pages = pages[1];
	*ret_shared_pages = pages[2];
	return 0;
}

/* A field behind the command, which is the second. */
static int scan_stat_field(const char *text, int wanted, uint64_t *ret)
{
	enum { FIELD_AFTER_COMMAND = 3 };
	const char *c = strrchr(text, ')');
	uint64_t value;
	int r;

	if (!c)
		return -EINVAL;
	c = skip_blanks(c + 1);
	for (int field = FIELD_AFTER_COMMAND; field < wanted; field++)
		c = skip_blanks(c + strcspn(c, " \t\n"));
	r = scan_u64(&c, &value);
	if (r < 0)
		return r;
	if (!is_blank(*c) && !at_line_end(c))
		return -EINVAL;
	*ret = value;
	return 0;
}

int parse_start_ticks(const char *text, uint64_t *ret)
{
	return scan_stat_field(text, 22, ret);
}

int parse_cpu_ticks(const char *text, uint64_t *ret)
{
	uint64_t user, system;
	int r = scan_stat_field(text, 14, &user);

	if (r == 0)
		r = scan_stat_field(text, 15, &system);
	if (r < 0)
		return r;
	if (user > UINT64_MAX - system)
		return -ERANGE;
	*ret = user + system;
	return 0;
}

int parse_forked_only(const char *text, bool *ret)
{
	uint64_t flags;
	int r = scan_stat_field(text, 9, &flags);

	if (r == 0)
		*ret = flags & FORKED_NO_EXEC;
	return r;
}

static int hex_digit(char c)
{
	if (is_digit(c))
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int scan_mask(const char *text, uint64_t *ret)
{
	uint64_t mask = 0;
	unsigned n_digits = 0;

	for (; hex_digit(*text) >= 0; text++) {
		if (++n_digits > 16)
			return -EINVAL;
		mask = mask << 4 | (uint64_t)hex_digit(*text);
	}
	if (n_digits == 0 || !at_line_end(text))
		return -EINVAL;
	*ret = mask;
	return 0;
}

int parse_signal_mask(const char *text, const char *key, uint64_t *ret)
{
	for (const char *line = text; *line; line = next_line(line)) {
		size_t length = strlen(key);

		if (strncmp(line, key, length) == 0 && line[length] == ':')
			return scan_mask(skip_blanks(line + length + 1), ret);
	}
	return -ENOENT;
}
