/* The pool root: the one cgroup below which everything of this trimtab lives.
 *
 * P is our own cgroup where nobody else is inside; else, and on the root of the hierarchy, a
 * directory "trimtab-NAME" below it. This process goes to P/supervisor, because a cgroup whose
 * children have controllers may hold no processes itself. Whoever wants a scope from the service
 * manager asks for it before. */
#pragma once

#include <stdbool.h>

#include "util/cleanup.h"

/* Controllers of the leaves. */
#define POOL_MEMORY 0x1U
#define POOL_PIDS   0x2U

struct pool {
	int dir_fd;	   /* P, where leaves are made; -1: there is no pool */
	int supervisor_fd; /* P/supervisor, where this process is */
	int home_fd;	   /* where this process was, and goes back to */
	char *path;	   /* of P, for messages */
	char *made;	   /* the name of P below home, when we made it; else NULL */
	bool moved;	   /* P/supervisor is of our making, and so is our being there */
	unsigned controllers;	   /* POOL_: what the leaves have */
	unsigned home_controllers; /* what we enabled for the children of home */
	int memory_error;	   /* why POOL_MEMORY is not among them: -errno, else 0 */
};

#define POOL_NONE ((struct pool){ .dir_fd = -1, .supervisor_fd = -1, .home_fd = -1 })

/* Decides on P, moves this process into P/supervisor and enables memory and, where offered, pids
 * for the leaves. The absence of a controller is no failure: look at ret->controllers. A process
 * that finds itself in a P/supervisor, because it executed itself anew or the service manager
 * put it there (DelegateSubgroup=), takes up the same P. Leaves of a predecessor that was
 * killed may be in P, with processes inside.
 *
 * Returns 0, or -errno with everything as it was: -ENOENT, -EXDEV (cgroup_open_own), -EROFS,
 * -EACCES, -EPERM, -EAGAIN (cgroup.max.descendants or .depth), -EADDRINUSE when another
 * process is the supervisor of a pool of that name, -EINVAL for a name with a slash. */
int pool_open(const char *name, struct pool *ret);

/* Undoes pool_open: removes the leaves, moves this process back, removes what was made and
 * takes back what was enabled, as far as that goes. Releases the struct in any case.
 * Returns 0, or -errno: -EBUSY while processes are left in leaves; then P stays. */
int pool_close(struct pool *pool);

/* Releases the struct and touches nothing else: for a forked child, or after a failure. */
void pool_done(struct pool *pool);

#define auto_pool CLEANUP(pool_done)
