/* Any bytes as what workers, the template and operators say: notifications, answers, requests. A
 * parser may take little or nothing from them; it must not look past the NUL (the input is a heap
 * block of its exact size), nor touch its results on refusal. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "control/verb.h"
#include "process/notify.h"
#include "process/socket.h"
#include "process/template.h"

#define CHECK(condition)          \
	do {                      \
		if (!(condition)) \
			abort();  \
	} while (0)

enum { UNTOUCHED = 0x5a };

/* A copy of its own for each parser: some cut the text. */
static char *copy(const char *text, size_t size)
{
	char *p = malloc(size + 1);

	CHECK(p);
	memcpy(p, text, size + 1);
	return p;
}

static void notification(char *text)
{
	const char *end = text + strlen(text);
	struct notify n;

	notify_parse(text, &n);
	CHECK(!n.status ||
	      (n.status > text && n.status <= end && !strchr(n.status, '\n')));
	CHECK(!(n.watchdog && n.watchdog_trigger));
}

static void request(char *text)
{
	struct request q = { .verb = N_VERBS, .worker = UNTOUCHED, .minutes = UNTOUCHED };
	const char *error = NULL;

	if (request_parse(text, &q, &error) < 0) {
		CHECK(error && *error);
		CHECK(q.verb == N_VERBS && q.worker == UNTOUCHED &&
		      q.minutes == UNTOUCHED);
		return;
	}
	CHECK(q.verb < N_VERBS && !error);

	enum verb_target target = verbs[q.verb].target;

	CHECK(target == VERB_ANY ||
	      (q.worker > 0) == (target == VERB_WORKER || target == VERB_MINUTES));
	CHECK(q.minutes == 0 ||
	      (target == VERB_MINUTES && q.minutes <= REQUEST_MINUTES_MAX));
}

static void answer(const char *text)
{
	struct template_answer a = { .worker = UNTOUCHED, .pid = UNTOUCHED };

	if (template_parse(text, &a) < 0) {
		CHECK(a.worker == UNTOUCHED && a.pid == UNTOUCHED);
		return;
	}
	switch (a.word) {
	case TEMPLATE_READY:
	case TEMPLATE_WARM:
		break;
	case TEMPLATE_PROMOTED:
		CHECK(a.pid > 1);
		break;
	case TEMPLATE_REFUSED:
		CHECK(strlen(a.why) < sizeof(a.why));
		break;
	case TEMPLATE_FORKED:
		CHECK(a.pid > 1);
		break;
	case TEMPLATE_FAILED:
		CHECK(a.error < 0 && a.error > -4096);
		break;
	}
}

static void address(const char *text)
{
	struct socket_address a = { .fd = UNTOUCHED, .port = UNTOUCHED };

	if (socket_parse(text, &a) < 0) {
		CHECK(a.fd == UNTOUCHED && a.port == UNTOUCHED);
		return;
	}
	CHECK(a.kind != SOCKET_FD || a.fd >= 0);
	CHECK(a.kind != SOCKET_UNIX || a.path[0] != '\0');
	CHECK(strlen(a.host) < sizeof(a.host) && strlen(a.path) < sizeof(a.path));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1), *own;

	CHECK(text);
	if (size > 0)
		memcpy(text, data, size);
	text[size] = '\0';

	own = copy(text, size);
	notification(own);
	free(own);
	own = copy(text, size);
	request(own);
	free(own);
	answer(text);
	address(text);
	free(text);
	return 0;
}
