/* The control socket: connections, peers, lines and replies. What a verb means is the handler's. */
#pragma once

#include <json-c/json.h>
#include <systemd/sd-event.h>

#include "control/verb.h"

struct control_server;
struct control_client;

struct control_handler {
	/* Handles one request. Returns the reply (the server takes it over), or NULL when the
	 * handler keeps the client and calls control_reply() later, not from within. */
	struct json_object *(*handle)(void *userdata, const struct request *request,
				      struct control_client *client);
	/* The client went away: a kept pointer to it must be forgotten. */
	void (*forget)(void *userdata, struct control_client *client);
	void *userdata;
};

/* Listens at path, mode 0600, replacing a stale socket. Returns 0 or -errno: -EADDRINUSE when
 * somebody answers there. */
int control_new(sd_event *event, const char *path, const struct control_handler *handler,
		struct control_server **ret);
struct control_server *control_free(struct control_server *server);

/* For a supervisor that takes the place of another: goes on listening on fd, which it takes over, and
 * with one client whose reply was kept back. Returns 0 or -errno; the client, or NULL. */
int control_resume(sd_event *event, const char *path, int fd,
		   const struct control_handler *handler, struct control_server **ret);
struct control_client *control_adopt(struct control_server *server, int fd);

/* Their descriptors and the path, for the one before it; -1 and "" for NULL. */
int control_fd(const struct control_server *server);
const char *control_path(const struct control_server *server);
int control_client_fd(const struct control_client *client);

/* Sends the reply kept back earlier, and takes it over. Handles no other request. */
void control_reply(struct control_client *client, struct json_object *reply);

/* {"ok":true} and {"ok":false,"error":"..."}; NULL without memory. */
struct json_object *control_ok(void);
struct json_object *control_error(const char *format, ...)
	__attribute__((format(printf, 1, 2)));
