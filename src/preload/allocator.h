/* The allocator behind this process's malloc, and its way of giving free memory back. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "trimtab/preload.h"

/* Finds out which allocator serves malloc here. Once, from the constructor: it looks symbols up
 * and allocates, which the helper thread must not. */
enum trimtab_allocator allocator_detect(void);

/* False where nothing is known that could give memory back, as with musl's own malloc. */
bool allocator_can_release(void);

/* Gives back what the allocator can, on the calling thread, which must not be in a signal
 * handler: glibc's malloc_trim(3) there deadlocks or corrupts the heap within a second. Takes
 * about 0.1 ms per MiB released and holds one arena's lock at a time, at a raised priority. Returns what the call
 * returned, which says next to nothing: measure the resident set instead. */
int allocator_release(void);

/* What the allocator says of itself: resident bytes, and those of them in use. False where it says
 * nothing that predicts what a release brings. Microseconds; like a release, not in a signal
 * handler. */
bool allocator_look(uint64_t *ret_heap_bytes, uint64_t *ret_live_bytes);

/* What only the thread that owns a heap can do for it, for allocators with a heap per thread.
 * Called on a thread of the application, at a point where it may call malloc. */
void allocator_release_own_thread(void);
