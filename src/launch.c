/* Turns what the operator asked for into a program, its arguments and its sockets. It may block, so
 * it runs before the event loop, or for a reload in a thread of its own: nothing here is shared. */
#include "launch.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <libgen.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "config/words.h"
#include "process/environment.h"
#include "process/program.h"
#include "process/socket.h"
#include "process/spawn.h"
#include "util/cleanup.h"

enum {
	DESCRIPTION_MAX = 1 << 20,
	DESCRIBE_PRINTED = 64, /* the adapter's status for --version and its like */
	DESCRIBE_KILLED = 128, /* and the number of the signal */
	WORKERS_MAX = 4096,    /* as [pool] workers */
};

/* ---- finding files ---- */

static bool is_program(const char *path)
{
	return access(path, X_OK) == 0;
}

/* Searches PATH as execvp(3) does. Returns an absolute or given path, or NULL. */
static char *find_program(const char *name)
{
	const char *path = getenv("PATH");
	char *found = NULL;

	if (strchr(name, '/'))
		return is_program(name) ? realpath(name, NULL) : NULL;

	auto_free char *copy = strdup(path ? path : "/usr/local/bin:/usr/bin:/bin");
	char *rest = copy, *folder;

	while (copy && !found && (folder = strsep(&rest, ":"))) {
		auto_free char *candidate = NULL;

		if (asprintf(&candidate, "%s/%s", *folder ? folder : ".", name) < 0)
			return NULL;
		if (is_program(candidate))
			found = TAKE(candidate);
	}
	return found;
}

/* A file of ours: beside the executable in a build tree, else where it was installed. */
static char *find_own_file(const char *in_build, const char *installed)
{
	char exe[PATH_MAX];
	char *path = NULL;
	ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);

	if (n > 0) {
		exe[n] = '\0';
		if (asprintf(&path, "%s/%s", dirname(exe), in_build) < 0)
			return NULL;
		if (access(path, R_OK) == 0)
			return path;
		free(path);
	}
	return access(installed, R_OK) == 0 ? strdup(installed) : NULL;
}

/* The interpreter in the first line of gunicorn's own script: the one it is installed for. */
static char *interpreter_of(const char *script)
{
	char line[PATH_MAX + 64];
	auto_file FILE *f = fopen(script, "re");
	char *rest = line + 2, *word, *last = NULL;

	if (!f || !fgets(line, sizeof(line), f) || strncmp(line, "#!", 2) != 0)
		return NULL;
	while ((word = strsep(&rest, " \t\n")))
		if (*word != '\0' && *word != '-')
			last = word; /* "#!/usr/bin/env python3" names it last */
	if (!last || !strstr(last, "python"))
		return NULL;
	return find_program(last);
}

static char *find_python(const struct config *c)
{
	if (!config_is(c->pool_python, "auto"))
		return find_program(c->pool_python);

	auto_free char *gunicorn = find_program("gunicorn");
	char *python = gunicorn ? interpreter_of(gunicorn) : NULL;

	return python ? python : find_program("python3");
}

/* ---- asking gunicorn ---- */

/* Reads what the child writes until it has ended, the time is up, or somebody gives up. A process
 * that it leaves behind, with the same output, is not waited for. */
static int read_all(int fd, int pidfd, usec_t timeout, int cancel_fd, char **ret)
{
	auto_free char *text = malloc(DESCRIPTION_MAX + 1);
	usec_t deadline = usec_add(time_now_usec(), timeout);
	size_t n = 0;

	if (!text)
		return -ENOMEM;
	for (;;) {
		usec_t left = usec_sub(deadline, time_now_usec());
		struct pollfd p[] = {
			{ .fd = fd, .events = POLLIN },
			{ .fd = cancel_fd, .events = POLLIN },
			{ .fd = pidfd, .events = POLLIN },
		};

		if (left == 0 || n == DESCRIPTION_MAX)
			return left == 0 ? -ETIMEDOUT : -EMSGSIZE;
		if (poll(p, ELEMENTS(p), (int)(left / USEC_PER_MSEC) + 1) <= 0)
			continue;
		if (p[1].revents)
			return -ECANCELED;
		if (!p[0].revents)
			break; /* it has ended, and what it wrote was read */

		ssize_t got = read(fd, text + n, DESCRIPTION_MAX - n);

		if (got < 0 && errno != EINTR)
			return -errno;
		if (got == 0)
			fd = -1; /* closed: its end is waited for no longer than that */
		n += got > 0 ? (size_t)got : 0;
	}
	text[n] = '\0';
	*ret = TAKE(text);
	return 0;
}

/* What the loop blocks and ignores is not for the child: without this it could not be ended. */
static void reset_signals(posix_spawnattr_t *how)
{
	sigset_t none, handled;

	sigemptyset(&none);
	sigemptyset(&handled);
	sigaddset(&handled, SIGPIPE);
	sigaddset(&handled, SIGWINCH);
	posix_spawnattr_setsigmask(how, &none);
	posix_spawnattr_setsigdefault(how, &handled);
	posix_spawnattr_setflags(how, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
}

static int run(char *const *argv, char *const *env, const char *directory, usec_t timeout,
	       int cancel_fd, char **ret_output, int *ret_status)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t how;
	int fds[2], status = 0;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, fds[1], STDOUT_FILENO);
	if (directory)
		posix_spawn_file_actions_addchdir_np(&actions, directory);

	posix_spawnattr_init(&how);
	reset_signals(&how);

	int r = -posix_spawn(&pid, argv[0], &actions, &how, argv, env);

	posix_spawnattr_destroy(&how);
	posix_spawn_file_actions_destroy(&actions);
	(void)close(fds[1]);
	if (r == 0) {
		/* Not reaped yet, so the pid is still its own. */
		auto_close int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);

		r = pidfd < 0 ? -errno
			      : read_all(fds[0], pidfd, timeout, cancel_fd, ret_output);
		if (r < 0)
			(void)kill(pid, SIGKILL);
		(void)waitpid(pid, &status, 0);
		*ret_status = WIFEXITED(status) ? WEXITSTATUS(status)
						: DESCRIBE_KILLED + WTERMSIG(status);
	}
	(void)close(fds[0]);
	return r;
}

static const char *text_of(struct json_object *o, const char *key, const char *otherwise)
{
	struct json_object *value;

	return json_object_object_get_ex(o, key, &value) && value
		       ? json_object_get_string(value)
		       : otherwise;
}

static int64_t number_of(struct json_object *o, const char *key, int64_t otherwise)
{
	struct json_object *value;

	return json_object_object_get_ex(o, key, &value) && value
		       ? json_object_get_int64(value)
		       : otherwise;
}

static bool is_set(struct json_object *o, const char *key)
{
	struct json_object *value;

	return json_object_object_get_ex(o, key, &value) &&
	       json_object_get_boolean(value);
}

static size_t length_of(struct json_object *list)
{
	return json_object_is_type(list, json_type_array) ? json_object_array_length(list)
							  : 0;
}

static void free_texts(char **texts, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(texts[i]);
	free(texts);
}

/* An array of texts replaces what is there. */
static int take_texts(struct json_object *o, const char *key, char ***texts, size_t *n)
{
	struct json_object *list = NULL;
	size_t length;

	(void)json_object_object_get_ex(o, key, &list);
	length = length_of(list);
	free_texts(*texts, *n);
	*n = 0;
	*texts = calloc(length + 1, sizeof(**texts));
	if (!*texts)
		return -ENOMEM;
	for (; *n < length; (*n)++) {
		(*texts)[*n] = strdup(
			json_object_get_string(json_object_array_get_idx(list, *n)));
		if (!(*texts)[*n])
			return -ENOMEM;
	}
	return 0;
}

/* A copy of the text, NULL where there is none. */
static int take_text(struct json_object *o, const char *key, char **ret)
{
	const char *text = text_of(o, key, NULL);

	free(*ret);
	*ret = text ? strdup(text) : NULL;
	return text && !*ret ? -ENOMEM : 0;
}

/* The names of the hooks, as one text. */
static int take_hooks(struct launch *l, struct json_object *o)
{
	struct json_object *list = NULL;

	(void)json_object_object_get_ex(o, "template_hooks", &list);
	for (size_t i = 0; i < length_of(list); i++) {
		const char *name =
			json_object_get_string(json_object_array_get_idx(list, i));
		char *before = TAKE(l->hooks);
		int r = asprintf(&l->hooks, "%s%s%s", before ? before : "",
				 before ? ", " : "", name);

		free(before);
		if (r < 0) {
			l->hooks = NULL;
			return -ENOMEM;
		}
	}
	return 0;
}

/* What the file or the command line says wins over gunicorn's own settings. */
static int take_description(struct launch *l, const struct config *c,
			    struct json_object *o, struct config_error *err)
{
	int64_t uid = number_of(o, "uid", -1), gid = number_of(o, "gid", -1);
	int64_t workers = number_of(o, "workers", 1);
	const char *refused = text_of(o, "refused", NULL);
	int r;

	if (refused)
		return config_blame(c, KEY_pool_gunicorn, 0, err, "%s", refused);
	if (!c->where[KEY_pool_preload] && is_set(o, "preload_app"))
		l->preload_mode = CONFIG_PRELOAD_APP;
	/* 0 is what cpu_count() // 2 comes to on a small host, and would take all workers away. */
	if (l->workers == 0 && (workers < 1 || workers > WORKERS_MAX))
		return config_blame(c, KEY_pool_gunicorn, 0, err,
				    "workers is %" PRId64
				    " for gunicorn; allowed: 1 to %d",
				    workers, WORKERS_MAX);
	if (l->workers == 0)
		l->workers = (unsigned)workers;
	if (!c->where[KEY_pool_backlog])
		l->backlog = (int)number_of(o, "backlog", l->backlog);
	if (!c->where[KEY_pool_socket_mode])
		l->socket_mode &= ~(mode_t)number_of(o, "umask", 0);
	if (c->restart_watchdog == CONFIG_TIME_AUTO)
		l->watchdog_usec = (usec_t)number_of(o, "timeout", 30) * USEC_PER_SEC;
	if (!c->where[KEY_restart_graceful_timeout])
		l->graceful_usec =
			(usec_t)number_of(o, "graceful_timeout", 30) * USEC_PER_SEC;
	if (uid >= 0 && (uid_t)uid != geteuid())
		l->uid = (uid_t)uid;
	if (gid >= 0 && (gid_t)gid != getegid())
		l->gid = (gid_t)gid;
	l->reuse_port = is_set(o, "reuse_port");
	r = take_text(o, "pidfile", &l->pidfile);
	if (r == 0 && l->n_binds == 0)
		r = take_texts(o, "bind", &l->binds, &l->n_binds);
	if (r == 0)
		r = take_texts(o, "warnings", &l->warnings, &l->n_warnings);
	if (r == 0)
		r = take_hooks(l, o);
	if (r < 0)
		return r;
	l->statsd = is_set(o, "statsd");
	if (asprintf(&l->what, "gunicorn %s, %s worker, %s", text_of(o, "gunicorn", "?"),
		     text_of(o, "worker_class", "sync"), text_of(o, "app", "?")) < 0)
		return -ENOMEM;
	return 0;
}

static int ask_gunicorn(struct launch *l, const struct config *c, size_t n_words,
			struct config_error *err)
{
	char **argv = calloc(n_words + 5, sizeof(*argv));
	struct environment_plan plan = { .extra = c->pool_env.items,
					 .n_extra = c->pool_env.n,
					 .pool = c->pool_name };
	char **env = environment_new(environ, &plan);
	int status = 0, r = -ENOMEM;

	if (argv && env) {
		argv[0] = l->program;
		argv[1] = l->adapter;
		argv[2] = (char *)"--describe";
		argv[3] = (char *)"--";
		memcpy(argv + 4, l->words, n_words * sizeof(*argv));
		r = run(argv, env, c->pool_chdir, c->restart_boot_timeout, l->cancel_fd,
			&l->description, &status);
	}
	free(argv);
	(void)environment_free(env);
	if (r == -ETIMEDOUT)
		(void)config_blame(
			c, KEY_pool_gunicorn, 0, err,
			"gunicorn's configuration did not load within "
			"[restart] boot-timeout; raise that if it needs longer");
	if (r == 0 && status > DESCRIBE_KILLED) {
		(void)config_blame(c, KEY_pool_gunicorn, 0, err,
				   "the process that loads gunicorn's configuration was "
				   "killed by signal %d",
				   status - DESCRIBE_KILLED);
		r = -EIO;
	}
	/* Not LAUNCH_BAD: it may go well the next time. */
	if (r < 0)
		return r;
	if (status == DESCRIBE_PRINTED) {
		(void)fputs(l->description, stdout);
		return LAUNCH_PRINTED;
	}
	return status == 0
		       ? 0
		       : config_blame(
				 c, KEY_pool_gunicorn, 0, err,
				 "gunicorn refuses its configuration; its own words are "
				 "above");
}

static int describe(struct launch *l, const struct config *c, size_t n_words,
		    struct config_error *err)
{
	struct json_object *o;
	int r = l->description ? 0 : ask_gunicorn(l, c, n_words, err);

	if (r != 0)
		return r;
	o = json_tokener_parse(l->description);
	if (!json_object_is_type(o, json_type_object)) {
		json_object_put(o);
		return config_blame(c, KEY_pool_gunicorn, 0, err,
				    "the adapter's answer is not understood");
	}
	r = take_description(l, c, o, err);
	json_object_put(o);
	return r;
}

/* ---- putting it together ---- */

static int prepare_gunicorn(struct launch *l, const struct config *c,
			    struct config_error *err)
{
	size_t n = 0;
	int r;

	l->gunicorn = true;
	l->program = find_python(c);
	if (!l->program)
		return config_blame(
			c, KEY_pool_python, 0, err,
			"no such Python interpreter; is gunicorn installed and on PATH?");
	l->adapter = find_own_file("python/trimtab_gunicorn.py",
				   TRIMTAB_PKGLIBDIR "/trimtab_gunicorn.py");
	if (!l->adapter)
		return config_blame(
			c, KEY_pool_gunicorn, 0, err,
			"trimtab_gunicorn.py is not installed in " TRIMTAB_PKGLIBDIR);
	l->template_adapter = find_own_file("python/trimtab_template.py",
					    TRIMTAB_PKGLIBDIR "/trimtab_template.py");
	r = config_split_words(c->pool_gunicorn, &l->words, &n);
	if (r != 0)
		return r < 0 ? r : LAUNCH_BAD;
	r = describe(l, c, n, err);
	if (r != 0)
		return r;
	l->argv = calloc(n + 4, sizeof(*l->argv));
	if (!l->argv)
		return -ENOMEM;
	l->argv[0] = l->program;
	l->argv[1] = l->adapter;
	l->argv[2] = (char *)"--";
	memcpy(l->argv + 3, l->words, n * sizeof(*l->words));
	return 0;
}

static int prepare_command(struct launch *l, const struct config *c,
			   struct config_error *err)
{
	size_t n = 0;
	int r = config_split_words(c->pool_command, &l->words, &n);

	if (r != 0)
		return r < 0 ? r : LAUNCH_BAD;
	l->argv = calloc(n + 1, sizeof(*l->argv));
	l->what = strdup(c->pool_command);
	if (!l->argv || !l->what)
		return -ENOMEM;
	memcpy(l->argv, l->words, n * sizeof(*l->words));
	l->program = n > 0 ? find_program(l->argv[0]) : NULL;
	if (!l->program)
		return config_blame(c, KEY_pool_command, 0, err,
				    "there is no executable program of that name");
	if (l->workers == 0)
		l->workers = 1;
	return 0;
}

static int copy_binds(struct launch *l, const struct config *c)
{
	l->binds = calloc(c->pool_bind.n + 1, sizeof(*l->binds));
	for (size_t i = 0; l->binds && i < c->pool_bind.n; i++) {
		l->binds[i] = strdup(c->pool_bind.items[i]);
		if (!l->binds[i])
			return -ENOMEM;
		l->n_binds++;
	}
	return l->binds ? 0 : -ENOMEM;
}

static int find_preload(struct launch *l, const struct config *c,
			struct config_error *err)
{
	if (config_is(c->trim_preload_library, "off"))
		return 0;
	if (config_is(c->trim_preload_library, "auto")) {
		l->preload = find_own_file("preload/libtrimtab-preload.so",
					   TRIMTAB_PKGLIBDIR "/libtrimtab-preload.so");
		return 0; /* missing: the start-up line says that trims are not available */
	}
	l->preload = realpath(c->trim_preload_library, NULL);
	if (!l->preload)
		return config_blame(c, KEY_trim_preload_library, 0, err, "no such file");
	return 0;
}

/* By the file alone; a wrapper script may still execute anything. */
static int judge_program(struct launch *l)
{
	struct program program;
	const char *problem;

	if (!l->preload)
		return 0;
	program_examine(l->program, l->uid == (uid_t)-1 ? geteuid() : l->uid,
			l->gid == (gid_t)-1 ? getegid() : l->gid, &program);
	problem = program_problem(program.kind);
	if (problem &&
	    asprintf(&l->untrimmable,
		     "%s %s: the library that trims is not loaded into it, so its "
		     "workers can only be replaced",
		     program.path, problem) < 0)
		return -ENOMEM;
	return 0;
}

int launch_check_binds(const struct config *c, const struct launch *l,
		       struct config_error *err)
{
	if (l->n_binds > SPAWN_MAX_LISTEN_FDS)
		return config_blame(
			c, c->pool_bind.n ? KEY_pool_bind : KEY_pool_gunicorn, 0, err,
			"%zu addresses are more than the %d that a worker can be given",
			l->n_binds, SPAWN_MAX_LISTEN_FDS);
	for (size_t i = 0; i < l->n_binds; i++) {
		struct socket_address address;

		if (socket_parse(l->binds[i], &address) < 0)
			return config_blame(
				c, c->pool_bind.n ? KEY_pool_bind : KEY_pool_gunicorn, i,
				err,
				"%s is no address; allowed: HOST:PORT, :PORT, [V6]:PORT, "
				"unix:PATH, fd://N",
				l->binds[i]);
	}
	return 0;
}

int launch_new(const struct config *c, const char *description, int cancel_fd,
	       struct launch **ret, struct config_error *err)
{
	struct launch *l = calloc(1, sizeof(*l));
	int r;

	if (!l)
		return -ENOMEM;
	l->cancel_fd = cancel_fd;
	l->uid = (uid_t)-1;
	l->gid = (gid_t)-1;
	l->workers = (unsigned)c->pool_workers;
	l->backlog = (int)c->pool_backlog;
	l->preload_mode = c->pool_preload;
	l->socket_mode = (mode_t)c->pool_socket_mode;
	l->graceful_usec = c->restart_graceful_timeout;
	l->watchdog_usec =
		c->restart_watchdog == CONFIG_TIME_AUTO ? 0 : c->restart_watchdog;
	r = copy_binds(l, c);
	if (r == 0 && description && !(l->description = strdup(description)))
		r = -ENOMEM;
	if (r == 0)
		r = find_preload(l, c, err);
	if (r == 0)
		r = c->pool_gunicorn ? prepare_gunicorn(l, c, err)
				     : prepare_command(l, c, err);
	if (r == 0)
		r = judge_program(l);
	if (r != 0) {
		(void)launch_free(l);
		return r;
	}
	*ret = l;
	return 0;
}

struct launch *launch_free(struct launch *l)
{
	if (!l)
		return NULL;
	free_texts(l->binds, l->n_binds);
	free_texts(l->warnings, l->n_warnings);
	free(l->untrimmable);
	free(l->hooks);
	free(l->argv);
	config_free_words(l->words);
	free(l->adapter);
	free(l->template_adapter);
	free(l->program);
	free(l->preload);
	free(l->what);
	free(l->pidfile);
	free(l->description);
	free(l);
	return NULL;
}
