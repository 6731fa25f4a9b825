/* Environment of workers. A variable that speaks of our own descriptors, sockets or watchdog
 * must never reach a worker: inherited, MEMORY_PRESSURE_WATCH would make every worker watch the
 * supervisor's cgroup and NOTIFY_SOCKET would let it speak for us. */
#include "process/environment.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "process/spawn.h"
#include "trimtab/preload.h"
#include "util/cleanup.h"

static const char *const ours[] = {
	"NOTIFY_SOCKET",
	"WATCHDOG_USEC",
	"WATCHDOG_PID",
	"LISTEN_FDS",
	"LISTEN_PID",
	"LISTEN_FDNAMES",
	"LISTEN_PIDFDID",
	"FDSTORE",
	"MEMORY_PRESSURE_WATCH",
	"MEMORY_PRESSURE_WRITE",
	"JOURNAL_STREAM",
	"SYSTEMD_EXEC_PID",
	"GUNICORN_FD",
	"GUNICORN_PID",
	"TRIMTAB_PAGE",
	"TRIMTAB_WORKER",
	"TRIMTAB_TEMPLATE",
	"TRIMTAB_POOL",
	"TRIMTAB_SUPERVISOR_PID",
	"LD_PRELOAD",
};

#define FIRST_FD ((size_t)3) /* of LISTEN_FDS; what follows them comes next */

struct builder {
	char **env;
	size_t n, room;
	bool failed;
};

static bool has_name(const char *entry, const char *name)
{
	size_t n = strlen(name);

	return strncmp(entry, name, n) == 0 && entry[n] == '=';
}

static const char *look_up(char *const *env, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (has_name(env[i], name))
			return env[i] + strlen(name) + 1;
	return NULL;
}

static void drop(struct builder *b, const char *name)
{
	for (size_t i = 0; i < b->n; i++)
		if (has_name(b->env[i], name)) {
			free(b->env[i]);
			b->env[i--] = b->env[--b->n];
			b->env[b->n] = NULL;
		}
}

/* Sets "NAME=VALUE", replacing an earlier one. Takes the entry over. */
static void put(struct builder *b, char *entry)
{
	char name[256];
	const char *equals = entry ? strchr(entry, '=') : NULL;

	if (!equals || (size_t)(equals - entry) >= sizeof(name)) {
		b->failed |= !entry;
		free(entry);
		return;
	}
	memcpy(name, entry, (size_t)(equals - entry));
	name[equals - entry] = '\0';
	drop(b, name);
	if (b->n + 1 >= b->room) {
		b->failed = true;
		free(entry);
		return;
	}
	b->env[b->n++] = entry;
}

__attribute__((format(printf, 2, 3))) static void add(struct builder *b,
						      const char *format, ...)
{
	char *entry = NULL;
	va_list args;

	va_start(args, format);
	if (vasprintf(&entry, format, args) < 0)
		entry = NULL;
	va_end(args);
	put(b, entry);
}

static bool is_ours(const char *entry)
{
	for (size_t i = 0; i < ELEMENTS(ours); i++)
		if (has_name(entry, ours[i]))
			return true;
	return false;
}

static void add_conventions(struct builder *b, const struct environment_plan *plan)
{
	if (plan->n_listen_fds > 0) {
		add(b, "LISTEN_FDS=%zu", plan->n_listen_fds);
		add(b, "LISTEN_FDNAMES=%s", plan->listen_names);
		add(b, "LISTEN_PID=" SPAWN_PID_ROOM);
	}
	if (plan->notify_path)
		add(b, "NOTIFY_SOCKET=%s", plan->notify_path);
	if (plan->watchdog_usec > 0) {
		add(b, "WATCHDOG_USEC=%" PRIu64, plan->watchdog_usec);
		add(b, "WATCHDOG_PID=" SPAWN_PID_ROOM);
	}
	/* Without MEMORY_PRESSURE_WRITE: nothing needs to be written to a socket. */
	add(b, "MEMORY_PRESSURE_WATCH=%s",
	    plan->pressure_path ? plan->pressure_path : "/dev/null");
	if (plan->worker > 0)
		add(b, "TRIMTAB_WORKER=%u", plan->worker);
	else
		add(b, "TRIMTAB_TEMPLATE=%zu", FIRST_FD + plan->n_listen_fds);
	add(b, "TRIMTAB_POOL=%s", plan->pool);
	add(b, "TRIMTAB_SUPERVISOR_PID=%d", (int)getpid());
	if (plan->preload && plan->worker > 0)
		add(b, TRIMTAB_PAGE_ENV "=%zu:" SPAWN_PID_ROOM ":%016x",
		    FIRST_FD + plan->n_listen_fds, 0u);
}

static void add_preload(struct builder *b, const char *ours_path, const char *theirs)
{
	if (ours_path && theirs && *theirs)
		add(b, "LD_PRELOAD=%s:%s", ours_path, theirs);
	else if (ours_path)
		add(b, "LD_PRELOAD=%s", ours_path);
	else if (theirs)
		add(b, "LD_PRELOAD=%s", theirs);
}

char **environment_new(char *const *base, const struct environment_plan *plan)
{
	struct builder b = { 0 };
	size_t n_base = 0;
	const char *theirs;

	while (base[n_base])
		n_base++;
	b.room = n_base + plan->n_extra + 24;
	b.env = calloc(b.room, sizeof(*b.env));
	if (!b.env)
		return NULL;

	for (size_t i = 0; i < n_base; i++)
		if (!is_ours(base[i]))
			put(&b, strdup(base[i]));
	if (plan->arena_max > 0 && !look_up(b.env, b.n, "MALLOC_ARENA_MAX"))
		add(&b, "MALLOC_ARENA_MAX=%" PRId64, plan->arena_max);
	for (size_t i = 0; i < plan->n_extra; i++)
		put(&b, strdup(plan->extra[i]));
	theirs = look_up(plan->extra, plan->n_extra, "LD_PRELOAD");
	add_preload(&b, plan->preload,
		    theirs ? theirs : look_up(base, n_base, "LD_PRELOAD"));
	add_conventions(&b, plan);
	return b.failed ? environment_free(b.env) : b.env;
}

char **environment_free(char **env)
{
	for (char **e = env; e && *e; e++)
		free(*e);
	free(env);
	return NULL;
}

const char *environment_get(char *const *env, const char *name)
{
	size_t n = 0;

	while (env[n])
		n++;
	return look_up(env, n, name);
}

void environment_set_cookie(char **env, uint64_t cookie)
{
	for (; *env; env++)
		if (has_name(*env, TRIMTAB_PAGE_ENV)) {
			char *last = strrchr(*env, ':');

			(void)snprintf(last + 1, 17, "%016" PRIx64, cookie);
		}
}
