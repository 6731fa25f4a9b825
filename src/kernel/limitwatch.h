/* Tells when somebody changes a limit of a cgroup or of one above it.
 *
 * The kernel wakes nobody for that (memory.max and memory.high cannot be polled), but whoever
 * writes to them goes through the file system, and inotify sees every write: systemctl
 * set-property, an in-place resize of a pod, echo. */
#pragma once

/* Watches memory.max and memory.high of the directory and of all above it, up to the root of the
 * mount; where one lacks these files (the root does), it is passed over. Wait for EPOLLIN on
 * ret_fd and call limitwatch_drain() then. Returns 0 and a descriptor that the caller closes, or
 * -errno: -ENOENT when none of them has a limit to watch, -EMFILE and -ENOSPC at the limits of
 * inotify. */
int limitwatch_open(int dir_fd, int *ret_fd);

/* Forgets what has been told. What was written since then, or not yet, is for the caller to read:
 * a write need not have changed anything. */
void limitwatch_drain(int fd);
