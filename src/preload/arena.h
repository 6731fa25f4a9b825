/* One arena of CPython's pymalloc as it lies in memory: what is free in it, and how to give that
 * back. Plain functions over memory; nothing here knows an interpreter, so tests can play one. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Objects/obmalloc.c of CPython 3.10 and 3.11, Include/internal/pycore_obmalloc.h of 3.12 and
 * 3.13, all alike on 64 bit (ARENA_BITS, POOL_BITS, ALIGNMENT, SMALL_REQUEST_THRESHOLD,
 * DUMMY_SIZE_IDX, struct pool_header). Before 3.10: 256 KiB and 4 KiB, nothing to win. */
enum {
	ARENA_BYTES = 1 << 20,
	POOL_BYTES = 1 << 14,
	BLOCK_ALIGNMENT = 16,
	LARGEST_BLOCK = 512,
	N_SIZE_CLASSES = LARGEST_BLOCK / BLOCK_ALIGNMENT,
	NO_SIZE_CLASS = 0xffff,
};

struct pool {
	union {
		void *padding;
		uint32_t count; /* blocks in use */
	} ref;
	unsigned char *free_block; /* head of the list of free ones below next_offset */
	struct pool *next, *previous;
	uint32_t arena_index;
	uint32_t size_class;  /* of the blocks; NO_SIZE_CLASS: carve anew at next use */
	uint32_t next_offset; /* of the first block that was never used */
	uint32_t max_next_offset;
};

enum {
	POOL_OVERHEAD = sizeof(struct pool),
};

_Static_assert(sizeof(struct pool) == 48 || sizeof(void *) != 8, "struct pool_header");

/* Sums over arenas: each call adds to them. */
struct arena_figures {
	uint64_t purged_bytes;
	uint64_t
		free_pool_bytes; /* of it, or that would be, in pools that are wholly free */
	uint64_t live_bytes;
};

/* The first pool of an arena: arenas need not be aligned to pools. */
struct pool *arena_first_pool(void *arena);

/* Whether every pool that was ever used has a header that pymalloc could have written. */
bool arena_is_sound(void *arena);

/* Gives back, by madvise(2), the whole pages of wholly free pools but for their first, and the
 * whole pages of the widest gap between live blocks of the others. Leaves arena and pools such that
 * pymalloc goes on with them. Sound arenas only; nobody else may use it meanwhile. */
void arena_purge(void *arena, size_t page_bytes, struct arena_figures *figures);

/* As arena_purge without giving anything back; says of free pools alone what it would be. */
void arena_look(void *arena, size_t page_bytes, struct arena_figures *figures);
