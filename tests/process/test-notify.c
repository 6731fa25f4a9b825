/* Datagrams of workers: what is taken from them, and all that hostile ones may try. */
#include "process/notify.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/cleanup.h"

/* ---- parsing ---- */

static struct notify parsed(const char *text)
{
	static char copy[4096];
	struct notify n;

	(void)snprintf(copy, sizeof(copy), "%s", text);
	notify_parse(copy, &n);
	return n;
}

static bool says_nothing(const struct notify *n)
{
	return !n->ready && !n->stopping && !n->watchdog && !n->watchdog_trigger &&
	       !n->hello && !n->done && !n->late && !n->plain && !n->max_requests &&
	       !n->boot_error && !n->kept && !n->stays && !n->status;
}

Test(notify_parse, requests)
{
	static const char *const bad[] = {
		"X_TRIMTAB_REQUESTS=",
		"X_TRIMTAB_REQUESTS=-1",
		"X_TRIMTAB_REQUESTS= 1",
		"X_TRIMTAB_REQUESTS=1x",
		"X_TRIMTAB_REQUESTS=18446744073709551615",
		"X_TRIMTAB_REQUESTS=99999999999999999999",
	};

	cr_assert(parsed("WATCHDOG=1\nX_TRIMTAB_REQUESTS=17").counted);
	cr_assert_eq(parsed("X_TRIMTAB_REQUESTS=17").n_requests, 17);
	for (size_t i = 0; i < ELEMENTS(bad); i++)
		cr_expect_not(parsed(bad[i]).counted, "%s", bad[i]);
}

Test(notify_parse, each_word)
{
	cr_assert(parsed("READY=1").ready);
	cr_assert(parsed("STOPPING=1").stopping);
	cr_assert(parsed("WATCHDOG=1").watchdog);
	cr_assert_not(parsed("WATCHDOG=1").watchdog_trigger);
	cr_assert(parsed("WATCHDOG=trigger").watchdog_trigger);
	cr_assert_not(parsed("WATCHDOG=trigger").watchdog);
	cr_assert(parsed("X_TRIMTAB=hello").hello);
	cr_assert(parsed("X_TRIMTAB=done").done);
	cr_assert(parsed("X_TRIMTAB=late").late);
	cr_assert(parsed("X_TRIMTAB=plain").plain);
	cr_assert(parsed("X_TRIMTAB=max-requests").max_requests);
	cr_assert(parsed("X_TRIMTAB=boot-error").boot_error);
	cr_assert(parsed("X_TRIMTAB=kept").kept);
	cr_assert(parsed("X_TRIMTAB_STAYS=1").stays);
	cr_assert_not(parsed("X_TRIMTAB_STAYS=0").stays);
	cr_assert_str_eq(parsed("STATUS=serving").status, "serving");
}

Test(notify_parse, hazards)
{
	cr_assert_eq(parsed("X_TRIMTAB_HAZARD=threads").hazard, HAZARD_THREADS);
	cr_assert_eq(parsed("X_TRIMTAB_HAZARD=connections").hazard, HAZARD_CONNECTIONS);
	cr_assert_eq(parsed("X_TRIMTAB_HAZARD=event-loops").hazard, HAZARD_EVENT_LOOPS);
	cr_assert_eq(parsed("X_TRIMTAB_HAZARD=").hazard, HAZARD_NONE);
	cr_assert_eq(parsed("X_TRIMTAB_HAZARD=4").hazard, HAZARD_NONE);
	cr_assert_eq(parsed("READY=1").hazard, HAZARD_NONE);
}

Test(notify_copy_text, is_cut_and_harmless)
{
	char to[6] = "xxxxx";

	notify_copy_text(to, sizeof(to), "a\033b\177");
	cr_assert_str_eq(to, "a?b?");
	notify_copy_text(to, sizeof(to), "longer than that");
	cr_assert_str_eq(to, "longe");
	notify_copy_text(to, 1, "nothing fits");
	cr_assert_str_eq(to, "");
}

Test(notify_parse, all_in_one_message)
{
	struct notify n = parsed("READY=1\nSTATUS=a = b\nWATCHDOG=1\nX_TRIMTAB=hello\n"
				 "X_TRIMTAB=done\nMAINPID=1\n");

	cr_assert(n.ready && n.watchdog && n.hello && n.done);
	cr_assert_not(n.max_requests || n.boot_error || n.stopping || n.watchdog_trigger);
	cr_assert_str_eq(n.status, "a = b");
}

Test(notify_parse, what_says_nothing)
{
	static const char *const texts[] = {
		"",
		"\n",
		"\n\n\n",
		"=",
		"==",
		"READY",
		"READY=",
		"READY=0",
		"READY=11",
		"READY=1 ",
		" READY=1",
		"ready=1",
		"READY=yes",
		"WATCHDOG=0",
		"WATCHDOG_USEC=1",
		"X_TRIMTAB=",
		"X_TRIMTAB=hello ",
		"X_TRIMTAB",
		"XREADY=1",
		"READY\t=1",
		"FDSTORE=1",
		"\x01\x02\xff",
		"READY=1\r",
		"BARRIER=1",
	};

	for (size_t i = 0; i < ELEMENTS(texts); i++) {
		struct notify n = parsed(texts[i]);

		cr_assert(says_nothing(&n), "\"%s\" says something", texts[i]);
	}
}

Test(notify_parse, the_last_word_counts)
{
	cr_assert_not(parsed("READY=1\nREADY=0").ready);
	cr_assert_str_eq(parsed("STATUS=a\nSTATUS=b").status, "b");
	cr_assert_str_eq(parsed("STATUS=a\nSTATUS=").status, "");
}

/* ---- receiving ---- */

static char directory[64];
static char path[108];
static int ours = -1, sender = -1;

static void open_both(void)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };

	(void)snprintf(directory, sizeof(directory), "/tmp/trimtab-notify-XXXXXX");
	cr_assert_not_null(mkdtemp(directory));
	(void)snprintf(path, sizeof(path), "%s/notify", directory);
	ours = notify_open(path, (uid_t)-1, (gid_t)-1);
	cr_assert_geq(ours, 0, "%s", strerror(-ours));
	sender = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	(void)snprintf(un.sun_path, sizeof(un.sun_path), "%s", path);
	cr_assert_eq(connect(sender, (struct sockaddr *)&un, sizeof(un)), 0);
}

static void close_both(void)
{
	(void)close_fd(ours);
	(void)close_fd(sender);
	(void)unlink(path);
	(void)rmdir(directory);
}

TestSuite(notify_receive, .init = open_both, .fini = close_both);

static void say(const void *text, size_t n)
{
	cr_assert_eq(send(sender, text, n, 0), (ssize_t)n);
}

/* The lowest free descriptor: the same before and after means that nothing was left open. */
static int lowest_free(void)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	(void)close(fd);
	return fd;
}

Test(notify_receive, the_socket_is_private)
{
	struct stat st;

	cr_assert_eq(stat(path, &st), 0);
	cr_assert_eq(st.st_mode & 07777, 0600);
	cr_assert(fcntl(ours, F_GETFD) & FD_CLOEXEC);
	cr_assert(fcntl(ours, F_GETFL) & O_NONBLOCK);
}

Test(notify_receive, nothing_there)
{
	char text[64];
	pid_t pid = -7;

	cr_assert_eq(notify_receive(ours, text, sizeof(text), &pid), -EAGAIN);
	cr_assert_eq(pid, -7);
}

Test(notify_receive, text_and_the_senders_pid)
{
	char text[64];
	pid_t pid = 0;

	say("READY=1", 7);
	cr_assert_eq(notify_receive(ours, text, sizeof(text), &pid), 7);
	cr_assert_str_eq(text, "READY=1");
	cr_assert_eq(pid, getpid());
}

Test(notify_receive, the_pid_is_the_childs_when_a_child_says_it)
{
	char text[64];
	pid_t pid = 0, child = fork();

	if (child == 0) {
		(void)send(sender, "X=1", 3, 0);
		_exit(0);
	}
	cr_assert_eq(waitpid(child, NULL, 0), child);
	cr_assert_eq(notify_receive(ours, text, sizeof(text), &pid), 3);
	cr_assert_eq(pid, child);
}

/* Credentials can be given by the sender; the kernel takes only its own from the unprivileged. */
static int say_as(pid_t claimed, uid_t uid)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(struct ucred))];
	} control = { 0 };
	struct ucred forged = { .pid = claimed, .uid = uid, .gid = getgid() };
	struct iovec iov = { .iov_base = (char *)"READY=1", .iov_len = 7 };
	struct msghdr m = { .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = &control,
			    .msg_controllen = sizeof(control) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_CREDENTIALS;
	c->cmsg_len = CMSG_LEN(sizeof(forged));
	memcpy(CMSG_DATA(c), &forged, sizeof(forged));
	return sendmsg(sender, &m, 0) < 0 ? -errno : 0;
}

Test(notify_receive, an_unprivileged_sender_cannot_claim_another_pid)
{
	int status;
	pid_t child;

	if (geteuid() != 0)
		cr_skip("only root can be somebody else first");
	child = fork();
	if (child == 0) {
		if (setgid(65534) < 0 || setuid(65534) < 0)
			_exit(1);
		_exit(say_as(getppid(), getuid()) == -EPERM ? 0 : 2);
	}
	cr_assert_eq(waitpid(child, &status, 0), child);
	cr_assert_eq(status, 0);
}

Test(notify_receive, the_longest_that_fits_and_one_byte_more)
{
	char text[64], longer[64];
	pid_t pid;

	memset(longer, 'x', sizeof(longer));
	say(longer, 63);
	cr_assert_eq(notify_receive(ours, text, sizeof(text), &pid), 63);
	cr_assert_eq(strlen(text), 63);
	say(longer, 64);
	cr_assert_eq(notify_receive(ours, text, sizeof(text), &pid), -EBADMSG);
	/* The rest of it is gone: it is no message of its own. */
	say("READY=1", 7);
	cr_assert_eq(notify_receive(ours, text, sizeof(text), &pid), 7);
}

Test(notify_receive, an_empty_one)
{
	char text[64];
	pid_t pid = -7;

	say("", 0);
	cr_assert_eq(notify_receive(ours, text, sizeof(text), &pid), -EBADMSG);
	cr_assert_eq(pid, -7);
	cr_assert_eq(notify_receive(ours, text, sizeof(text), &pid), -EAGAIN);
}

Test(notify_receive, a_nul_anywhere)
{
	static const char first[] = "\0READY=1", middle[] = "READY\0=1";
	char text[64];
	pid_t pid;

	say(first, sizeof(first) - 1);
	cr_assert_eq(notify_receive(ours, text, sizeof(text), &pid), -EBADMSG);
	say(middle, sizeof(middle) - 1);
	cr_assert_eq(notify_receive(ours, text, sizeof(text), &pid), -EBADMSG);
	say("READY=1", 8);
	cr_assert_eq(notify_receive(ours, text, sizeof(text), &pid), -EBADMSG);
}

static void say_with_descriptors(size_t n)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(253 * sizeof(int))];
	} control = { 0 };
	struct iovec iov = { .iov_base = (char *)"READY=1", .iov_len = 7 };
	struct msghdr m = { .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = &control,
			    .msg_controllen = CMSG_SPACE(n * sizeof(int)) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(n * sizeof(int));
	for (size_t i = 0; i < n; i++)
		memcpy(CMSG_DATA(c) + i * sizeof(int), &sender, sizeof(int));
	cr_assert_eq(sendmsg(sender, &m, 0), 7);
}

Test(notify_receive, descriptors_that_come_along_are_closed)
{
	static const size_t counts[] = { 1, 2, 63, 64, 65, 253 };
	int before = lowest_free();
	char text[64];
	pid_t pid;

	for (size_t i = 0; i < ELEMENTS(counts); i++) {
		ssize_t n;

		say_with_descriptors(counts[i]);
		n = notify_receive(ours, text, sizeof(text), &pid);
		cr_assert(n == 7 || n == -EBADMSG, "%zd", n);
		cr_assert(counts[i] > 64 || n == 7, "%zu descriptors spoil a message",
			  counts[i]);
		cr_assert_eq(lowest_free(), before, "%zu descriptors: some stay open",
			     counts[i]);
	}
}

Test(notify_receive, messages_stay_apart_and_in_order)
{
	char text[64], expected[64];
	pid_t pid;

	for (int i = 0; i < 5; i++) {
		(void)snprintf(expected, sizeof(expected), "STATUS=%d", i);
		say(expected, strlen(expected));
	}
	for (int i = 0; i < 5; i++) {
		(void)snprintf(expected, sizeof(expected), "STATUS=%d", i);
		cr_assert_gt(notify_receive(ours, text, sizeof(text), &pid), 0);
		cr_assert_str_eq(text, expected);
	}
}

/* ---- opening ---- */

Test(notify_receive, a_stale_socket_is_replaced_and_a_live_one_is_not)
{
	int again = notify_open(path, (uid_t)-1, (gid_t)-1);

	cr_assert_eq(again, -EADDRINUSE, "%d", again);
	ours = close_fd(ours);
	ours = notify_open(path, (uid_t)-1, (gid_t)-1);
	cr_assert_geq(ours, 0);
}

Test(notify_receive, a_path_that_cannot_be)
{
	char longer[200];

	memset(longer, 'x', sizeof(longer));
	longer[sizeof(longer) - 1] = '\0';
	cr_assert_eq(notify_open(longer, (uid_t)-1, (gid_t)-1), -ENAMETOOLONG);
	cr_assert_eq(notify_open("/nonexistent/notify", (uid_t)-1, (gid_t)-1), -ENOENT);
}
