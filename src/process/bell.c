/* Pressure bells. Listeners are worker processes or their children: what they send is read and
 * thrown away, more than a few connections are refused, and neither keeps the loop from anything
 * else. */
#include "process/bell.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/time.h"
#include "util/unix.h"

enum {
	MAX_LISTENERS = 8,
	CALLERS_PER_SEC = 100,
};

/* Behind everything else that a loop may have to do: nothing that they say means anything. */
#define PRIORITY_BELL (SD_EVENT_PRIORITY_IDLE + 200)

struct listener {
	struct bell *bell;
	sd_event_source *source;
	int fd; /* -1: free */
};

struct bell {
	sd_event *event;
	sd_event_source *source;
	int fd;
	char path[108];
	struct listener listeners[MAX_LISTENERS];
};

static void listener_drop(struct listener *l)
{
	l->source = sd_event_source_disable_unref(l->source);
	l->fd = close_fd(l->fd);
}

static int on_listener(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
	char sink[256];

	(void)source;
	if (events & (EPOLLHUP | EPOLLERR) ||
	    recv(fd, sink, sizeof(sink), MSG_DONTWAIT) == 0)
		listener_drop(userdata);
	return 0;
}

static int on_caller(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
	struct bell *bell = userdata;
	int peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)source;
	(void)events;
	if (peer >= 0)
		(void)bell_adopt(bell, peer);
	return 0;
}

int bell_adopt(struct bell *bell, int fd)
{
	auto_close int peer = fd;

	for (size_t i = 0; i < MAX_LISTENERS; i++) {
		struct listener *l = &bell->listeners[i];
		int r;

		if (l->fd >= 0)
			continue;
		r = sd_event_add_io(bell->event, &l->source, peer, EPOLLIN, on_listener,
				    l);
		if (r < 0)
			return r;
		(void)sd_event_source_set_priority(l->source, PRIORITY_BELL);
		l->fd = TAKE_FD(peer);
		return 0;
	}
	return -EMFILE;
}

static int listen_at(const char *path, uid_t uid, gid_t gid)
{
	const struct unix_owner owner = { .mode = 0600, .uid = uid, .gid = gid };
	auto_close int fd = unix_bind(path, SOCK_STREAM, &owner);

	if (fd < 0)
		return fd;
	if (listen(fd, MAX_LISTENERS) < 0)
		return -errno;
	return TAKE_FD(fd);
}

int bell_resume(sd_event *event, const char *path, int fd, struct bell **ret)
{
	struct bell *bell = calloc(1, sizeof(*bell));
	int r;

	if (!bell) {
		(void)close_fd(fd);
		return -ENOMEM;
	}
	bell->event = sd_event_ref(event);
	for (size_t i = 0; i < MAX_LISTENERS; i++)
		bell->listeners[i] = (struct listener){ .bell = bell, .fd = -1 };
	bell->fd = fd;
	(void)snprintf(bell->path, sizeof(bell->path), "%s", path);
	r = sd_event_add_io(event, &bell->source, bell->fd, EPOLLIN, on_caller, bell);
	if (r < 0) {
		(void)bell_free(bell);
		return r;
	}
	/* Without a descriptor to spare, a caller stays in the queue and would be heard of for ever. */
	(void)sd_event_source_set_ratelimit(bell->source, USEC_PER_SEC, CALLERS_PER_SEC);
	(void)sd_event_source_set_priority(bell->source, PRIORITY_BELL);
	*ret = bell;
	return 0;
}

int bell_new(sd_event *event, const char *path, uid_t uid, gid_t gid, struct bell **ret)
{
	int fd = listen_at(path, uid, gid);

	return fd < 0 ? fd : bell_resume(event, path, fd, ret);
}

int bell_fd(const struct bell *bell)
{
	return bell ? bell->fd : -1;
}

size_t bell_listeners(const struct bell *bell, int *fds, size_t n)
{
	size_t found = 0;

	for (size_t i = 0; bell && i < MAX_LISTENERS && found < n; i++)
		if (bell->listeners[i].fd >= 0)
			fds[found++] = bell->listeners[i].fd;
	return found;
}

struct bell *bell_free(struct bell *bell)
{
	if (!bell)
		return NULL;
	for (size_t i = 0; i < MAX_LISTENERS; i++)
		listener_drop(&bell->listeners[i]);
	sd_event_source_disable_unref(bell->source);
	bell->fd = close_fd(bell->fd);
	if (bell->path[0])
		(void)unlink(bell->path);
	sd_event_unref(bell->event);
	free(bell);
	return NULL;
}

bool bell_is_heard(const struct bell *bell)
{
	for (size_t i = 0; bell && i < MAX_LISTENERS; i++)
		if (bell->listeners[i].fd >= 0)
			return true;
	return false;
}

void bell_ring(struct bell *bell)
{
	for (size_t i = 0; bell && i < MAX_LISTENERS; i++)
		if (bell->listeners[i].fd >= 0)
			(void)send(bell->listeners[i].fd, "", 1,
				   MSG_DONTWAIT | MSG_NOSIGNAL);
}
