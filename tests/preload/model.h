/* One arena of pymalloc, played by the rules of Objects/obmalloc.c (CPython 3.10 to 3.13): small
 * enough to read beside it, and the judge of what src/preload/arena.c leaves behind. */
#pragma once

#include <stddef.h>

#include "preload/arena.h"

struct model {
	void *arena;
	struct pool *used[N_SIZE_CLASSES]; /* doubly linked, as pymalloc's usedpools */
	struct pool *free_pools;	   /* linked through next */
	unsigned char *pool_address;	   /* the next pool that was never used */
};

/* Maps an arena that begins `shift` bytes behind a multiple of the size of a pool. */
void model_init(struct model *model, size_t shift);
void model_done(struct model *model);

/* NULL when the arena is full. */
void *model_allocate(struct model *model, size_t size);
void model_release(struct model *model, void *block);

/* Bytes of the arena that are resident. */
size_t model_resident(const struct model *model);
