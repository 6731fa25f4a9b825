/* Starts one worker inside its leaf and hands it what it inherits. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct trimtab_page;

enum { SPAWN_MAX_LISTEN_FDS = 64 };

/* How a started child failed before its program ran; shared memory that only the child writes
 * and that the program itself never sees. */
struct spawn_report {
	_Atomic int step;  /* enum spawn_step */
	_Atomic int error; /* errno of a step that failed */
};

enum spawn_step {
	SPAWN_UNBORN,	   /* the child has not run at all */
	SPAWN_UNDER_WAY,   /* it runs; nothing has failed */
	SPAWN_PARENT_GONE, /* from here on: what failed */
	SPAWN_LEAF,
	SPAWN_DESCRIPTORS,
	SPAWN_DIRECTORY,
	SPAWN_EXEC,
};

struct spawn {
	const char *program; /* path to execute */
	char *const *argv;
	char **env;		   /* NULL-terminated. "LISTEN_PID=", "WATCHDOG_PID=" and
					 * TRIMTAB_PAGE's entry with room for a pid after them are
					 * completed in the child's copy: see SPAWN_PID_ROOM */
	const char *directory;	   /* to chdir(2) to, or NULL */
	int leaf_fd;		   /* cgroup directory, or -1 */
	bool join;		   /* do not clone into the leaf: see leaf.h, killed */
	int output_fd;		   /* stdout and stderr, or -1 to inherit ours */
	const int *listen_fds;	   /* become 3, 4, ... */
	size_t n_listen_fds;	   /* at most SPAWN_MAX_LISTEN_FDS */
	int extra_fd;		   /* becomes 3 + n_listen_fds: the trim page, or the
					 * template's socket; or -1 */
	struct trimtab_page *page; /* our mapping of the page, or NULL */
	bool die_with_parent; /* PR_SET_PDEATHSIG: no service manager cleans up after us */
	const char
		*oom_score_adj; /* the value we were started with, or NULL to leave it */
	struct spawn_report *report;
};

/* Characters to leave behind an environment entry that the child completes with its pid. */
#define SPAWN_PID_ROOM "0000000000"

/* Lets this process have as many descriptors as it may (RLIMIT_NOFILE): each worker costs ten. What
 * spawn() starts has the limit that we were started with: select(2) of old programs ends at 1024. */
void spawn_raise_descriptor_limit(void);

/* Puts the limit back, for a program that is to take our place. Async-signal-safe. */
void spawn_restore_descriptor_limit(void);

/* Maps a report. Returns NULL with errno set when there is no memory. */
struct spawn_report *spawn_report_new(void);
struct spawn_report *spawn_report_free(struct spawn_report *report);

/* "cannot enter its cgroup" and the like; static. */
const char *spawn_step_text(enum spawn_step step);

/* Starts the program: clone3 straight into the leaf, or where that is refused (seccomp answers
 * ENOSYS in containers; old kernels) fork with the child entering the leaf itself before it
 * touches memory. The child gets its own session, an empty signal mask, default dispositions
 * (but SIGTTIN and SIGTTOU, ignored), descriptors 0-2, the sockets and the extra one, and nothing
 * else, whatever we inherited ourselves.
 *
 * Writes the child's pid and a pidfd (CLOEXEC, caller's). Returns 0, or -errno: -EAGAIN at a
 * process limit, -ENOMEM, -ENOENT or -ENODEV when the leaf has gone. A failure after the fork
 * shows as an exit with status 127 and is explained by the report. */
int spawn(const struct spawn *how, pid_t *ret_pid, int *ret_pidfd);

/* No more clone3: for a kernel that kills what it clones into a cgroup. */
void spawn_distrust_clone3(void);
bool spawn_distrusts_clone3(void);
