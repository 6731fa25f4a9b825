/* Plans in words: what `trimtabctl explain` prints. Pure: figures in, one English sentence out. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "policy/decide.h"

enum { SENTENCE_MAX = 640 };

/* How far a worker of the slot is on its way through quarantine. */
enum sentence_quarantine {
	SENTENCE_NO_QUARANTINE,
	SENTENCE_WANTED, /* it serves yet */
	SENTENCE_DRAINS,
	SENTENCE_KEPT,
	SENTENCE_ENDS,
};

/* What the policy's outlook does not say of a slot. */
struct sentence_slot {
	enum slot_phase phase;
	bool retire;
	bool can_trim, trimming;
	enum reason cause;    /* of the start or restart that is under way */
	usec_t since_usec;    /* when that began */
	usec_t until_usec;    /* when patience with it ends; USEC_NEVER: never */
	uint64_t usage_bytes; /* now; 0: not known */
	enum sentence_quarantine quarantine;
	int kept_pid;		/* of that worker */
	usec_t kept_until_usec; /* where it is kept */
};

struct sentence_pool {
	unsigned n_serving, n_wanted;
	bool trims; /* trims are on */
	bool trimming_is_futile;
	const char *why_futile; /* the likely reason */
	unsigned reforked;	/* the worker whose child the template is; 0: none */
};

/* Each writes one sentence, cut at SENTENCE_MAX - 1, without "worker N:" or "pool:" before it and
 * without a full stop. All times are CLOCK_MONOTONIC and told as distances from now. */
void sentence_slot(char text[SENTENCE_MAX], const struct sentence_slot *slot,
		   const struct outlook *o, usec_t now);
void sentence_pool(char text[SENTENCE_MAX], const struct sentence_pool *pool,
		   const struct pool_outlook *o, const struct limits *limits, usec_t now);
