/* Unix sockets and the files that stand for them. A path may hold the leftover of a predecessor,
 * the live socket of another instance, or something that is none of our business. */
#include "util/unix.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "util/cleanup.h"

static int new_socket(int type)
{
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	return fd < 0 ? -errno : fd;
}

static int clear_stale(const struct sockaddr_un *un, int type)
{
	auto_close int fd = -1;
	struct stat st;

	if (lstat(un->sun_path, &st) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return -EEXIST;
	fd = new_socket(type);
	if (fd < 0)
		return fd;
	/* EAGAIN: its queue is full, so somebody lives there. */
	if (connect(fd, (const struct sockaddr *)un, sizeof(*un)) == 0 || errno == EAGAIN)
		return -EADDRINUSE;
	return unlink(un->sun_path) < 0 && errno != ENOENT ? -errno : 0;
}

/* Of what we have just bound, by a descriptor: whoever may write to the directory may have put a link
 * in its place. */
static int settle(const char *path, const struct unix_owner *owner)
{
	auto_close int fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	char name[sizeof("/proc/self/fd/") + 10];
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISSOCK(st.st_mode) || st.st_uid != geteuid() || st.st_nlink != 1)
		return -EEXIST;
	(void)snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	if (chmod(name, owner->mode) < 0)
		return -errno;
	if ((owner->uid != (uid_t)-1 || owner->gid != (gid_t)-1) &&
	    fchownat(fd, "", owner->uid, owner->gid, AT_EMPTY_PATH) < 0)
		return -errno;
	return 0;
}

int unix_bind(const char *path, int type, const struct unix_owner *owner)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	size_t n = strlen(path);
	bool abstract = path[0] == '@';
	auto_close int fd = -1;
	int r;

	if (n >= sizeof(un.sun_path))
		return -ENAMETOOLONG;
	memcpy(un.sun_path, path, n);
	if (abstract)
		un.sun_path[0] = '\0';
	else if ((r = clear_stale(&un, type)) < 0)
		return r;
	fd = new_socket(type);
	if (fd < 0)
		return fd;
	/* bind(2) copies the mode of the socket, less the umask: never open too wide. */
	(void)fchmod(fd, owner->mode);
	if (bind(fd, (struct sockaddr *)&un,
		 (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n + !abstract)) < 0)
		return -errno;
	if (abstract)
		return TAKE_FD(fd);
	r = settle(path, owner);
	if (r < 0)
		return r;
	return TAKE_FD(fd);
}
