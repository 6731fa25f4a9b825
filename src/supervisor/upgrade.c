/* Another program in our place: the same process, so the workers' parent, executes what is installed
 * now, and what we know goes along in a file in memory.
 *
 * Whatever can fail is tried before. The new program is started as a child first (--check-state), with
 * our own arguments and a copy of the state, and must say that it takes it; meanwhile we go on. Only
 * then are the descriptors opened up for the exec, which is the last thing that can fail and leaves
 * us as we were. Nothing on the way may wait: the trial is watched like any child. */
#include "supervisor/supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "process/spawn.h"
#include "process/state.h"
#include "report/journal.h"
#include "report/record.h"
#include "util/cleanup.h"
#include "util/format.h"

/* Names the descriptor of the state to the program that takes our place, and to nobody else. */
#define STATE_ENV "TRIMTAB_STATE"

enum { SEALS = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL };

/* ---- the program ---- */

/* Where the operator found us, or execvp(3) for him: not what that was then, as /proc/self/exe has
 * it, since a new version may have come to the same place by a link. */
static int find_program(const struct arguments *a, char *path, size_t size)
{
	const char *name = a->argv[0], *dirs = getenv("PATH");
	auto_free char *copy = strdup(dirs ? dirs : "/usr/local/bin:/usr/bin:/bin");
	char *rest = copy, *dir;

	if (strchr(name, '/'))
		return (size_t)snprintf(path, size, "%s", name) < size ? 0
								       : -ENAMETOOLONG;
	while (copy && (dir = strsep(&rest, ":"))) {
		int n = snprintf(path, size, "%s/%s", *dir ? dir : ".", name);

		if (n > 0 && (size_t)n < size && access(path, X_OK) == 0)
			return 0;
	}
	return -ENOENT;
}

bool upgrade_is_due(const struct supervisor *s)
{
	char path[PATH_MAX];
	struct stat ours, theirs;

	return find_program(s->arguments, path, sizeof(path)) == 0 &&
	       stat(path, &theirs) == 0 && stat("/proc/self/exe", &ours) == 0 &&
	       (ours.st_dev != theirs.st_dev || ours.st_ino != theirs.st_ino);
}

static bool is_as_tried(const struct upgrade *u, const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && st.st_dev == u->device && st.st_ino == u->inode &&
	       st.st_ctim.tv_sec == u->changed.tv_sec &&
	       st.st_ctim.tv_nsec == u->changed.tv_nsec;
}

/* ---- the state as a file ---- */

static int state_file(const struct state *state)
{
	auto_close int fd =
		memfd_create("trimtab-state", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	FILE *out = fd < 0 ? NULL : fdopen(dup(fd), "w");
	int r;

	if (!out)
		return -errno;
	r = state_write(state, out);
	if (fclose(out) != 0 && r == 0)
		r = -errno;
	if (r == 0 && fcntl(fd, F_ADD_SEALS, SEALS) < 0)
		r = -errno;
	return r < 0 ? r : TAKE_FD(fd);
}

/* All of a file; free() is the caller's. */
static int read_file(int fd, size_t most, char **ret, size_t *ret_n)
{
	auto_free char *text = NULL;
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0 || st.st_size < 0 || (size_t)st.st_size > most)
		return -EBADF;
	text = malloc((size_t)st.st_size + 1);
	if (!text)
		return -ENOMEM;
	if (pread(fd, text, (size_t)st.st_size, 0) != st.st_size)
		return -EIO;
	text[st.st_size] = '\0';
	*ret_n = (size_t)st.st_size;
	*ret = TAKE(text);
	return 0;
}

static int keep(int fd, void *unused)
{
	(void)unused;
	return fcntl(fd, F_SETFD, 0) < 0 ? -errno : 0;
}

static int close_on_exec(int fd, void *unused)
{
	(void)unused;
	(void)fcntl(fd, F_SETFD, FD_CLOEXEC);
	return 0;
}

/* ---- the outcome ---- */

static void end_trial(struct supervisor *s)
{
	struct upgrade *u = &s->upgrade;

	u->child = sd_event_source_disable_unref(u->child);
	u->deadline = sd_event_source_disable_unref(u->deadline);
	u->turn = sd_event_source_disable_unref(u->turn);
	u->pidfd = close_fd(u->pidfd);
	u->answer_fd = close_fd(u->answer_fd);
	u->pid = 0;
}

static void reply(struct supervisor *s, struct json_object *answer)
{
	struct control_client *client = TAKE(s->upgrade.client);

	if (client)
		control_reply(client, answer);
	else
		json_object_put(answer);
}

__attribute__((format(printf, 2, 3))) static void refuse(struct supervisor *s,
							 const char *format, ...)
{
	bool reload_follows = s->upgrade.reload;
	char why[512];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(why, sizeof(why), format, args);
	va_end(args);
	end_trial(s);
	journal_problem(0, 0, "No upgrade, trimtab " TRIMTAB_VERSION " goes on: %s", why);
	record_notify_manager("READY=1");
	reply(s, control_error("no upgrade: %s", why));
	s->upgrade = (struct upgrade){ .pidfd = -1, .answer_fd = -1 };
	if (reload_follows)
		reload_now(s);
}

void upgrade_forget(struct supervisor *s)
{
	if (s->upgrade.asked_usec == 0)
		return;
	if (s->upgrade.pid > 0)
		/* Not reaped yet: on_orphan() will. */
		(void)kill(s->upgrade.pid, SIGKILL);
	s->upgrade.reload = false;
	refuse(s, "the pool stops");
}

/* ---- the exec ---- */

static int prepare_exec(struct supervisor *s, struct state *state, int *ret_fd)
{
	int r = carry_out(s, /* final= */ true, state), fd;

	if (r < 0)
		return r;
	fd = state_file(state);
	if (fd < 0)
		return fd;
	*ret_fd = fd;
	r = state_each_fd(state, keep, NULL);
	if (r == 0)
		r = keep(fd, NULL);
	return r;
}

/* Returns only when it failed, -errno. The environment is a copy: setenv(3) would change what the
 * thread of a reload that was given up may be reading. */
static int exec_with_state(const char *path, char *const *argv, int state_fd)
{
	char variable[sizeof(STATE_ENV) + 16];
	auto_free char **env = NULL;
	size_t n = 0;

	while (environ[n])
		n++;
	env = calloc(n + 2, sizeof(*env));
	if (!env)
		return -ENOMEM;
	memcpy(env, environ, n * sizeof(*env));
	(void)snprintf(variable, sizeof(variable), STATE_ENV "=%d", state_fd);
	env[n] = variable;
	(void)execve(path, argv, env);
	return -errno;
}

/* Returns only when it failed, and then with everything as it was. */
static int execute(struct supervisor *s, const char *path)
{
	CLEANUP(carry_close) struct state state = { 0 };
	auto_close int fd = -1;
	int r = record_hold();

	if (r < 0)
		return r;
	r = prepare_exec(s, &state, &fd);
	if (r == 0) {
		spawn_restore_descriptor_limit();
		r = exec_with_state(path, s->arguments->argv, fd);
		spawn_raise_descriptor_limit();
	}
	(void)state_each_fd(&state, close_on_exec, NULL);
	record_release();
	return r;
}

/* ---- the trial ---- */

static int try_program(struct supervisor *s);

static int on_turn(sd_event_source *source, void *userdata)
{
	struct supervisor *s = userdata;
	char path[PATH_MAX] = "";
	int r = find_program(s->arguments, path, sizeof(path));

	(void)source;
	if (r == 0 && !is_as_tried(&s->upgrade, path)) {
		refuse(s, "%s was changed while it was tried", path);
		return 0;
	}
	/* A reload that went through meanwhile: what it brought might be refused, and nobody would be
	 * left to go on. */
	if (r == 0 && s->upgrade.generation != s->generation) {
		end_trial(s);
		r = try_program(s);
		if (r < 0)
			refuse(s, "%s cannot be tried again: %s", path,
			       strerrordesc_np(-r));
		return 0;
	}
	/* A reload that is under way is begun anew, there or here: its thread and its template would
	 * be nobody's. */
	if (r == 0 && (s->relaunch || s->pending)) {
		s->upgrade.reload = true;
		reload_forget(s, /* wait= */ true);
	}
	if (r == 0) {
		refork_forget(
			s); /* nor is a half-made template: another worker will do */
		r = execute(s, path);
	}
	refuse(s, "cannot execute %s: %s", path, strerrordesc_np(-r));
	return 0;
}

/* What the trial said first, fit for a terminal. */
static void read_answer(int fd, char *text, size_t size)
{
	ssize_t n = read(fd, text, size - 1);

	text[n > 0 ? n : 0] = '\0';
	while (n > 0 && text[n - 1] == '\n')
		text[--n] = '\0';
	for (char *p = text; *p; p++)
		if ((unsigned char)*p < ' ' || *p == 127)
			*p = ' ';
}

static int on_trial_end(sd_event_source *source, const siginfo_t *si, void *userdata)
{
	struct supervisor *s = userdata;
	struct upgrade *u = &s->upgrade;
	char said[400];
	int r;

	(void)source;
	u->child = sd_event_source_disable_unref(u->child);
	read_answer(u->answer_fd, said, sizeof(said));
	if (si->si_code != CLD_EXITED || si->si_status != 0 ||
	    strncmp(said, UPGRADE_PASSED, strlen(UPGRADE_PASSED)) != 0) {
		refuse(s, "the new program %s %d%s%s",
		       si->si_code == CLD_EXITED ? "ended its trial with status"
						 : "died in its trial of signal",
		       si->si_status, said[0] ? ": " : "", said);
		return 0;
	}
	journal_pool("upgrading",
		     "The pool %s goes from trimtab " TRIMTAB_VERSION " to %s",
		     s->config->pool_name, said + strlen(UPGRADE_PASSED));
	u->pid = 0;
	u->pidfd = close_fd(u->pidfd);
	u->deadline = sd_event_source_disable_unref(u->deadline);
	/* Behind every other source: when its turn comes, none of them holds an event that the kernel
	 * has already handed over and that would be lost. (A flood of messages is the kernel's yet.) */
	r = sd_event_add_defer(s->event, &u->turn, on_turn, s);
	if (r >= 0)
		r = sd_event_source_set_priority(u->turn, PRIORITY_TURN);
	if (r < 0)
		refuse(s, "%s", strerrordesc_np(-r));
	return 0;
}

static int on_trial_hangs(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct supervisor *s = userdata;

	(void)source;
	(void)usec;
	/* Not reaped yet: its end is reported as any. */
	(void)kill(s->upgrade.pid, SIGKILL);
	return 0;
}

/* Ours, but for what would have it speak to the service manager in our name. */
static char **trial_environment(void)
{
	static const char *const not_its[] = { "NOTIFY_SOCKET=", "WATCHDOG_USEC=",
					       "WATCHDOG_PID=" };
	size_t n = 0, kept = 0;
	char **env;

	while (environ[n])
		n++;
	env = calloc(n + 1, sizeof(*env));
	for (size_t i = 0; env && i < n; i++) {
		bool leave_out = false;

		for (size_t k = 0; k < ELEMENTS(not_its); k++)
			leave_out |=
				strncmp(environ[i], not_its[k], strlen(not_its[k])) == 0;
		if (!leave_out)
			env[kept++] = environ[i];
	}
	return env;
}

/* Our own arguments behind --check-state FD. */
static char **trial_arguments(const struct arguments *a, char *number)
{
	size_t n = 0;
	char **argv;

	while (a->argv[n])
		n++;
	argv = calloc(n + 3, sizeof(*argv));
	if (!argv)
		return NULL;
	argv[0] = a->argv[0];
	argv[1] = (char *)"--check-state";
	argv[2] = number;
	memcpy(argv + 3, a->argv + 1, (n - 1) * sizeof(*argv));
	return argv;
}

/* It gets the files of the state, and none of the descriptors that the state names. */
static int arrange_files(posix_spawn_file_actions_t *actions, const struct state *state,
			 int state_fd, int answer_fd)
{
	const int fds[] = { state_fd, state->pool->config_fd, state->pool->policy_fd,
			    state->pool->description_fd };
	int r = posix_spawn_file_actions_addopen(actions, STDIN_FILENO, "/dev/null",
						 O_RDONLY, 0);

	for (size_t i = 0; r == 0 && i < ELEMENTS(fds); i++)
		if (fds[i] >= 0) /* onto itself: that takes CLOEXEC away */
			r = posix_spawn_file_actions_adddup2(actions, fds[i], fds[i]);
	if (r == 0)
		r = posix_spawn_file_actions_adddup2(actions, answer_fd, STDOUT_FILENO);
	if (r == 0)
		r = posix_spawn_file_actions_adddup2(actions, answer_fd, STDERR_FILENO);
	return -r;
}

static int spawn_trial(const struct supervisor *s, const char *path,
		       const struct state *state, int state_fd, int answer_fd,
		       pid_t *ret_pid)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	char number[16];
	char **env = trial_environment(), **argv = trial_arguments(s->arguments, number);
	sigset_t set;
	int r = env && argv ? 0 : -ENOMEM;

	(void)snprintf(number, sizeof(number), "%d", state_fd);
	(void)posix_spawn_file_actions_init(&actions);
	(void)posix_spawnattr_init(&attributes);
	sigemptyset(&set);
	(void)posix_spawnattr_setsigmask(&attributes, &set);
	sigaddset(&set, SIGPIPE);
	(void)posix_spawnattr_setsigdefault(&attributes, &set);
	(void)posix_spawnattr_setflags(&attributes,
				       POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	if (r == 0)
		r = arrange_files(&actions, state, state_fd, answer_fd);
	if (r == 0)
		r = -posix_spawn(ret_pid, path, &actions, &attributes, argv, env);
	(void)posix_spawnattr_destroy(&attributes);
	(void)posix_spawn_file_actions_destroy(&actions);
	free(env);
	free(argv);
	return r;
}

static int start_trial(struct supervisor *s, const char *path)
{
	CLEANUP(carry_close) struct state state = { 0 };
	auto_close int state_fd = -1;
	int fds[2], r = carry_out(s, /* final= */ false, &state);

	if (r < 0)
		return r;
	state_fd = state_file(&state);
	if (state_fd < 0)
		return state_fd;
	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	r = spawn_trial(s, path, &state, state_fd, fds[1], &s->upgrade.pid);
	(void)close(fds[1]);
	s->upgrade.answer_fd = fds[0];
	(void)fcntl(fds[0], F_SETFL, O_NONBLOCK);
	return r;
}

static int watch_trial(struct supervisor *s)
{
	struct upgrade *u = &s->upgrade;
	int r;

	u->pidfd = (int)syscall(SYS_pidfd_open, u->pid, 0);
	r = u->pidfd < 0 ? -errno
			 : sd_event_add_child_pidfd(s->event, &u->child, u->pidfd,
						    WEXITED, on_trial_end, s);
	if (r >= 0)
		supervisor_arm(
			s, &u->deadline,
			usec_add(supervisor_now(s), s->config->restart_boot_timeout),
			on_trial_hangs, s);
	return r;
}

static int try_program(struct supervisor *s)
{
	struct upgrade *u = &s->upgrade;
	char path[PATH_MAX];
	struct stat st;
	int r = find_program(s->arguments, path, sizeof(path));

	if (r < 0)
		return r;
	if (stat(path, &st) < 0)
		return -errno;
	u->device = st.st_dev;
	u->inode = st.st_ino;
	u->changed = st.st_ctim;
	u->generation = s->generation;
	r = start_trial(s, path);
	if (r < 0)
		return r;
	r = watch_trial(s);
	if (r < 0)
		(void)kill(u->pid, SIGKILL); /* on_orphan() reaps it */
	return r;
}

const char *upgrade_begin(struct supervisor *s, struct control_client *client,
			  bool reload_follows)
{
	int r;

	if (s->upgrade.asked_usec > 0)
		return "an upgrade is under way already";
	if (s->predecessor.end)
		return "the gunicorn that started this process still lives";
	if (s->phase != PHASE_RUNNING)
		return s->phase == PHASE_STARTING ? "the pool is still starting"
						  : "the pool is stopping";
	s->upgrade = (struct upgrade){
		.pidfd = -1,
		.answer_fd = -1,
		.asked_usec = supervisor_now(s),
		.reload = reload_follows,
		.client = client,
	};
	record_notify_manager("RELOADING=1\nMONOTONIC_USEC=%" PRIu64, time_now_usec());
	r = try_program(s);
	if (r < 0) {
		s->upgrade.client = NULL;  /* it gets our return value, */
		s->upgrade.reload = false; /* and so does reload() */
		refuse(s, "the installed program cannot be tried: %s",
		       strerrordesc_np(-r));
		return "the installed program cannot be tried; the log says why";
	}
	return NULL;
}

/* ---- on the other side ---- */

int upgrade_read(int fd, struct state *ret, struct config_error *err)
{
	auto_free char *text = NULL;
	struct state_error problem;
	size_t n = 0;
	int r = read_file(fd, STATE_SIZE_MAX, &text, &n);

	if (r < 0) {
		(void)snprintf(err->text, sizeof(err->text),
			       "descriptor %d is no state: %s", fd, strerrordesc_np(-r));
		return r;
	}
	r = state_read(text, n, ret, &problem);
	if (r < 0) {
		(void)snprintf(err->text, sizeof(err->text), "%s", problem.text);
		return r;
	}
	(void)state_each_fd(ret, close_on_exec, NULL);
	r = carry_check(ret, err);
	if (r < 0)
		state_done(ret);
	return r;
}

int upgrade_receive(struct state *ret, struct config_error *err)
{
	const char *number = getenv(STATE_ENV);
	auto_close int fd = -1;
	int r;

	if (!number)
		return 0;
	fd = atoi(number);
	(void)unsetenv(STATE_ENV);
	r = fcntl(fd, F_GET_SEALS) == SEALS ? upgrade_read(fd, ret, err) : -EBADF;
	if (r < 0) {
		if (!err->text[0])
			(void)snprintf(err->text, sizeof(err->text),
				       STATE_ENV " names no state; unset it");
		return r;
	}
	if (ret->pool->pid != (uint64_t)getpid()) {
		state_done(ret);
		(void)snprintf(err->text, sizeof(err->text),
			       STATE_ENV " names the state of another process; unset it");
		return -ESRCH;
	}
	return 1;
}

int upgrade_configure(const struct state *state, struct config **ret_config,
		      struct launch **ret_launch, struct config_error *err)
{
	auto_config struct config *c = NULL;
	auto_free char *text = NULL, *description = NULL;
	size_t n = 0;
	int r = config_new(&c);

	if (r == 0)
		r = read_file(state->pool->config_fd, STATE_SIZE_MAX, &text, &n);
	if (r == 0)
		r = config_load_text(c, "the configuration that is in use", text, n, err);
	if (r == 0)
		r = config_validate(c, err);
	if (r == 0 && state->pool->description_fd >= 0)
		r = read_file(state->pool->description_fd, STATE_SIZE_MAX, &description,
			      &n);
	if (r == 0)
		r = launch_new(c, description, -1, ret_launch, err);
	if (r == 0)
		*ret_config = TAKE(c);
	return r;
}

void upgrade_done(struct supervisor *s, const struct state *state)
{
	const struct state_pool *p = state->pool;
	struct json_object *answer = control_ok();
	usec_t now = time_now_usec();

	journal_pool("upgraded",
		     "trimtab " TRIMTAB_VERSION
		     " took the place of %s: %zu workers go on, and were "
		     "not watched for %s",
		     p->version, state->n_worker,
		     format_usec(usec_sub(now, p->left_usec)).s);
	record_notify_manager("READY=1");
	if (answer) {
		json_object_object_add(answer, "from",
				       json_object_new_string(p->version));
		json_object_object_add(answer, "version",
				       json_object_new_string(TRIMTAB_VERSION));
	}
	if (p->client_fd >= 0 && s->control)
		s->upgrade.client = control_adopt(s->control, p->client_fd);
	reply(s, answer);
	if (p->reload)
		reload_now(s);
}
