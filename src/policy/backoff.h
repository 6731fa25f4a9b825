/* How long a worker that dies while booting waits for its next start. */
#pragma once

#include <stdint.h>

#include "util/time.h"

/* 1 s x 1.5^n_failures, at most max_usec; no wait for n_failures = 0: a worker that had been
 * ready is replaced at once. */
usec_t backoff_usec(uint32_t n_failures, usec_t max_usec);
