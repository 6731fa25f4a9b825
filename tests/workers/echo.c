/* A worker that does what it is told, for tests of the supervisor: serves LISTEN_FDS one request
 * at a time, and speaks sd_notify as far as its options say.
 *
 *	echo [ready] [hold=FIFO] [beat] [deaf] [status=TEXT] [exit=N] [raise=N] [fork] [touch=FILE]
 *
 * ready: READY=1, after hold's FIFO was opened by somebody. beat: WATCHDOG=1 when it is time.
 * deaf: SIGTERM and SIGINT are ignored. exit, raise: ends so once it was ready. fork: leaves a
 * child behind that ignores SIGTERM. touch: a byte is added to the file at each start.
 *
 * GET /WORD answers with text; the words are in the table below. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { FIRST_FD = 3, MAX_FDS = 64, PIECE = 1 << 20 };

extern char **environ;

static struct {
	const char *hold, *status, *touch;
	bool ready, beat, deaf, fork;
	int exit_status, signal_number; /* -1: none */
} options = { .exit_status = -1, .signal_number = -1 };

static volatile sig_atomic_t leaving, n_usr1;
static char body[256 << 10];
static size_t n_body;

/* ---- speaking ---- */

static void notify(const char *text)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	int fd;

	if (!path || strlen(path) >= sizeof(to.sun_path))
		return;
	memcpy(to.sun_path, path, strlen(path));
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	(void)sendto(fd, text, strlen(text), MSG_NOSIGNAL, (struct sockaddr *)&to,
		     sizeof(to));
	(void)close(fd);
}

__attribute__((format(printf, 1, 2))) static void say(const char *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(body + n_body, sizeof(body) - n_body, format, args);
	va_end(args);
	n_body += n > 0 ? (size_t)n : 0;
	if (n_body > sizeof(body))
		n_body = sizeof(body);
}

/* ---- what it can be told; the argument is what stands behind '?' ---- */

static void do_pid(const char *argument)
{
	(void)argument;
	say("%d\n", getpid());
}

static void do_env(const char *argument)
{
	(void)argument;
	for (char **e = environ; *e; e++)
		say("%s\n", *e);
}

static void do_fds(const char *argument)
{
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *e;

	(void)argument;
	while (dir && (e = readdir(dir))) {
		char path[64], target[512];
		ssize_t n;

		(void)snprintf(path, sizeof(path), "/proc/self/fd/%.20s", e->d_name);
		n = readlink(path, target, sizeof(target) - 1);
		if (n > 0 && atoi(e->d_name) != dirfd(dir))
			say("%s %.*s\n", e->d_name, (int)n, target);
	}
	if (dir)
		(void)closedir(dir);
}

static void do_leak(const char *argument)
{
	for (int mb = atoi(argument); mb > 0; mb--) {
		char *piece = malloc(PIECE);

		if (piece)
			memset(piece, 'x', PIECE);
	}
	do_pid(NULL);
}

static pid_t leave_child(bool own_session)
{
	pid_t pid = fork();

	if (pid != 0)
		return pid;
	if (own_session)
		(void)setsid();
	(void)signal(SIGTERM, SIG_IGN);
	(void)signal(SIGINT, SIG_IGN);
	(void)signal(SIGHUP, SIG_IGN);
	for (;;)
		(void)pause();
}

static void do_fork(const char *argument)
{
	say("%d\n", leave_child(strcmp(argument, "session") == 0));
}

/* A child of a child, whose parent is gone: it is the supervisor's now. Ends at once if told. */
static void do_orphan(const char *argument)
{
	int fds[2];
	pid_t orphan = 0;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return;
	if (fork() == 0) {
		orphan = strcmp(argument, "end") == 0 ? fork() : leave_child(true);
		if (orphan == 0)
			_exit(0);
		(void)!write(fds[1], &orphan, sizeof(orphan));
		_exit(0);
	}
	(void)!read(fds[0], &orphan, sizeof(orphan));
	(void)close(fds[0]);
	(void)close(fds[1]);
	say("%d\n", orphan);
}

static void do_deaf(const char *argument)
{
	(void)argument;
	(void)signal(SIGTERM, SIG_IGN);
	(void)signal(SIGINT, SIG_IGN);
	do_pid(NULL);
}

static void do_mute(const char *argument)
{
	(void)argument;
	options.beat = false;
	do_pid(NULL);
}

static void do_notify(const char *argument)
{
	notify(argument);
	do_pid(NULL);
}

static void do_usr1(const char *argument)
{
	(void)argument;
	say("%d\n", (int)n_usr1);
}

static void on_usr1(int number)
{
	(void)number;
	n_usr1++;
}

static void do_catch_usr1(const char *argument)
{
	struct sigaction action = { .sa_handler = on_usr1, .sa_flags = SA_RESTART };

	(void)argument;
	(void)sigaction(SIGUSR1, &action, NULL);
	do_pid(NULL);
}

static void do_print(const char *argument)
{
	(void)!write(STDOUT_FILENO, argument, strlen(argument));
	do_pid(NULL);
}

static void do_exit(const char *argument)
{
	_exit(atoi(argument));
}

static void do_raise(const char *argument)
{
	(void)raise(atoi(argument));
}

static const struct word {
	const char *name;
	void (*fn)(const char *argument);
} words[] = {
	{ "", do_pid },
	{ "env", do_env },
	{ "fds", do_fds },
	{ "leak", do_leak },	 /* ?MIB */
	{ "fork", do_fork },	 /* a child that stays; ?session: in one of its own */
	{ "orphan", do_orphan }, /* ?end: that ends at once */
	{ "deaf", do_deaf },
	{ "mute", do_mute },	 /* no more beats */
	{ "notify", do_notify }, /* ?TEXT */
	{ "usr1", do_usr1 },	 /* how many have come */
	{ "catch-usr1", do_catch_usr1 },
	{ "print", do_print }, /* ?TEXT */
	{ "exit", do_exit },   /* ?STATUS */
	{ "raise", do_raise }, /* ?NUMBER */
};

/* ---- serving ---- */

static void answer(int fd)
{
	static char request[8192], reply[sizeof(body) + 256];
	ssize_t n = read(fd, request, sizeof(request) - 1);
	char *path, *end, *argument;

	if (n <= 0)
		return;
	request[n] = '\0';
	path = strchr(request, '/');
	end = path ? strchr(path, ' ') : NULL;
	if (!end)
		return;
	*end = '\0';
	argument = strchr(path, '?');
	if (argument)
		*argument++ = '\0';
	n_body = 0;
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (strcmp(words[i].name, path + 1) == 0)
			words[i].fn(argument ? argument : "");
	n = snprintf(
		reply, sizeof(reply),
		"HTTP/1.0 200 OK\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n%.*s",
		n_body, (int)n_body, body);
	(void)!write(fd, reply, (size_t)n);
}

static void serve(int fd)
{
	int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC);

	if (client < 0)
		return; /* another worker was quicker */
	answer(client);
	(void)close(client);
}

static void on_term(int number)
{
	(void)number;
	leaving = 1;
}

static int listen_fds(void)
{
	const char *n = getenv("LISTEN_FDS"), *pid = getenv("LISTEN_PID");

	return n && pid && atoi(pid) == getpid() ? atoi(n) : 0;
}

static void loop(const sigset_t *waiting)
{
	struct pollfd polls[MAX_FDS];
	int n = listen_fds();
	const char *usec = getenv("WATCHDOG_USEC");
	long long pause_nsec = usec ? atoll(usec) * 1000 / 3 : 0;
	struct timespec pause = { pause_nsec / 1000000000, pause_nsec % 1000000000 };

	for (int i = 0; i < n && i < MAX_FDS; i++) {
		polls[i] = (struct pollfd){ .fd = FIRST_FD + i, .events = POLLIN };
		(void)fcntl(FIRST_FD + i, F_SETFL, O_NONBLOCK);
	}
	while (!leaving) {
		if (options.beat)
			notify("WATCHDOG=1");
		if (ppoll(polls, (nfds_t)n, options.beat && usec ? &pause : NULL,
			  waiting) <= 0)
			continue;
		for (int i = 0; i < n; i++)
			if (polls[i].revents)
				serve(FIRST_FD + i);
	}
}

/* ---- starting ---- */

static const char *value(const char *word, const char *name)
{
	size_t n = strlen(name);

	return strncmp(word, name, n) == 0 && word[n] == '=' ? word + n + 1 : NULL;
}

static void parse(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		const char *text;

		options.ready |= strcmp(argv[i], "ready") == 0;
		options.beat |= strcmp(argv[i], "beat") == 0;
		options.deaf |= strcmp(argv[i], "deaf") == 0;
		options.fork |= strcmp(argv[i], "fork") == 0;
		if ((text = value(argv[i], "hold")))
			options.hold = text;
		if ((text = value(argv[i], "status")))
			options.status = text;
		if ((text = value(argv[i], "touch")))
			options.touch = text;
		if ((text = value(argv[i], "exit")))
			options.exit_status = atoi(text);
		if ((text = value(argv[i], "raise")))
			options.signal_number = atoi(text);
	}
}

static void begin(void)
{
	int fd;

	if (options.touch) {
		fd = open(options.touch, O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0600);
		(void)!write(fd, "x", 1);
		(void)close(fd);
	}
	if (options.deaf)
		do_deaf(NULL);
	if (options.fork)
		(void)leave_child(false);
	if (options.hold)
		(void)close(open(options.hold, O_RDONLY | O_CLOEXEC));
	if (options.status) {
		char text[4096];

		(void)snprintf(text, sizeof(text), "STATUS=%s", options.status);
		notify(text);
	}
	if (options.ready)
		notify("READY=1");
	if (options.signal_number >= 0)
		(void)raise(options.signal_number);
	if (options.exit_status >= 0)
		_exit(options.exit_status);
}

int main(int argc, char **argv)
{
	struct sigaction term = { .sa_handler = on_term };
	sigset_t blocked, waiting;

	parse(argc, argv);
	/* SIGTERM is let in only while it waits for requests: what it has is finished first. */
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGTERM);
	(void)sigprocmask(SIG_BLOCK, &blocked, &waiting);
	sigdelset(&waiting, SIGTERM);
	if (!options.deaf)
		(void)sigaction(SIGTERM, &term, NULL);
	begin();
	loop(&waiting);
	return 0;
}
