/* The control server. A client is a stranger until SO_PEERCRED says otherwise, may send bytes of
 * any kind and stop reading at any time: lines are bounded, replies are buffered up to a bound,
 * and no write ever blocks the loop. */
#include "control/server.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "trimtab/control.h"
#include "util/cleanup.h"
#include "util/time.h"
#include "util/unix.h"

enum {
	MAX_CLIENTS = 32,
	CALLERS_PER_SEC = 10000,
};

struct control_client {
	struct control_server *server;
	struct control_client *next;
	sd_event_source *source;
	int fd;
	bool waiting; /* a reply was kept back: no further request is read */
	char in[TRIMTAB_CONTROL_REQUEST_MAX];
	size_t n_in;
	char *out;
	size_t n_out, written;
};

struct control_server {
	struct control_handler handler;
	sd_event *event;
	sd_event_source *source;
	struct control_client *clients;
	unsigned n_clients;
	int fd;
	char path[108];
};

struct json_object *control_ok(void)
{
	struct json_object *reply = json_object_new_object();

	if (reply)
		json_object_object_add(reply, "ok", json_object_new_boolean(true));
	return reply;
}

struct json_object *control_error(const char *format, ...)
{
	struct json_object *reply = json_object_new_object();
	char text[512];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (reply) {
		json_object_object_add(reply, "ok", json_object_new_boolean(false));
		json_object_object_add(reply, "error", json_object_new_string(text));
	}
	return reply;
}

static void client_free(struct control_client *c)
{
	struct control_server *server = c->server;

	for (struct control_client **p = &server->clients; *p; p = &(*p)->next)
		if (*p == c) {
			*p = c->next;
			server->n_clients--;
			break;
		}
	if (c->waiting)
		server->handler.forget(server->handler.userdata, c);
	sd_event_source_disable_unref(c->source);
	c->fd = close_fd(c->fd);
	free(c->out);
	free(c);
}

static bool has_line(const struct control_client *c)
{
	return memchr(c->in, '\n', c->n_in) != NULL;
}

/* What to wait for: room to write while a reply is pending or a request is here already, else the
 * next request. A client whose reply was kept back is watched for EPOLLHUP alone, which always
 * comes: it may have shut down its writing side, which EPOLLRDHUP would report without end. */
static void client_watch(struct control_client *c)
{
	uint32_t events = 0;

	if (c->n_out > c->written || (!c->waiting && has_line(c)))
		events = EPOLLOUT;
	else if (!c->waiting)
		events = EPOLLIN;
	(void)sd_event_source_set_io_events(c->source, events);
}

/* Returns -errno when the client is no use any more. */
static int client_flush(struct control_client *c)
{
	while (c->written < c->n_out) {
		ssize_t n = send(c->fd, c->out + c->written, c->n_out - c->written,
				 MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EAGAIN)
			return 0;
		if (n < 0)
			return -errno;
		c->written += (size_t)n;
	}
	free(TAKE(c->out));
	c->n_out = c->written = 0;
	return 0;
}

static int client_send(struct control_client *c, struct json_object *reply)
{
	size_t length = 0;
	const char *text =
		reply ? json_object_to_json_string_length(
				reply,
				JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE,
				&length)
		      : NULL;
	int r = -ENOMEM;

	if (text && length + c->n_out < TRIMTAB_CONTROL_REPLY_MAX) {
		char *out = realloc(c->out, c->n_out + length + 1);

		if (out) {
			memcpy(out + c->n_out, text, length);
			out[c->n_out + length] = '\n';
			c->out = out;
			c->n_out += length + 1;
			r = client_flush(c);
		}
	}
	json_object_put(reply);
	return r;
}

static int client_serve(struct control_client *c, char *line, size_t length)
{
	const struct control_handler *h = &c->server->handler;
	struct json_object *reply;
	struct request request;
	const char *error;

	if (memchr(line, '\0', length))
		return client_send(c, control_error("a request is text"));
	if (request_parse(line, &request, &error) < 0)
		return client_send(c, control_error("%s", error));
	reply = h->handle(h->userdata, &request, c);
	c->waiting = !reply;
	return reply ? client_send(c, reply) : 0;
}

/* Serves whole lines until none is left or a reply is kept back. */
static int client_serve_lines(struct control_client *c)
{
	char *newline;
	int r = 0;

	while (r >= 0 && !c->waiting && (newline = memchr(c->in, '\n', c->n_in))) {
		char line[TRIMTAB_CONTROL_REQUEST_MAX];
		size_t length = (size_t)(newline - c->in);

		memcpy(line, c->in, length);
		line[length] = '\0';
		c->n_in -= length + 1;
		memmove(c->in, newline + 1, c->n_in);
		r = client_serve(c, line, length);
	}
	return r;
}

static int client_read(struct control_client *c)
{
	ssize_t n = recv(c->fd, c->in + c->n_in, sizeof(c->in) - c->n_in, MSG_DONTWAIT);

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	if (n == 0)
		return -ECONNRESET;
	c->n_in += (size_t)n;

	int r = client_serve_lines(c);

	if (r >= 0 && !c->waiting && c->n_in == sizeof(c->in))
		return -EMSGSIZE;
	return r;
}

static int on_client(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
	struct control_client *c = userdata;
	int r = 0;

	(void)source;
	(void)fd;
	if (events & EPOLLOUT)
		r = client_flush(c);
	if (r >= 0 && c->n_out == 0)
		r = client_serve_lines(c);
	if (r >= 0 && events & EPOLLIN)
		r = client_read(c);
	if (r < 0 || events & (EPOLLHUP | EPOLLERR))
		client_free(c);
	else
		client_watch(c);
	return 0;
}

/* What the client has asked meanwhile waits for the loop: whoever replies is in the middle of
 * something, and another request would change it under his hands. */
void control_reply(struct control_client *c, struct json_object *reply)
{
	c->waiting = false;
	if (client_send(c, reply) < 0)
		client_free(c);
	else
		client_watch(c);
}

static bool peer_is_allowed(int fd)
{
	struct ucred peer;
	socklen_t n = sizeof(peer);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) < 0)
		return false;
	return peer.uid == 0 || peer.uid == geteuid();
}

/* Takes fd over, also on failure. */
static struct control_client *client_new(struct control_server *server, int fd)
{
	struct control_client *c = calloc(1, sizeof(*c));

	if (!c) {
		(void)close_fd(fd);
		return NULL;
	}
	c->server = server;
	c->fd = fd;
	c->next = server->clients;
	server->clients = c;
	server->n_clients++;
	if (sd_event_add_io(server->event, &c->source, c->fd, EPOLLIN, on_client, c) <
	    0) {
		client_free(c);
		return NULL;
	}
	return c;
}

static int on_connection(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
	struct control_server *server = userdata;
	auto_close int peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)source;
	(void)events;
	if (peer >= 0 && peer_is_allowed(peer) && server->n_clients < MAX_CLIENTS)
		(void)client_new(server, TAKE_FD(peer));
	return 0;
}

struct control_client *control_adopt(struct control_server *server, int fd)
{
	struct control_client *c = client_new(server, fd);

	if (c) {
		c->waiting = true;
		client_watch(c);
	}
	return c;
}

static int listen_at(const char *path)
{
	const struct unix_owner owner = { .mode = 0600,
					  .uid = (uid_t)-1,
					  .gid = (gid_t)-1 };
	auto_close int fd = unix_bind(path, SOCK_STREAM, &owner);

	if (fd < 0)
		return fd;
	if (listen(fd, MAX_CLIENTS) < 0)
		return -errno;
	return TAKE_FD(fd);
}

int control_resume(sd_event *event, const char *path, int fd,
		   const struct control_handler *handler, struct control_server **ret)
{
	struct control_server *server = calloc(1, sizeof(*server));
	int r;

	if (!server) {
		(void)close_fd(fd);
		return -ENOMEM;
	}
	server->handler = *handler;
	server->event = sd_event_ref(event);
	server->fd = fd;
	(void)snprintf(server->path, sizeof(server->path), "%s", path);
	r = sd_event_add_io(event, &server->source, server->fd, EPOLLIN, on_connection,
			    server);
	if (r < 0) {
		(void)control_free(server);
		return r;
	}
	/* Operators may wait; the workers' events may not. */
	(void)sd_event_source_set_priority(server->source, SD_EVENT_PRIORITY_NORMAL + 10);
	/* Without a descriptor to spare, a caller stays in the queue: no reason to spin. */
	(void)sd_event_source_set_ratelimit(server->source, USEC_PER_SEC,
					    CALLERS_PER_SEC);
	*ret = server;
	return 0;
}

int control_new(sd_event *event, const char *path, const struct control_handler *handler,
		struct control_server **ret)
{
	int fd = listen_at(path);

	return fd < 0 ? fd : control_resume(event, path, fd, handler, ret);
}

int control_fd(const struct control_server *server)
{
	return server ? server->fd : -1;
}

const char *control_path(const struct control_server *server)
{
	return server ? server->path : "";
}

int control_client_fd(const struct control_client *client)
{
	return client ? client->fd : -1;
}

struct control_server *control_free(struct control_server *server)
{
	if (!server)
		return NULL;
	while (server->clients) {
		server->clients->waiting = false; /* the handler is ending too */
		client_free(server->clients);
	}
	sd_event_source_disable_unref(server->source);
	server->fd = close_fd(server->fd);
	if (server->path[0])
		(void)unlink(server->path);
	sd_event_unref(server->event);
	free(server);
	return NULL;
}
