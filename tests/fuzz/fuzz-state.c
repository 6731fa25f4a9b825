/* Any bytes as the state of an upgrade. What is taken is in range and fits together, since a
 * supervisor is made of it, and what is written of it reads back to the same. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "process/lifecycle.h"
#include "process/state.h"

#define CHECK(condition)          \
	do {                      \
		if (!(condition)) \
			abort();  \
	} while (0)

static int within(int fd, void *unused)
{
	(void)unused;
	CHECK(fd >= 3 && fd <= 1 << 20);
	return 0;
}

static void check(const struct state *s)
{
	CHECK(s->n_pool == 1);
	CHECK(s->pool->n_slots == s->n_slot && s->n_slot <= s->pool->capacity);
	CHECK(memchr(s->pool->runtime, '\0', sizeof(s->pool->runtime)));
	for (size_t i = 0; i < s->n_worker; i++) {
		const struct state_worker *w = &s->worker[i];

		CHECK(w->slot >= 1 && w->slot <= s->n_slot);
		CHECK(w->state > WORKER_NONE && w->state < N_WORKER_STATES);
		CHECK(w->forking == (w->pidfd < 0));
		CHECK(memchr(w->status, '\0', sizeof(w->status)));
	}
	CHECK(s->n_template <= 2 && s->n_trim <= 1);
	CHECK(state_each_fd(s, within, NULL) == 0);
}

static char *text_of(const struct state *s, size_t *ret_n)
{
	char *text = NULL;
	FILE *out = open_memstream(&text, ret_n);

	CHECK(out && state_write(s, out) == 0 && fclose(out) == 0);
	return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct state_error err;
	struct state s, again;
	char *text, *same;
	size_t n, n_same;

	if (state_read((const char *)data, size, &s, &err) < 0) {
		CHECK(err.text[0] && !strchr(err.text, '\n'));
		return 0;
	}
	check(&s);
	text = text_of(&s, &n);
	CHECK(state_read(text, n, &again, &err) == 0);
	same = text_of(&again, &n_same);
	CHECK(n == n_same && memcmp(text, same, n) == 0);
	free(text);
	free(same);
	state_done(&s);
	state_done(&again);
	return 0;
}
