/* The notification socket. Everything that arrives is hostile: length, content, sender and
 * attached descriptors are checked before anything is believed. */
#include "process/notify.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/unix.h"

static bool parse_count(const char *text, uint64_t *ret)
{
	char *end;
	uint64_t count;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	count = strtoull(text, &end, 10);
	if (errno != 0 || *end != '\0' || count == UINT64_MAX)
		return false;
	*ret = count;
	return true;
}

static enum notify_hazard parse_hazard(const char *text)
{
	static const char *const words[] = {
		[HAZARD_THREADS] = "threads",
		[HAZARD_CONNECTIONS] = "connections",
		[HAZARD_EVENT_LOOPS] = "event-loops",
	};

	for (size_t i = HAZARD_THREADS; i < ELEMENTS(words); i++)
		if (strcmp(text, words[i]) == 0)
			return (enum notify_hazard)i;
	return HAZARD_NONE;
}

static void note(struct notify *n, const char *key, const char *value)
{
	if (strcmp(key, "READY") == 0)
		n->ready = strcmp(value, "1") == 0;
	else if (strcmp(key, "STOPPING") == 0)
		n->stopping = strcmp(value, "1") == 0;
	else if (strcmp(key, "WATCHDOG") == 0) {
		n->watchdog = strcmp(value, "1") == 0;
		n->watchdog_trigger = strcmp(value, "trigger") == 0;
	} else if (strcmp(key, "STATUS") == 0)
		n->status = value;
	else if (strcmp(key, "X_TRIMTAB") == 0) {
		n->hello |= strcmp(value, "hello") == 0;
		n->done |= strcmp(value, "done") == 0;
		n->late |= strcmp(value, "late") == 0;
		n->plain |= strcmp(value, "plain") == 0;
		n->max_requests |= strcmp(value, "max-requests") == 0;
		n->boot_error |= strcmp(value, "boot-error") == 0;
		n->kept |= strcmp(value, "kept") == 0;
	} else if (strcmp(key, "X_TRIMTAB_STAYS") == 0)
		n->stays = strcmp(value, "1") == 0;
	else if (strcmp(key, "X_TRIMTAB_REQUESTS") == 0)
		n->counted = parse_count(value, &n->n_requests);
	else if (strcmp(key, "X_TRIMTAB_HAZARD") == 0)
		n->hazard = parse_hazard(value);
}

void notify_parse(char *text, struct notify *ret)
{
	char *rest = text, *line;

	*ret = (struct notify){ 0 };
	while ((line = strsep(&rest, "\n"))) {
		char *equals = strchr(line, '=');

		if (!equals)
			continue;
		*equals = '\0';
		note(ret, line, equals + 1);
	}
}

void notify_copy_text(char *to, size_t size, const char *text)
{
	size_t n = 0;

	for (; text[n] && n + 1 < size; n++)
		to[n] = (unsigned char)text[n] < ' ' || text[n] == 127 ? '?' : text[n];
	to[n] = '\0';
}

int notify_open(const char *path, uid_t uid, gid_t gid)
{
	const struct unix_owner owner = { .mode = 0600, .uid = uid, .gid = gid };
	auto_close int fd = unix_bind(path, SOCK_DGRAM, &owner);
	int one = 1, room = 1 << 20;

	if (fd < 0)
		return fd;
	if (setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &one, sizeof(one)) < 0)
		return -errno;
	/* A thousand workers may report at once; a full queue would make senders give up. */
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room));
	return TAKE_FD(fd);
}

static void close_descriptors(const struct cmsghdr *c)
{
	size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

	for (size_t i = 0; i < n; i++) {
		int fd;

		memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
		(void)close(fd);
	}
}

ssize_t notify_receive(int fd, char *text, size_t size, pid_t *ret_pid)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(struct ucred)) +
			   CMSG_SPACE(64 * sizeof(int))];
	} control;
	struct iovec iov = { .iov_base = text, .iov_len = size - 1 };
	struct msghdr message = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	pid_t pid = 0;
	ssize_t n = recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	if (n < 0)
		return errno == EINTR ? -EAGAIN : -errno;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c;
	     c = CMSG_NXTHDR(&message, c)) {
		if (c->cmsg_level != SOL_SOCKET)
			continue;
		if (c->cmsg_type == SCM_RIGHTS)
			close_descriptors(c);
		if (c->cmsg_type == SCM_CREDENTIALS) {
			struct ucred credentials;

			memcpy(&credentials, CMSG_DATA(c), sizeof(credentials));
			pid = credentials.pid;
		}
	}
	/* pid 0: a sender outside our pid name space */
	if (n == 0 || pid <= 0 || message.msg_flags & (MSG_TRUNC | MSG_CTRUNC))
		return -EBADMSG;
	if (memchr(text, '\0', (size_t)n))
		return -EBADMSG;
	text[n] = '\0';
	*ret_pid = pid;
	return n;
}
