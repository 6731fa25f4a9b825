/* Ruby from outside the interpreter: a collection at a safe point of its own. Without one a trim of
 * a Ruby process gives nothing back, since malloc's blocks belong to objects that are dead but
 * not yet swept. */
#pragma once

#include <stdbool.h>

#include "trimtab/preload.h"

/* Looks the C API up. From the constructor. */
void ruby_detect(void);

/* True when there is an interpreter, whether or not it is up. */
bool ruby_is_there(void);

/* Has the interpreter run a full collection and waits for at most wait_msec. As python_collect:
 * after TIMEOUT it still comes, when a thread of Ruby's next looks for interrupts. */
enum trimtab_gc_result ruby_collect(unsigned wait_msec);

/* True while a collection that was asked for has not ended. Asks for it again where Ruby was just
 * loading source when it came round, so this is to be called from time to time. */
bool ruby_collection_is_due(void);
