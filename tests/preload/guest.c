/* A program to preload the library into. It obeys lines from its standard input and answers
 * each with one line, so a test always knows where it stands. Its own state is as plain as
 * possible: one thread, default dispositions, until a line asks for something else. */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

enum {
	N_BLOCKS = 8192,
};

static const char *program;
static atomic_long n_signals;
static void *blocks[N_BLOCKS];

static unsigned long number_in(const char *path, const char *key)
{
	char line[256];
	FILE *f = fopen(path, "re");
	unsigned long value = 0;

	while (f && fgets(line, sizeof line, f))
		if (strncmp(line, key, strlen(key)) == 0)
			value = strtoul(line + strlen(key) + 1, NULL, 10);
	if (f)
		(void)fclose(f);
	return value;
}

static unsigned long status_number(const char *key)
{
	return number_in("/proc/self/status", key);
}

/* How often all other threads have slept. */
static unsigned long sleeps_of_others(void)
{
	DIR *directory = opendir("/proc/self/task");
	struct dirent *entry;
	unsigned long n = 0;
	char path[512];

	while (directory && (entry = readdir(directory))) {
		(void)snprintf(path, sizeof path, "/proc/self/task/%s/status",
			       entry->d_name);
		if (entry->d_name[0] != '.' && atoi(entry->d_name) != gettid())
			n += number_in(path, "voluntary_ctxt_switches");
	}
	if (directory)
		(void)closedir(directory);
	return n;
}

static int page_is_mapped(void)
{
	char line[512];
	FILE *f = fopen("/proc/self/maps", "re");
	int found = 0;

	while (f && fgets(line, sizeof line, f))
		found |= strstr(line, "memfd:trimtab-page") != NULL;
	if (f)
		(void)fclose(f);
	return found;
}

/* "1" is what a process without the library's helper answers. */
static long presence(void)
{
	return (long)status_number("Threads") + 10 * page_is_mapped();
}

static uint32_t random_below(uint32_t limit)
{
	static uint32_t state = 2463534242u;

	state ^= state << 13;
	state ^= state >> 17;
	state ^= state << 5;
	return state % limit;
}

/* Blocks of 8 to 60 KiB, below the size that glibc maps singly, about 270 MiB. */
static void bloat(void)
{
	for (int i = 0; i < N_BLOCKS; i++) {
		size_t size = 8192 + random_below(52 * 1024);

		blocks[i] = malloc(size);
		if (blocks[i])
			memset(blocks[i], 1, size);
	}
}

/* Frees all but one in 50: the survivors pin the top of the heap, as in a real application. */
static void shrink(void)
{
	for (int i = 0; i < N_BLOCKS; i++)
		if (i % 50) {
			free(blocks[i]);
			blocks[i] = NULL;
		}
}

static void count_signal(int number)
{
	(void)number;
	atomic_fetch_add(&n_signals, 1);
}

static void block_signal(int number)
{
	sigset_t set;

	(void)sigemptyset(&set);
	(void)sigaddset(&set, number);
	(void)pthread_sigmask(SIG_BLOCK, &set, NULL);
}

static void *take_by_sigwait(void *number)
{
	sigset_t set;
	int got;

	(void)sigemptyset(&set);
	(void)sigaddset(&set, *(int *)number);
	for (;;)
		if (sigwait(&set, &got) == 0)
			atomic_fetch_add(&n_signals, 1);
	return NULL;
}

static void *take_by_signalfd(void *number)
{
	struct signalfd_siginfo info;
	sigset_t set;
	int fd;

	(void)sigemptyset(&set);
	(void)sigaddset(&set, *(int *)number);
	fd = signalfd(-1, &set, SFD_CLOEXEC);
	while (read(fd, &info, sizeof info) == sizeof info)
		atomic_fetch_add(&n_signals, 1);
	return NULL;
}

static void start(void *(*function)(void *), void *argument)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, function, argument) == 0)
		(void)pthread_detach(thread);
}

static int wait_for(pid_t pid)
{
	int status = -1;

	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 255;
}

static int presence_in_fork(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		free(malloc(5000));
		_exit((int)presence());
	}
	return wait_for(pid);
}

static int presence_in_spawned(void)
{
	char *arguments[] = { (char *)program, "presence", NULL };
	pid_t pid;

	if (posix_spawn(&pid, program, NULL, NULL, arguments, environ) != 0)
		return 255;
	return wait_for(pid);
}

static int presence_in_system(void)
{
	char command[4096];
	int status;

	(void)snprintf(command, sizeof command, "'%s' presence", program);
	status = system(command);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 255;
}

/* As the C library does in pthread_create(3), but long enough to be seen. Two answers: one when
 * it is blocked, one when that is over. */
static void block_briefly(int number)
{
	const struct timespec pause = { .tv_nsec = 30000000 };
	sigset_t set, before;

	(void)sigemptyset(&set);
	(void)sigaddset(&set, number);
	(void)pthread_sigmask(SIG_BLOCK, &set, &before);
	printf("0\n");
	(void)fflush(stdout);
	(void)nanosleep(&pause, NULL);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* What a forked child that is sent the signal ends with: the signal's number if it kills. */
static int fork_and_signal(int number)
{
	int status = -1;
	pid_t pid = fork();

	if (pid == 0) {
		(void)kill(getpid(), number);
		_exit(0);
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

/* Reads the counter once a signal that is on its way must have come: waits for it to reach n. */
static long count_at_least(long n)
{
	const struct timespec pause = { .tv_nsec = 1000000 };

	for (int i = 0; i < 20000 && atomic_load(&n_signals) < n; i++)
		(void)nanosleep(&pause, NULL);
	return atomic_load(&n_signals);
}

/* A wait of 300 ms that says whether a signal cut it short. */
static int wait_is_whole(void)
{
	const struct timespec pause = { .tv_nsec = 300000000 };

	return nanosleep(&pause, NULL) == 0;
}

/* Picoseconds for a malloc and a free of that size. */
static long malloc_picoseconds(size_t size)
{
	enum { ROUNDS = 1000000 };
	struct timespec begin, end;

	(void)clock_gettime(CLOCK_MONOTONIC, &begin);
	for (int i = 0; i < ROUNDS; i++) {
		void *volatile block = malloc(size);

		free(block);
	}
	(void)clock_gettime(CLOCK_MONOTONIC, &end);
	return ((end.tv_sec - begin.tv_sec) * 1000000000L + end.tv_nsec - begin.tv_nsec) *
	       1000 / ROUNDS;
}

/* Whether a block of that size is mapped by itself, as glibc does above its threshold. */
static long is_mapped_by_itself(size_t size)
{
	size_t before = mallinfo2().hblks;
	void *volatile block = malloc(size);
	long mapped = mallinfo2().hblks > before;

	free(block);
	return mapped;
}

/* So that each of these system calls gives that answer, here or in all threads. */
static int filter(const int *numbers, const uint32_t *answers, unsigned n, unsigned flags)
{
	struct sock_filter code[2 * 8 + 2] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	};
	struct sock_fprog whole = { .len = 1, .filter = code };

	for (unsigned i = 0; i < n; i++) {
		code[whole.len++] = (struct sock_filter)BPF_JUMP(
			BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)numbers[i], 0, 1);
		code[whole.len++] =
			(struct sock_filter)BPF_STMT(BPF_RET | BPF_K, answers[i]);
	}
	code[whole.len++] =
		(struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	(void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &whole);
}

/* As a hardened unit: some calls are fatal, some are refused. */
static int filter_and_execute(const char *path)
{
	static const int numbers[] = { SYS_setpriority, SYS_unshare, SYS_close_range,
				       SYS_rt_sigtimedwait };
	static const uint32_t answers[] = { SECCOMP_RET_KILL_PROCESS,
					    SECCOMP_RET_KILL_PROCESS,
					    SECCOMP_RET_ERRNO | EPERM,
					    SECCOMP_RET_ERRNO | EPERM };

	if (filter(numbers, answers, 4, 0) == 0)
		(void)execl(path, path, (char *)NULL);
	return -errno;
}

static int refuse_madvise(unsigned flags)
{
	static const int number = SYS_madvise;
	static const uint32_t answer = SECCOMP_RET_ERRNO | EPERM;

	return filter(&number, &answer, 1, flags);
}

/* 0 or errno. */
static int enter_own_mounts(void)
{
	int fd = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
	int r = setns(fd, CLONE_NEWNS);

	r = r < 0 ? errno : 0;
	(void)close(fd);
	return r;
}

/* As a template does it: the child goes on in our place, with the page in our environment. The
 * answer is the library's, or 2 without one. */
static long adopt(void)
{
	int (*take_page)(const char *) = dlsym(RTLD_DEFAULT, "trimtab_preload_adopt");
	const char *page = getenv("GUEST_PAGE");
	char mine[128];
	pid_t pid = fork();

	if (pid > 0)
		_exit(wait_for(pid));
	if (!take_page || !page)
		return 2;
	(void)snprintf(mine, sizeof mine, "%d:%d%s", atoi(page), (int)getpid(),
		       strrchr(page, ':'));
	return take_page(mine);
}

static void *end_soon(void *unused)
{
	const struct timespec pause = { .tv_nsec = 50000000 };

	(void)unused;
	(void)nanosleep(&pause, NULL);
	return NULL;
}

static void say_goodbye(void)
{
	printf("goodbye\n");
	(void)fflush(stdout);
}

static void obey_lines(void);

/* In the place of the main thread, which has left. */
static void *obey_on(void *unused)
{
	(void)unused;
	printf("0\n");
	(void)fflush(stdout);
	obey_lines();
	return NULL;
}

/* Returns the answer. Lines that do not come back answer through what follows. */
static long obey(const char *line)
{
	static int number;
	struct sigaction action = { .sa_handler = count_signal };

	if (sscanf(line, "handler %d", &number) == 1)
		return sigaction(number, &action, NULL);
	if (sscanf(line, "restart-handler %d", &number) == 1) {
		action.sa_flags = SA_RESTART;
		return sigaction(number, &action, NULL);
	}
	if (sscanf(line, "default %d", &number) == 1)
		return signal(number, SIG_DFL) == SIG_ERR;
	if (sscanf(line, "ignore %d", &number) == 1)
		return signal(number, SIG_IGN) == SIG_ERR;
	if (sscanf(line, "block %d", &number) == 1)
		return block_signal(number), 0;
	if (sscanf(line, "block-briefly %d", &number) == 1)
		return block_briefly(number), 0;
	if (sscanf(line, "fork-signal %d", &number) == 1)
		return fork_and_signal(number);
	if (sscanf(line, "sigwait %d", &number) == 1)
		return block_signal(number), start(take_by_sigwait, &number), 0;
	if (sscanf(line, "signalfd %d", &number) == 1)
		return block_signal(number), start(take_by_signalfd, &number), 0;
	if (strncmp(line, "count ", 6) == 0)
		return count_at_least(strtol(line + 6, NULL, 10));
	if (strcmp(line, "bloat") == 0)
		return bloat(), 0;
	if (strcmp(line, "shrink") == 0)
		return shrink(), 0;
	if (strcmp(line, "presence") == 0)
		return presence();
	if (strcmp(line, "fork") == 0)
		return presence_in_fork();
	if (strcmp(line, "spawn") == 0)
		return presence_in_spawned();
	if (strcmp(line, "system") == 0)
		return presence_in_system();
	if (strncmp(line, "speed ", 6) == 0)
		return malloc_picoseconds(strtoul(line + 6, NULL, 10));
	if (strncmp(line, "mapped ", 7) == 0)
		return is_mapped_by_itself(strtoul(line + 7, NULL, 10));
	if (strncmp(line, "setuid ", 7) == 0)
		return setuid((uid_t)strtoul(line + 7, NULL, 10));
	if (strcmp(line, "adopt") == 0)
		return adopt();
	if (strcmp(line, "wait") == 0)
		return wait_is_whole();
	if (strcmp(line, "descriptors") == 0)
		return system("exit $(ls /proc/$PPID/fd | wc -l)") >> 8;
	if (strcmp(line, "close-all") == 0)
		return close_range(3, ~0U, 0);
	if (strncmp(line, "filter-exec ", 12) == 0)
		return filter_and_execute(line + 12);
	if (strcmp(line, "refuse-madvise") == 0)
		return refuse_madvise(0);
	if (strcmp(line, "refuse-madvise-everywhere") == 0)
		return refuse_madvise(SECCOMP_FILTER_FLAG_TSYNC);
	if (strcmp(line, "setns") == 0)
		return enter_own_mounts();
	if (strcmp(line, "unshare-user") == 0)
		return unshare(CLONE_NEWUSER) < 0 ? errno : 0;
	if (strcmp(line, "exit-main-thread") == 0) {
		(void)atexit(say_goodbye);
		start(end_soon, NULL);
		pthread_exit(NULL);
	}
	if (strcmp(line, "leave-main-thread") == 0) {
		start(obey_on, NULL);
		pthread_exit(NULL);
	}
	if (strcmp(line, "sleeps") == 0)
		return (long)sleeps_of_others();
	if (strncmp(line, "exec ", 5) == 0) {
		(void)execl(line + 5, line + 5, (char *)NULL);
		return -errno;
	}
	return -1;
}

static void obey_lines(void)
{
	char line[4096];

	while (fgets(line, sizeof line, stdin)) {
		line[strcspn(line, "\n")] = '\0';
		printf("%ld\n", obey(line));
		(void)fflush(stdout);
	}
}

int main(int argc, char **argv)
{
	int errno_at_start = errno;

	program = argv[0];
	if (argc > 1 && strcmp(argv[1], "presence") == 0)
		return (int)presence();
	if (argc > 1 && strcmp(argv[1], "errno") == 0)
		return errno_at_start;
	/* Line by line from the kernel too: what follows may be for the program we become. */
	(void)setvbuf(stdin, NULL, _IONBF, 0);
	obey_lines();
	return 0;
}
