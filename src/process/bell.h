/* Tells a worker that listens by systemd's memory-pressure protocol (MEMORY_PRESSURE_WATCH
 * naming a unix stream socket): each connection gets one byte when the worker is asked to give
 * memory back. Source: MEMORY_PRESSURE.md of systemd. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

struct bell;

/* Listens at path, mode 0600, owner as given ((uid_t)-1: leave). Returns 0 or -errno. */
int bell_new(sd_event *event, const char *path, uid_t uid, gid_t gid, struct bell **ret);
struct bell *bell_free(struct bell *bell);

/* For a supervisor that takes the place of another: the listening socket of a bell (-1 for NULL),
 * its connections (at most n; returns how many), and a bell made of both. bell_resume() takes
 * over fd, bell_adopt() its own one: 0 or -errno. */
int bell_fd(const struct bell *bell);
size_t bell_listeners(const struct bell *bell, int *fds, size_t n);
int bell_resume(sd_event *event, const char *path, int fd, struct bell **ret);
int bell_adopt(struct bell *bell, int fd);

/* Whether anybody listens. */
bool bell_is_heard(const struct bell *bell);

/* One byte to every listener; never blocks: one whose buffer is full has a byte waiting. */
void bell_ring(struct bell *bell);
