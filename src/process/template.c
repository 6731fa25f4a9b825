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

enum { PACKET_SIZE = 8192, N_FDS_MAX = 4 };

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
	int n = snprintf(text, size, "fork %u%s%s%s%s", q->worker,
			 q->output_fd >= 0 ? " output" : "", q->leaf_fd >= 0 ? leaf : "",
			 q->page_fd >= 0 ? " page" : "", q->warm_fd >= 0 ? " warm" : "");
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

/* With those of the candidates that are descriptors. */
static int send_packet(int fd, char *text, size_t length,
		       const int candidates[static N_FDS_MAX])
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(N_FDS_MAX * sizeof(int))];
	} control = { 0 };
	struct iovec iov = { .iov_base = text, .iov_len = length };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };
	int fds[N_FDS_MAX];
	size_t n_fds = 0;

	for (size_t i = 0; i < N_FDS_MAX; i++)
		if (candidates[i] >= 0)
			fds[n_fds++] = candidates[i];

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

int template_ask(int fd, const struct template_request *q)
{
	const int candidates[N_FDS_MAX] = { q->output_fd, q->leaf_fd, q->page_fd,
					    q->warm_fd };
	char text[PACKET_SIZE];
	int r = write_request(q, text, sizeof(text));

	return r < 0 ? r : send_packet(fd, text, (size_t)r, candidates);
}

int template_promote(int fd, int output_fd, int leaf_fd)
{
	const int candidates[N_FDS_MAX] = { output_fd, leaf_fd, -1, -1 };
	char text[32];
	/* Never to be cloned into: the worker has the library's thread, see clone_into(). */
	int n = snprintf(text, sizeof(text), "promote%s%s",
			 output_fd >= 0 ? " output" : "", leaf_fd >= 0 ? " join" : "");

	return send_packet(fd, text, (size_t)n, candidates);
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

/* Without anything that could disturb a terminal or a journal's reader. */
static void take_words(const char *text, char *to, size_t size)
{
	size_t n = 0;

	for (; text[n] && n + 1 < size; n++)
		to[n] = (unsigned char)text[n] < ' ' || (unsigned char)text[n] > '~'
				? '?'
				: text[n];
	to[n] = '\0';
}

int template_parse(const char *text, struct template_answer *ret)
{
	struct template_answer a = { 0 };
	int end = 0;

	if (strcmp(text, "ready") == 0) {
		a.word = TEMPLATE_READY;
	} else if (strcmp(text, "warm") == 0) {
		a.word = TEMPLATE_WARM;
	} else if (sscanf(text, "promoted %d%n", &a.pid, &end) == 1 && !text[end]) {
		a.word = TEMPLATE_PROMOTED;
		if (a.pid <= 1)
			return -EBADMSG;
	} else if (strncmp(text, "refused ", 8) == 0) {
		a.word = TEMPLATE_REFUSED;
		take_words(text + 8, a.why, sizeof(a.why));
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
