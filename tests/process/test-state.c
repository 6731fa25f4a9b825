/* The state of an upgrade: what is written is read back, and nothing else is taken. */
#include "process/state.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "process/lifecycle.h"
#include "process/socket.h"
#include "util/cleanup.h"

static struct state state;

static void make_state(void)
{
	struct state_pool *pool = state_add_pool(&state);
	struct state_slot *slot;
	struct state_worker *w;

	pool->pid = 4711;
	pool->capacity = 64;
	pool->n_slots = pool->target = 2;
	pool->notify_fd = 5;
	(void)strcpy(pool->notify_path, "/run/a b%=\n\xc3\xa9");
	for (unsigned i = 1; i <= 2; i++) {
		slot = state_add_slot(&state);
		slot->number = i;
		slot->planned_usec = UINT64_MAX;
		w = state_add_worker(&state);
		w->slot = i;
		w->serves = true;
		w->pid = 100 + i;
		w->pidfd = (int)(10 + i);
		w->state = WORKER_SERVING;
	}
	state_add_socket(&state)->fd = 3;
	state_add_trim(&state)->pid = 101;
	state_add_quarantine(&state)->pid = 102;
}

static void free_state(void)
{
	state_done(&state);
}

TestSuite(state, .init = make_state, .fini = free_state);

/* The text of the state above; free() is the caller's. */
static char *written(void)
{
	char *text = NULL;
	size_t n = 0;
	FILE *out = open_memstream(&text, &n);

	cr_assert(out);
	cr_assert_eq(state_write(&state, out), 0);
	(void)fclose(out);
	return text;
}

static int take(const char *text, struct state_error *err)
{
	struct state s;
	int r = state_read(text, strlen(text), &s, err);

	if (r == 0)
		state_done(&s);
	return r;
}

/* The state's text with one occurrence of a piece replaced. */
static char *with(const char *old, const char *new)
{
	auto_free char *text = written();
	char *at = strstr(text, old), *changed = NULL;

	cr_assert(at, "%s is not in the text", old);
	cr_assert(asprintf(&changed, "%.*s%s%s", (int)(at - text), text, new,
			   at + strlen(old)) > 0);
	return changed;
}

static void expect_refused(const char *old, const char *new, const char *says)
{
	auto_free char *text = with(old, new);
	struct state_error err;

	cr_expect_eq(take(text, &err), -EBADMSG, "%s was taken", new);
	cr_expect(strstr(err.text, says), "%s: %s", new, err.text);
}

Test(state, comes_back_as_it_was)
{
	auto_free char *text = written();
	char *again = NULL;
	size_t n = 0;
	FILE *out = open_memstream(&again, &n);
	struct state_error err;
	struct state s;

	cr_assert_eq(state_read(text, strlen(text), &s, &err), 0, "%s", err.text);
	cr_expect_str_eq(s.pool->notify_path, "/run/a b%=\n\xc3\xa9");
	cr_expect_eq(s.pool->control_fd, -1);
	cr_expect_eq(s.n_worker, 2);
	cr_expect_eq(s.worker[1].pid, 102);
	cr_expect_eq(s.slot[0].planned_usec, UINT64_MAX);
	cr_assert_eq(state_write(&s, out), 0);
	(void)fclose(out);
	cr_expect_str_eq(again, text);
	free(again);
	state_done(&s);
}

Test(state, many_records)
{
	auto_free char *text = NULL;
	struct state_error err;
	struct state s;

	for (unsigned i = 0; i < 1000; i++) {
		struct state_leaf *leaf = state_add_leaf(&state);

		(void)snprintf(leaf->name, sizeof(leaf->name), "worker-%u", i);
		leaf->dir_fd = (int)(100 + i);
	}
	text = written();
	cr_assert_eq(state_read(text, strlen(text), &s, &err), 0, "%s", err.text);
	cr_assert_eq(s.n_leaf, 1000);
	for (unsigned i = 0; i < 1000; i++)
		cr_assert_eq(s.leaf[i].dir_fd, (int)(100 + i));
	state_done(&s);
}

Test(state, there_is_an_end_to_records)
{
	for (unsigned i = 0; i < STATE_MAX; i++)
		cr_assert(state_add_leaf(&state));
	cr_expect_null(state_add_leaf(&state));
}

static int count(int fd, void *sum)
{
	*(int *)sum += fd;
	return 0;
}

static int stop_at_five(int fd, void *unused)
{
	(void)unused;
	return fd == 5 ? 55 : 0;
}

Test(state, every_descriptor_is_visited)
{
	int sum = 0;

	cr_expect_eq(state_each_fd(&state, count, &sum), 0);
	cr_expect_eq(sum, 5 + 3 + 11 + 12);
	cr_expect_eq(state_each_fd(&state, stop_at_five, NULL), 55);
}

Test(state, every_cut_is_noticed)
{
	auto_free char *text = written();
	struct state_error err;

	for (size_t n = 0; n < strlen(text); n++) {
		struct state s;
		auto_free char *cut = malloc(n + 1);

		memcpy(cut, text, n);
		cr_assert_eq(state_read(cut, n, &s, &err), -EBADMSG,
			     "%zu bytes were taken", n);
		cr_assert_neq(err.text[0], '\0');
	}
}

Test(state, other_versions)
{
	expect_refused("trimtab state 1\n", "trimtab state 2\n", "version 2");
	expect_refused("trimtab state 1\n", "trimtab state 12\n", "version 12");
	expect_refused("trimtab state 1\n", "trimtab\n", "no state");
	expect_refused("[trim]\n", "[trims]\n", "later version");
	expect_refused("target=2\n", "target=2\ntarget_of_2027=2\n", "later version");
}

Test(state, what_an_older_version_did_not_write_is_empty)
{
	auto_free char *text = with("notify_fd=5\n", "");
	struct state_error err;
	struct state s;

	cr_assert_eq(state_read(text, strlen(text), &s, &err), 0, "%s", err.text);
	cr_expect_eq(s.pool->notify_fd, -1);
	state_done(&s);
}

Test(state, nonsense_in_lines)
{
	expect_refused("[trim]\n", "[trim]\nnonsense\n", "not understood");
	expect_refused("[trim]\n", "[trim]\n=\n", "later version");
	expect_refused("[trim]\n", "[trim]\n\n", "not understood");
	expect_refused("[pool]\n", "pid=1\n[pool]\n", "not understood");
	expect_refused("[end]\n", "[end]\n[end]\n", "follows");
	expect_refused("pid=4711\n", "pid=4711\npid=4711\n", "twice");
}

Test(state, numbers_out_of_range)
{
	static const char *const bad[] = {
		"pid=\n",   "pid=-1\n",
		"pid=+1\n", "pid= 1\n",
		"pid=1 \n", "pid=0x1\n",
		"pid=01\n", "pid=4294967296\n",
		"pid=1.\n", "pid=18446744073709551616\n",
	};

	for (size_t i = 0; i < ELEMENTS(bad); i++)
		expect_refused("pid=4711\n", bad[i], "out of range");
	expect_refused("reload=0\n", "reload=2\n", "out of range");
	expect_refused("notify_fd=5\n", "notify_fd=2\n", "out of range");
	expect_refused("notify_fd=5\n", "notify_fd=-2\n", "out of range");
	expect_refused("notify_fd=5\n", "notify_fd=1048577\n", "out of range");
	expect_refused("state=2\n", "state=8\n", "out of range");
	expect_refused("kind=0\n", "kind=3\n", "out of range");
}

Test(state, texts_out_of_range)
{
	expect_refused("version=\n", "version=12345678901234567890123456789012\n",
		       "out of range");
	expect_refused("version=\n", "version=%\n", "out of range");
	expect_refused("version=\n", "version=%0\n", "out of range");
	expect_refused("version=\n", "version=%00\n", "out of range");
	expect_refused("version=\n", "version=%G1\n", "out of range");
}

Test(state, what_does_not_fit_together)
{
	expect_refused("n_slots=2\n", "n_slots=3\n", "2 slots");
	expect_refused("capacity=64\n", "capacity=1\n", "2 slots");
	expect_refused("target=2\n", "target=0\n", "2 slots");
	expect_refused("number=2\n", "number=1\n", "another number");
	expect_refused("slot=2\n", "slot=1\n", "no place");
	expect_refused("slot=2\n", "slot=3\n", "no place");
	expect_refused("slot=2\n", "slot=0\n", "no place");
	expect_refused("comes=0\n", "comes=1\n", "no place");
	expect_refused("state=2\n", "state=0\n", "no place");
	expect_refused("pidfd=11\n", "pidfd=-1\n", "no process");
	expect_refused("pid=101\n", "pid=1\n", "no process");
	expect_refused("forking=0\n", "forking=1\n", "no process");
	expect_refused("pidfd=12\n", "pidfd=11\n", "twice");
	expect_refused("fd=3\n", "fd=-1\n", "socket 1");
	expect_refused("[trim]\n", "[trim]\n[trim]\n", "more trims");
	expect_refused("[quarantine]\n", "[quarantine]\n[quarantine]\n", "quarantines");
	expect_refused("[quarantine]\npid=102\n", "[quarantine]\npid=103\n", "nobody's");
	expect_refused("[trim]\n", "[template]\n[trim]\n", "template 1");
	expect_refused("[trim]\n", "[leaf]\n[trim]\n", "leaf 1");
	expect_refused("[trim]\n", "[listener]\nslot=1\n[trim]\n", "listener 1");
	expect_refused("[trim]\n", "[output]\nworker=3\nfd=9\n[trim]\n", "output 1");
	expect_refused("[trim]\n", "[pool]\n[trim]\n", "2 pools");
	expect_refused("[trim]\n", "[leaf]\nname=a/b\ndir_fd=9\n[trim]\n", "leaf 1");
}
