/* Leaves. They hold workers and nothing else; limits are set by the supervisor. */
#include "process/leaf.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/cleanup.h"

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

/* worker-3, then worker-3.2, worker-3.3, ...: the first name that no leaf has yet. */
static void pick_name(const struct leaves *all, unsigned number, char *name, size_t size)
{
	unsigned same = 0;

	for (const struct leaf *l = all->first; l; l = l->next)
		same += l->number == number;
	if (same == 0)
		(void)snprintf(name, size, "worker-%u", number);
	else
		(void)snprintf(name, size, "worker-%u.%u", number, same + 1);
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

int leaf_take_named(struct leaves *all, const char *name, struct leaf **ret)
{
	int r = make(all, 0, name, ret);

	if (r == 0)
		(*ret)->taken = true;
	return r;
}

static struct leaf *find_free(const struct leaves *all, unsigned number)
{
	struct leaf *best = NULL;

	for (struct leaf *l = all->first; l; l = l->next)
		if (l->number == number && !l->taken && leaf_settle(l))
			best = l; /* the list is newest first: the last is the plainest name */
	return best;
}

int leaf_take(struct leaves *all, unsigned number, struct leaf **ret)
{
	struct leaf *leaf = find_free(all, number);
	char name[sizeof(leaf->name)];
	int r;

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

void leaves_done(struct leaves *all)
{
	while (all->first) {
		struct leaf *leaf = all->first;

		all->first = leaf->next;
		kill_leftovers(leaf);
		(void)cgroup_remove(all->root_fd, leaf->name);
		(void)leaf_free(leaf);
	}
}
