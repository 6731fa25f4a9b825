/* Packets to and from the template. It runs the application's code once preload = app: what it
 * says is checked like anything else that a worker says. */
#include "process/template.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "util/cleanup.h"

enum { PACKET_SIZE = 8192 };

int template_pair(int *ret_ours, int *ret_theirs)
{
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
		return -errno;
	*ret_ours = fds[0];
	*ret_theirs = fds[1];
	return 0;
}

/* "fork 3 output leaf page" and the environment, a line each. */
static int write_request(const struct template_request *q, char *text, size_t size)
{
	const char *leaf = q->join ? " join" : " leaf";
	int n = snprintf(text, size, "fork %u%s%s%s", q->worker,
			 q->output_fd >= 0 ? " output" : "", q->leaf_fd >= 0 ? leaf : "",
			 q->page_fd >= 0 ? " page" : "");
	size_t used = (size_t)n;

	for (char *const *e = q->env; *e; e++) {
		/* A newline in a value would start another entry. */
		if (strchr(*e, '\n'))
			return -EINVAL;
		n = snprintf(text + used, size - used, "\n%s", *e);
		if (n < 0 || (size_t)n >= size - used)
			return -EMSGSIZE;
		used += (size_t)n;
	}
	return (int)used;
}

int template_ask(int fd, const struct template_request *q)
{
	const int candidates[] = { q->output_fd, q->leaf_fd, q->page_fd };
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(candidates))];
	} control = { 0 };
	char text[PACKET_SIZE];
	int fds[ELEMENTS(candidates)], r = write_request(q, text, sizeof(text));
	size_t n_fds = 0;

	if (r < 0)
		return r;
	for (size_t i = 0; i < ELEMENTS(candidates); i++)
		if (candidates[i] >= 0)
			fds[n_fds++] = candidates[i];

	struct iovec iov = { .iov_base = text, .iov_len = (size_t)r };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (n_fds > 0) {
		message.msg_control = &control;
		message.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));

		struct cmsghdr *c = CMSG_FIRSTHDR(&message);

		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
		memcpy(CMSG_DATA(c), fds, n_fds * sizeof(int));
	}
	if (sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		return errno == ECONNRESET ? -EPIPE : -errno;
	return 0;
}

int template_tell(int fd, const char *format, ...)
{
	char text[128];
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (n < 0 || (size_t)n >= sizeof(text))
		return -EMSGSIZE;
	if (send(fd, text, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		return errno == ECONNRESET ? -EPIPE : -errno;
	return 0;
}

int template_parse(const char *text, struct template_answer *ret)
{
	struct template_answer a = { 0 };
	int end = 0;

	if (strcmp(text, "ready") == 0) {
		a.word = TEMPLATE_READY;
	} else if (sscanf(text, "forked %u %d%n", &a.worker, &a.pid, &end) == 2 &&
		   !text[end]) {
		a.word = TEMPLATE_FORKED;
		if (a.pid <= 1)
			return -EBADMSG;
	} else if (sscanf(text, "failed %u %d%n", &a.worker, &a.error, &end) == 2 &&
		   !text[end]) {
		a.word = TEMPLATE_FAILED;
		a.error = a.error > 0 && a.error < 4096 ? -a.error : -EIO;
	} else {
		return -EBADMSG;
	}
	*ret = a;
	return 0;
}

int template_hear(int fd, struct template_answer *ret)
{
	char text[256];
	ssize_t n = recv(fd, text, sizeof(text) - 1, MSG_DONTWAIT | MSG_TRUNC);

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0
		       : errno == ECONNRESET		 ? -EPIPE
							 : -errno;
	if (n == 0)
		return -EPIPE;
	if ((size_t)n >= sizeof(text) || memchr(text, '\0', (size_t)n))
		return -EBADMSG;
	text[n] = '\0';
	return template_parse(text, ret) < 0 ? -EBADMSG : 1;
}
