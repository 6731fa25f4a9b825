/* CPython from outside the interpreter: a collection on its main thread, and work that needs
 * the GIL on a thread of ours. Everything is bounded, and the helper never waits for the GIL
 * itself: a C extension may keep it for as long as it likes. */
#pragma once

#include <stdbool.h>

#include "trimtab/preload.h"

/* Looks the C API up. From the constructor: a failing dlsym(3) allocates. */
void python_detect(void);

/* Whether the program has all of the C API that is used here. */
bool python_is_there(void);

/* True when an interpreter is there and neither starting nor ending. */
bool python_is_running(void);

/* Has the main thread collect cycles, by a pending call, and waits for at most wait_msec.
 * Finalizers thus run where the application expects them. DONE also when gc.disable() is in
 * force, which Python obeys by doing nothing. After TIMEOUT the collection still comes, when
 * the main thread wakes: python_collection_is_due tells until then. */
enum trimtab_gc_result python_collect(unsigned wait_msec);

/* True while a collection that was asked for has not ended. */
bool python_collection_is_due(void);

/* Runs `work` with the GIL on a thread of its own and waits for at most wait_msec. False: not
 * run, or still waiting for the GIL or at work when the time was over; then it runs late. There is
 * one thread; asked for again meanwhile, the work runs once more after that. `work` must not run
 * Python code, which would find itself on a thread that it does not know. */
bool python_run_with_gil(void (*work)(void), unsigned wait_msec);

/* Called by `work` to let others have the GIL for a moment. False: the interpreter is ending,
 * leave at once. */
bool python_yield_gil(void);

/* "3.11.2 (main, ...". With the GIL: CPython writes it anew, into one buffer, at each call. */
const char *python_version(void);

/* How many interpreters there are; with the GIL. */
unsigned python_count_interpreters(void);
