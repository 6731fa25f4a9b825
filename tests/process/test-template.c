/* Packets between supervisor and template: what is sent, and what is believed. */
#include "process/template.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/cleanup.h"

static int ours = -1, theirs = -1;

static void open_pair(void)
{
	cr_assert_eq(template_pair(&ours, &theirs), 0);
}

static void close_pair(void)
{
	ours = close_fd(ours);
	theirs = close_fd(theirs);
}

TestSuite(template, .init = open_pair, .fini = close_pair);

Test(template, the_pair_is_not_inherited)
{
	cr_assert(fcntl(ours, F_GETFD) & FD_CLOEXEC);
	cr_assert(fcntl(theirs, F_GETFD) & FD_CLOEXEC);
}

/* ---- what needs no answer ---- */

Test(template, is_told_one_packet_a_word)
{
	char text[128];

	cr_assert_eq(template_tell(ours, "exit %d %u %d", 4711, 3u, -9), 0);
	cr_assert_eq(template_tell(ours, "end"), 0);
	cr_assert_eq(recv(theirs, text, sizeof(text), MSG_DONTWAIT),
		     (ssize_t)strlen("exit 4711 3 -9"));
	cr_assert_arr_eq(text, "exit 4711 3 -9", strlen("exit 4711 3 -9"));
	cr_assert_eq(recv(theirs, text, sizeof(text), MSG_DONTWAIT), 3);
}

Test(template, is_not_waited_for_and_may_be_gone)
{
	int r = 0;

	while (r == 0)
		r = template_tell(ours, "serving %u", 4u);
	cr_assert_eq(r, -EAGAIN);
	cr_assert_eq(template_tell(ours, "%0200d", 1), -EMSGSIZE);
	theirs = close_fd(theirs);
	cr_assert_eq(template_tell(ours, "end"), -EPIPE);
}

/* ---- answers ---- */

Test(template, answers_that_are_understood)
{
	struct template_answer a;

	cr_assert_eq(template_parse("ready", &a), 0);
	cr_assert_eq(a.word, TEMPLATE_READY);
	cr_assert_eq(template_parse("forked 3 4711", &a), 0);
	cr_assert_eq(a.word, TEMPLATE_FORKED);
	cr_assert_eq(a.worker, 3);
	cr_assert_eq(a.pid, 4711);
	cr_assert_eq(template_parse("failed 3 11", &a), 0);
	cr_assert_eq(a.word, TEMPLATE_FAILED);
	cr_assert_eq(a.error, -EAGAIN);
	cr_assert_eq(template_parse("failed 3 0", &a), 0);
	cr_assert_eq(a.error, -EIO, "a failure is one, whatever it says");
	cr_assert_eq(template_parse("failed 3 -5", &a), 0);
	cr_assert_eq(a.error, -EIO);
	cr_assert_eq(template_parse("failed 3 5000", &a), 0);
	cr_assert_eq(a.error, -EIO);
}

Test(template, what_workers_say)
{
	struct template_answer a;
	char text[400] = "refused \033[2Jit has a thr\xe9"
			 "ad\n";

	cr_assert_eq(template_parse("warm", &a), 0);
	cr_assert_eq(a.word, TEMPLATE_WARM);
	cr_assert_eq(template_parse("promoted 4711", &a), 0);
	cr_assert_eq(a.word, TEMPLATE_PROMOTED);
	cr_assert_eq(a.pid, 4711);
	cr_assert_eq(template_parse(text, &a), 0);
	cr_assert_eq(a.word, TEMPLATE_REFUSED);
	cr_assert_str_eq(a.why, "?[2Jit has a thr?ad?");
	memset(text + 8, 'x', sizeof(text) - 9);
	text[sizeof(text) - 1] = '\0';
	cr_assert_eq(template_parse(text, &a), 0);
	cr_assert_eq(strlen(a.why), sizeof(a.why) - 1);
}

Test(template, answers_that_are_not)
{
	static const char *const texts[] = {
		"",
		"read",
		"ready ",
		"ready\n",
		"forked",
		"forked 3",
		"forked 3 ",
		"forked x 1",
		"forked 3 4711 ",
		"forked 3 4711x",
		"forked 3 0",
		"forked 3 1",
		"forked 3 -1",
		"forked 3 -4711",
		"failed 3",
		"failed",
		"failed 3 x",
		"FORKED 3 4711",
		"fork 3",
		"warm ",
		"promoted",
		"promoted 1",
		"promoted -4711",
		"promoted 4711 ",
		"refused",
	};

	for (size_t i = 0; i < ELEMENTS(texts); i++) {
		struct template_answer a = { .worker = 77 };

		cr_assert_eq(template_parse(texts[i], &a), -EBADMSG, "\"%s\"", texts[i]);
		cr_assert_eq(a.worker, 77, "\"%s\" leaves a trace", texts[i]);
	}
}

static int heard(const void *packet, size_t n, struct template_answer *ret)
{
	cr_assert_eq(send(theirs, packet, n, 0), (ssize_t)n);
	return template_hear(ours, ret);
}

Test(template, packets_one_by_one)
{
	static const char nul[] = "ready\0";
	struct template_answer a;
	char longer[300];

	cr_assert_eq(template_hear(ours, &a), 0, "none is there");
	cr_assert_eq(heard("ready", 5, &a), 1);
	cr_assert_eq(a.word, TEMPLATE_READY);
	memset(longer, 'x', sizeof(longer));
	cr_assert_eq(heard(longer, sizeof(longer), &a), -EBADMSG);
	cr_assert_eq(heard(longer, 255, &a), -EBADMSG);
	cr_assert_eq(heard(nul, sizeof(nul) - 1, &a), -EBADMSG);
	cr_assert_eq(heard("forked 1 22", 11, &a), 1);
	cr_assert_eq(a.pid, 22);
}

Test(template, the_end)
{
	struct template_answer a;

	cr_assert_eq(send(theirs, "ready", 5, 0), 5);
	theirs = close_fd(theirs);
	cr_assert_eq(template_hear(ours, &a), 1, "what it said before it ended counts");
	cr_assert_eq(template_hear(ours, &a), -EPIPE);
}

/* ---- requests ---- */

static size_t received(char *text, size_t size, int *fds, size_t *n_fds)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(8 * sizeof(int))];
	} control;
	struct iovec iov = { .iov_base = text, .iov_len = size - 1 };
	struct msghdr m = { .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = &control,
			    .msg_controllen = sizeof(control) };
	ssize_t n = recvmsg(theirs, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);

	cr_assert_gt(n, 0, "%m");
	text[n] = '\0';
	*n_fds = c ? (c->cmsg_len - CMSG_LEN(0)) / sizeof(int) : 0;
	if (c)
		memcpy(fds, CMSG_DATA(c), *n_fds * sizeof(int));
	return (size_t)n;
}

static bool same_file(int a, int b)
{
	struct stat one, other;

	return fstat(a, &one) == 0 && fstat(b, &other) == 0 &&
	       one.st_dev == other.st_dev && one.st_ino == other.st_ino;
}

Test(template, a_request_names_its_descriptors)
{
	char *env[] = { (char *)"TRIMTAB_WORKER=2", (char *)"A=b", NULL };
	auto_close int output = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	auto_close int leaf = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	auto_close int page = open("/dev/null", O_RDWR | O_CLOEXEC);
	struct template_request q = { .worker = 2,
				      .output_fd = output,
				      .leaf_fd = leaf,
				      .page_fd = page,
				      .warm_fd = -1,
				      .env = env };
	int fds[8];
	char text[256];
	size_t n;

	cr_assert_eq(template_ask(ours, &q), 0);
	(void)received(text, sizeof(text), fds, &n);
	cr_assert_str_eq(text, "fork 2 output leaf page\nTRIMTAB_WORKER=2\nA=b");
	cr_assert_eq(n, 3);
	cr_assert(same_file(fds[0], output) && same_file(fds[1], leaf) &&
		  same_file(fds[2], page));

	q.warm_fd = theirs;
	cr_assert_eq(template_ask(ours, &q), 0);
	(void)received(text, sizeof(text), fds, &n);
	cr_assert_str_eq(text, "fork 2 output leaf page warm\nTRIMTAB_WORKER=2\nA=b");
	cr_assert_eq(n, 4);
	cr_assert(same_file(fds[3], theirs));

	q.output_fd = q.page_fd = q.warm_fd = -1;
	cr_assert_eq(template_ask(ours, &q), 0);
	(void)received(text, sizeof(text), fds, &n);
	cr_assert_str_eq(text, "fork 2 leaf\nTRIMTAB_WORKER=2\nA=b");
	cr_assert_eq(n, 1);
	cr_assert(same_file(fds[0], leaf));

	q.join = true;
	cr_assert_eq(template_ask(ours, &q), 0);
	(void)received(text, sizeof(text), fds, &n);
	cr_assert_str_eq(text, "fork 2 join\nTRIMTAB_WORKER=2\nA=b");
	cr_assert_eq(n, 1);

	q.leaf_fd = -1;
	env[0] = NULL;
	cr_assert_eq(template_ask(ours, &q), 0);
	(void)received(text, sizeof(text), fds, &n);
	cr_assert_str_eq(text, "fork 2");
	cr_assert_eq(n, 0);
}

Test(template, a_worker_is_asked_to_become_one)
{
	auto_close int output = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	auto_close int leaf = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int fds[8];
	char text[64];
	size_t n;

	cr_assert_eq(template_promote(ours, output, leaf), 0);
	(void)received(text, sizeof(text), fds, &n);
	cr_assert_str_eq(text, "promote output join");
	cr_assert_eq(n, 2);
	cr_assert(same_file(fds[0], output) && same_file(fds[1], leaf));
	cr_assert_eq(template_promote(ours, -1, -1), 0);
	(void)received(text, sizeof(text), fds, &n);
	cr_assert_str_eq(text, "promote");
	cr_assert_eq(n, 0);
	theirs = close_fd(theirs);
	cr_assert_eq(template_promote(ours, -1, leaf), -EPIPE);
}

Test(template, an_environment_that_cannot_be_sent)
{
	auto_free char *longer = calloc(9000, 1);
	char *broken[] = { (char *)"A=1\nB=2", NULL };
	char *big[] = { longer, NULL };
	struct template_request q = {
		.worker = 1,
		.output_fd = -1,
		.leaf_fd = -1,
		.page_fd = -1,
		.warm_fd = -1,
		.env = broken,
	};

	cr_assert_eq(template_ask(ours, &q), -EINVAL);
	memset(longer, 'x', 8999);
	q.env = big;
	cr_assert_eq(template_ask(ours, &q), -EMSGSIZE);
}

Test(template, never_waits_for_one_that_does_not_read)
{
	char *env[] = { NULL };
	struct template_request q = {
		.worker = 1,
		.output_fd = -1,
		.leaf_fd = -1,
		.page_fd = -1,
		.warm_fd = -1,
		.env = env,
	};
	int r = 0;

	for (int i = 0; r == 0 && i < 100000; i++)
		r = template_ask(ours, &q);
	cr_assert_eq(r, -EAGAIN);
	theirs = close_fd(theirs);
	cr_assert_eq(template_ask(ours, &q), -EPIPE);
}
