/* Any bytes through every parser of kernel text. A parser may refuse; it must not look past the
 * NUL (the input is a heap block of its exact size), overflow, or touch its results on refusal.
 * What it accepts must survive being printed and parsed again. */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kernel/parse.h"
#include "kernel/text.h"

#define CHECK(condition)          \
	do {                      \
		if (!(condition)) \
			abort();  \
	} while (0)

/* No number that an input is likely to spell out: 90 was, in a list that had the key twice. */
#define UNTOUCHED    UINT64_C(0x5aa5c33c96690ff1)
#define UNTOUCHED_32 UINT32_C(0x5aa5c33d)

static bool is_within(const char *p, const char *text)
{
	return p >= text && p <= text + strlen(text);
}

static void numbers(const char *text)
{
	uint64_t value = UNTOUCHED, again;
	uint32_t permyriad = UNTOUCHED_32;
	char printed[32];

	if (parse_u64(text, &value) == 0) {
		(void)snprintf(printed, sizeof(printed), "%" PRIu64 "\n", value);
		CHECK(parse_u64(printed, &again) == 0 && again == value);
	} else {
		CHECK(value == UNTOUCHED);
	}
	if (parse_permyriad(text, &permyriad) == 0) {
		(void)snprintf(printed, sizeof(printed), "%u.%02u\n", permyriad / 100,
			       permyriad % 100);
		CHECK(parse_permyriad(printed, &permyriad) == 0);
	} else {
		CHECK(permyriad == UNTOUCHED_32);
	}
}

static void keyed(const char *text)
{
	uint64_t one = UNTOUCHED, high = UNTOUCHED, rss = UNTOUCHED, mask = UNTOUCHED;
	const struct parse_field fields[] = { { "high", &high }, { "Rss:", &rss } };
	int r = parse_fields(text, fields, 2);

	if (parse_keyed_u64(text, "high", &one) == 0)
		CHECK(r < 0 || high != UNTOUCHED || one == UNTOUCHED);
	else
		CHECK(one == UNTOUCHED);
	if (parse_signal_mask(text, "SigCgt", &mask) < 0)
		CHECK(mask == UNTOUCHED);
	(void)parse_list_has(text, "memory");
	(void)parse_options_have(text, "memory");
}

static void processes(const char *text)
{
	uint64_t resident = UNTOUCHED, shared = UNTOUCHED, ticks = UNTOUCHED;
	const char *start = NULL;
	size_t length = 0;

	if (parse_statm(text, &resident, &shared) < 0)
		CHECK(resident == UNTOUCHED && shared == UNTOUCHED);
	if (parse_start_ticks(text, &ticks) < 0)
		CHECK(ticks == UNTOUCHED);
	if (parse_cgroup_line(text, &start, &length) == 0) {
		CHECK(length > 0 && *start == '/');
		CHECK(is_within(start, text) && is_within(start + length, text));
		CHECK(!memchr(start, '\n', length));
	}
	if (parse_cgroup1_line(text, "memory", &start, &length) == 0)
		CHECK(length > 0 && *start == '/' && is_within(start + length, text));
}

static void pressure(const char *text)
{
	uint32_t avg10 = UNTOUCHED_32;
	uint64_t total = UNTOUCHED, hierarchy = UNTOUCHED;
	bool enabled = true;

	if (parse_pressure(text, "some", &avg10, &total) < 0)
		CHECK(avg10 == UNTOUCHED_32 && total == UNTOUCHED);
	if (parse_controller(text, "memory", &hierarchy, &enabled) < 0)
		CHECK(hierarchy == UNTOUCHED && enabled);
}

/* Takes the text apart: the last user of it. */
static void mounts(char *text)
{
	size_t length = strlen(text);
	struct parse_mount mount;
	const char *below;

	if (parse_mount_line(text, &mount) < 0)
		return;
	CHECK(mount.root >= text && mount.root < text + length);
	CHECK(mount.point >= text && mount.point < text + length);
	CHECK(mount.type >= text && mount.type < text + length);
	CHECK(mount.options >= text && mount.options <= text + length);
	below = parse_path_below(mount.point, mount.root);
	CHECK(!below || is_within(below, mount.point));
	CHECK(parse_path_below(mount.root, mount.root) ||
	      mount.root[strlen(mount.root) - 1] == '/');
}

/* Every line once, in order; nothing is lost of those that fit. */
static void lines(const uint8_t *data, size_t size)
{
	static int fd = -1;
	struct text_lines reader;
	size_t n_lines = 0, n_expected = 0;
	char *line;

	if (fd < 0)
		fd = memfd_create("lines", MFD_CLOEXEC);
	CHECK(fd >= 0 && ftruncate(fd, 0) == 0);
	CHECK(pwrite(fd, data, size, 0) == (ssize_t)size && lseek(fd, 0, SEEK_SET) == 0);

	text_lines_init(&reader, fd);
	while (text_lines_next(&reader, &line) > 0) {
		CHECK(strlen(line) < sizeof(reader.buffer));
		n_lines++;
	}
	for (size_t i = 0; i < size; i++)
		n_expected += data[i] == '\n' || i + 1 == size;
	CHECK(n_lines == n_expected);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);

	CHECK(text);
	if (size > 0)
		memcpy(text, data, size);
	text[size] = '\0';

	numbers(text);
	keyed(text);
	processes(text);
	pressure(text);
	mounts(text);
	lines(data, size);
	free(text);
	return 0;
}
