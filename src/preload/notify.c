/* Owns the address of the supervisor's notification socket, captured before main.
 *
 * It must never block (the socket's buffer may be full while the supervisor is stopped) and
 * never leave a descriptor behind. */
#include "preload/notify.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static struct sockaddr_un address;
static socklen_t address_length; /* 0: nobody to tell */

void notify_capture(void)
{
	const char *path = getenv("NOTIFY_SOCKET");
	size_t length = path ? strlen(path) : 0;

	/* Other kinds ("vsock:") exist in newer systemd, and none of them is ours. */
	if (length < 2 || length > sizeof address.sun_path - 1 ||
	    (path[0] != '/' && path[0] != '@'))
		return;
	address.sun_family = AF_UNIX;
	memcpy(address.sun_path, path, length);
	if (path[0] == '@')
		address.sun_path[0] = '\0'; /* abstract: its length ends it, no NUL */
	address_length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length +
				     (path[0] == '/'));
}

void notify_send(const char *message)
{
	int fd;

	if (address_length == 0)
		return;
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return;
	(void)sendto(fd, message, strlen(message), MSG_NOSIGNAL,
		     (const struct sockaddr *)&address, address_length);
	(void)close(fd);
}
