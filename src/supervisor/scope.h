/* A cgroup of our own from systemd, for a trimtab started by hand. */
#pragma once

/* Asks the system manager (as root) or the user's manager for a transient scope around this
 * process, with Delegate=yes, and waits until we are in it: at most timeout seconds, so start-up
 * only. Returns 0 or -errno; -ENOENT, -ECONNREFUSED and the like without a manager.
 * Source: org.freedesktop.systemd1(5), StartTransientUnit. */
int scope_enter(const char *pool, unsigned timeout_sec);
