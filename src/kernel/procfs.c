/* Owns the per-process files of /proc: which one answers which question, and how a process that
 * ends while it is looked at shows itself.
 *
 * It must never treat that end as an error, and never keep a descriptor: a file of /proc held
 * open pins the dead process's entry, not the process. Whoever needs to be sure that two looks
 * were at the same process compares its start time. */
#include "kernel/procfs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "kernel/parse.h"
#include "kernel/text.h"
#include "util/cleanup.h"

/* The entry is missing (ENOENT), or its process ended between open and read (ESRCH). */
static int outcome(int r)
{
	return r == -ENOENT || r == -ESRCH ? PROC_GONE : r;
}

static int open_for(pid_t pid, const char *file, int access, int *ret_fd)
{
	char path[64];
	int fd;

	(void)snprintf(path, sizeof(path), "/proc/%ji/%s", (intmax_t)pid, file);
	fd = open(path, access | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return -errno;
	*ret_fd = fd;
	return 0;
}

static int open_file(pid_t pid, const char *file, int *ret_fd)
{
	return open_for(pid, file, O_RDONLY, ret_fd);
}

static int read_file(pid_t pid, const char *file, char *text, size_t size)
{
	auto_close int fd = -1;
	int r;

	r = open_file(pid, file, &fd);
	if (r < 0)
		return r;
	return text_read_fd(fd, text, size);
}

int proc_estimate(pid_t pid, uint64_t *ret_bytes)
{
	uint64_t resident, shared;
	char text[256];
	int r;

	r = read_file(pid, "statm", text, sizeof(text));
	if (r < 0)
		return outcome(r);
	r = parse_statm(text, &resident, &shared);
	if (r < 0)
		return r;
	/* Two counters that the kernel reads one after the other: the difference may be negative. */
	*ret_bytes = resident > shared
			     ? (resident - shared) * (uint64_t)sysconf(_SC_PAGESIZE)
			     : 0;
	return 0;
}

/* Applies the fields to every line of a file of any length. */
static int read_fields(int fd, const struct parse_field *fields, size_t n_fields)
{
	struct text_lines lines;
	char *line;
	int r;

	text_lines_init(&lines, fd);
	while ((r = text_lines_next(&lines, &line)) > 0) {
		r = parse_fields(line, fields, n_fields);
		if (r < 0)
			return r;
	}
	return r;
}

int proc_usage(pid_t pid, struct proc_usage *ret)
{
	uint64_t rss = 0, pss = 0, clean = 0, dirty = 0, huge = 0;
	const struct parse_field fields[] = {
		{ "Rss:", &rss },
		{ "Pss:", &pss },
		{ "Private_Clean:", &clean },
		{ "Private_Dirty:", &dirty },
		{ "Private_Hugetlb:", &huge },
	};
	auto_close int fd = -1;
	int r;

	r = open_file(pid, "smaps_rollup", &fd);
	if (r < 0)
		return outcome(r);
	r = read_fields(fd, fields, ELEMENTS(fields));
	if (r < 0)
		return outcome(r);
	*ret = (struct proc_usage){
		.rss_bytes = rss,
		.pss_bytes = pss,
		.private_bytes = clean + dirty + huge,
	};
	return 0;
}

int proc_start_ticks(pid_t pid, uint64_t *ret_ticks)
{
	char text[1024];
	int r;

	r = read_file(pid, "stat", text, sizeof(text));
	return r < 0 ? outcome(r) : parse_start_ticks(text, ret_ticks);
}

int proc_forked_only(pid_t pid, bool *ret)
{
	char text[1024];
	int r;

	r = read_file(pid, "stat", text, sizeof(text));
	return r < 0 ? outcome(r) : parse_forked_only(text, ret);
}

int proc_cpu(pid_t pid, uint64_t *ret_usec)
{
	char text[1024];
	uint64_t ticks, per_second = (uint64_t)sysconf(_SC_CLK_TCK);
	int r;

	r = read_file(pid, "stat", text, sizeof(text));
	if (r < 0)
		return outcome(r);
	r = parse_cpu_ticks(text, &ticks);
	if (r < 0)
		return r;
	if (ticks > UINT64_MAX / 1000000)
		return -ERANGE;
	*ret_usec = ticks * 1000000 / per_second;
	return 0;
}

/* The list of groups precedes the masks and may be long: hence line by line. */
int proc_catches(pid_t pid, int signal_number, bool *ret)
{
	struct text_lines lines;
	auto_close int fd = -1;
	uint64_t mask;
	char *line;
	int r;

	if (signal_number < 1 || signal_number > 64)
		return -EINVAL;
	r = open_file(pid, "status", &fd);
	if (r < 0)
		return outcome(r);

	text_lines_init(&lines, fd);
	while ((r = text_lines_next(&lines, &line)) > 0) {
		r = parse_signal_mask(line, "SigCgt", &mask);
		if (r == -ENOENT)
			continue;
		if (r < 0)
			return r;
		*ret = mask >> (signal_number - 1) & 1;
		return 0;
	}
	return r < 0 ? outcome(r) : -EINVAL;
}

int proc_set_oom_score(pid_t pid, int score)
{
	auto_close int fd = -1;
	int r = open_for(pid, "oom_score_adj", O_WRONLY, &fd);

	if (r < 0)
		return outcome(r);
	return dprintf(fd, "%d", score) < 0 ? outcome(-errno) : 0;
}

int proc_cgroup(pid_t pid, char **ret_path)
{
	struct text_lines lines;
	auto_close int fd = -1;
	const char *start;
	size_t length;
	char *line;
	int r;

	r = open_file(pid, "cgroup", &fd);
	if (r < 0)
		return outcome(r);

	text_lines_init(&lines, fd);
	while ((r = text_lines_next(&lines, &line)) > 0) {
		if (parse_cgroup_line(line, &start, &length) < 0)
			continue;
		char *path = strndup(start, length);
		if (!path)
			return -ENOMEM;
		*ret_path = path;
		return 0;
	}
	return r < 0 ? outcome(r) : -ENODATA;
}

int proc_meminfo(uint64_t *ret_total_bytes, uint64_t *ret_available_bytes)
{
	uint64_t total = 0, available = 0;
	const struct parse_field fields[] = {
		{ "MemTotal:", &total },
		{ "MemAvailable:", &available },
	};
	auto_close int fd = open("/proc/meminfo", O_RDONLY | O_CLOEXEC | O_NOCTTY);
	int r;

	if (fd < 0)
		return -errno;
	r = read_fields(fd, fields, ELEMENTS(fields));
	if (r < 0)
		return r;
	if (total == 0)
		return -EINVAL;
	*ret_total_bytes = total;
	*ret_available_bytes = available;
	return 0;
}
