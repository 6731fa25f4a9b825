/* Every hand x ending x counter, against a table written from the contract and not from the
 * code: first a program that never ran, then the kernel's counters, then our own hand. */
#include "process/cause.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "util/cleanup.h"

static const enum our_hand hands[] = {
	HAND_NONE,	   HAND_ASKED,	       HAND_WATCHDOG,
	HAND_BOOT_TIMEOUT, HAND_DRAIN_TIMEOUT, HAND_STOP,
};

static const struct ending {
	bool signaled;
	int status;
} endings[] = {
	{ false, 0 },	  { false, 1 },	     { false, 127 },	{ true, SIGTERM },
	{ true, SIGINT }, { true, SIGKILL }, { true, SIGABRT }, { true, SIGSEGV },
	{ true, SIGBUS }, { true, SIGALRM },
};

static bool is_kernel_kill(const struct death *d)
{
	return d->signaled && d->status == SIGKILL && d->leaf_oom_kill > 0;
}

static bool went_as_asked(const struct death *d)
{
	return !d->signaled || d->status == SIGTERM || d->status == SIGINT;
}

static enum cause expected(const struct death *d)
{
	if (d->exec_failed)
		return CAUSE_EXEC_FAILED;
	if (is_kernel_kill(d) && d->leaf_oom > 0)
		return CAUSE_OOM_WORKER;
	if (is_kernel_kill(d))
		return d->pool_oom > 0 ? CAUSE_OOM_POOL : CAUSE_OOM_HOST;
	if (d->hand == HAND_WATCHDOG)
		return CAUSE_WATCHDOG;
	if (d->hand == HAND_BOOT_TIMEOUT)
		return CAUSE_BOOT_TIMEOUT;
	if (d->hand == HAND_DRAIN_TIMEOUT)
		return CAUSE_DRAIN_TIMEOUT;
	if (d->hand == HAND_STOP || (d->hand == HAND_ASKED && went_as_asked(d)))
		return CAUSE_ASKED;
	if (!d->was_ready)
		return CAUSE_BOOT_FAILED;
	return d->signaled ? CAUSE_SIGNAL : CAUSE_EXITED;
}

/* Calls fn with each of the deaths that there are; bits: ready, exec, oom, oom_kill, pool. */
static void each_death(void (*fn)(const struct death *))
{
	for (size_t h = 0; h < ELEMENTS(hands); h++)
		for (size_t e = 0; e < ELEMENTS(endings); e++)
			for (unsigned bits = 0; bits < 32; bits++) {
				const struct death d = {
					.signaled = endings[e].signaled,
					.status = endings[e].status,
					.hand = hands[h],
					.was_ready = bits & 1,
					.exec_failed = bits & 2,
					.leaf_oom = bits & 4 ? 1 : 0,
					/* A group kill counts its first victim twice. */
					.leaf_oom_kill = bits & 8 ? 2 : 0,
					.pool_oom = bits & 16 ? 7 : 0,
				};

				fn(&d);
			}
}

static void check_cause(const struct death *d)
{
	enum cause cause = cause_of(d);

	cr_assert_eq(cause, expected(d),
		     "hand %d, %s %d, ready %d, exec %d, oom %d/%d/%d: %s, not %s",
		     d->hand, d->signaled ? "signal" : "status", d->status, d->was_ready,
		     d->exec_failed, (int)d->leaf_oom, (int)d->leaf_oom_kill,
		     (int)d->pool_oom, cause_name(cause), cause_name(expected(d)));
	cr_assert_eq(cause_is_expected(cause), cause == CAUSE_ASKED);
}

Test(cause, of_every_death)
{
	each_death(check_cause);
}

/* What operators fear most is a wrong accusation. */
static void check_accusation(const struct death *d)
{
	enum cause cause = cause_of(d);
	bool kernel = cause == CAUSE_OOM_WORKER || cause == CAUSE_OOM_POOL ||
		      cause == CAUSE_OOM_HOST;

	if (kernel)
		cr_assert(d->leaf_oom_kill > 0 && d->signaled && d->status == SIGKILL,
			  "the kernel is blamed without its counter");
	if (cause == CAUSE_SIGNAL)
		cr_assert(d->signaled);
	if (cause == CAUSE_ASKED)
		cr_assert(d->hand == HAND_ASKED || d->hand == HAND_STOP);
}

Test(cause, blames_nobody_without_evidence)
{
	each_death(check_accusation);
}

static void check_sentence(const struct death *d)
{
	enum cause cause = cause_of(d);
	char text[320] = "";

	cause_sentence(cause, d, text, sizeof(text));
	cr_assert_neq(text[0], '\0');
	cr_assert_null(strpbrk(text, "\n\t%"), "%s", text);
	cr_assert_not_null(memchr(text, '\0', sizeof(text)));
	if (cause == CAUSE_EXITED || cause == CAUSE_SIGNAL ||
	    cause == CAUSE_BOOT_FAILED) {
		char status[16];

		(void)snprintf(status, sizeof(status), "%d", d->status);
		cr_assert_not_null(
			strstr(text, d->signaled ? sigabbrev_np(d->status) : status),
			"%s does not say %s", text, status);
	}
}

Test(cause, says_each_in_a_sentence)
{
	each_death(check_sentence);
}

Test(cause, cuts_a_sentence_to_its_room)
{
	const struct death d = { .signaled = true, .status = SIGKILL, .was_ready = true };
	char text[24];

	memset(text, 'x', sizeof(text));
	cause_sentence(CAUSE_SIGNAL, &d, text, 16);
	cr_assert_str_eq(text, "died of SIGKILL");
	cr_assert_eq(text[16], 'x');
}

Test(cause, names_a_signal_that_has_no_name)
{
	const struct death d = { .signaled = true,
				 .status = SIGRTMIN + 3,
				 .was_ready = true };
	char text[64];

	cause_sentence(cause_of(&d), &d, text, sizeof(text));
	cr_assert_str_eq(text, "died of signal 37");
}

Test(cause, has_one_word_for_each)
{
	for (int a = 0; a < N_CAUSES; a++) {
		const char *name = cause_name((enum cause)a);

		cr_assert_not_null(name);
		cr_assert_eq(strspn(name, "abcdefghijklmnopqrstuvwxyz-"), strlen(name),
			     "%s", name);
		for (int b = 0; b < a; b++)
			cr_assert_str_neq(name, cause_name((enum cause)b));
	}
}
