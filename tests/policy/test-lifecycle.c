/* The life cycle as a table: each phase that a slot may be seen in x each note x each wish, to stay
 * or to retire, in every order up to a depth, beside neighbours in every phase. The supervisor
 * that this makes is an absurd one: notes and snapshots need not agree. What the policy promises
 * about a snapshot holds for it all the same.
 *
 * States of the policy that are equal byte for byte are followed once, so that three steps in
 * sequence (400^3 ways) take seconds. */
#include <stdio.h>

#include "pool.h"

enum note {
	NOTE_NONE,
	NOTE_STARTED,
	NOTE_READY,
	NOTE_BOOT_FAILED,
	NOTE_CRASHED,
	NOTE_KILLED,
	NOTE_DRAINED,
	NOTE_TRIMMED,
	NOTE_TRIMMED_LATE,
	NOTE_TRIM_LOST,
	N_NOTES,
};

enum { N_PHASES = SLOT_DRAINING + 1, N_WISHES = WISH_REFORK + 1, N_SLOTS = 3 };

/* What happens between two decisions, and what the second one sees of slot 0. */
struct step {
	enum note note;
	enum slot_phase phase;
	enum wish wish;
	bool retire;
};

/* What stays the same along one path: the neighbours, the clock, the settings. Slot 1 is in any
 * phase; slot 2 serves and, in some scenes, wants to be replaced. */
struct scene {
	enum slot_phase neighbour;
	enum wish rival;
	usec_t every_usec;
	uint32_t max_unavailable;
	enum surge_rule surge;
	bool fat; /* slot 0 is above its mark */
};

struct node {
	enum slot_phase phase;
	usec_t begun_usec; /* when slot 0 was last seen to begin a restart; 0: never */
	unsigned char policy[];
};

/* All different nodes of one depth. */
struct level {
	unsigned char *nodes;
	size_t n, room, *table, table_size;
};

static struct pool pool;
static size_t policy_bytes, node_bytes;
static unsigned long n_decisions;

/* ---- levels ---- */

static struct node *level_node(const struct level *l, size_t i)
{
	return (struct node *)(void *)(l->nodes + i * node_bytes);
}

static uint64_t hash(const struct node *node)
{
	const unsigned char *bytes = (const void *)node;
	uint64_t h = 0xcbf29ce484222325, word;

	for (size_t i = 0; i + 8 <= node_bytes; i += 8) {
		memcpy(&word, bytes + i, 8);
		h = (h ^ word) * 0x100000001b3;
		h ^= h >> 29;
	}
	return h;
}

static void level_grow(struct level *l)
{
	l->room = l->room ? 2 * l->room : 256;
	l->nodes = realloc(l->nodes, l->room * node_bytes);
	free(l->table);
	l->table_size = 4 * l->room;
	l->table = calloc(l->table_size, sizeof(*l->table));
	cr_assert(l->nodes && l->table);
	for (size_t i = 0; i < l->n; i++) {
		size_t at = hash(level_node(l, i)) % l->table_size;

		while (l->table[at])
			at = (at + 1) % l->table_size;
		l->table[at] = i + 1;
	}
}

static void level_add(struct level *l, const struct node *node)
{
	size_t at;

	if (l->n == l->room)
		level_grow(l);
	for (at = hash(node) % l->table_size; l->table[at]; at = (at + 1) % l->table_size)
		if (memcmp(level_node(l, l->table[at] - 1), node, node_bytes) == 0)
			return;
	memcpy(level_node(l, l->n), node, node_bytes);
	l->table[at] = ++l->n;
}

static void level_free(struct level *l)
{
	free(l->nodes);
	free(l->table);
	*l = (struct level){ 0 };
}

/* ---- promises ---- */

static bool serves(uint32_t i)
{
	return pool.slots[i].phase == SLOT_SERVING || pool.slots[i].phase == SLOT_SURGING;
}

static const struct slot_memory *memory(uint32_t i)
{
	return &pool.policy->slots[i];
}

/* Out of service by whatever cause, those that cannot come up apart where they do not count. */
static size_t others_out(uint32_t slot, bool count_stuck)
{
	size_t n = 0;

	for (uint32_t i = 0; i < N_SLOTS; i++)
		n += i != slot && !pool.slots[i].retire && !serves(i) &&
		     (count_stuck || memory(i)->n_boot_failures < 3);
	return n;
}

static void check_restart(const struct action *a, const struct node *node)
{
	uint32_t allowed = pool.limits.max_unavailable;

	cr_assert_eq(pool.slots[a->slot].phase, SLOT_SERVING, "a restart of no server");
	cr_assert_not(pool.slots[a->slot].retire, "a replacement for a surplus slot");
	cr_assert_leq(memory(a->slot)->not_before_usec, pool.seen.now_usec, "backoff");
	for (uint32_t i = 0; i < N_SLOTS; i++)
		cr_assert(i == a->slot || pool.slots[i].retire ||
				  pool.slots[i].phase != SLOT_SURGING,
			  "two replacements at once");
	cr_assert_lt(others_out(a->slot, a->kind == ACTION_DRAIN), allowed,
		     "more than %u out", allowed);
	if (node->begun_usec)
		cr_assert_geq(pool.seen.now_usec - node->begun_usec,
			      pool.limits.min_gap_floor_usec, "two within the floor");
}

static void check_action(const struct action *a, const struct node *node)
{
	const struct slot_seen *s = &pool.slots[a->slot];

	cr_assert_not_null(reason_text(a->reason));
	switch (a->kind) {
	case ACTION_START:
		cr_assert(s->phase == SLOT_EMPTY && !s->retire, "start beside a worker");
		cr_assert_leq(memory(a->slot)->not_before_usec, pool.seen.now_usec);
		return;
	case ACTION_SURGE:
	case ACTION_DRAIN:
		check_restart(a, node);
		return;
	case ACTION_RETIRE:
		cr_assert(s->retire && s->phase != SLOT_EMPTY &&
				  s->phase != SLOT_DRAINING,
			  "retire of nobody");
		return;
	case ACTION_TRIM:
		cr_assert(s->phase == SLOT_SERVING && !s->retire && s->can_trim);
		return;
	case ACTION_TRIPWIRE:
	case ACTION_LIMIT:
		cr_assert(serves(a->slot), "limits of a worker that does not serve");
		cr_assert_geq(a->bytes, s->charged_bytes, "below what is charged");
		return;
	}
	cr_assert_fail("no such action");
}

/* One of each group for a slot, one restart and one trim in all, and no more boots than allowed. */
static void check_counts(const struct decision *d)
{
	unsigned int groups[N_SLOTS][4] = { 0 }, starts = 0, booting = 0, restarts = 0;

	cr_assert_leq(d->n_actions, 4 * N_SLOTS);
	for (size_t i = 0; i < d->n_actions; i++) {
		const struct action *a = &d->actions[i];
		unsigned int group = a->kind <= ACTION_RETIRE  ? 0
				     : a->kind == ACTION_TRIM  ? 1
				     : a->kind == ACTION_LIMIT ? 2
							       : 3;

		cr_assert_lt(a->slot, N_SLOTS);
		cr_assert_eq(groups[a->slot][group]++, 0, "twice the same for a slot");
		starts += a->kind == ACTION_START;
		restarts += a->kind == ACTION_SURGE || a->kind == ACTION_DRAIN;
	}
	for (uint32_t i = 0; i < N_SLOTS; i++)
		booting += pool.slots[i].phase == SLOT_BOOTING;
	cr_assert(starts == 0 || starts + booting <= pool.limits.max_booting);
	cr_assert_leq(restarts, 1, "two restarts in one decision");
	cr_assert_leq(pool_count(&pool, ACTION_TRIM), 1);
	cr_assert_gt(d->wake_usec, pool.seen.now_usec, "a wake in the past");
}

static bool given(const struct decision *d, enum action_kind kind, uint32_t slot)
{
	for (size_t i = 0; i < d->n_actions; i++)
		if (d->actions[i].kind == kind && d->actions[i].slot == slot)
			return true;
	return false;
}

/* Nobody is forgotten: an empty slot starts or is waited for, a surplus one goes, and a wish that
 * nothing stands in the way of is granted. */
static void check_progress(const struct decision *d)
{
	unsigned int booting = 0, wishes = 0, restarts = 0, all_serve = 0;
	usec_t now = pool.seen.now_usec;

	for (uint32_t i = 0; i < N_SLOTS; i++) {
		const struct slot_seen *s = &pool.slots[i];

		booting += s->phase == SLOT_BOOTING || given(d, ACTION_START, i);
		all_serve += s->phase == SLOT_SERVING && !s->retire &&
			     memory(i)->not_before_usec <= now;
		wishes += s->wish != WISH_NONE;
		restarts += given(d, ACTION_SURGE, i) || given(d, ACTION_DRAIN, i);
		if (s->retire && s->phase != SLOT_EMPTY && s->phase != SLOT_DRAINING)
			cr_assert(given(d, ACTION_RETIRE, i), "surplus, and stays");
	}
	for (uint32_t i = 0; i < N_SLOTS; i++) {
		usec_t not_before = memory(i)->not_before_usec;

		if (pool.slots[i].phase != SLOT_EMPTY || pool.slots[i].retire)
			continue;
		if (not_before > now)
			cr_assert_leq(d->wake_usec, not_before,
				      "an end of backoff missed");
		else
			cr_assert(given(d, ACTION_START, i) ||
					  booting >= pool.limits.max_booting,
				  "an empty slot stays empty");
	}
	if (all_serve == N_SLOTS && wishes > 0 &&
	    (!pool.policy->restarted ||
	     now >= pool.policy->last_restart_usec + pool.limits.min_gap_usec))
		cr_assert_eq(restarts, 1, "a wish is not granted");
}

/* ---- steps ---- */

static void tell(enum note note, uint32_t slot, usec_t now)
{
	struct policy *p = pool.policy;

	switch (note) {
	case NOTE_NONE:
		return;
	case NOTE_STARTED:
		policy_note_started(p, slot, now);
		return;
	case NOTE_READY:
		policy_note_ready(p, slot, now, 60 * MIB);
		return;
	case NOTE_BOOT_FAILED:
		policy_note_boot_failed(p, slot, now);
		return;
	case NOTE_CRASHED:
		policy_note_crashed(p, slot, now, false);
		return;
	case NOTE_KILLED:
		policy_note_crashed(p, slot, now, true);
		return;
	case NOTE_DRAINED:
		policy_note_drained(p, slot, now, SEC);
		return;
	case NOTE_TRIMMED:
		policy_note_trimmed(p, slot, now, 400 * MIB, 100 * MIB, 1000);
		return;
	case NOTE_TRIMMED_LATE:
		policy_note_trimmed_late(p, slot, now, 90 * MIB);
		return;
	case NOTE_TRIM_LOST:
		policy_note_trim_lost(p, slot, now);
		return;
	case N_NOTES:
		return;
	}
}

static void show(uint32_t i, enum slot_phase phase, enum wish wish, bool retire,
		 uint64_t usage)
{
	bool running = phase == SLOT_SERVING || phase == SLOT_SURGING;

	pool.slots[i] = (struct slot_seen){
		.phase = phase,
		.wish = running ? wish : WISH_NONE,
		.retire = retire,
		.can_trim = running,
		.sampled = running,
		.usage_bytes = running ? usage : 0,
		.charged_bytes = running ? usage : 0,
		.ready_usec = running ? SEC : 0,
	};
}

/* From a node to what the step makes of it, which is left in the pool and in *ret. */
static void take(const struct scene *scene, const struct step *step,
		 const struct node *from, usec_t now, struct node *ret)
{
	bool begins = (step->phase == SLOT_SURGING || step->phase == SLOT_DRAINING) &&
		      from->phase == SLOT_SERVING && !step->retire;
	const struct decision *d;

	memcpy(pool.policy, from->policy, policy_bytes);
	tell(step->note, 0, now);
	show(0, step->phase, step->wish, step->retire, (scene->fat ? 480 : 60) * MIB);
	show(1, scene->neighbour, WISH_NONE, false, 60 * MIB);
	show(2, SLOT_SERVING, scene->rival, false, 60 * MIB);
	d = pool_decide(&pool, now);
	n_decisions++;
	check_counts(d);
	for (size_t i = 0; i < d->n_actions; i++)
		check_action(&d->actions[i], from);
	check_progress(d);
	memset(ret, 0, sizeof(*ret));
	ret->phase = step->phase;
	ret->begun_usec = begins || step->note == NOTE_KILLED ? now : from->begun_usec;
	memcpy(ret->policy, pool.policy, policy_bytes);
}

static void every_step(const struct scene *scene, const struct node *from, usec_t now,
		       struct level *next)
{
	static struct {
		_Alignas(struct node) unsigned char bytes[65536];
	} room;
	struct node *node = (struct node *)(void *)room.bytes;

	cr_assert_leq(node_bytes, sizeof(room));
	for (int note = 0; note < N_NOTES; note++)
		for (int phase = 0; phase < N_PHASES; phase++)
			for (int wish = 0; wish < N_WISHES; wish++)
				for (int retire = 0; retire < 2; retire++) {
					struct step step = { (enum note)note,
							     (enum slot_phase)phase,
							     (enum wish)wish, retire };

					take(scene, &step, from, now, node);
					if (next)
						level_add(next, node);
				}
}

static void play(const struct scene *scene, unsigned int depth)
{
	struct level level = { 0 };
	struct node *first = calloc(1, node_bytes);
	usec_t now = 1000 * SEC;

	cr_assert(first);
	pool.limits.max_unavailable = scene->max_unavailable;
	pool.limits.surge = scene->surge;
	policy_init(pool.policy, N_SLOTS, 1);
	memcpy(first->policy, pool.policy, policy_bytes);
	level_add(&level, first);
	free(first);
	for (unsigned int step = 1; step <= depth; step++) {
		struct level next = { 0 };

		now += scene->every_usec;
		for (size_t i = 0; i < level.n; i++)
			every_step(scene, level_node(&level, i), now,
				   step < depth ? &next : NULL);
		level_free(&level);
		level = next;
	}
	level_free(&level);
}

static void begin(void)
{
	pool = pool_new(N_SLOTS);
	policy_bytes = policy_size(N_SLOTS);
	node_bytes = (sizeof(struct node) + policy_bytes + 7) / 8 * 8;
	n_decisions = 0;
}

/* A second, more than the floor, more than the gap. */
static const usec_t paces[] = { SEC, 31 * SEC, 601 * SEC };

/* Settings under which two steps are taken; three are taken under the first. */
static const struct scene scenes[] = {
	{ .rival = WISH_OPERATOR, .max_unavailable = 1, .surge = SURGE_ALWAYS },
	{ .rival = WISH_OPERATOR, .max_unavailable = 1, .surge = SURGE_NEVER },
	{ .rival = WISH_OPERATOR, .max_unavailable = 2, .surge = SURGE_ALWAYS },
	{ .rival = WISH_OPERATOR, .max_unavailable = 2, .surge = SURGE_NEVER },
	{ .max_unavailable = 1, .surge = SURGE_AUTO },
	{ .max_unavailable = 1, .surge = SURGE_NEVER, .fat = true },
	{ .rival = WISH_REQUESTS,
	  .max_unavailable = 1,
	  .surge = SURGE_AUTO,
	  .fat = true },
};

Test(lifecycle, every_note_in_every_phase_twice, .init = begin)
{
	for (size_t i = 0; i < sizeof(scenes) / sizeof(*scenes); i++)
		for (int neighbour = 0; neighbour < N_PHASES; neighbour++)
			for (size_t pace = 0; pace < 3; pace++) {
				struct scene scene = scenes[i];

				scene.neighbour = (enum slot_phase)neighbour;
				scene.every_usec = paces[pace];
				play(&scene, 2);
			}
	printf("%lu decisions\n", n_decisions);
	pool_free(&pool);
}

Test(lifecycle, every_note_in_every_phase_three_times, .init = begin)
{
	for (size_t pace = 0; pace < 3; pace++) {
		struct scene scene = scenes[0];

		scene.neighbour = SLOT_SERVING;
		scene.every_usec = paces[pace];
		play(&scene, 3);
	}
	printf("%lu decisions\n", n_decisions);
	pool_free(&pool);
}

Test(lifecycle, a_slot_out_of_range_is_nobody, .init = begin)
{
	const uint32_t beyond[] = { N_SLOTS, N_SLOTS + 1, UINT32_MAX };
	unsigned char *before = malloc(policy_bytes);

	cr_assert(before);
	pool_serve(&pool, 60 * MIB);
	pool_decide(&pool, 2 * SEC);
	memcpy(before, pool.policy, policy_bytes);
	for (size_t i = 0; i < 3; i++) {
		for (int note = 0; note < N_NOTES; note++)
			tell((enum note)note, beyond[i], 3 * SEC);
		cr_assert_eq(policy_raise_tripwire(pool.policy, &pool.limits, beyond[i],
						   3 * SEC, 400 * MIB),
			     UINT64_MAX);
		cr_assert_lt(
			policy_outlook(pool.policy, beyond[i], &(struct outlook){ 0 }),
			0);
		cr_assert_eq(memcmp(before, pool.policy, policy_bytes), 0);
	}
	free(before);
	pool_free(&pool);
}

/* More slots seen than there is memory for: those beyond are left alone. */
Test(lifecycle, slots_beyond_the_memory_get_no_action, .init = begin)
{
	struct slot_seen more[2 * N_SLOTS];

	for (int phase = 0; phase < N_PHASES; phase++)
		for (int wish = 0; wish < N_WISHES; wish++)
			for (int retire = 0; retire < 2; retire++) {
				policy_init(pool.policy, N_SLOTS, 1);
				show(0, (enum slot_phase)phase, (enum wish)wish, retire,
				     480 * MIB);
				for (size_t i = 0; i < 2 * N_SLOTS; i++)
					more[i] = pool.slots[0];
				pool.seen.slots = more;
				pool.seen.n_slots = 2 * N_SLOTS;
				pool.seen.now_usec = 1000 * SEC;
				decide(pool.policy, &pool.limits, &pool.seen,
				       &pool.decision);
				cr_assert_leq(pool.decision.n_actions, 4 * N_SLOTS);
				for (size_t i = 0; i < pool.decision.n_actions; i++)
					cr_assert_lt(pool.decision.actions[i].slot,
						     N_SLOTS);
			}
	pool_free(&pool);
}
