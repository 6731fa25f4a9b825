/* Leaves. They hold workers and nothing else; limits are set by the supervisor. */
#include "process/leaf.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/cleanup.h"

enum {
	EMPTY_TRIES = 10,
	EMPTY_MSEC = 100, /* each */
};

/* Only when something is inside: a kill that is not needed costs the leaf its clone3. */
static void kill_leftovers(struct leaf *leaf)
{
	bool populated = false;

	if (cgroup_populated(leaf->dir_fd, &populated) != 0 || !populated)
		return;
	(void)leaf_kill(leaf);
}

int leaf_kill(struct leaf *leaf)
{
	leaf->killed = true;
	return cgroup_kill(leaf->dir_fd);
}

static struct leaf *leaf_free(struct leaf *leaf)
{
	if (leaf) {
		leaf->dir_fd = close_fd(leaf->dir_fd);
		leaf->pressure_fd = close_fd(leaf->pressure_fd);
		free(leaf);
	}
	return NULL;
}

static void cleanup_leaf(struct leaf **leaf)
{
	(void)leaf_free(*leaf);
}

struct leaf *leaves_find(const struct leaves *all, const char *name)
{
	for (struct leaf *l = all->first; l; l = l->next)
		if (strcmp(l->name, name) == 0)
			return l;
	return NULL;
}

/* worker-3, then worker-3.2, worker-3.3, ...: the first name that no leaf has yet. */
static void pick_name(const struct leaves *all, unsigned number, char *name, size_t size)
{
	(void)snprintf(name, size, "worker-%u", number);
	for (unsigned i = 2; leaves_find(all, name); i++)
		(void)snprintf(name, size, "worker-%u.%u", number, i);
}

/* The slot in a name that pick_name() made. */
static bool parse_name(const char *name, unsigned *ret_number)
{
	unsigned nth;
	int end = 0;

	if (sscanf(name, "worker-%u%n", ret_number, &end) == 1 && name[end] == '\0')
		return *ret_number > 0;
	end = 0;
	return sscanf(name, "worker-%u.%u%n", ret_number, &nth, &end) == 2 &&
	       name[end] == '\0' && *ret_number > 0;
}

static int make(struct leaves *all, unsigned number, const char *name, struct leaf **ret)
{
	CLEANUP(cleanup_leaf) struct leaf *leaf = calloc(1, sizeof(*leaf));
	int r;

	if (!leaf)
		return -ENOMEM;
	*leaf = (struct leaf){
		.number = number,
		.dir_fd = -1,
		.pressure_fd = -1,
		.memory = all->memory,
	};
	(void)snprintf(leaf->name, sizeof(leaf->name), "%s", name);
	r = cgroup_make(all->root_fd, leaf->name, &leaf->dir_fd);
	if (r < 0)
		return r;
	/* A directory left by a supervisor that was killed may still hold its workers. */
	kill_leftovers(leaf);
	leaf->next = all->first;
	all->first = leaf;
	*ret = TAKE(leaf);
	return 0;
}

void leaves_take_over(struct leaves *all)
{
	int fd = openat(all->root_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	if (!dir) {
		(void)close_fd(fd);
		return;
	}
	while ((entry = readdir(dir))) {
		struct leaf *leaf;
		unsigned number = 0;

		if (entry->d_type != DT_DIR ||
		    strlen(entry->d_name) >= sizeof(leaf->name) ||
		    (!parse_name(entry->d_name, &number) &&
		     strcmp(entry->d_name, "template") != 0))
			continue;
		if (make(all, number, entry->d_name, &leaf) == 0)
			leaf->unclean = true;
	}
	(void)closedir(dir);
}

int leaves_add(struct leaves *all, const struct leaf *leaf)
{
	struct leaf *copy = malloc(sizeof(*copy));

	if (!copy)
		return -ENOMEM;
	*copy = *leaf;
	copy->next = all->first;
	all->first = copy;
	return 0;
}

int leaf_take_named(struct leaves *all, const char *name, struct leaf **ret)
{
	struct leaf *leaf = leaves_find(all, name);
	int r = leaf ? 0 : make(all, 0, name, &leaf);

	if (r < 0)
		return r;
	leaf->taken = true;
	*ret = leaf;
	return 0;
}

static struct leaf *find_free(const struct leaves *all, unsigned number)
{
	struct leaf *best = NULL;

	/* The plainest name, for those who look: worker-3 before worker-3.2. */
	for (struct leaf *l = all->first; l; l = l->next)
		if (l->number == number && !l->taken && !l->spent && leaf_settle(l) &&
		    (!best || strverscmp(l->name, best->name) < 0))
			best = l;
	return best;
}

static void remove_spent(struct leaves *all)
{
	struct leaf **next = &all->first;

	while (*next) {
		struct leaf *l = *next;

		if (!l->spent || l->taken || !leaf_settle(l) ||
		    cgroup_remove(all->root_fd, l->name) < 0) {
			next = &l->next;
			continue;
		}
		*next = l->next;
		(void)leaf_free(l);
	}
}

int leaf_take(struct leaves *all, unsigned number, struct leaf **ret)
{
	struct leaf *leaf;
	char name[sizeof(leaf->name)];
	int r;

	remove_spent(all);
	leaf = find_free(all, number);
	if (!leaf) {
		pick_name(all, number, name, sizeof(name));
		r = make(all, number, name, &leaf);
		if (r < 0)
			return r;
	}
	if (leaf->memory) {
		/* The last worker may have died above what the next is given at first. */
		(void)cgroup_write_u64(leaf->dir_fd, "memory.high", UINT64_MAX);
		(void)cgroup_write_u64(leaf->dir_fd, "memory.max", UINT64_MAX);
		(void)cgroup_write(leaf->dir_fd, "memory.oom.group", "1");
	}
	leaf->taken = true;
	*ret = leaf;
	return 0;
}

bool leaf_settle(struct leaf *leaf)
{
	bool populated = false;

	if (!leaf->unclean)
		return true;
	if (cgroup_populated(leaf->dir_fd, &populated) == 0 && populated)
		return false;
	leaf->unclean = false;
	return true;
}

void leaf_release(struct leaf *leaf)
{
	if (!leaf)
		return;
	kill_leftovers(leaf);
	leaf->taken = false;
	leaf->unclean = true;
	(void)leaf_settle(leaf);
}

/* What was killed is gone in a moment, and a directory is not removed before. Not for ever: a task
 * in an uninterruptible sleep may take its time. */
static void wait_empty(const struct leaf *leaf)
{
	auto_close int fd = -1;
	bool populated = true;

	if (cgroup_open_populated(leaf->dir_fd, &fd) != 0)
		return;
	for (int i = 0;
	     i < EMPTY_TRIES && cgroup_read_populated(fd, &populated) == 0 && populated;
	     i++) {
		struct pollfd p = { .fd = fd, .events = POLLPRI };

		(void)poll(&p, 1, EMPTY_MSEC);
	}
}

void leaves_done(struct leaves *all)
{
	while (all->first) {
		struct leaf *leaf = all->first;

		all->first = leaf->next;
		kill_leftovers(leaf);
		wait_empty(leaf);
		(void)cgroup_remove(all->root_fd, leaf->name);
		(void)leaf_free(leaf);
	}
}
