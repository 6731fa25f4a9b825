/* A worker without any runtime: takes its listening socket from LISTEN_FDS, says READY=1 to
 * NOTIFY_SOCKET by hand, answers one request at a time with its pid, and drains on SIGTERM. What
 * `trimtab exec` promises to any program, used by a program that has nothing to help it. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define LISTEN_FD 3

static void notify(const char *text)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	size_t length = path ? strlen(path) : 0;
	int fd;

	if (length == 0 || length >= sizeof(to.sun_path))
		return;
	memcpy(to.sun_path, path, length);
	if (path[0] == '@')
		to.sun_path[0] = '\0';
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	(void)sendto(fd, text, strlen(text), MSG_NOSIGNAL, (struct sockaddr *)&to,
		     (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length));
	(void)close(fd);
}

static void answer(int fd)
{
	const char *worker = getenv("TRIMTAB_WORKER");
	char request[4096], body[128], reply[512];
	int length;

	if (read(fd, request, sizeof(request)) <= 0)
		return;
	length = snprintf(body, sizeof(body), "{\"pid\": %d, \"worker\": %s}\n",
			  (int)getpid(), worker ? worker : "null");
	length = snprintf(reply, sizeof(reply),
			  "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
			  "Content-Length: %d\r\nConnection: close\r\n\r\n%s",
			  length, body);
	(void)!write(fd, reply, (size_t)length);
}

int main(void)
{
	const char *fds = getenv("LISTEN_FDS"), *pid = getenv("LISTEN_PID");
	sigset_t mask;

	if (!fds || atoi(fds) < 1 || !pid || atoi(pid) != getpid()) {
		fprintf(stderr,
			"plain-worker: no socket in LISTEN_FDS for this process\n");
		return 100;
	}
	sigemptyset(&mask);
	sigaddset(&mask, SIGTERM);
	sigaddset(&mask, SIGINT);
	sigprocmask(SIG_BLOCK, &mask, NULL);

	struct pollfd wait[] = {
		{ .fd = LISTEN_FD, .events = POLLIN },
		{ .fd = signalfd(-1, &mask, SFD_CLOEXEC), .events = POLLIN },
	};

	/* Another worker may accept first; this one must not then sleep in accept, deaf to
	 * SIGTERM. */
	(void)fcntl(LISTEN_FD, F_SETFL, fcntl(LISTEN_FD, F_GETFL) | O_NONBLOCK);
	notify("READY=1\nSTATUS=plain worker serves");
	while (poll(wait, 2, -1) >= 0 || errno == EINTR) {
		if (wait[1].revents)
			break;
		if (!wait[0].revents)
			continue;

		int fd = accept4(LISTEN_FD, NULL, NULL, SOCK_CLOEXEC);

		if (fd < 0)
			continue;
		answer(fd);
		(void)shutdown(fd, SHUT_WR);
		(void)close(fd);
	}
	notify("STOPPING=1");
	return 0;
}
