/* From "configured" to "running", and back. Everything that may block happens here, before the
 * loop: D-Bus, name look-ups, the journal's streams, making cgroups. */
#include "supervisor/supervisor.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <syslog.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "process/environment.h"
#include "process/notify.h"
#include "report/journal.h"
#include "report/record.h"
#include "supervisor/limits.h"
#include "supervisor/relaunch.h"
#include "supervisor/scope.h"
#include "util/cleanup.h"
#include "util/runtime.h"

/* What the supervisor itself may use without being pushed out: far more than it needs. */
#define SUPERVISOR_MIN_BYTES (16u << 20)

/* How long the limits above the pool are believed before they are read again. */
#define LIMITS_USEC (5 * USEC_PER_SEC)

enum { BIND_TRIES = 5 }; /* one second apart, as gunicorn does */

/* ---- records ---- */

static const int syslog_levels[] = {
	[CONFIG_LOG_LEVEL_DEBUG] = LOG_DEBUG,	[CONFIG_LOG_LEVEL_INFO] = LOG_INFO,
	[CONFIG_LOG_LEVEL_NOTICE] = LOG_NOTICE, [CONFIG_LOG_LEVEL_WARNING] = LOG_WARNING,
	[CONFIG_LOG_LEVEL_ERROR] = LOG_ERR,
};

int setup_log_priority(const struct config *c)
{
	return syslog_levels[c->log_level];
}

static bool is_managed(void)
{
	const char *exec_pid = getenv("SYSTEMD_EXEC_PID");

	return getenv("NOTIFY_SOCKET") || (exec_pid && atoi(exec_pid) == getpid());
}

int setup_records(struct supervisor *s)
{
	const struct config *c = s->config;
	bool journal =
		c->log_target == CONFIG_LOG_TARGET_JOURNAL ||
		(c->log_target == CONFIG_LOG_TARGET_AUTO && record_stderr_is_journal());

	s->managed = is_managed();
	return record_open(c->pool_name, journal ? RECORD_JOURNAL : RECORD_STDERR,
			   c->log_format == CONFIG_LOG_FORMAT_JSON ? RECORD_JSON
								   : RECORD_TEXT,
			   setup_log_priority(c));
}

/* ---- ourselves ---- */

static void read_text(const char *path, char *text, size_t size)
{
	auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, size - 1);

	text[n > 0 ? n : 0] = '\0';
	text[strcspn(text, "\n")] = '\0';
}

/* The supervisor must survive what its workers do to memory. What is refused is done without. Once:
 * whoever takes its place would read back what is written here. */
static void protect_score(struct supervisor *s)
{
	auto_close int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	read_text("/proc/self/oom_score_adj", s->oom_score_adj, sizeof(s->oom_score_adj));
	if (fd < 0 || write(fd, "-900", 4) != 4)
		s->oom_score_adj[0] = '\0'; /* not changed: nothing to undo in workers */
}

void setup_protection(struct supervisor *s)
{
	(void)mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT);
	(void)prctl(PR_SET_CHILD_SUBREAPER, 1);
	if (s->memory)
		(void)cgroup_write_u64(s->root.supervisor_fd, "memory.min",
				       SUPERVISOR_MIN_BYTES);
}

/* ---- cgroups ---- */

/* systemd marks what it delegates; systemd(1) CGROUP_DELEGATION. */
static bool is_delegated(void)
{
	auto_close int fd = -1;
	auto_free char *path = NULL;
	char value[4];

	if (cgroup_open_own(&fd, &path) != 0)
		return false;
	return fgetxattr(fd, "user.delegate", value, sizeof(value)) > 0 ||
	       fgetxattr(fd, "trusted.delegate", value, sizeof(value)) > 0;
}

static int open_root(struct supervisor *s)
{
	enum config_cgroup use = s->config->cgroup_use;
	int r;

	if (use == CONFIG_CGROUP_NO)
		return -ECANCELED;
	if (use == CONFIG_CGROUP_SCOPE || (use == CONFIG_CGROUP_AUTO && !s->managed &&
					   sd_booted() > 0 && !is_delegated())) {
		r = scope_enter(s->config->pool_name, 10);
		if (r < 0) {
			journal_problem(0, r, "systemd gives no scope to the pool");
			if (use == CONFIG_CGROUP_SCOPE)
				return r;
		}
	}
	return pool_open(s->config->pool_name, &s->root);
}

static void report_capabilities(struct supervisor *s)
{
	char missing[256] = "";
	size_t n = 0;

	for (unsigned i = 0; i < N_CAPABILITIES; i++) {
		const struct capability_state *c = &s->capabilities[i];
		bool essential = i == CAPABILITY_LEAVES || i == CAPABILITY_MEMORY ||
				 i == CAPABILITY_PSI_LEAVES;

		journal_capability(capability_name(i), c->there, essential, c->cause,
				   c->remedy);
		if (essential && !c->there && n < sizeof(missing))
			n += (size_t)snprintf(missing + n, sizeof(missing) - n, "%s%s",
					      n ? ", " : "", capability_name(i));
	}
	if (s->memory)
		journal_pool("control", "Full control: each worker has a cgroup below %s",
			     s->root.path);
	else
		journal_pool(
			"degraded",
			"Degraded mode, missing: %s. Workers are measured through /proc and "
			"not limited by the kernel; `trimtab doctor` explains",
			missing);
}

static int prepare_cgroups(struct supervisor *s)
{
	int r = open_root(s);

	if (r < 0)
		s->root = POOL_NONE;
	s->memory = s->root.controllers & POOL_MEMORY;
	s->leaves = (struct leaves){ .root_fd = s->root.dir_fd, .memory = s->memory };
	if (r >= 0)
		leaves_take_over(&s->leaves);
	probe(r < 0 ? NULL : &s->root, r < 0 ? r : 0, s->capabilities);
	report_capabilities(s);
	if (r < 0 && (s->config->cgroup_use == CONFIG_CGROUP_SCOPE ||
		      s->config->cgroup_use == CONFIG_CGROUP_OWN)) {
		journal_problem(0, r,
				"[cgroup] use asks for a cgroup that cannot be had");
		return r;
	}
	return 0;
}

/* ---- sockets ---- */

static int adopt_sockets(struct supervisor *s)
{
	int n = sd_listen_fds(/* unset_environment= */ true), r;

	if (n <= 0)
		return n;
	if (n > SPAWN_MAX_LISTEN_FDS)
		return -E2BIG;
	s->sockets = calloc((size_t)n, sizeof(*s->sockets));
	if (!s->sockets)
		return -ENOMEM;
	for (int i = 0; i < n; i++) {
		r = socket_adopt(SD_LISTEN_FDS_START + i, &s->sockets[i]);
		if (r < 0) {
			journal_problem(
				0, r,
				"Inherited descriptor %d is no listening stream socket",
				SD_LISTEN_FDS_START + i);
			return r;
		}
		s->n_sockets++;
	}
	return n;
}

static int open_patiently(const struct socket_address *a, const struct socket_options *o,
			  const char *text, struct socket *ret)
{
	int r = 0;

	for (int i = 0; i < BIND_TRIES; i++) {
		r = socket_open(a, o, ret);
		if (r != -EADDRINUSE)
			break;
		journal_problem(0, r, "Cannot listen on %s%s", text,
				i + 1 < BIND_TRIES ? ", trying again" : "");
		if (i + 1 < BIND_TRIES)
			(void)poll(NULL, 0, 1000);
	}
	return r;
}

static int bind_sockets(struct supervisor *s)
{
	const struct launch *l = s->launch;
	struct socket_options options;
	int r = relaunch_socket_options(s->config, l, &options);

	if (r < 0) {
		journal_problem(0, r,
				"[pool] socket-user or socket-group is not known here");
		return r;
	}
	if (l->n_binds > SPAWN_MAX_LISTEN_FDS)
		return -E2BIG;
	s->sockets = calloc(l->n_binds + 1, sizeof(*s->sockets));
	if (!s->sockets)
		return -ENOMEM;
	for (size_t i = 0; i < l->n_binds; i++) {
		struct socket_address a;

		r = socket_parse(l->binds[i], &a);
		if (r == 0)
			r = open_patiently(&a, &options, l->binds[i], &s->sockets[i]);
		if (r < 0) {
			journal_problem(0, r, "Cannot listen on %s", l->binds[i]);
			return r;
		}
		s->n_sockets++;
	}
	return 0;
}

static int prepare_sockets(struct supervisor *s)
{
	int r = adopt_sockets(s);

	if (r == 0)
		r = predecessor_adopt_sockets(s);
	if (r == 0)
		r = bind_sockets(s);
	if (r < 0)
		return r;
	for (size_t i = 0; i < s->n_sockets; i++)
		journal_pool("listening", "Listening on %s%s", s->sockets[i].name,
			     s->sockets[i].inherited ? ", inherited" : "");
	s->socket_names = listeners_names(s->sockets, s->n_sockets);
	return s->socket_names ? 0 : -ENOMEM;
}

/* ---- runtime directory, notification and control sockets ---- */

static int make_directory(const char *path, mode_t mode)
{
	struct stat st;

	if (mkdir(path, mode) == 0)
		return chmod(path, mode) < 0 ? -errno : 0;
	if (errno != EEXIST)
		return -errno;
	if (lstat(path, &st) < 0)
		return -errno;
	/* Somebody else's directory in /tmp is a trap. */
	return S_ISDIR(st.st_mode) && (st.st_uid == geteuid() || st.st_uid == 0) ? 0
										 : -EPERM;
}

/* Bells of a predecessor that was killed: of more workers than we may ever have. The directory is
 * ours, as the notification socket in it is. */
static void remove_old_bells(const struct supervisor *s)
{
	DIR *dir = opendir(s->runtime);
	struct dirent *entry;

	while (dir && (entry = readdir(dir)))
		if (strncmp(entry->d_name, "pressure-", strlen("pressure-")) == 0)
			(void)unlinkat(dirfd(dir), entry->d_name, 0);
	if (dir)
		(void)closedir(dir);
}

/* A path of a socket: one that was cut would be another one. */
__attribute__((format(printf, 3, 4))) static int make_path(char *path, size_t size,
							   const char *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(path, size, format, args);
	va_end(args);
	return n >= 0 && (size_t)n < size ? 0 : -ENAMETOOLONG;
}

int setup_notify(struct supervisor *s)
{
	int r = sd_event_add_io(s->event, &s->notify, s->notify_fd, EPOLLIN, on_notify,
				s);

	return r < 0 ? r : sd_event_source_set_priority(s->notify, PRIORITY_NOTIFY);
}

static int prepare_runtime(struct supervisor *s)
{
	struct control_handler handler = { handle_request, forget_client, s };
	char base[108], path[108];
	int r;

	runtime_directory(base, sizeof(base));
	r = make_path(s->runtime, sizeof(s->runtime), "%s/%s.d", base,
		      s->config->pool_name);
	if (r < 0)
		s->runtime[0] = '\0';
	if (r == 0)
		r = make_directory(base, 0755);
	if (r == 0)
		r = make_directory(s->runtime, 0711);
	if (r < 0) {
		journal_problem(0, r, "Cannot make the runtime directory %s/%s.d", base,
				s->config->pool_name);
		return r;
	}

	/* First: it refuses when another instance serves this name. */
	if (!config_is(s->config->control_socket, "off")) {
		if (config_is(s->config->control_socket, "auto"))
			r = make_path(path, sizeof(path), "%s/%s.sock", base,
				      s->config->pool_name);
		else
			r = make_path(path, sizeof(path), "%s",
				      s->config->control_socket);
		if (r == 0)
			r = control_new(s->event, path, &handler, &s->control);
		if (r < 0) {
			journal_problem(
				0, r, "Cannot make the control socket %s%s", path,
				r == -EADDRINUSE
					? " (another trimtab serves a pool of this "
					  "name; set pool.name)"
					: "");
			return r;
		}
	}
	(void)snprintf(s->notify_path, sizeof(s->notify_path), "%s/notify", s->runtime);
	r = notify_open(s->notify_path, s->launch->uid, s->launch->gid);
	if (r < 0) {
		journal_problem(0, r, "Cannot make the notification socket %s",
				s->notify_path);
		s->notify_path[0] =
			'\0'; /* what is there is another's: not ours to remove */
		return r;
	}
	s->notify_fd = r;
	remove_old_bells(s);
	return setup_notify(s);
}

/* ---- limits ---- */

static bool same_shares(const struct limits *a, const struct limits *b)
{
	return a->budget_bytes == b->budget_bytes &&
	       a->reserve_bytes == b->reserve_bytes &&
	       a->worker_max_bytes == b->worker_max_bytes &&
	       a->trim_at_bytes == b->trim_at_bytes;
}

void setup_limits(struct supervisor *s)
{
	const struct limits before = s->limits;
	usec_t now = supervisor_now(s);

	if (s->limits_read_usec != 0 && now - s->limits_read_usec < LIMITS_USEC)
		return;
	s->limits_read_usec = now;
	limits_resolve(s->config, s->launch, s->root.dir_fd, s->target, s->memory,
		       &s->limits);
	if (same_shares(&before, &s->limits))
		return;
	journal_limits(&(struct journal_limits){
		.workers = s->target,
		.worker_max_bytes = s->limits.worker_max_bytes,
		.trim_at_bytes = s->limits.trim_at_bytes,
		.budget_bytes = s->limits.budget_bytes,
	});
}

/* ---- slots ---- */

int setup_environment(struct slot *slot)
{
	struct supervisor *s = slot->supervisor;
	char bell[108];
	struct environment_plan plan = {
		.worker = slot->number,
		.pool = s->config->pool_name,
		.extra = s->config->pool_env.items,
		.n_extra = s->config->pool_env.n,
		.n_listen_fds = s->n_sockets,
		.listen_names = s->socket_names,
		.notify_path = s->notify_path,
		.watchdog_usec = s->launch->watchdog_usec,
		.pressure_path = slot->bell ? bell : NULL,
		.preload = s->launch->preload,
		.arena_max = s->config->trim_arena_max,
	};
	char **env;

	(void)snprintf(bell, sizeof(bell), "%s/pressure-%u", s->runtime, slot->number);
	env = environment_new(environ, &plan);
	if (!env)
		return -ENOMEM;
	(void)environment_free(slot->env);
	slot->env = env;
	return 0;
}

int setup_slot(struct supervisor *s, struct slot *slot)
{
	char path[108];
	int r;

	if (slot->env)
		return 0; /* it was in use before and keeps what it has */
	r = record_open_output(slot->number);
	slot->output_fd = r < 0 ? -1 : r; /* an error is none that could be handed on */
	if (r < 0)
		journal_problem(slot->number, r, "Worker %u writes to our own output",
				slot->number);
	if (s->config->pressure_tell_workers) {
		(void)snprintf(path, sizeof(path), "%s/pressure-%u", s->runtime,
			       slot->number);
		r = bell_new(s->event, path, s->launch->uid, s->launch->gid, &slot->bell);
		if (r < 0)
			journal_problem(slot->number, r,
					"Worker %u cannot listen for pressure",
					slot->number);
	}
	return setup_environment(slot);
}

int setup_capacity(struct supervisor *s, unsigned capacity)
{
	s->capacity = capacity;
	s->slots = calloc(s->capacity, sizeof(*s->slots));
	s->seen = calloc(s->capacity, sizeof(*s->seen));
	s->decision.actions =
		calloc((size_t)s->capacity * 4 + 8, sizeof(*s->decision.actions));
	s->policy = malloc(policy_size(s->capacity));
	if (!s->slots || !s->seen || !s->decision.actions || !s->policy)
		return -ENOMEM;
	policy_init(s->policy, s->capacity, (uint64_t)getpid());
	for (unsigned i = 0; i < s->capacity; i++)
		s->slots[i] = (struct slot){ .supervisor = s,
					     .number = i + 1,
					     .output_fd = -1,
					     .planned_usec = USEC_NEVER };
	return 0;
}

static int prepare_slots(struct supervisor *s)
{
	int r;

	s->target = s->launch->workers;
	/* Room for SIGTTIN; all memory is taken now, none when it matters. */
	r = setup_capacity(s, s->target * 2 > 64 ? s->target * 2 : 64);
	if (r < 0)
		return r;
	for (; s->n_slots < s->target; s->n_slots++) {
		r = setup_slot(s, &s->slots[s->n_slots]);
		if (r < 0)
			return r;
	}
	return 0;
}

/* ---- all of it ---- */

void setup_tell_launch(const struct supervisor *s)
{
	const struct launch *l = s->launch;

	if (l->untrimmable)
		journal_problem(0, 0, "%s", l->untrimmable);
	for (size_t i = 0; i < l->n_warnings; i++)
		journal_problem(0, 0, "%s", l->warnings[i]);
	if (l->hooks && l->preload_mode == CONFIG_PRELOAD_NONE)
		journal_problem(
			0, 0,
			"gunicorn's hooks %s are not run: with preload = none there is no "
			"template, and nobody else to run them",
			l->hooks);
	if (s->config->pool_refork_after > 0 && !template_is_wanted(l))
		journal_problem(0, 0,
				"refork-after changes nothing: without gunicorn, or with "
				"preload = none, there is no template");
}

int setup(struct supervisor *s)
{
	int r;

	r = setup_records(s);
	if (r < 0)
		return r;
	journal_pool("starting", "trimtab %s starts the pool %s: %s", TRIMTAB_VERSION,
		     s->config->pool_name, s->launch->what);
	setup_tell_launch(s);
	if (!s->launch->preload && !config_is(s->config->trim_preload_library, "off"))
		journal_problem(
			0, 0,
			"libtrimtab-preload.so is not installed: workers cannot be "
			"asked to trim");
	r = predecessor_find(s);
	if (r >= 0)
		r = setup_pidfile(s);
	if (r >= 0)
		r = prepare_cgroups(s);
	if (r >= 0)
		r = prepare_sockets(s);
	if (r >= 0)
		r = prepare_runtime(s);
	if (r >= 0)
		r = prepare_slots(s);
	if (r < 0)
		return r;
	protect_score(s);
	setup_protection(s);
	watch_pool(s); /* before limits are read: no change falls between the two */
	setup_limits(s);
	report_feasibility(s);
	(void)template_start(s);
	return 0;
}

static void slot_done(struct slot *slot)
{
	slot->env = environment_free(slot->env);
	slot->bell = bell_free(slot->bell);
	slot->output_fd = close_fd(slot->output_fd);
}

void teardown(struct supervisor *s)
{
	reload_forget(s, /* wait= */ true);
	while (s->workers)
		worker_free(s->workers);
	s->template = template_free(s->template);
	s->successor = template_free(s->successor);
	s->heir = template_free(s->heir);
	s->template_retry = sd_event_source_disable_unref(s->template_retry);
	s->template_output_fd = close_fd(s->template_output_fd);
	for (unsigned i = 0; i < s->n_slots; i++)
		slot_done(&s->slots[i]);
	s->trim.timer = sd_event_source_disable_unref(s->trim.timer);
	unwatch_pool(s);
	s->control = control_free(s->control);
	s->notify = sd_event_source_disable_unref(s->notify);
	s->notify_fd = close_fd(s->notify_fd);
	if (s->notify_path[0])
		(void)unlink(s->notify_path);
	if (s->runtime[0])
		(void)rmdir(s->runtime);
	for (size_t i = 0; i < s->n_sockets; i++)
		socket_close(&s->sockets[i], /* unlink_path= */ true);
	remove_pidfile(s, s->launch);
	predecessor_forget(s);
	listeners_done(s);
	leaves_done(&s->leaves);
	if (s->root.dir_fd >= 0)
		(void)pool_close(&s->root);
	free(TAKE(s->sockets));
	free(TAKE(s->socket_names));
	free(TAKE(s->slots));
	free(TAKE(s->seen));
	free(TAKE(s->decision.actions));
	free(TAKE(s->policy));
}
