/* The helper thread: asleep until the supervisor asks, then gives memory back and reports. */
#pragma once

#include "trimtab/preload.h"

/* Starts the thread on a verified page; from the constructor, once. It blocks all signals for
 * itself and leaves masks and dispositions of the process as they are. Says hello to the
 * supervisor as soon as it waits. Returns 0 or -errno; then page->state says FAILED. */
int helper_start(struct trimtab_page *page, enum trimtab_allocator allocator);
