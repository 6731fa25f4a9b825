/* Keeps fork(2) out of a step on a thread of ours in which a lock is held that a forked child would
 * find held for ever. Neither side can stop the other: each waits for a tenth of a second or so, and
 * then goes on as if there were no gate. */
#pragma once

/* From the constructor, once. */
void gate_prepare(void);

/* Around the step: one at a time, microseconds, and no fork of this process falls into it. */
void gate_enter(void);
void gate_leave(void);
