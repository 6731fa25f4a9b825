/* Owns a few hundred blocks for the time of one test.
 *
 * The blocks are of one size, enough for several pools. Every 74th stays, so that pools of all
 * kinds come about: wholly free ones, and some with one block alive and a free tail. */
#include "preload/selftest.h"

#include <stdint.h>
#include <string.h>

#include "preload/arena.h"

enum {
	BLOCK_BYTES = 432,
	SIZE_CLASS = BLOCK_BYTES / BLOCK_ALIGNMENT - 1,
	POOL_ROOM = (POOL_BYTES - 48) / BLOCK_BYTES,
	N_BLOCKS = 8 * POOL_ROOM,
	KEEP_EVERY = 2 * POOL_ROOM,
};

struct trial {
	const struct selftest_allocator *allocator;
	unsigned char *blocks[N_BLOCKS];
};

static struct pool *pool_of(const void *block)
{
	return (struct pool *)((uintptr_t)block & ~(uintptr_t)(POOL_BYTES - 1));
}

static bool is_kept(unsigned number)
{
	return number % KEEP_EVERY == 0;
}

static void mark(unsigned char *block, unsigned number)
{
	memset(block, (int)(number * 37 + 1), BLOCK_BYTES);
}

static bool is_marked(const unsigned char *block, unsigned number)
{
	for (unsigned i = 0; i < BLOCK_BYTES; i++)
		if (block[i] != (unsigned char)(number * 37 + 1))
			return false;
	return true;
}

static bool fill(struct trial *trial)
{
	for (unsigned i = 0; i < N_BLOCKS; i++) {
		if (trial->blocks[i])
			continue;
		trial->blocks[i] = trial->allocator->allocate(BLOCK_BYTES);
		if (!trial->blocks[i] || (uintptr_t)trial->blocks[i] % BLOCK_ALIGNMENT)
			return false;
		mark(trial->blocks[i], i);
	}
	return true;
}

/* Each block is still marked as itself, so no two of them are the same memory. */
static bool all_marked(const struct trial *trial)
{
	for (unsigned i = 0; i < N_BLOCKS; i++)
		if (trial->blocks[i] && !is_marked(trial->blocks[i], i))
			return false;
	return true;
}

static void release(struct trial *trial, unsigned number)
{
	if (trial->blocks[number])
		trial->allocator->release(trial->blocks[number]);
	trial->blocks[number] = NULL;
}

static bool all_in_known_arenas(const struct trial *trial)
{
	for (unsigned i = 0; i < N_BLOCKS; i++)
		if (!trial->allocator->arena_of(pool_of(trial->blocks[i])))
			return false;
	return true;
}

static unsigned count_ours(const struct trial *trial, const struct pool *pool)
{
	unsigned n = 0;

	for (unsigned i = 0; i < N_BLOCKS; i++)
		n += trial->blocks[i] && pool_of(trial->blocks[i]) == pool;
	return n;
}

/* A header says what is known about our block, and about its pool where all of that is ours. */
static bool header_fits(const struct trial *trial, const unsigned char *block)
{
	const struct pool *pool = pool_of(block);
	uintptr_t offset = (uintptr_t)block - (uintptr_t)pool;

	return pool->size_class == SIZE_CLASS && offset >= POOL_OVERHEAD &&
	       (offset - POOL_OVERHEAD) % BLOCK_BYTES == 0 &&
	       (offset < pool->next_offset || offset > pool->max_next_offset) &&
	       pool->ref.count >= count_ours(trial, pool) &&
	       pool->ref.count <= POOL_ROOM &&
	       (pool->ref.count == POOL_ROOM) == !pool->free_block;
}

static bool headers_fit(const struct trial *trial)
{
	for (unsigned i = 0; i < N_BLOCKS; i++) {
		if (!trial->blocks[i])
			continue;
		if (!header_fits(trial, trial->blocks[i]) ||
		    !arena_is_sound(
			    trial->allocator->arena_of(pool_of(trial->blocks[i]))))
			return false;
	}
	return true;
}

/* Only a purge moves this. */
static bool carved_to_the_end(const struct trial *trial)
{
	for (unsigned i = 0; i < N_BLOCKS; i++)
		if (pool_of(trial->blocks[i])->max_next_offset !=
		    POOL_BYTES - BLOCK_BYTES)
			return false;
	return true;
}

static bool some_pool_is_all_ours(const struct trial *trial)
{
	for (unsigned i = 0; i < N_BLOCKS; i++)
		if (count_ours(trial, pool_of(trial->blocks[i])) == POOL_ROOM)
			return true;
	return false;
}

/* Counts go down as blocks are released. A pool may be gone with its arena after that. */
static bool release_most(struct trial *trial)
{
	for (unsigned i = 0; i < N_BLOCKS; i++) {
		struct pool *pool = pool_of(trial->blocks[i]);
		uint32_t count = pool->ref.count;

		if (is_kept(i))
			continue;
		release(trial, i);
		if (trial->allocator->arena_of(pool) && pool->ref.count != count - 1)
			return false;
	}
	return true;
}

static void purge(const struct trial *trial)
{
	struct arena_figures unused = { 0 };

	for (unsigned i = 0; i < N_BLOCKS; i += KEEP_EVERY)
		arena_purge(trial->allocator->arena_of(pool_of(trial->blocks[i])),
			    trial->allocator->page_bytes, &unused);
}

static enum selftest_verdict try(struct trial *trial)
{
	if (!fill(trial))
		return SELFTEST_FAILED;
	if (!all_in_known_arenas(trial))
		return SELFTEST_OTHER_ALLOCATOR;
	if (!headers_fit(trial) || !carved_to_the_end(trial) ||
	    !some_pool_is_all_ours(trial) || !release_most(trial) || !headers_fit(trial))
		return SELFTEST_FAILED;
	purge(trial);
	if (!headers_fit(trial) || !all_marked(trial) || !fill(trial) ||
	    !headers_fit(trial) || !all_marked(trial))
		return SELFTEST_FAILED;
	return SELFTEST_PASSED;
}

enum selftest_verdict selftest_run(const struct selftest_allocator *allocator)
{
	struct trial trial = { .allocator = allocator };
	enum selftest_verdict verdict = try(&trial);

	for (unsigned i = 0; i < N_BLOCKS; i++)
		release(&trial, i);
	return verdict;
}
