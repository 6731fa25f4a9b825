/* Owns the list of CPython's arenas and the question whether they may be touched.
 *
 * The list is kept by the hook that Python offers for it (PyObject_SetArenaAllocator), set
 * before the interpreter exists. The hook runs in any process that has the library alive and in
 * its forked children, at any time, with or without a GIL of its own (3.12 has one for each
 * sub-interpreter): it takes no lock and touches nothing but the list.
 *
 * Arenas are touched only with the GIL, only in an interpreter of a version whose allocator has
 * been read and that passed the test on blocks of its own, and only while it is the only
 * interpreter. An arena with any header that is not as expected is left alone; blocks of the
 * size of an arena also hold Python's data stack, and they look so. */
#include "preload/pymalloc.h"

#include <dlfcn.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "preload/arena.h"
#include "preload/priority.h"
#include "preload/python.h"
#include "preload/self.h"
#include "preload/selftest.h"

enum {
	FIRST_MINOR = 10,
	LAST_MINOR = 13,
	SLOTS_IN_CHUNK = 511,
};

/* The GIL is let go after so long: a thread that waits for it asks after 5 ms. */
#define SLICE_NSEC UINT64_C(2000000)

/* Include/cpython/objimpl.h */
struct arena_allocator {
	void *context;
	void *(*allocate)(void *context, size_t size);
	void (*release)(void *context, void *arena, size_t size);
};

/* Slots never move and chunks never go, so a reader needs no lock. 0: free. */
struct chunk {
	_Atomic(struct chunk *) next;
	_Atomic(uintptr_t) slots[SLOTS_IN_CHUNK];
};

static struct {
	struct arena_allocator original;
	void (*get_arena_allocator)(struct arena_allocator *ret);
	void *(*allocate)(size_t size);
	void (*release)(void *block);
	struct chunk first_chunk;
} hook;

/* Written by the thread that has the GIL. The helper reads the result once that is out. */
static _Atomic(enum trimtab_pymalloc) verdict;
static struct pymalloc_result result;

/* The list */

static struct chunk *chunk_after(struct chunk *chunk)
{
	return atomic_load(&chunk->next);
}

static struct chunk *append_chunk(struct chunk *last)
{
	struct chunk *expected = NULL;
	void *fresh = mmap(NULL, sizeof *last, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (fresh == MAP_FAILED)
		return NULL;
	if (atomic_compare_exchange_strong(&last->next, &expected, fresh))
		return fresh;
	(void)munmap(fresh, sizeof *last);
	return expected; /* another thread was faster */
}

/* Puts `to` where `from` is. False: there is none. */
static bool replace(struct chunk *chunk, uintptr_t from, uintptr_t to)
{
	for (size_t i = 0; i < SLOTS_IN_CHUNK; i++) {
		uintptr_t expected = from;

		if (atomic_load(&chunk->slots[i]) == from &&
		    atomic_compare_exchange_strong(&chunk->slots[i], &expected, to))
			return true;
	}
	return false;
}

/* An arena for which there is no memory to remember it is never purged: no harm. */
static void remember(const void *arena)
{
	struct chunk *chunk = &hook.first_chunk, *next;

	while (!replace(chunk, 0, (uintptr_t)arena)) {
		next = chunk_after(chunk);
		chunk = next ? next : append_chunk(chunk);
		if (!chunk)
			return;
	}
}

static void forget(const void *arena)
{
	for (struct chunk *chunk = &hook.first_chunk; chunk; chunk = chunk_after(chunk))
		if (replace(chunk, (uintptr_t)arena, 0))
			return;
}

static void *allocate_arena(void *context, size_t size)
{
	void *arena = hook.original.allocate(hook.original.context, size);

	(void)context;
	if (arena && size == ARENA_BYTES)
		remember(arena);
	return arena;
}

/* Forgotten first: once it is released its address may be another's. */
static void release_arena(void *context, void *arena, size_t size)
{
	(void)context;
	if (size == ARENA_BYTES)
		forget(arena);
	hook.original.release(hook.original.context, arena, size);
}

void pymalloc_watch(void)
{
	void (*set_arena_allocator)(struct arena_allocator *);
	struct arena_allocator ours = {
		.allocate = allocate_arena,
		.release = release_arena,
	};

	/* An interpreter that is up already has arenas that we would not know. */
	if (!python_is_there() || python_is_running())
		return;
	hook.allocate = dlsym(RTLD_DEFAULT, "PyObject_Malloc");
	hook.release = dlsym(RTLD_DEFAULT, "PyObject_Free");
	hook.get_arena_allocator = dlsym(RTLD_DEFAULT, "PyObject_GetArenaAllocator");
	set_arena_allocator = dlsym(RTLD_DEFAULT, "PyObject_SetArenaAllocator");
	if (!hook.allocate || !hook.release || !hook.get_arena_allocator ||
	    !set_arena_allocator)
		return;
	hook.get_arena_allocator(&hook.original);
	set_arena_allocator(&ours);
}

static bool hook_is_ours(void)
{
	struct arena_allocator now;

	if (!hook.original.allocate)
		return false;
	hook.get_arena_allocator(&now);
	return now.allocate == allocate_arena && now.release == release_arena;
}

/* The examination */

static void *arena_of(const void *address)
{
	uintptr_t pool = (uintptr_t)address & ~(uintptr_t)(POOL_BYTES - 1);

	for (struct chunk *chunk = &hook.first_chunk; chunk; chunk = chunk_after(chunk))
		for (size_t i = 0; i < SLOTS_IN_CHUNK; i++) {
			uintptr_t arena = atomic_load(&chunk->slots[i]);

			if (arena && pool >= arena &&
			    pool + POOL_BYTES <= arena + ARENA_BYTES)
				return (void *)arena;
		}
	return NULL;
}

/* "3.11.2 (main, ..." */
static bool version_is_known(const char *text)
{
	uint64_t major, minor;

	return self_parse_number(&text, 10, &major) && major == 3 && *text++ == '.' &&
	       self_parse_number(&text, 10, &minor) && minor >= FIRST_MINOR &&
	       minor <= LAST_MINOR;
}

static enum trimtab_pymalloc test_blocks(void)
{
	const struct selftest_allocator allocator = {
		.allocate = hook.allocate,
		.release = hook.release,
		.arena_of = arena_of,
		.page_bytes = (size_t)sysconf(_SC_PAGESIZE),
	};

	switch (selftest_run(&allocator)) {
	case SELFTEST_PASSED:
		return TRIMTAB_PYMALLOC_ON;
	case SELFTEST_OTHER_ALLOCATOR:
		return TRIMTAB_PYMALLOC_NOT_USED;
	case SELFTEST_FAILED:
		break;
	}
	return TRIMTAB_PYMALLOC_SELF_TEST;
}

static enum trimtab_pymalloc examine(void)
{
	const char *version = python_version();

	if (strstr(version, "free-threading"))
		return TRIMTAB_PYMALLOC_FREE_THREADED;
	if (sizeof(void *) != 8 || !version_is_known(version))
		return TRIMTAB_PYMALLOC_VERSION;
	if (sysconf(_SC_PAGESIZE) > POOL_BYTES / 2)
		return TRIMTAB_PYMALLOC_PAGE_SIZE;
	if (!hook_is_ours())
		return TRIMTAB_PYMALLOC_HOOK;
	if (python_count_interpreters() != 1)
		return TRIMTAB_PYMALLOC_INTERPRETERS;
	return test_blocks();
}

/* What may change after the examination, for good. */
static void examine_again(void)
{
	if (!hook_is_ours())
		verdict = TRIMTAB_PYMALLOC_HOOK;
	else if (python_count_interpreters() != 1)
		verdict = TRIMTAB_PYMALLOC_INTERPRETERS;
}

/* The purge */

static void visit(void *arena, bool give_back)
{
	size_t page_bytes = (size_t)sysconf(_SC_PAGESIZE);
	struct arena_figures figures = { 0 };

	if (!arena_is_sound(arena)) {
		result.n_odd_arenas++;
		return;
	}
	if (give_back)
		arena_purge(arena, page_bytes, &figures);
	else
		arena_look(arena, page_bytes, &figures);
	result.free_pool_bytes += figures.free_pool_bytes;
	result.arena_bytes += ARENA_BYTES;
	result.live_bytes += figures.live_bytes;
	result.purged_bytes += figures.purged_bytes;
}

static void note_hold(uint64_t since)
{
	uint64_t held = self_now_nsec() - since;

	if (held > result.longest_hold_nsec)
		result.longest_hold_nsec = held;
}

/* False: stop here. Whatever others do in the meantime is seen in the slots and checked anew. */
static bool let_others_in(uint64_t *since)
{
	bool go_on;

	note_hold(*since);
	go_on = python_yield_gil();
	*since = self_now_nsec();
	if (go_on)
		examine_again();
	return go_on && verdict == TRIMTAB_PYMALLOC_ON;
}

static void visit_all(bool give_back, uint64_t since)
{
	for (struct chunk *chunk = &hook.first_chunk; chunk; chunk = chunk_after(chunk))
		for (size_t i = 0; i < SLOTS_IN_CHUNK; i++) {
			void *arena = (void *)atomic_load(&chunk->slots[i]);

			if (!arena)
				continue;
			visit(arena, give_back);
			if (self_now_nsec() - since > SLICE_NSEC &&
			    !let_others_in(&since))
				return;
		}
	note_hold(since);
}

static void work_with_gil(bool give_back)
{
	uint64_t since = self_now_nsec();
	int before = priority_raise();

	result = (struct pymalloc_result){ 0 };
	if (verdict == TRIMTAB_PYMALLOC_UNKNOWN)
		verdict = examine();
	else if (verdict == TRIMTAB_PYMALLOC_ON)
		examine_again();
	if (verdict == TRIMTAB_PYMALLOC_ON)
		visit_all(give_back, since);
	priority_restore(before);
}

static void purge_with_gil(void)
{
	work_with_gil(/* give_back= */ true);
}

static void look_with_gil(void)
{
	work_with_gil(/* give_back= */ false);
}

static enum trimtab_pymalloc run(void (*work)(void), unsigned wait_msec,
				 struct pymalloc_result *ret)
{
	*ret = (struct pymalloc_result){ 0 };
	if (!python_is_there())
		return TRIMTAB_PYMALLOC_NO_PYTHON;
	if (python_run_with_gil(work, wait_msec))
		*ret = result;
	return verdict;
}

enum trimtab_pymalloc pymalloc_purge(unsigned wait_msec, struct pymalloc_result *ret)
{
	return run(purge_with_gil, wait_msec, ret);
}

enum trimtab_pymalloc pymalloc_look(unsigned wait_msec, struct pymalloc_result *ret)
{
	return run(look_with_gil, wait_msec, ret);
}
