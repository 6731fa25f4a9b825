/* Owns one mapping. Follows the original step by step, names apart; asserts where the original
 * asserts. */
#include "model.h"

#include <criterion/criterion.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include "util/cleanup.h"

enum {
	MAPPED_BYTES = 2 * ARENA_BYTES,
	ARENA_INDEX = 5,
};

static size_t index_to_size(uint32_t index)
{
	return (index + 1u) * BLOCK_ALIGNMENT;
}

void model_init(struct model *model, size_t shift)
{
	unsigned char *mapping = mmap(NULL, MAPPED_BYTES, PROT_READ | PROT_WRITE,
				      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uintptr_t aligned;

	cr_assert_neq(mapping, MAP_FAILED);
	aligned = ((uintptr_t)mapping + POOL_BYTES - 1) & ~(uintptr_t)(POOL_BYTES - 1);
	*model = (struct model){ .arena = (unsigned char *)aligned + shift };
	model->pool_address = (unsigned char *)arena_first_pool(model->arena);
}

void model_done(struct model *model)
{
	uintptr_t start = (uintptr_t)model->arena & ~(uintptr_t)(POOL_BYTES - 1);

	(void)munmap((void *)start, ARENA_BYTES + POOL_BYTES);
	*model = (struct model){ 0 };
}

static void link_used(struct model *model, struct pool *pool, uint32_t index)
{
	pool->next = model->used[index];
	pool->previous = NULL;
	if (pool->next)
		pool->next->previous = pool;
	model->used[index] = pool;
}

static void unlink_used(struct model *model, struct pool *pool, uint32_t index)
{
	if (pool->next)
		pool->next->previous = pool->previous;
	if (pool->previous)
		pool->previous->next = pool->next;
	else
		model->used[index] = pool->next;
}

static void extend(struct model *model, struct pool *pool, uint32_t index)
{
	if (pool->next_offset <= pool->max_next_offset) {
		pool->free_block = (unsigned char *)pool + pool->next_offset;
		pool->next_offset += (uint32_t)index_to_size(index);
		*(unsigned char **)pool->free_block = NULL;
		return;
	}
	unlink_used(model, pool, index);
}

static struct pool *take_pool(struct model *model)
{
	struct pool *pool = model->free_pools;

	if (pool) {
		model->free_pools = pool->next;
		return pool;
	}
	if (model->pool_address + POOL_BYTES >
	    (unsigned char *)model->arena + ARENA_BYTES)
		return NULL;
	pool = (struct pool *)model->pool_address;
	model->pool_address += POOL_BYTES;
	pool->arena_index = ARENA_INDEX;
	pool->size_class = NO_SIZE_CLASS;
	return pool;
}

static void *allocate_from_new_pool(struct model *model, uint32_t index)
{
	struct pool *pool = take_pool(model);
	uint32_t size = (uint32_t)index_to_size(index);
	unsigned char *block;

	if (!pool)
		return NULL;
	link_used(model, pool, index);
	pool->ref.count = 1;
	if (pool->size_class == index) {
		block = pool->free_block;
		cr_assert_not_null(block);
		pool->free_block = *(unsigned char **)block;
		/* Not in the original, where a pool of one block cannot be: it would be full. */
		cr_assert(pool->free_block || pool->next_offset <= pool->max_next_offset);
		return block;
	}
	pool->size_class = index;
	block = (unsigned char *)pool + POOL_OVERHEAD;
	pool->next_offset = POOL_OVERHEAD + 2 * size;
	pool->max_next_offset = POOL_BYTES - size;
	pool->free_block = block + size;
	*(unsigned char **)pool->free_block = NULL;
	return block;
}

void *model_allocate(struct model *model, size_t size)
{
	uint32_t index = (uint32_t)(size - 1) / BLOCK_ALIGNMENT;
	struct pool *pool = model->used[index];
	unsigned char *block;

	if (!pool)
		return allocate_from_new_pool(model, index);
	pool->ref.count++;
	block = pool->free_block;
	cr_assert_not_null(block);
	pool->free_block = *(unsigned char **)block;
	if (!pool->free_block)
		extend(model, pool, index);
	return block;
}

void model_release(struct model *model, void *block)
{
	struct pool *pool =
		(struct pool *)((uintptr_t)block & ~(uintptr_t)(POOL_BYTES - 1));
	unsigned char *last_free = pool->free_block;

	cr_assert_gt(pool->ref.count, 0);
	*(unsigned char **)block = last_free;
	pool->free_block = block;
	pool->ref.count--;
	if (!last_free) {
		link_used(model, pool, pool->size_class);
		return;
	}
	if (pool->ref.count > 0)
		return;
	unlink_used(model, pool, pool->size_class);
	pool->next = model->free_pools;
	model->free_pools = pool;
}

size_t model_resident(const struct model *model)
{
	const size_t page_bytes = (size_t)sysconf(_SC_PAGESIZE);
	unsigned char there[ARENA_BYTES / 4096];
	size_t n = 0;

	cr_assert_eq(mincore(model->arena, ARENA_BYTES, there), 0);
	for (size_t i = 0; i < ARENA_BYTES / page_bytes; i++)
		n += there[i] & 1;
	return n * page_bytes;
}
