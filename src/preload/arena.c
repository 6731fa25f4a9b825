/* Owns the knowledge of pymalloc's layout and nothing else.
 *
 * What pymalloc relies on, and what is therefore left as it found it:
 * - in a pool in use every block is either alive (count of them), or on the list that starts at
 *   free_block and ends with NULL, or yet to be carved: at next_offset and each size further, up
 *   to max_next_offset. When the list runs out one block is carved, and when there is none left
 *   the pool is full; only then is the list empty;
 * - a wholly free pool stays linked in its arena through `next` and keeps arena_index. Taken for
 *   blocks of the size it had last, its list is followed; with no size class, or another, it is
 *   carved anew;
 * - an arena's pools are used from the lowest up, and one that never was is all zero, since
 *   arenas are fresh mappings.
 *
 * So two things can be given back. A free pool's pages behind the header: with them goes the
 * list, so its size class is struck out. And in a pool in use the whole pages of one gap between
 * live blocks: pymalloc itself only ever has the blocks behind the last one yet to be carved, but
 * works just as well when next_offset and max_next_offset stand around any other run of free
 * blocks. The list is written anew, lowest block first, so that the pages which are there are
 * used before the gap is carved again. Of several gaps the one with most pages is taken; the
 * page with the header stays. */
#include "preload/arena.h"

#include <sys/mman.h>

enum {
	MAX_BLOCKS = (POOL_BYTES - 48) / BLOCK_ALIGNMENT,
};

/* A pool as it is, by the number of the block. Blocks that are neither are alive. */
struct pool_map {
	uint64_t free[(MAX_BLOCKS + 63) / 64];
	uint32_t n_blocks;
	uint32_t n_free;
};

/* Blocks first to last, all free, and the whole pages within them. */
struct gap {
	uint32_t first, last;
	uint32_t from, to; /* offsets, to be dropped; equal: no whole page */
};

struct pool *arena_first_pool(void *arena)
{
	uintptr_t address = (uintptr_t)arena + POOL_BYTES - 1;

	return (struct pool *)(address & ~(uintptr_t)(POOL_BYTES - 1));
}

static struct pool *pool_after(const struct pool *pool)
{
	return (struct pool *)((uintptr_t)pool + POOL_BYTES);
}

static bool pool_is_within(const struct pool *pool, const void *arena)
{
	return (uintptr_t)pool + POOL_BYTES <= (uintptr_t)arena + ARENA_BYTES;
}

static uint32_t block_size(const struct pool *pool)
{
	return (pool->size_class + 1) * BLOCK_ALIGNMENT;
}

static uint32_t pool_room(const struct pool *pool)
{
	return (POOL_BYTES - POOL_OVERHEAD) / block_size(pool);
}

static uint32_t block_offset(const struct pool *pool, uint32_t number)
{
	return POOL_OVERHEAD + number * block_size(pool);
}

static unsigned char *block_at(struct pool *pool, uint32_t number)
{
	return (unsigned char *)pool + block_offset(pool, number);
}

static bool never_used(const struct pool *pool)
{
	return pool->ref.count == 0 && !pool->free_block && pool->size_class == 0 &&
	       pool->next_offset == 0 && pool->max_next_offset == 0;
}

static bool is_aligned(const struct pool *pool, uint32_t offset)
{
	return offset >= POOL_OVERHEAD &&
	       (offset - POOL_OVERHEAD) % block_size(pool) == 0;
}

static bool is_uncarved(const struct pool *pool, uint32_t offset)
{
	return offset >= pool->next_offset && offset <= pool->max_next_offset;
}

/* An address that pymalloc could have put on this pool's list. */
static bool is_listable(const struct pool *pool, const unsigned char *block)
{
	uintptr_t offset = (uintptr_t)block - (uintptr_t)pool;

	return offset <= POOL_BYTES - block_size(pool) &&
	       is_aligned(pool, (uint32_t)offset) && !is_uncarved(pool, (uint32_t)offset);
}

static bool pool_is_sound(const struct pool *pool)
{
	uint32_t last;

	if (pool->size_class == NO_SIZE_CLASS)
		return pool->ref.count == 0;
	if (pool->size_class >= N_SIZE_CLASSES)
		return false;
	last = POOL_BYTES - block_size(pool);
	if (pool->max_next_offset > last ||
	    (pool->max_next_offset != last && !is_aligned(pool, pool->max_next_offset)) ||
	    pool->next_offset > POOL_BYTES || !is_aligned(pool, pool->next_offset))
		return false;
	/* A full pool has no list, and only a full one. */
	if (!pool->free_block)
		return pool->ref.count == pool_room(pool);
	return is_listable(pool, pool->free_block) && pool->ref.count < pool_room(pool);
}

bool arena_is_sound(void *arena)
{
	const struct pool *first = arena_first_pool(arena);

	for (const struct pool *pool = first; pool_is_within(pool, arena);
	     pool = pool_after(pool)) {
		if (never_used(pool))
			break;
		if (pool->arena_index != first->arena_index || !pool_is_sound(pool))
			return false;
	}
	return true;
}

static bool is_free(const struct pool_map *map, uint32_t number)
{
	return map->free[number / 64] >> (number % 64) & 1;
}

/* False when it was free already. */
static bool set_free(struct pool_map *map, uint32_t number)
{
	if (is_free(map, number))
		return false;
	map->free[number / 64] |= UINT64_C(1) << (number % 64);
	map->n_free++;
	return true;
}

static uint32_t block_number(const struct pool *pool, uint32_t offset)
{
	return (offset - POOL_OVERHEAD) / block_size(pool);
}

/* False when list and counters contradict each other; then the pool stays as it is. */
static bool map_pool(const struct pool *pool, struct pool_map *map)
{
	*map = (struct pool_map){ .n_blocks = pool_room(pool) };
	for (const unsigned char *block = pool->free_block; block;
	     block = *(unsigned char *const *)block) {
		uint32_t offset = (uint32_t)((uintptr_t)block - (uintptr_t)pool);

		if (!is_listable(pool, block) ||
		    !set_free(map, block_number(pool, offset)))
			return false;
	}
	for (uint32_t offset = pool->next_offset; offset <= pool->max_next_offset;
	     offset += block_size(pool))
		(void)set_free(map, block_number(pool, offset));
	return map->n_free + pool->ref.count == map->n_blocks;
}

static uint32_t round_up(uint32_t value, uint32_t step)
{
	return (value + step - 1) & ~(step - 1);
}

static uint32_t gap_bytes(const struct gap *gap)
{
	return gap->to - gap->from;
}

/* The whole pages between two offsets, but for the header's page. */
static void gap_set_pages(struct gap *gap, uint32_t begin, uint32_t end,
			  uint32_t page_bytes)
{
	gap->from = round_up(begin, page_bytes);
	if (gap->from < page_bytes)
		gap->from = page_bytes;
	gap->to = end & ~(page_bytes - 1);
	if (gap->to < gap->from)
		gap->to = gap->from;
}

static struct gap gap_of(const struct pool *pool, const struct pool_map *map,
			 uint32_t first, uint32_t last, uint32_t page_bytes)
{
	struct gap gap = { .first = first, .last = last };
	uint32_t begin = block_offset(pool, first);
	uint32_t end = block_offset(pool, last + 1);

	/* The list may not be empty: where no other block is free, the first of the gap is put
	 * on it, and the page with its link must stay. */
	if (map->n_free == last - first + 1)
		begin += (uint32_t)sizeof(void *);
	/* Behind the last block lies nothing. */
	gap_set_pages(&gap, begin, last + 1 == map->n_blocks ? POOL_BYTES : end,
		      page_bytes);
	return gap;
}

static struct gap widest_gap(const struct pool *pool, const struct pool_map *map,
			     uint32_t page_bytes)
{
	struct gap best = { 0 };
	uint32_t first;

	for (uint32_t i = 0; i < map->n_blocks; i++) {
		struct gap gap;

		if (!is_free(map, i))
			continue;
		for (first = i; i + 1 < map->n_blocks && is_free(map, i + 1); i++)
			;
		gap = gap_of(pool, map, first, i, page_bytes);
		if (gap_bytes(&gap) > gap_bytes(&best))
			best = gap;
	}
	return best;
}

/* What is not there already, because it was never used or went in an earlier purge. */
static uint32_t absent_bytes(const struct pool *pool, uint32_t page_bytes)
{
	struct gap gap;
	uint32_t end = pool->max_next_offset + block_size(pool);

	if (pool->next_offset > pool->max_next_offset)
		return 0;
	if (end + block_size(pool) > POOL_BYTES)
		end = POOL_BYTES;
	gap_set_pages(&gap, pool->next_offset, end, page_bytes);
	return gap_bytes(&gap);
}

/* Makes the gap what is yet to be carved, and lists all other free blocks, lowest first. */
static void relist(struct pool *pool, const struct pool_map *map, const struct gap *gap)
{
	unsigned char *head = NULL, **link = &head;
	uint32_t first = gap->first;

	for (uint32_t i = 0; i < map->n_blocks; i++) {
		if (!is_free(map, i) || (i >= gap->first && i <= gap->last))
			continue;
		*link = block_at(pool, i);
		link = (unsigned char **)*link;
	}
	if (!head) {
		*link = block_at(pool, first++);
		link = (unsigned char **)*link;
	}
	*link = NULL;
	pool->free_block = head;
	pool->next_offset = block_offset(pool, first);
	pool->max_next_offset = gap->last + 1 == map->n_blocks
					? POOL_BYTES - block_size(pool)
					: block_offset(pool, gap->last);
}

static uint64_t drop(struct pool *pool, uint32_t from, uint32_t to)
{
	if (madvise((unsigned char *)pool + from, to - from, MADV_DONTNEED) < 0)
		return 0;
	return to - from;
}

static uint64_t purge_gap(struct pool *pool, uint32_t page_bytes)
{
	uint32_t absent = absent_bytes(pool, page_bytes);
	struct pool_map map;
	struct gap gap;
	uint64_t dropped;

	if (!pool->free_block || !map_pool(pool, &map))
		return 0;
	gap = widest_gap(pool, &map, page_bytes);
	if (gap_bytes(&gap) <= absent)
		return 0;
	relist(pool, &map, &gap);
	dropped = drop(pool, gap.from, gap.to);
	return dropped > absent ? dropped - absent : 0;
}

static uint64_t purge_free_pool(struct pool *pool, uint32_t page_bytes)
{
	if (pool->size_class == NO_SIZE_CLASS)
		return 0; /* purged before, and not used since */
	pool->size_class = NO_SIZE_CLASS;
	return drop(pool, page_bytes, POOL_BYTES);
}

static uint64_t live_bytes(const struct pool *pool)
{
	return (uint64_t)pool->ref.count * block_size(pool);
}

void arena_purge(void *arena, size_t page_bytes, struct arena_figures *figures)
{
	for (struct pool *pool = arena_first_pool(arena);
	     pool_is_within(pool, arena) && !never_used(pool); pool = pool_after(pool)) {
		if (pool->ref.count == 0) {
			uint64_t bytes = purge_free_pool(pool, (uint32_t)page_bytes);

			figures->free_pool_bytes += bytes;
			figures->purged_bytes += bytes;
			continue;
		}
		figures->live_bytes += live_bytes(pool);
		figures->purged_bytes += purge_gap(pool, (uint32_t)page_bytes);
	}
}

void arena_look(void *arena, size_t page_bytes, struct arena_figures *figures)
{
	for (const struct pool *pool = arena_first_pool(arena);
	     pool_is_within(pool, arena) && !never_used(pool); pool = pool_after(pool)) {
		if (pool->ref.count > 0)
			figures->live_bytes += live_bytes(pool);
		else if (pool->size_class != NO_SIZE_CLASS)
			figures->free_pool_bytes += POOL_BYTES - page_bytes;
	}
}
