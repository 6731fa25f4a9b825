/* A file with the supervisor's pid, as gunicorn writes it: for scripts that send signals by it. It
 * is a note to others, not a lock: who has the sockets is decided by bind(2). */
#pragma once

#include <sys/types.h>

/* Writes pid and a newline to path, replacing what is there in one step, so that no reader sees half
 * of it. A file that names a living process, of whatever user, is left alone.
 * Returns 0; -EEXIST with the other's pid in *ret_other; or -errno. */
int pidfile_write(const char *path, pid_t pid, pid_t *ret_other);

/* Removes it if it still names pid: another instance may have written its own since. */
void pidfile_remove(const char *path, pid_t pid);
