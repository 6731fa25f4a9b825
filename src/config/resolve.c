/* Sizes resolved against the whole they are a part of. Pure arithmetic. */
#include "config/resolve.h"

uint64_t config_resolve_size(struct config_size size, uint64_t whole, uint64_t auto_value)
{
	switch (size.kind) {
	case SIZE_AUTO:
		return auto_value;
	case SIZE_BYTES:
		return size.value;
	case SIZE_PERMYRIAD:
		if (whole == UINT64_MAX)
			return UINT64_MAX;
		/* A percentage is at most 100 %, so the quotient fits. */
		return (uint64_t)((unsigned __int128)whole * size.value / 10000);
	}
	return auto_value;
}
