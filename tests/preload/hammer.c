/* Everything that has ever quarrelled with a trim, at once: threads that allocate and free each
 * other's blocks, forks whose children allocate, spawned programs, short-lived threads, dlopen.
 * Each block is marked at both ends and checked when it is freed; each child must end well.
 *
 * Answers "ops" with the number of operations so far, "stop" with what went wrong, 0 at best. */
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

enum {
	N_SWAPPERS = 3,
	N_FORKERS = 2,
	N_BOXES = 1024,
	N_CHILD_BLOCKS = 200,
	CHILD_PATIENCE_MSEC = 60000,
};

/* Blocks change hands through these, so that one thread frees what another allocated. */
static _Atomic(void *) boxes[N_BOXES];
static atomic_ulong n_operations, n_forks, n_spawns, n_threads, n_loads, n_bad;
static atomic_bool stopping;

static uint64_t random_next(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static void *block_new(uint64_t *random)
{
	/* Mostly small, one in eight large enough to leave whole pages free. */
	uint32_t limit = random_next(random) & 7 ? 4096 : 120 * 1024;
	uint32_t size = 8 + (uint32_t)(random_next(random) % limit);
	unsigned char *block = malloc(size);

	if (!block)
		abort();
	memset(block, (unsigned char)size, size);
	memcpy(block, &size, sizeof size);
	return block;
}

static void block_free(void *p)
{
	const unsigned char *block = p;
	uint32_t size;

	if (!block)
		return;
	memcpy(&size, block, sizeof size);
	for (uint32_t i = sizeof size; i < size; i += i + 1 < size ? size - 1 - i : 1)
		if (block[i] != (unsigned char)size)
			abort();
	free(p);
}

static void *swap_blocks(void *seed)
{
	uint64_t random = 88172645463325252u + (uintptr_t)seed * 7919;

	while (!atomic_load_explicit(&stopping, memory_order_relaxed)) {
		size_t box = random_next(&random) % N_BOXES;
		void *block = random_next(&random) & 3 ? block_new(&random) : NULL;

		block_free(atomic_exchange(&boxes[box], block));
		atomic_fetch_add_explicit(&n_operations, 1, memory_order_relaxed);
	}
	return NULL;
}

static void use_heap(uint64_t random)
{
	void *blocks[N_CHILD_BLOCKS];

	for (int i = 0; i < N_CHILD_BLOCKS; i++)
		blocks[i] = block_new(&random);
	for (int i = 0; i < N_CHILD_BLOCKS; i++)
		block_free(blocks[i]);
}

/* A child that waits for a lock nobody will release must not make us wait as well. */
static void reap(pid_t pid)
{
	const struct timespec pause = { .tv_nsec = 500000 };
	int status;

	for (int i = 0; i < 2 * CHILD_PATIENCE_MSEC; i++) {
		if (waitpid(pid, &status, WNOHANG) == pid) {
			if (status != 0)
				atomic_fetch_add(&n_bad, 1);
			return;
		}
		(void)nanosleep(&pause, NULL);
	}
	atomic_fetch_add(&n_bad, 1);
	(void)kill(pid, SIGKILL);
	(void)waitpid(pid, &status, 0);
}

static void fork_once(uint64_t *random)
{
	pid_t pid = fork();

	if (pid == 0) {
		use_heap(*random ^ (uint64_t)getpid());
		if (random_next(random) % 8 == 0)
			fork_once(random);
		_exit(atomic_load(&n_bad) != 0);
	}
	if (pid > 0)
		reap(pid);
}

static void spawn_once(void)
{
	char *arguments[] = { "/bin/true", NULL };
	pid_t pid;

	if (posix_spawn(&pid, arguments[0], NULL, NULL, arguments, environ) == 0)
		reap(pid);
}

static void *fork_and_spawn(void *seed)
{
	uint64_t random = 4242 + (uintptr_t)seed;

	while (!atomic_load(&stopping)) {
		if (random_next(&random) & 3) {
			fork_once(&random);
			atomic_fetch_add(&n_forks, 1);
		} else {
			spawn_once();
			atomic_fetch_add(&n_spawns, 1);
		}
	}
	return NULL;
}

static void *live_shortly(void *seed)
{
	use_heap((uintptr_t)seed + 1);
	return NULL;
}

static void *start_threads(void *unused)
{
	(void)unused;
	while (!atomic_load(&stopping)) {
		pthread_t thread;
		unsigned long n = atomic_fetch_add(&n_threads, 1);

		if (pthread_create(&thread, NULL, live_shortly, (void *)(uintptr_t)n) ==
		    0)
			(void)pthread_join(thread, NULL);
	}
	return NULL;
}

static void *load_and_unload(void *unused)
{
	(void)unused;
	while (!atomic_load(&stopping)) {
		void *library = dlopen("libcrypt.so.1", RTLD_NOW | RTLD_LOCAL);

		if (library)
			(void)dlclose(library);
		atomic_fetch_add(&n_loads, 1);
	}
	return NULL;
}

static void answer(unsigned long n)
{
	(void)dprintf(STDOUT_FILENO, "%lu\n", n);
}

int main(int argc, char **argv)
{
	pthread_t threads[N_SWAPPERS + N_FORKERS + 2];
	bool forks = !(argc > 1 && strcmp(argv[1], "no-fork") == 0);
	size_t n = 0;
	char line[64];

	for (uintptr_t i = 0; i < N_SWAPPERS; i++)
		(void)pthread_create(&threads[n++], NULL, swap_blocks, (void *)i);
	for (uintptr_t i = 0; forks && i < N_FORKERS; i++)
		(void)pthread_create(&threads[n++], NULL, fork_and_spawn, (void *)i);
	(void)pthread_create(&threads[n++], NULL, start_threads, NULL);
	(void)pthread_create(&threads[n++], NULL, load_and_unload, NULL);
	(void)setvbuf(stdin, NULL, _IONBF, 0);
	while (fgets(line, sizeof line, stdin) && strcmp(line, "stop\n") != 0)
		answer(atomic_load(&n_operations));
	atomic_store(&stopping, true);
	while (n > 0)
		(void)pthread_join(threads[--n], NULL);
	fprintf(stderr,
		"%lu operations, %lu forks, %lu spawns, %lu threads, %lu loads, %lu "
		"bad\n",
		n_operations, n_forks, n_spawns, n_threads, n_loads, n_bad);
	answer(atomic_load(&n_bad));
	return n_bad != 0;
}
