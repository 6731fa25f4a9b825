/* By when each worker has to be replaced, and why. */
#pragma once

#include "policy/round.h"

/* Writes an entry for each worker that has a deadline, and deadline and reason into every
 * slot's outlook. entries has room for one per slot. Returns how many there are. */
size_t deadline_collect(struct round *r, struct plan_entry *entries);
