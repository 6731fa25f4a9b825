/* Owns the choice of allocator: entry points found at run time, never linked.
 *
 * A process may hold several allocators (pyarrow and torch bring prefixed copies), and only the
 * one behind malloc counts. Addresses do not tell: in a program that is not position
 * independent, such as Debian's python3, dlsym(3) finds "malloc" in the program's own PLT. So
 * each candidate is asked whether it owns a block that malloc has just returned, or whether its
 * counters move when malloc is called. Nothing here may run in a signal handler. */
#include "preload/allocator.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>

#include "preload/priority.h"

/* As the allocators' own headers declare them (jemalloc 5.1, gperftools 2.10, mimalloc 2.0,
 * glibc 2.33). */
typedef int mallctl_fn(const char *name, void *old, size_t *old_size, void *new,
		       size_t size);
struct mallinfo_result {
	int arena, ordblks, smblks, hblks, hblkhd, usmblks, fsmblks, uordblks, fordblks;
	int keepcost;
};
typedef struct mallinfo_result mallinfo_fn(void);

struct mallinfo2_result {
	size_t arena, ordblks, smblks, hblks, hblkhd, usmblks, fsmblks, uordblks,
		fordblks;
	size_t keepcost;
};
typedef struct mallinfo2_result mallinfo2_fn(void);

/* Large enough to be told from what else happens between two looks at the counters, and below
 * 128 KiB, from where glibc maps blocks by themselves: the first such block that is freed raises
 * that limit for good, and what the application then frees stays in the heap. */
enum {
	PROBE_BYTES = 64 * 1024,
};

static struct {
	enum trimtab_allocator kind;
	mallctl_fn *mallctl;
	void (*mi_collect)(bool force);
	void (*tcmalloc_release)(void);
	int (*tcmalloc_property)(const char *name, size_t *ret);
	int (*malloc_trim)(size_t pad);
} allocator;

static bool jemalloc_owns(void *block)
{
	mallctl_fn *mallctl = dlsym(RTLD_DEFAULT, "mallctl");
	unsigned arena = 0;
	size_t size = sizeof arena;

	if (!mallctl)
		mallctl = dlsym(RTLD_DEFAULT, "je_mallctl");
	if (!mallctl ||
	    mallctl("arenas.lookup", &arena, &size, &block, sizeof block) != 0)
		return false;
	allocator.mallctl = mallctl;
	return true;
}

/* Not asked by MallocExtension_GetOwnership, which knows nothing before the constructors of
 * tcmalloc have run, and those may come after ours. */
static bool tcmalloc_owns_next_block(void)
{
	mallinfo_fn *mallinfo = dlsym(RTLD_DEFAULT, "tc_mallinfo");
	struct mallinfo_result before, after;
	void *volatile block;

	allocator.tcmalloc_release =
		dlsym(RTLD_DEFAULT, "MallocExtension_ReleaseFreeMemory");
	allocator.tcmalloc_property =
		dlsym(RTLD_DEFAULT, "MallocExtension_GetNumericProperty");
	if (!mallinfo || !allocator.tcmalloc_release)
		return false;
	before = mallinfo();
	block = malloc(PROBE_BYTES);
	after = mallinfo();
	free(block);
	return block && after.uordblks >= before.uordblks + PROBE_BYTES;
}

static bool mimalloc_owns(void *block)
{
	bool (*in_heap_region)(const void *p) =
		dlsym(RTLD_DEFAULT, "mi_is_in_heap_region");

	if (!in_heap_region || !in_heap_region(block))
		return false;
	allocator.mi_collect = dlsym(RTLD_DEFAULT, "mi_collect");
	return allocator.mi_collect;
}

static bool glibc_owns_next_block(void)
{
	mallinfo2_fn *mallinfo2 = dlsym(RTLD_DEFAULT, "mallinfo2");
	struct mallinfo2_result before, after;
	void *volatile block;

	if (!mallinfo2 || !allocator.malloc_trim)
		return false;
	before = mallinfo2();
	block = malloc(PROBE_BYTES);
	after = mallinfo2();
	free(block);
	return block && after.uordblks + after.hblkhd >=
				before.uordblks + before.hblkhd + PROBE_BYTES;
}

static enum trimtab_allocator detect_by(void *block)
{
	if (!block)
		return TRIMTAB_ALLOCATOR_UNKNOWN;
	if (jemalloc_owns(block))
		return TRIMTAB_ALLOCATOR_JEMALLOC;
	if (tcmalloc_owns_next_block())
		return TRIMTAB_ALLOCATOR_TCMALLOC;
	if (mimalloc_owns(block))
		return TRIMTAB_ALLOCATOR_MIMALLOC;
	if (glibc_owns_next_block())
		return TRIMTAB_ALLOCATOR_GLIBC;
	return TRIMTAB_ALLOCATOR_UNKNOWN;
}

enum trimtab_allocator allocator_detect(void)
{
	/* Volatile: a compiler may leave out an allocation that it sees freed unused. */
	void *volatile block = malloc(64);

	allocator.malloc_trim = dlsym(RTLD_DEFAULT, "malloc_trim");
	allocator.kind = detect_by(block);
	free(block);
	return allocator.kind;
}

bool allocator_can_release(void)
{
	return allocator.kind != TRIMTAB_ALLOCATOR_UNKNOWN || allocator.malloc_trim;
}

static bool read_jemalloc(const char *name, uint64_t *ret)
{
	size_t value = 0, size = sizeof value;

	if (allocator.mallctl(name, &value, &size, NULL, 0) != 0)
		return false;
	*ret = value;
	return true;
}

static bool look_at_jemalloc(uint64_t *ret_heap_bytes, uint64_t *ret_live_bytes)
{
	uint64_t epoch = 1;

	/* Its statistics stand still until the epoch is written. */
	return allocator.mallctl("epoch", NULL, NULL, &epoch, sizeof epoch) == 0 &&
	       read_jemalloc("stats.resident", ret_heap_bytes) &&
	       read_jemalloc("stats.allocated", ret_live_bytes);
}

static bool look_at_tcmalloc(uint64_t *ret_heap_bytes, uint64_t *ret_live_bytes)
{
	size_t heap, unmapped, live;

	if (!allocator.tcmalloc_property ||
	    !allocator.tcmalloc_property("generic.heap_size", &heap) ||
	    !allocator.tcmalloc_property("tcmalloc.pageheap_unmapped_bytes", &unmapped) ||
	    !allocator.tcmalloc_property("generic.current_allocated_bytes", &live))
		return false;
	*ret_heap_bytes = heap > unmapped ? heap - unmapped : 0;
	*ret_live_bytes = live;
	return true;
}

bool allocator_look(uint64_t *ret_heap_bytes, uint64_t *ret_live_bytes)
{
	switch (allocator.kind) {
	case TRIMTAB_ALLOCATOR_JEMALLOC:
		return look_at_jemalloc(ret_heap_bytes, ret_live_bytes);
	case TRIMTAB_ALLOCATOR_TCMALLOC:
		return look_at_tcmalloc(ret_heap_bytes, ret_live_bytes);
	case TRIMTAB_ALLOCATOR_MIMALLOC:
	case TRIMTAB_ALLOCATOR_GLIBC:
	case TRIMTAB_ALLOCATOR_UNKNOWN:
		break;
	}
	return false;
}

static int release(void)
{
	int r = 0;

	switch (allocator.kind) {
	case TRIMTAB_ALLOCATOR_JEMALLOC:
		/* 4096 is MALLCTL_ARENAS_ALL. "decay" in its place gives nothing back at once. */
		r = allocator.mallctl("arena.4096.purge", NULL, NULL, NULL, 0);
		break;
	case TRIMTAB_ALLOCATOR_TCMALLOC:
		allocator.tcmalloc_release();
		break;
	case TRIMTAB_ALLOCATOR_MIMALLOC:
		/* Heaps are per thread: this reaches what no thread owns any more. */
		allocator.mi_collect(true);
		break;
	case TRIMTAB_ALLOCATOR_GLIBC:
	case TRIMTAB_ALLOCATOR_UNKNOWN:
		break;
	}
	/* Beside another allocator glibc's heap may still hold what was allocated early. Unknown
	 * ones (hardened_malloc, scudo) bring a malloc_trim of their own. musl has none. */
	return allocator.malloc_trim ? allocator.malloc_trim(0) : r;
}

int allocator_release(void)
{
	int before = priority_raise();
	int r = release();

	priority_restore(before);
	return r;
}

void allocator_release_own_thread(void)
{
	if (allocator.kind == TRIMTAB_ALLOCATOR_MIMALLOC)
		allocator.mi_collect(true);
}
