/* The cgroups of the workers below the pool's root: worker-1, worker-2, ... A leaf outlives its
 * worker and is reused, so that no dying cgroups pile up in the kernel. A second leaf of the same
 * number (worker-1.2) serves a replacement that starts while the old worker still runs. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernel/cgroup.h"
#include "util/time.h"

struct leaf {
	struct leaf *next;
	unsigned number; /* the slot it was made for */
	char name[32];
	int dir_fd;
	/* The PSI trigger on its memory.pressure, or -1: armed by whoever wants it, closed here.
	 * It outlives the workers: closing one waits for a grace period of the kernel's, 10 to
	 * 20 ms, which the next worker would pay for. */
	int pressure_fd;
	usec_t pressure_stall_usec, pressure_window_usec; /* as it was asked for */
	bool memory;					  /* memory.* files are there */
	bool taken;					  /* a worker runs in it */
	bool unclean; /* its worker is gone, but processes of it are still dying */
	/* cgroup.kill was written once. Kernels with kill_seq (6.14 on, and stable series that took
	 * the patch) compare the parent's count with the leaf's at CLONE_INTO_CGROUP and kill the
	 * new child at birth: seen on 6.18. Joining from within is not affected. */
	bool killed;
	/* Pages that were written here are others' as well, and stay charged here when its worker is
	 * gone: not to be held against another worker. It is removed as soon as it is empty. */
	bool spent;
};

struct leaves {
	struct leaf *first;
	int root_fd; /* the pool's root; not owned */
	bool memory; /* the root gives the memory controller to its children */
};

/* Finds a free leaf for the slot, or makes one. Takes it. Sets memory.oom.group, and lifts the
 * limits that the last worker left. Returns 0 or -errno. */
int leaf_take(struct leaves *all, unsigned number, struct leaf **ret);

/* Kills what a supervisor that was itself killed has left in leaves below the root, and keeps these
 * leaves: for reuse, and to be removed at the end. Call once, before any is taken. */
void leaves_take_over(struct leaves *all);

/* Adds a leaf that another program in this process had, descriptors and all; they stay the caller's
 * when there is no memory. Returns 0 or -ENOMEM. */
int leaves_add(struct leaves *all, const struct leaf *leaf);

/* The leaf of that name, or NULL. */
struct leaf *leaves_find(const struct leaves *all, const char *name);

/* As leaf_take, for a leaf that belongs to no slot. */
int leaf_take_named(struct leaves *all, const char *name, struct leaf **ret);

/* Kills every process inside. Returns 0, CGROUP_GONE or -errno. */
int leaf_kill(struct leaf *leaf);

/* Gives it back after its worker was reaped: kills what is left inside. unclean says whether
 * something is still dying there (wait for cgroup.events). NULL is fine. */
void leaf_release(struct leaf *leaf);

/* Looks again whether an unclean leaf is empty now. Returns true when it is clean. */
bool leaf_settle(struct leaf *leaf);

/* Kills everything left, removes the directories, frees the objects. Waits for what was killed, a
 * second for each leaf at most. */
void leaves_done(struct leaves *all);
