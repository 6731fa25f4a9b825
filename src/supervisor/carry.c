/* What the next program takes along: the supervisor as records of process/state.h, and a supervisor
 * made of them. Each thing is written and read in one place here, side by side.
 *
 * What can be worked out again (limits, environments, what the host allows) is; what cannot, or what
 * would be another thing then (descriptors, times, counts, the policy's memory), goes along. Nothing
 * here may change a worker: until the exec the old program may go on, after it nobody but us can. */
#include "supervisor/supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "policy-layout.h"
#include "policy/state.h"
#include "process/state.h"
#include "report/journal.h"
#include "report/record.h"
#include "util/cleanup.h"

enum { LISTENERS_MAX = 16 }; /* more than a bell takes */

#define TEXT_OF(macro)	   TEXT_OF_WORD(macro)
#define TEXT_OF_WORD(word) #word

#define COPY(to, from) (void)snprintf(to, sizeof(to), "%s", from)

static usec_t when_due(sd_event_source *timer)
{
	usec_t usec = USEC_NEVER;
	int enabled = SD_EVENT_OFF;

	if (!timer || sd_event_source_get_enabled(timer, &enabled) < 0 ||
	    enabled == SD_EVENT_OFF || sd_event_source_get_time(timer, &usec) < 0)
		return USEC_NEVER;
	return usec;
}

/* ---- files in memory ---- */

static int memory_file(const char *name, const void *data, size_t n)
{
	auto_close int fd = memfd_create(name, MFD_CLOEXEC);

	if (fd < 0)
		return -errno;
	for (size_t done = 0; done < n;) {
		ssize_t r = write(fd, (const char *)data + done, n - done);

		if (r < 0)
			return -errno;
		done += (size_t)r;
	}
	return TAKE_FD(fd);
}

static int config_file(const struct config *c)
{
	auto_free char *text = NULL;
	size_t n = 0;
	FILE *out = open_memstream(&text, &n);
	int r;

	if (!out)
		return -ENOMEM;
	r = config_dump(c, out);
	if (fclose(out) != 0 && r == 0)
		r = -ENOMEM;
	return r < 0 ? r : memory_file("trimtab-config", text, n);
}

/* Two versions may have built the same headers differently. */
static void name_layout(char *name, size_t size)
{
	(void)snprintf(name, size, TEXT_OF(POLICY_LAYOUT) "-%zu-%zu",
		       sizeof(struct policy), sizeof(struct slot_memory));
}

static int make_files(const struct supervisor *s, struct state_pool *p)
{
	const char *description = s->launch->description;

	p->config_fd = config_file(s->config);
	p->policy_fd = memory_file("trimtab-policy", s->policy, policy_size(s->capacity));
	if (description)
		p->description_fd = memory_file("trimtab-description", description,
						strlen(description));
	name_layout(p->policy_layout, sizeof(p->policy_layout));
	return p->config_fd < 0		? p->config_fd
	       : p->policy_fd < 0	? p->policy_fd
	       : p->description_fd < -1 ? p->description_fd
					: 0;
}

void carry_close(struct state *state)
{
	if (state->n_pool > 0) {
		(void)close_fd(state->pool->config_fd);
		(void)close_fd(state->pool->policy_fd);
		(void)close_fd(state->pool->description_fd);
	}
	state_done(state);
}

/* ---- the pool ---- */

static int pool_out(struct supervisor *s, struct state *state)
{
	struct state_pool *p = state_add_pool(state);

	if (!p)
		return -ENOMEM;
	p->pid = (uint64_t)getpid();
	COPY(p->version, TRIMTAB_VERSION);
	p->asked_usec = s->upgrade.asked_usec;
	p->left_usec = time_now_usec();
	p->reload = s->upgrade.reload;
	p->generation = s->generation;
	p->capacity = s->capacity;
	p->n_slots = s->n_slots;
	p->target = s->target;
	p->template_failures = s->template_failures;
	p->has_root = s->root.dir_fd >= 0;
	p->home_controllers = s->root.home_controllers;
	COPY(p->oom_score_adj, s->oom_score_adj);
	p->no_clone3 = spawn_distrusts_clone3();
	p->futile_told = s->futile_told;
	p->trim_allocator = s->trim_allocator;
	COPY(p->runtime, s->runtime);
	COPY(p->notify_path, s->notify_path);
	p->notify_fd = s->notify_fd;
	COPY(p->control_path, control_path(s->control));
	p->control_fd = control_fd(s->control);
	p->client_fd = control_client_fd(s->upgrade.client);
	p->template_output_fd = s->template_output_fd;
	p->refork_given_up = s->refork_given_up;
	p->pool_stall_fd = s->pool_stall.fd;
	p->host_stall_fd = s->host_stall.fd;
	p->pool_stall_total_usec = s->pool_stall.total_usec;
	p->host_stall_total_usec = s->host_stall.total_usec;
	p->own_stall_total_usec = s->own_stall_total_usec;
	p->pool_stall_usec = s->pool_stall.reported_usec;
	p->host_stall_usec = s->host_stall.reported_usec;
	return make_files(s, p);
}

static void pool_in(struct supervisor *s, const struct state_pool *p)
{
	s->phase = PHASE_RUNNING;
	s->generation = (unsigned)p->generation;
	s->target = (unsigned)p->target;
	s->template_failures = (unsigned)p->template_failures;
	COPY(s->oom_score_adj, p->oom_score_adj);
	if (p->no_clone3)
		spawn_distrust_clone3();
	s->futile_told = p->futile_told;
	s->trim_allocator = (enum trimtab_allocator)p->trim_allocator;
	COPY(s->runtime, p->runtime);
	COPY(s->notify_path, p->notify_path);
	s->notify_fd = p->notify_fd;
	s->template_output_fd = p->template_output_fd;
	s->refork_given_up = p->refork_given_up;
	s->pool_stall.fd = p->pool_stall_fd;
	s->host_stall.fd = p->host_stall_fd;
	s->pool_stall.total_usec = p->pool_stall_total_usec;
	s->host_stall.total_usec = p->host_stall_total_usec;
	s->own_stall_total_usec = p->own_stall_total_usec;
	s->pool_stall.reported_usec = p->pool_stall_usec;
	s->host_stall.reported_usec = p->host_stall_usec;
}

/* pool_open() finds that this process is in a P/supervisor of its own making already. */
static int root_in(struct supervisor *s, const struct state_pool *p)
{
	int r = p->has_root ? pool_open(s->config->pool_name, &s->root) : 0;

	if (r < 0) {
		journal_problem(0, r, "Cannot find the pool's cgroup again");
		return r;
	}
	s->root.home_controllers = (unsigned)p->home_controllers;
	s->memory = s->root.controllers & POOL_MEMORY;
	s->leaves = (struct leaves){ .root_fd = s->root.dir_fd, .memory = s->memory };
	return 0;
}

static int control_in(struct supervisor *s, const struct state_pool *p)
{
	struct control_handler handler = { handle_request, forget_client, s };

	return p->control_fd < 0 ? 0
				 : control_resume(s->event, p->control_path,
						  p->control_fd, &handler, &s->control);
}

/* ---- sockets and leaves ---- */

static struct state_socket *socket_out(const struct socket *from, struct state *state)
{
	struct state_socket *to = state_add_socket(state);

	if (!to)
		return NULL;
	to->kind = from->address.kind;
	COPY(to->host, from->address.host);
	to->port = from->address.port;
	COPY(to->path, from->address.path);
	COPY(to->name, from->name);
	to->fd = from->fd;
	to->inherited = from->inherited;
	to->device = from->device;
	to->inode = from->inode;
	return to;
}

static int sockets_out(const struct supervisor *s, struct state *state)
{
	for (size_t i = 0; i < s->n_sockets; i++)
		if (!socket_out(&s->sockets[i], state))
			return -ENOMEM;
	for (size_t i = 0; i < s->n_leaving; i++) {
		struct state_socket *to = socket_out(&s->leaving[i].socket, state);

		if (!to)
			return -ENOMEM;
		to->leaving = true;
		to->generation = s->leaving[i].generation;
		to->quiet = s->leaving[i].quiet;
	}
	return 0;
}

static void socket_in(const struct state_socket *from, struct socket *to)
{
	to->address.kind = (enum socket_kind)from->kind;
	to->address.port = (uint16_t)from->port;
	to->address.fd = from->fd;
	COPY(to->address.host, from->host);
	COPY(to->address.path, from->path);
	COPY(to->name, from->name);
	to->fd = from->fd;
	to->inherited = from->inherited;
	to->device = from->device;
	to->inode = from->inode;
}

static int sockets_in(struct supervisor *s, const struct state *state)
{
	s->sockets = calloc(state->n_socket + 1, sizeof(*s->sockets));
	s->leaving = calloc(state->n_socket + 1, sizeof(*s->leaving));
	if (!s->sockets || !s->leaving)
		return -ENOMEM;
	for (size_t i = 0; i < state->n_socket; i++) {
		const struct state_socket *from = &state->socket[i];
		struct leaving *leaving = &s->leaving[s->n_leaving];

		if (!from->leaving) {
			socket_in(from, &s->sockets[s->n_sockets++]);
			continue;
		}
		socket_in(from, &leaving->socket);
		leaving->generation = (unsigned)from->generation;
		leaving->quiet = from->quiet;
		s->n_leaving++;
	}
	s->socket_names = listeners_names(s->sockets, s->n_sockets);
	return s->socket_names ? 0 : -ENOMEM;
}

static int leaves_out(const struct supervisor *s, struct state *state)
{
	for (const struct leaf *from = s->leaves.first; from; from = from->next) {
		struct state_leaf *to = state_add_leaf(state);

		if (!to)
			return -ENOMEM;
		to->number = from->number;
		COPY(to->name, from->name);
		to->dir_fd = from->dir_fd;
		to->pressure_fd = from->pressure_fd;
		to->pressure_stall_usec = from->pressure_stall_usec;
		to->pressure_window_usec = from->pressure_window_usec;
		to->taken = from->taken;
		to->unclean = from->unclean;
		to->killed = from->killed;
		to->spent = from->spent;
	}
	return 0;
}

static int leaves_in(struct supervisor *s, const struct state *state)
{
	for (size_t i = 0; i < state->n_leaf; i++) {
		const struct state_leaf *from = &state->leaf[i];
		struct leaf leaf = {
			.number = (unsigned)from->number,
			.dir_fd = from->dir_fd,
			.pressure_fd = from->pressure_fd,
			.pressure_stall_usec = from->pressure_stall_usec,
			.pressure_window_usec = from->pressure_window_usec,
			.memory = s->memory,
			.taken = from->taken,
			.unclean = from->unclean,
			.killed = from->killed,
			.spent = from->spent,
		};

		COPY(leaf.name, from->name);
		if (leaves_add(&s->leaves, &leaf) < 0)
			return -ENOMEM;
	}
	s->template_leaf = leaves_find(&s->leaves, "template");
	return 0;
}

/* ---- slots ---- */

static int listeners_out(const struct slot *slot, struct state *state)
{
	int fds[LISTENERS_MAX];
	size_t n = bell_listeners(slot->bell, fds, LISTENERS_MAX);

	for (size_t i = 0; i < n; i++) {
		struct state_listener *to = state_add_listener(state);

		if (!to)
			return -ENOMEM;
		to->slot = slot->number;
		to->fd = fds[i];
	}
	return 0;
}

static int slots_out(const struct supervisor *s, struct state *state)
{
	for (unsigned i = 0; i < s->n_slots; i++) {
		const struct slot *from = &s->slots[i];
		struct state_slot *to = state_add_slot(state);

		if (!to || listeners_out(from, state) < 0)
			return -ENOMEM;
		to->number = from->number;
		to->wish = from->wish;
		to->retire = from->retire;
		to->start_reason = from->start_reason;
		to->planned = from->planned;
		to->planned_usec = from->planned_usec;
		to->held = from->held;
		to->output_fd = from->output_fd;
		to->bell_fd = bell_fd(from->bell);
	}
	return 0;
}

static int slot_in(struct slot *to, const struct state_slot *from)
{
	struct supervisor *s = to->supervisor;
	char path[108];
	int r = 0;

	to->wish = (enum wish)from->wish;
	to->retire = from->retire;
	to->start_reason = (enum reason)from->start_reason;
	to->planned = (enum reason)from->planned;
	to->planned_usec = from->planned_usec;
	to->held = from->held;
	to->output_fd = from->output_fd;
	if (from->bell_fd >= 0) {
		(void)snprintf(path, sizeof(path), "%s/pressure-%u", s->runtime,
			       to->number);
		r = bell_resume(s->event, path, from->bell_fd, &to->bell);
	}
	return r < 0 ? r : setup_environment(to);
}

static int slots_in(struct supervisor *s, const struct state *state)
{
	int r = 0;

	for (; r >= 0 && s->n_slots < state->n_slot; s->n_slots++)
		r = slot_in(&s->slots[s->n_slots], &state->slot[s->n_slots]);
	for (size_t i = 0; r >= 0 && i < state->n_listener; i++) {
		const struct state_listener *from = &state->listener[i];

		if (s->slots[from->slot - 1].bell)
			(void)bell_adopt(s->slots[from->slot - 1].bell, from->fd);
	}
	return r < 0 ? r : 0;
}

static int outputs_out(struct state *state)
{
	unsigned worker;
	int fd;

	for (unsigned i = 0; record_each_output(i, &worker, &fd); i++) {
		struct state_output *to = fd < 0 ? NULL : state_add_output(state);

		if (fd < 0)
			continue;
		if (!to)
			return -ENOMEM;
		to->worker = worker;
		to->fd = fd;
	}
	return 0;
}

static void outputs_in(const struct state *state)
{
	for (size_t i = 0; i < state->n_output; i++) {
		int r = record_adopt_output((unsigned)state->output[i].worker,
					    state->output[i].fd);

		if (r < 0)
			journal_problem((unsigned)state->output[i].worker, r,
					"The output of a worker is lost");
	}
}

/* ---- workers ---- */

/* Less the library's own words about the last trim: the next one brings them again. */
static void story_out(const struct trim_story *t, struct state_worker *to)
{
	to->n_trims = t->n_trims;
	to->n_unanswered = t->n_unanswered;
	to->skip_told = t->skip_told;
	to->late_due = t->late_due;
	to->trim_reason = t->reason;
	to->trim_plain_usec = t->plain_usec;
	to->trim_at_usec = t->at_usec;
	to->trim_took_usec = t->took_usec;
	to->trim_before_bytes = t->before_bytes;
	to->trim_after_bytes = t->after_bytes;
}

static struct trim_story story_in(const struct state_worker *from)
{
	return (struct trim_story){
		.n_trims = (unsigned)from->n_trims,
		.n_unanswered = (unsigned)from->n_unanswered,
		.skip_told = from->skip_told,
		.late_due = from->late_due,
		.reason = (enum reason)from->trim_reason,
		.plain_usec = from->trim_plain_usec,
		.at_usec = from->trim_at_usec,
		.took_usec = from->trim_took_usec,
		.before_bytes = from->trim_before_bytes,
		.after_bytes = from->trim_after_bytes,
	};
}

static int worker_out(const struct worker *w, struct state_worker *to)
{
	if (!to)
		return -ENOMEM;
	to->slot = w->slot->number;
	to->serves = w->slot->worker == w;
	to->comes = w->slot->incoming == w;
	to->pid = (uint64_t)w->pid;
	to->pidfd = w->pidfd;
	to->state = w->state;
	to->hand = w->hand;
	to->generation = w->generation;
	to->watchdog_usec = w->watchdog_usec;
	to->started_usec = w->started_usec;
	to->ready_usec = w->ready_usec;
	to->asked_usec = w->asked_usec;
	to->deadline_usec = when_due(w->deadline);
	to->silence_usec = when_due(w->silence);
	to->forking = w->forking;
	to->hello = w->hello;
	to->stays = w->stays;
	to->kept_usec = w->kept_usec;
	to->counted = w->counted;
	to->n_requests = w->n_requests;
	to->warm_fd = w->warm_fd;
	to->warm = w->warm;
	COPY(to->status, w->status);
	if (w->leaf)
		COPY(to->leaf, w->leaf->name);
	to->events_fd = w->events_fd;
	to->base_max = w->base.max;
	to->base_oom = w->base.oom;
	to->base_oom_kill = w->base.oom_kill;
	to->pool_oom_base = w->pool_oom_base;
	to->high_events = w->high_events;
	to->stall_total_usec = w->stall.total_usec;
	to->stall_usec = w->stall.reported_usec;
	to->usage_bytes = w->usage_bytes;
	to->charged_bytes = w->charged_bytes;
	to->tripwire_bytes = w->tripwire_bytes;
	to->limit_bytes = w->limit_bytes;
	to->page_fd = w->page.fd;
	to->page_cookie = w->page.cookie;
	to->page_signal = (uint64_t)w->page.signal_number;
	to->page_wake = w->page.wake;
	to->page_requested = w->page.requested;
	to->page_looking = w->page.looking;
	story_out(&w->trims, to);
	return 0;
}

static int workers_out(const struct supervisor *s, struct state *state)
{
	for (const struct worker *w = s->workers; w; w = w->next)
		if (worker_out(w, state_add_worker(state)) < 0)
			return -ENOMEM;
	return 0;
}

static int page_in(struct trimpage *page, const struct state_worker *from)
{
	*page = (struct trimpage){
		.fd = from->page_fd,
		.cookie = from->page_cookie,
		.signal_number = (int)from->page_signal,
		.wake = (enum trimtab_wake)from->page_wake,
		.requested = (uint32_t)from->page_requested,
		.looking = from->page_looking,
	};
	return page->fd < 0 ? 0 : trimpage_resume(page);
}

static void fill_worker(struct worker *w, const struct state_worker *from)
{
	*w = (struct worker){
		.supervisor = w->supervisor,
		.slot = w->slot,
		.report = w->report,
		.leaf = leaves_find(&w->supervisor->leaves, from->leaf),
		.pid = (pid_t)from->pid,
		.pidfd = from->pidfd,
		.state = (enum worker_state)from->state,
		.hand = (enum our_hand)from->hand,
		.generation = (unsigned)from->generation,
		.watchdog_usec = from->watchdog_usec,
		.started_usec = from->started_usec,
		.ready_usec = from->ready_usec,
		.asked_usec = from->asked_usec,
		.forking = from->forking,
		.hello = from->hello,
		.stays = from->stays,
		.kept_usec = from->kept_usec,
		.counted = from->counted,
		.n_requests = from->n_requests,
		.warm_fd = from->warm_fd,
		.warm = from->warm,
		.events_fd = from->events_fd,
		.base = {
			.max = from->base_max,
			.oom = from->base_oom,
			.oom_kill = from->base_oom_kill,
		},
		.pool_oom_base = from->pool_oom_base,
		.high_events = from->high_events,
		.stall = {
			.total_usec = from->stall_total_usec,
			.reported_usec = from->stall_usec,
		},
		.usage_bytes = from->usage_bytes,
		.charged_bytes = from->charged_bytes,
		.tripwire_bytes = from->tripwire_bytes,
		.limit_bytes = from->limit_bytes,
	};
	COPY(w->status, from->status);
	w->trims = story_in(from);
}

static int worker_in(struct supervisor *s, const struct state_worker *from)
{
	struct worker *w = calloc(1, sizeof(*w));
	int r;

	if (!w)
		return -ENOMEM;
	w->supervisor = s;
	w->slot = &s->slots[from->slot - 1];
	w->report = spawn_report_new();
	fill_worker(w, from);
	w->next = s->workers;
	s->workers = w;
	if (!w->report)
		return -ENOMEM;
	w->report->step = SPAWN_UNDER_WAY;
	if (from->serves)
		w->slot->worker = w;
	if (from->comes)
		w->slot->incoming = w;
	r = page_in(&w->page, from);
	if (r < 0)
		journal_problem(w->slot->number, r,
				"Worker %u cannot be asked to trim any more",
				w->slot->number);
	if (w->warm_fd >= 0 && refork_watch(w) < 0)
		refork_withdraw(w);
	return worker_resume(w, from->deadline_usec, from->silence_usec);
}

static int workers_in(struct supervisor *s, const struct state *state)
{
	for (size_t i = 0; i < state->n_worker; i++) {
		int r = worker_in(s, &state->worker[i]);

		if (r < 0)
			return r;
	}
	return 0;
}

/* ---- the policy ---- */

/* Of another shape: what was learned is lost, but not who serves since when. */
static void tell_policy_anew(struct supervisor *s)
{
	journal_problem(
		0, 0,
		"What the policy has learned of the workers is of another version: it "
		"learns anew");
	for (const struct worker *w = s->workers; w; w = w->next)
		if (w->slot->worker == w) {
			policy_note_started(s->policy, w->slot->number - 1,
					    w->started_usec);
			policy_note_ready(s->policy, w->slot->number - 1, w->ready_usec,
					  0);
		}
	for (const struct worker *w = s->workers; w; w = w->next)
		if (w->slot->incoming == w)
			policy_note_started(s->policy, w->slot->number - 1,
					    w->started_usec);
}

static bool has_our_layout(const struct state_pool *p)
{
	char name[sizeof(p->policy_layout)];

	name_layout(name, sizeof(name));
	return strcmp(p->policy_layout, name) == 0;
}

static void policy_in(struct supervisor *s, const struct state_pool *p)
{
	size_t size = policy_size(s->capacity);
	auto_free struct policy *old = malloc(size);
	struct stat st;

	if (old && has_our_layout(p) && fstat(p->policy_fd, &st) == 0 &&
	    (size_t)st.st_size == size &&
	    pread(p->policy_fd, old, size, 0) == (ssize_t)size &&
	    old->n_slots == s->capacity)
		memcpy(s->policy, old, size);
	else
		tell_policy_anew(s);
}

/* ---- template and trim ---- */

/* Of a reload that is under way nothing is taken along: it is begun anew (upgrade.c). */
static int template_out(const struct template *t, struct state *state)
{
	struct state_template *to = t ? state_add_template(state) : NULL;

	if (!t)
		return 0;
	if (!to)
		return -ENOMEM;
	to->pid = (uint64_t)t->pid;
	to->pidfd = t->pidfd;
	to->fd = t->fd;
	to->ready = t->ready;
	to->served = t->served;
	to->aborted = t->aborted;
	to->warm = t->warm;
	to->origin = t->origin;
	to->origin_pid = (uint64_t)t->origin_pid;
	to->started_usec = t->started_usec;
	to->deadline_usec = when_due(t->deadline);
	return 0;
}

static int template_in(struct supervisor *s, const struct state_template *from)
{
	struct template *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	*t = (struct template){
		.supervisor = s,
		.pid = (pid_t)from->pid,
		.pidfd = from->pidfd,
		.fd = from->fd,
		.ready = from->ready,
		.served = from->served,
		.aborted = from->aborted,
		.warm = from->warm,
		.origin = (unsigned)from->origin,
		.origin_pid = (pid_t)from->origin_pid,
		.report = spawn_report_new(),
		.started_usec = from->started_usec,
	};
	s->template = t;
	if (!t->report)
		return -ENOMEM;
	t->report->step = SPAWN_UNDER_WAY;
	return template_watch(t, from->deadline_usec);
}

static int templates_in(struct supervisor *s, const struct state *state)
{
	int r = 0;

	for (size_t i = 0; r >= 0 && i < state->n_template; i++)
		r = template_in(s, &state->template[i]);
	/* The one that was to be tried again later is tried now. */
	if (r >= 0 && !s->template)
		(void)template_start(s);
	return r;
}

static int trim_out(const struct supervisor *s, struct state *state)
{
	struct state_trim *to = s->trim.worker ? state_add_trim(state) : NULL;

	if (!s->trim.worker)
		return 0;
	if (!to)
		return -ENOMEM;
	to->pid = (uint64_t)s->trim.worker->pid;
	to->reason = s->trim.reason;
	to->before_bytes = s->trim.before_bytes;
	to->asked_usec = s->trim.asked_usec;
	to->deadline_usec = when_due(s->trim.timer);
	return 0;
}

static void trim_in(struct supervisor *s, const struct state *state)
{
	const struct state_trim *from = state->trim;

	for (struct worker *w = s->workers; state->n_trim > 0 && w; w = w->next)
		if ((uint64_t)w->pid == from->pid) {
			s->trim.worker = w;
			s->trim.reason = (enum reason)from->reason;
			s->trim.before_bytes = from->before_bytes;
			s->trim.asked_usec = from->asked_usec;
			trim_resume(s, from->deadline_usec);
		}
}

/* ---- quarantine ---- */

/* Who waits for it is told nothing, as whoever waits for a restart: the journal has it. */
static int quarantine_out(const struct supervisor *s, struct state *state)
{
	const struct quarantine *from = &s->quarantine;
	struct state_quarantine *to = from->worker ? state_add_quarantine(state) : NULL;

	if (!from->worker)
		return 0;
	if (!to)
		return -ENOMEM;
	to->pid = (uint64_t)from->worker->pid;
	to->keep_usec = from->keep_usec;
	to->wish = from->wish;
	to->drained = from->drained;
	return 0;
}

static void quarantine_in(struct supervisor *s, const struct state *state)
{
	const struct state_quarantine *from = state->quarantine;

	for (struct worker *w = s->workers; state->n_quarantine > 0 && w; w = w->next)
		if ((uint64_t)w->pid == from->pid)
			s->quarantine = (struct quarantine){
				.worker = w,
				.keep_usec = from->keep_usec,
				.wish = (enum wish)from->wish,
				.drained = from->drained,
			};
}

/* ---- all of it ---- */

int carry_out(struct supervisor *s, bool final, struct state *ret)
{
	CLEANUP(carry_close) struct state state = { 0 };
	int r = pool_out(s, &state);

	if (r == 0)
		r = sockets_out(s, &state);
	if (r == 0)
		r = leaves_out(s, &state);
	if (r == 0)
		r = slots_out(s, &state);
	if (r == 0 && final)
		r = outputs_out(&state);
	if (r == 0)
		r = workers_out(s, &state);
	if (r == 0)
		r = template_out(s->template, &state);
	if (r == 0)
		r = trim_out(s, &state);
	if (r == 0)
		r = quarantine_out(s, &state);
	if (r < 0)
		return r;
	*ret = state;
	state = (struct state){ 0 };
	return 0;
}

/* An on-recycle that ran meanwhile is nobody's now. In its slot a worker is told to go again by the
 * policy; one that was replaced already by nobody but us. */
static void part_again(struct supervisor *s)
{
	for (struct worker *w = s->workers; w; w = w->next)
		if (w->state == WORKER_SERVING && w->slot->worker != w &&
		    w->slot->incoming != w)
			worker_event(w, WORKER_ASKED, HAND_ASKED);
}

static int refuse(struct config_error *err, const char *what, size_t i)
{
	(void)snprintf(err->text, sizeof(err->text),
		       "%s %zu of the state is not known here", what, i + 1);
	return -EBADMSG;
}

/* What process/state.c cannot know: our own enumerations, and names that point elsewhere. */
int carry_check(const struct state *state, struct config_error *err)
{
	size_t n_listening = 0;

	for (size_t i = 0; i < state->n_slot; i++) {
		const struct state_slot *slot = &state->slot[i];

		if (slot->wish > WISH_REFORK || slot->start_reason >= N_REASONS ||
		    slot->planned >= N_REASONS)
			return refuse(err, "slot", i);
	}
	for (size_t i = 0; i < state->n_worker; i++) {
		const struct state_worker *w = &state->worker[i];
		bool found = !w->leaf[0];

		for (size_t k = 0; !found && k < state->n_leaf; k++)
			found = strcmp(state->leaf[k].name, w->leaf) == 0;
		if (!found || w->trim_reason >= N_REASONS ||
		    (w->page_fd >= 0 && w->page_wake != TRIMTAB_WAKE_SIGNAL &&
		     w->page_wake != TRIMTAB_WAKE_FUTEX))
			return refuse(err, "worker", i);
	}
	if (state->pool->trim_allocator > TRIMTAB_ALLOCATOR_MIMALLOC)
		return refuse(err, "allocator", (size_t)state->pool->trim_allocator);
	for (size_t i = 0; i < state->n_trim; i++)
		if (state->trim[i].reason >= N_REASONS)
			return refuse(err, "trim", i);
	for (size_t i = 0; i < state->n_quarantine; i++)
		if (state->quarantine[i].wish > WISH_REFORK)
			return refuse(err, "quarantine", i);
	for (size_t i = 0; i < state->n_socket; i++)
		n_listening += !state->socket[i].leaving;
	if (n_listening > SPAWN_MAX_LISTEN_FDS)
		return refuse(err, "socket", n_listening - 1);
	return 0;
}

int carry_in(struct supervisor *s, const struct state *state)
{
	const struct state_pool *p = state->pool;
	int r = setup_records(s);

	if (r < 0)
		return r;
	pool_in(s, p);
	outputs_in(state);
	r = root_in(s, p);
	if (r == 0)
		r = leaves_in(s, state);
	if (r == 0)
		r = sockets_in(s, state);
	if (r == 0)
		r = setup_notify(s);
	if (r >= 0)
		r = control_in(s, p);
	if (r >= 0)
		r = setup_capacity(s, (unsigned)p->capacity);
	if (r >= 0)
		r = slots_in(s, state);
	if (r >= 0)
		r = workers_in(s, state);
	if (r >= 0)
		r = templates_in(s, state);
	if (r < 0) {
		journal_problem(0, r, "Cannot go on where trimtab %s left off",
				p->version);
		return r;
	}
	policy_in(s, p);
	trim_in(s, state);
	quarantine_in(s, state);
	setup_protection(s);
	watch_pool_again(s);
	setup_limits(s);
	part_again(s);
	/* Whose end was seen by nobody while there was nobody. */
	(void)on_orphan(NULL, NULL, s);
	return 0;
}
