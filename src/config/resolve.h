/* From what the operator wrote to numbers, once the whole is known. Pure. */
#pragma once

#include "config/value.h"

/* Bytes meant by a size: itself; its part of whole (UINT64_MAX, no limit known, stays so);
 * or auto_value. Never overflows. */
uint64_t config_resolve_size(struct config_size size, uint64_t whole,
			     uint64_t auto_value);
