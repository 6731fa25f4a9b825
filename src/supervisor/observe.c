/* Observe: the kernel's figures and our own states, gathered into one snapshot. Reads only. */
#include "supervisor/supervisor.h"

#include "kernel/procfs.h"

/* What its processes use when there is no memory controller: the sum over the leaf, or the one
 * process that we know. */
static uint64_t estimate(const struct worker *w)
{
	pid_t pids[64];
	ssize_t n = w->leaf ? cgroup_pids(w->leaf->dir_fd, pids, 64) : 0;
	uint64_t sum = 0, bytes;

	if (n <= 0) {
		pids[0] = w->pid;
		n = 1;
	}
	for (ssize_t i = 0; i < n; i++)
		if (proc_estimate(pids[i], &bytes) == 0)
			sum += bytes;
	return sum;
}

/* Its hello is lost like any message: in a full queue, or where its user cannot reach our socket. */
static void look_for_hello(struct worker *w)
{
	if (!w->hello && trimpage_is_live(&w->page) &&
	    trimpage_has_helper(&w->page, w->pid))
		w->hello = true;
}

void observe_worker(struct worker *w)
{
	struct cgroup_usage usage;

	look_for_hello(w);
	if (w->leaf && w->leaf->memory) {
		if (cgroup_read_usage(w->leaf->dir_fd, &usage) != 0)
			return;
		w->usage_bytes = usage.own_bytes;
		w->charged_bytes = usage.charged_bytes;
		w->scanned_pages = usage.scanned_pages;
		/* What comes back at once was never free. */
		w->freed_pages = usage.stolen_pages > usage.refaulted_pages
					 ? usage.stolen_pages - usage.refaulted_pages
					 : 0;
		return;
	}
	w->usage_bytes = w->charged_bytes = estimate(w);
}

/* 0: not known. */
static usec_t cpu_used(const struct worker *w)
{
	uint64_t usec;

	if (w->leaf)
		return cgroup_read_cpu(w->leaf->dir_fd, &usec) == 0 ? usec : 0;
	return proc_cpu(w->pid, &usec) == 0 ? usec : 0;
}

enum slot_phase slot_phase(const struct slot *slot)
{
	const struct worker *w = slot->worker;

	if (w && w->state == WORKER_SERVING)
		return slot->incoming ? SLOT_SURGING : SLOT_SERVING;
	if (slot->incoming)
		return SLOT_BOOTING;
	return w ? SLOT_DRAINING : SLOT_EMPTY;
}

static void observe_slot(struct slot *slot, struct slot_seen *seen)
{
	struct worker *w = slot->worker;

	*seen = (struct slot_seen){
		.phase = slot_phase(slot),
		.wish = slot->wish,
		.retire = slot->retire,
	};
	if (seen->phase != SLOT_SERVING && seen->phase != SLOT_SURGING)
		return;
	observe_worker(w);
	seen->sampled = w->usage_bytes > 0;
	seen->usage_bytes = w->usage_bytes;
	seen->charged_bytes = w->charged_bytes;
	seen->high_events = w->high_events;
	seen->scanned_pages = w->scanned_pages;
	seen->freed_pages = w->freed_pages;
	seen->ready_usec = w->ready_usec;
	seen->pressure_usec = w->stall.reported_usec;
	seen->trimming = slot->supervisor->trim.worker == w;
	seen->can_trim = w->hello || bell_is_heard(slot->bell);
	if (seen->can_trim && slot->supervisor->limits.trim_enabled)
		seen->cpu_usec = cpu_used(w);
}

/* What the pool as a whole costs: the root's own figure, supervisor and draining workers
 * included; without a controller the sum of the estimates. */
static uint64_t pool_bytes(struct supervisor *s)
{
	struct cgroup_usage usage;
	uint64_t sum = 0;

	if (s->memory && cgroup_read_usage(s->root.dir_fd, &usage) == 0)
		return usage.own_bytes;
	for (struct worker *w = s->workers; w; w = w->next)
		sum += w->usage_bytes;
	return sum;
}

void observe(struct supervisor *s, struct snapshot *ret)
{
	uint64_t headroom = UINT64_MAX;
	uint64_t kept_bytes = quarantine_bytes(s);

	for (unsigned i = 0; i < s->n_slots; i++)
		observe_slot(&s->slots[i], &s->seen[i]);
	setup_limits(s);
	if (!s->memory || cgroup_headroom(s->root.dir_fd, &headroom) != 0)
		headroom = UINT64_MAX;
	*ret = (struct snapshot){
		.now_usec = supervisor_now(s),
		.kept_bytes = kept_bytes,
		.pool_bytes = pool_bytes(s),
		.pool_pressure_usec = s->pool_stall.reported_usec,
		.host_pressure_usec = s->host_stall.reported_usec,
		.headroom_known = headroom != UINT64_MAX,
		.headroom_bytes = headroom,
		.slots = s->seen,
		.n_slots = s->n_slots,
	};
}
