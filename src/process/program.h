/* Whether a program would load a library from LD_PRELOAD, by its file alone. */
#pragma once

#include <limits.h>
#include <sys/types.h>

enum program_kind {
	PROGRAM_LOADS,
	PROGRAM_STATIC,	 /* no program interpreter: nothing is loaded at all */
	PROGRAM_MUSL,	 /* another C library than the one that ours is made for */
	PROGRAM_FOREIGN, /* of another machine or word size */
	PROGRAM_SECURE, /* setuid, setgid or with file capabilities: the loader refuses */
	PROGRAM_UNKNOWN, /* not an ELF file or a script, or not readable */
};

struct program {
	enum program_kind kind;
	char path[PATH_MAX]; /* what decided: the program, or a script's interpreter */
};

/* Looks at the file that would be executed by a process of this user and group, following the
 * first line of scripts, `env NAME` included. A program that starts another in turn (a wrapper
 * script) is judged by itself. Opens files; never waits. Cannot fail: UNKNOWN says so. */
void program_examine(const char *path, uid_t uid, gid_t gid, struct program *ret);

/* "is linked statically" and so on; NULL where nothing speaks against it. */
const char *program_problem(enum program_kind kind);
