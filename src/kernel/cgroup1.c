/* Owns the old hierarchy, as far as a limit set there must not be overrun: in a container on a
 * host of that kind it is the only sign that the host's memory is not ours.
 *
 * It must never write: leaves, tripwires and kills exist on version 2 alone. */
#include "kernel/cgroup1.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/parse.h"
#include "kernel/text.h"
#include "util/cleanup.h"

/* Our own path on the hierarchy of the memory controller (caller frees). */
static int own_path(char **ret)
{
	auto_close int fd = open("/proc/self/cgroup", O_RDONLY | O_CLOEXEC);
	struct text_lines lines;
	const char *start;
	size_t length;
	char *line;
	int r;

	if (fd < 0)
		return -errno;
	text_lines_init(&lines, fd);
	while ((r = text_lines_next(&lines, &line)) > 0) {
		if (parse_cgroup1_line(line, "memory", &start, &length) < 0)
			continue;
		*ret = strndup(start, length);
		return *ret ? 0 : -ENOMEM;
	}
	return r < 0 ? r : -ENOENT;
}

/* memory.stat of that cgroup. */
static int open_stat(int *ret_fd)
{
	auto_free char *own = NULL;
	auto_close int fd = -1;
	struct text_lines lines;
	struct parse_mount mount;
	char *line;
	int r;

	r = own_path(&own);
	if (r < 0)
		return r;
	fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;

	text_lines_init(&lines, fd);
	while ((r = text_lines_next(&lines, &line)) > 0) {
		auto_free char *path = NULL;
		const char *below;

		if (parse_mount_line(line, &mount) < 0 ||
		    strcmp(mount.type, "cgroup") != 0 ||
		    !parse_options_have(mount.options, "memory"))
			continue;
		below = parse_path_below(own, mount.root);
		if (!below)
			continue;
		if (asprintf(&path, "%s%s/memory.stat", mount.point, below) < 0) {
			path = NULL;
			return -ENOMEM;
		}
		*ret_fd = open(path, O_RDONLY | O_CLOEXEC);
		return *ret_fd < 0 ? -errno : 0;
	}
	return r < 0 ? r : -EXDEV;
}

int cgroup1_limit(uint64_t *ret_limit_bytes)
{
	/* "No limit" is the largest number of whole pages, whatever their size. */
	const uint64_t unlimited = (uint64_t)INT64_MAX & ~(uint64_t)0xffff;
	auto_close int fd = -1;
	struct text_lines lines;
	uint64_t limit;
	char *line;
	int r;

	r = open_stat(&fd);
	if (r < 0)
		return r;
	text_lines_init(&lines, fd);
	while ((r = text_lines_next(&lines, &line)) > 0) {
		r = parse_keyed_u64(line, "hierarchical_memory_limit", &limit);
		if (r == -ENOENT)
			continue;
		if (r < 0)
			return r;
		*ret_limit_bytes = limit >= unlimited ? UINT64_MAX : limit;
		return 0;
	}
	return r < 0 ? r : -ENOENT;
}
