/* Of src/preload/arena.c and selftest.c: pymalloc goes on after a purge, nothing alive changes,
 * no block is lost. */
#include <criterion/criterion.h>
#include <string.h>
#include <unistd.h>

#include "model.h"
#include "preload/arena.h"
#include "preload/selftest.h"
#include "util/cleanup.h"

enum {
	MAX_BLOCKS = 70000,
	N_POOLS_OF_TEST = 8,
	N_POOLS = ARENA_BYTES / POOL_BYTES - 1, /* one is lost to the shift */
};

static struct model model;

struct held {
	unsigned char *block;
	size_t size;
};

static struct held held[MAX_BLOCKS];
static size_t n_held;

static uint32_t random_below(uint32_t limit)
{
	static uint32_t state = 2463534242u;

	state ^= state << 13;
	state ^= state >> 17;
	state ^= state << 5;
	return state % limit;
}

static size_t page_bytes(void)
{
	return (size_t)sysconf(_SC_PAGESIZE);
}

static uint64_t purge(void)
{
	struct arena_figures figures = { 0 };
	uint64_t live = 0;

	cr_assert(arena_is_sound(model.arena));
	arena_purge(model.arena, page_bytes(), &figures);
	cr_assert(arena_is_sound(model.arena), "unsound after a purge");
	for (size_t i = 0; i < n_held; i++)
		live += (held[i].size + BLOCK_ALIGNMENT - 1) &
			~(size_t)(BLOCK_ALIGNMENT - 1);
	cr_assert_eq(figures.live_bytes, live);
	return figures.purged_bytes;
}

static unsigned char mark_of(const unsigned char *block)
{
	return (unsigned char)(((uintptr_t)block >> 4) * 37 + 1);
}

static bool hold(size_t size)
{
	unsigned char *block = model_allocate(&model, size);

	if (!block)
		return false;
	cr_assert_eq((uintptr_t)block % BLOCK_ALIGNMENT, 0);
	memset(block, mark_of(block), size);
	cr_assert_lt(n_held, MAX_BLOCKS);
	held[n_held++] = (struct held){ block, size };
	return true;
}

/* Blocks that overlap, or that were dropped, have lost their mark. */
static void assert_marked(const struct held *one)
{
	for (size_t i = 0; i < one->size; i++)
		cr_assert_eq(one->block[i], mark_of(one->block),
			     "a block of %zu has changed", one->size);
}

static void let_go(size_t number)
{
	assert_marked(&held[number]);
	model_release(&model, held[number].block);
	held[number] = held[--n_held];
}

static void let_go_but(unsigned one_in)
{
	for (size_t i = n_held; i-- > 0;)
		if (random_below(one_in) != 0)
			let_go(i);
}

static size_t fill(size_t size)
{
	size_t n = 0;

	while (hold(size))
		n++;
	return n;
}

static void begin(void)
{
	model_init(&model, page_bytes());
	n_held = 0;
}

static void end(void)
{
	while (n_held > 0)
		let_go(n_held - 1);
	(void)purge();
	model_done(&model);
}

TestSuite(arena, .init = begin, .fini = end);

Test(arena, fresh_one_has_nothing_to_give)
{
	cr_assert_eq(purge(), 0);
	cr_assert(hold(64));
	cr_assert_eq(purge(), 0);
}

Test(arena, full_one_has_nothing_to_give)
{
	for (size_t size = BLOCK_ALIGNMENT; size <= LARGEST_BLOCK;
	     size += BLOCK_ALIGNMENT) {
		size_t n = fill(size);

		cr_assert_eq(n, N_POOLS * ((POOL_BYTES - POOL_OVERHEAD) / size), "%zu",
			     size);
		cr_assert_eq(purge(), 0);
		while (n_held > 0)
			let_go(n_held - 1);
	}
}

Test(arena, free_pools_keep_their_headers_page)
{
	const size_t expected = N_POOLS * (POOL_BYTES - page_bytes());
	size_t before;

	(void)fill(128);
	while (n_held > 0)
		let_go(n_held - 1);
	before = model_resident(&model);
	cr_assert_eq(purge(), expected);
	cr_assert_eq(model_resident(&model), before - expected);
	cr_assert_eq(purge(), 0, "given back twice");
}

/* Whatever survives, every block can be had again: once each, and as many as before. */
Test(arena, no_block_is_lost)
{
	for (size_t size = BLOCK_ALIGNMENT; size <= LARGEST_BLOCK;
	     size += BLOCK_ALIGNMENT)
		for (unsigned one_in = 2; one_in < 300; one_in *= 5) {
			size_t all = fill(size), kept;

			let_go_but(one_in);
			kept = n_held;
			(void)purge();
			cr_assert_eq(fill(size), all - kept, "size %zu, one in %u", size,
				     one_in);
			while (n_held > 0)
				let_go(n_held - 1);
			(void)purge();
		}
}

Test(arena, purge_says_what_went)
{
	for (unsigned one_in = 3; one_in < 3000; one_in *= 3) {
		size_t before;
		uint64_t purged;

		(void)fill(112);
		let_go_but(one_in);
		before = model_resident(&model);
		purged = purge();
		cr_assert_eq(model_resident(&model), before - purged, "one in %u",
			     one_in);
		cr_assert_eq(purge(), 0);
	}
}

/* A gap in the middle counts as well as the tail. */
Test(arena, widest_gap_goes)
{
	const size_t room = (POOL_BYTES - POOL_OVERHEAD) / 512;
	size_t before;

	cr_assert_eq(page_bytes(), 4096);
	for (size_t i = 0; i < room; i++)
		cr_assert(hold(512));
	/* Looks at the next header too, which maps the page of zeroes there. */
	cr_assert_eq(purge(), 0);
	/* Alive: the first block and the last. The two pages in the middle hold neither. */
	for (size_t i = room - 1; i-- > 1;)
		let_go(i);
	before = model_resident(&model);
	cr_assert_eq(purge(), 2 * page_bytes());
	cr_assert_eq(model_resident(&model), before - 2 * page_bytes());
	for (size_t i = 2; i < room; i++)
		cr_assert(hold(512));
	cr_assert_eq(model.used[31], NULL, "not full, or not with its own blocks");
}

Test(arena, random_life_with_purges)
{
	for (unsigned step = 0; step < 400000; step++) {
		/* Ebb and flow, so that pools are emptied and used for another size. */
		bool flow = step / 20000 % 2 == 0;

		if (n_held > 0 && random_below(100) < (flow ? 30u : 70u))
			let_go(random_below((uint32_t)n_held));
		else
			(void)hold(1 +
				   random_below(random_below(4) ? 96 : LARGEST_BLOCK));
		if (random_below(500) == 0)
			(void)purge();
	}
}

Test(arena, odd_headers_are_seen)
{
	struct pool *pool = arena_first_pool(model.arena), saved;

	for (int i = 0; i < 1000; i++)
		cr_assert(hold(200));
	let_go(3);
	saved = *pool;
	cr_assert(arena_is_sound(model.arena));
#define SPOIL(field, value)                                                    \
	do {                                                                   \
		pool->field = (value);                                         \
		cr_expect_not(arena_is_sound(model.arena), #field " " #value); \
		*pool = saved;                                                 \
	} while (0)
	SPOIL(size_class, N_SIZE_CLASSES);
	SPOIL(size_class, NO_SIZE_CLASS);
	SPOIL(size_class, 3);
	SPOIL(ref.count, 10000);
	SPOIL(ref.count, (POOL_BYTES - POOL_OVERHEAD) / 208);
	SPOIL(next_offset, saved.next_offset + 1);
	SPOIL(next_offset, 0);
	SPOIL(max_next_offset, POOL_BYTES);
	SPOIL(max_next_offset, 100);
	SPOIL(free_block, saved.free_block + 1);
	SPOIL(free_block, (unsigned char *)pool);
	SPOIL(free_block, NULL);
	SPOIL(free_block, saved.free_block + POOL_BYTES);
#undef SPOIL
	pool = (struct pool *)((unsigned char *)pool + POOL_BYTES);
	pool->arena_index++;
	cr_expect_not(arena_is_sound(model.arena));
	pool->arena_index--;
}

/* A list that the counters contradict: that pool stays as it is. */
Test(arena, odd_list_is_left_alone)
{
	struct pool *pool = arena_first_pool(model.arena);
	unsigned char *second;

	for (int i = 0; i < 70; i++)
		cr_assert(hold(208));
	for (size_t i = 70; i-- > 2;)
		let_go(i);
	second = *(unsigned char **)pool->free_block;
	*(unsigned char **)pool->free_block = pool->free_block; /* a ring */
	cr_assert_eq(purge(), 0);
	*(unsigned char **)pool->free_block = NULL; /* too short */
	cr_assert_eq(purge(), 0);
	*(unsigned char **)pool->free_block = second;
	cr_assert_gt(purge(), 0);
}

/* selftest.c */

static size_t shift_of_blocks;
static bool arena_is_unknown, list_is_stale;

static void *allocate(size_t size)
{
	unsigned char *block = model_allocate(&model, size + shift_of_blocks);

	return block ? block + shift_of_blocks : NULL;
}

static void release(void *block)
{
	struct pool *pool =
		(struct pool *)((uintptr_t)block & ~(uintptr_t)(POOL_BYTES - 1));

	model_release(&model, (unsigned char *)block - shift_of_blocks);
	if (list_is_stale)
		pool->ref.count++; /* an allocator that counts otherwise */
}

static void *arena_of(const void *address)
{
	(void)address;
	return arena_is_unknown ? NULL : model.arena;
}

static enum selftest_verdict run(void)
{
	struct selftest_allocator allocator = {
		.allocate = allocate,
		.release = release,
		.arena_of = arena_of,
		.page_bytes = page_bytes(),
	};

	return selftest_run(&allocator);
}

static void begin_selftest(void)
{
	begin();
	shift_of_blocks = 0;
	arena_is_unknown = list_is_stale = false;
}

TestSuite(selftest, .init = begin_selftest);

Test(selftest, passes_and_leaves_nothing)
{
	cr_assert_eq(run(), SELFTEST_PASSED);
	cr_assert_eq(purge(), N_POOLS_OF_TEST * (POOL_BYTES - page_bytes()));
	end();
}

Test(selftest, passes_among_others)
{
	for (int i = 0; i < 5000; i++)
		(void)hold(1 + random_below(60));
	let_go_but(3);
	cr_assert_eq(run(), SELFTEST_PASSED);
	end();
}

Test(selftest, sees_another_allocator)
{
	arena_is_unknown = true;
	cr_assert_eq(run(), SELFTEST_OTHER_ALLOCATOR);
	end();
}

Test(selftest, sees_moved_blocks)
{
	shift_of_blocks = 16;
	cr_assert_eq(run(), SELFTEST_FAILED);
	end();
}

Test(selftest, sees_other_counts)
{
	list_is_stale = true;
	cr_assert_eq(run(), SELFTEST_FAILED);
}
