/* trimtabctl: one request to a pool's control socket, its answer made readable. */
#include <errno.h>
#include <glob.h>
#include <json-c/json.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "control/verb.h"
#include "trimtab/control.h"
#include "util/cleanup.h"
#include "util/format.h"
#include "util/runtime.h"

enum { STATUS_USAGE = 2 };

struct options {
	const char *socket; /* -s */
	const char *name;   /* -n */
	bool json;
	const char *verb, *argument, *minutes;
};

/* ---- command line ---- */

static void print_help(FILE *out)
{
	static const char *const arguments[] = {
		[VERB_POOL] = "",
		[VERB_WORKER] = "WORKER",
		[VERB_ANY] = "[WORKER]",
		[VERB_MINUTES] = "WORKER [MINUTES]",
	};

	(void)fprintf(
		out,
		"trimtabctl: asks a running trimtab pool\n\n"
		"  trimtabctl [-n NAME | -s SOCKET] [--json] VERB [WORKER [MINUTES]]\n\n");
	for (unsigned i = 0; i < N_VERBS; i++)
		(void)fprintf(out, "  %-10s %-16s %s\n", verbs[i].name,
			      arguments[verbs[i].target], verbs[i].help);
	(void)fprintf(
		out,
		"\n  -n, --name NAME      the pool's name; not needed where only one runs\n"
		"  -s, --socket SOCKET  the path of its control socket\n"
		"  -j, --json           print the answer as it came\n"
		"  -h, --help           this text\n"
		"  -V, --version        the version\n");
}

static bool is_option(const char *word, const char *letter, const char *name)
{
	return strcmp(word, letter) == 0 || strcmp(word, name) == 0;
}

/* A verb that is not known here may be the pool's, which is another version. */
static bool may_take_minutes(const char *verb)
{
	for (unsigned i = 0; i < N_VERBS; i++)
		if (strcmp(verbs[i].name, verb) == 0)
			return verbs[i].target == VERB_MINUTES;
	return true;
}

static int parse(int argc, char **argv, struct options *o)
{
	for (int i = 1; i < argc; i++) {
		const char *word = argv[i];

		if (is_option(word, "-h", "--help")) {
			print_help(stdout);
			exit(EXIT_SUCCESS);
		}
		if (is_option(word, "-V", "--version")) {
			(void)puts("trimtabctl " TRIMTAB_VERSION);
			exit(EXIT_SUCCESS);
		}
		if (is_option(word, "-j", "--json"))
			o->json = true;
		else if (is_option(word, "-s", "--socket") && i + 1 < argc)
			o->socket = argv[++i];
		else if (is_option(word, "-n", "--name") && i + 1 < argc)
			o->name = argv[++i];
		else if (word[0] == '-' || o->minutes)
			return -EINVAL;
		else if (!o->verb)
			o->verb = word;
		else if (!o->argument)
			o->argument = word;
		else
			o->minutes = word;
	}
	return o->verb && (!o->minutes || may_take_minutes(o->verb)) ? 0 : -EINVAL;
}

/* ---- finding the socket ---- */

/* Sockets of a pool of this name ("*": of any), in the places where trimtab puts them. */
static void find_sockets(const char *name, glob_t *found)
{
	char base[108], pattern[256];
	int flags = 0;

	runtime_directory(base, sizeof(base));

	const char *const places[] = { base, "/run/trimtab", "/run/trimtab/*" };

	for (size_t i = 0; i < ELEMENTS(places); i++) {
		if (i == 1 && strcmp(base, places[1]) == 0)
			continue;
		(void)snprintf(pattern, sizeof(pattern), "%s/%s.sock", places[i], name);
		(void)glob(pattern, flags, NULL, found);
		flags = GLOB_APPEND;
	}
}

static int connect_to(const char *path)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	auto_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	if (strlen(path) >= sizeof(un.sun_path))
		return -ENAMETOOLONG;
	memcpy(un.sun_path, path, strlen(path));
	if (connect(fd, (struct sockaddr *)&un, sizeof(un)) < 0)
		return -errno;
	return TAKE_FD(fd);
}

/* Keeps the paths where a pool answers: one that was killed leaves its socket behind. */
static size_t keep_answering(glob_t *found)
{
	size_t n = 0;

	for (size_t i = 0; i < found->gl_pathc; i++) {
		auto_close int fd = connect_to(found->gl_pathv[i]);

		if (fd >= 0 || fd == -EACCES) {
			char *path = found->gl_pathv[i];

			/* A swap: globfree(3) frees every entry. */
			found->gl_pathv[i] = found->gl_pathv[n];
			found->gl_pathv[n++] = path;
		}
	}
	return n;
}

static int pick_socket(const struct options *o, char *path, size_t size)
{
	glob_t found = { 0 };
	int r = -ENOENT;
	size_t n;

	if (o->socket) {
		(void)snprintf(path, size, "%s", o->socket);
		return 0;
	}
	find_sockets(o->name ? o->name : "*", &found);
	n = keep_answering(&found);
	if (n == 1 || (n > 1 && o->name)) {
		(void)snprintf(path, size, "%s", found.gl_pathv[0]);
		r = 0;
	} else if (n > 1) {
		(void)fprintf(
			stderr,
			"trimtabctl: several pools run here; choose one with -s:\n");
		for (size_t i = 0; i < n; i++)
			(void)fprintf(stderr, "  %s\n", found.gl_pathv[i]);
		r = -EEXIST;
	} else {
		(void)fprintf(stderr, "trimtabctl: no pool%s%s runs here\n",
			      o->name ? " " : "", o->name ? o->name : "");
	}
	globfree(&found);
	return r;
}

/* ---- talking ---- */

/* One line from the server, without its newline; the caller frees it. NULL when it hung up. */
static char *read_line(int fd)
{
	auto_free char *text = malloc(TRIMTAB_CONTROL_REPLY_MAX);
	size_t n = 0;

	while (text && n < TRIMTAB_CONTROL_REPLY_MAX) {
		ssize_t got = read(fd, text + n, TRIMTAB_CONTROL_REPLY_MAX - n);
		char *newline;

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return NULL;
		newline = memchr(text + n, '\n', (size_t)got);
		n += (size_t)got;
		if (newline) {
			*newline = '\0';
			return TAKE(text);
		}
	}
	return NULL;
}

static char *ask(const char *path, const struct options *o)
{
	auto_close int fd = connect_to(path);
	char line[TRIMTAB_CONTROL_REQUEST_MAX];
	int n;

	if (fd < 0) {
		(void)fprintf(stderr, "trimtabctl: %s: %s%s\n", path,
			      strerrordesc_np(-fd),
			      fd == -ECONNREFUSED ? " (its pool has ended)" : "");
		return NULL;
	}
	n = snprintf(line, sizeof(line), "%s%s%s%s%s\n", o->verb, o->argument ? " " : "",
		     o->argument ? o->argument : "", o->minutes ? " " : "",
		     o->minutes ? o->minutes : "");
	if (n < 0 || (size_t)n >= sizeof(line) || write(fd, line, (size_t)n) != n)
		return NULL;
	return read_line(fd);
}

/* ---- showing ---- */

static struct json_object *get(struct json_object *o, const char *key)
{
	struct json_object *value = NULL;

	(void)json_object_object_get_ex(o, key, &value);
	return value;
}

static uint64_t number(struct json_object *o, const char *key)
{
	struct json_object *value = get(o, key);

	return value ? (uint64_t)json_object_get_int64(value) : UINT64_MAX;
}

static const char *text(struct json_object *o, const char *key)
{
	struct json_object *value = get(o, key);

	return value ? json_object_get_string(value) : "-";
}

static void show_worker(struct json_object *w)
{
	uint64_t usage = number(w, "usage_bytes"), restart = number(w, "restart_in_usec");
	uint64_t pid = number(w, "pid");
	char shown[24] = "-";

	if (pid != UINT64_MAX)
		(void)snprintf(shown, sizeof(shown), "%" PRIu64, pid);
	(void)printf("%6" PRIu64 "  %-9s %8s  %12s of %-12s %10s  ", number(w, "worker"),
		     text(w, "state"), shown,
		     usage == UINT64_MAX ? "-" : format_bytes(usage).s,
		     format_bytes(number(w, "limit_bytes")).s,
		     format_usec(number(w, "age_usec")).s);
	if (restart != UINT64_MAX)
		(void)printf("restart in %s: %s\n", format_usec(restart).s,
			     text(w, "restart_reason"));
	else
		(void)printf("%s\n", json_object_get_boolean(get(w, "retiring"))
					     ? "retiring"
					     : "");
}

static void show_last_trim(struct json_object *last)
{
	if (!last) {
		(void)printf("-\n");
		return;
	}
	(void)printf("%s -> %s, %s ago", format_bytes(number(last, "before_bytes")).s,
		     format_bytes(number(last, "after_bytes")).s,
		     format_usec(number(last, "ago_usec")).s);
	if (get(last, "malloc_bytes"))
		(void)printf("; malloc %s, CPython %s",
			     format_bytes(number(last, "malloc_bytes")).s,
			     format_bytes(number(last, "pymalloc_bytes")).s);
	(void)printf("\n");
}

static void show_trims_of(struct json_object *w)
{
	struct json_object *trim = get(w, "trim");
	uint64_t hold;

	if (!trim)
		return;
	hold = number(trim, "longest_hold_usec");
	(void)printf("%6" PRIu64 "  %-10s %-9s %-11s %12s  ", number(w, "worker"),
		     text(trim, "library"), text(trim, "allocator"), text(trim, "wake"),
		     hold == UINT64_MAX ? "-" : format_usec(hold).s);
	show_last_trim(get(trim, "last"));
	if (get(trim, "pymalloc") && strcmp(text(trim, "pymalloc"), "on") != 0)
		(void)printf("%6s  CPython's arenas: %s\n", "", text(trim, "pymalloc"));
}

static void show_quarantine(struct json_object *q)
{
	const char *state;

	if (!q)
		return;
	state = text(q, "state");
	(void)printf("\nworker %s, pid %s: ", text(q, "worker"), text(q, "pid"));
	if (strcmp(state, "kept") == 0)
		(void)printf("in quarantine for another %s, uses %s%s; gdb -p %s\n",
			     format_usec(number(q, "ends_in_usec")).s,
			     format_bytes(number(q, "usage_bytes")).s,
			     json_object_get_boolean(get(q, "drained"))
				     ? ""
				     : ", has not finished its requests",
			     text(q, "pid"));
	else
		(void)printf("%s quarantine\n", strcmp(state, "serving") == 0
							? "to be replaced, for"
						: strcmp(state, "draining") == 0
							? "finishes its requests, for"
							: "at the end of its");
}

static void show_kept(struct json_object *reply)
{
	const char *pid = text(reply, "pid");

	(void)printf("worker %s: pid %s is in quarantine for %s%s; ",
		     text(reply, "worker"), pid, format_usec(number(reply, "for_usec")).s,
		     json_object_get_boolean(get(reply, "drained"))
			     ? ""
			     : ", with requests that it has not finished");
	if (number(reply, "replacement_pid") == UINT64_MAX)
		(void)printf("its replacement starts\n");
	else
		(void)printf("pid %s serves in its place\n",
			     text(reply, "replacement_pid"));
	(void)printf("  gdb -p %s\n  py-spy dump --pid %s\n", pid, pid);
}

static void show_template(struct json_object *t)
{
	if (!t)
		return;
	(void)printf("workers are forked by %s", text(t, "pid"));
	if (get(t, "forked_by_worker"))
		(void)printf(", a child of worker %s", text(t, "forked_by_worker"));
	else if (strcmp(text(t, "state"), "ready") != 0)
		(void)printf(", which is loading");
	(void)printf("\n");
}

static void show_status(struct json_object *reply)
{
	struct json_object *pool = get(reply, "pool"), *workers = get(reply, "workers");
	struct json_object *sockets = get(reply, "sockets");

	(void)printf("pool %s: %s\n", text(pool, "name"), text(pool, "runs"));
	for (size_t i = 0; i < json_object_array_length(sockets); i++) {
		struct json_object *socket = json_object_array_get_idx(sockets, i);

		(void)printf("listens on %s, %s queued\n", text(socket, "address"),
			     text(socket, "queued"));
	}
	show_template(get(pool, "template"));
	(void)printf("%s of %s workers serve; budget %s; %s\n\n", text(pool, "serving"),
		     text(pool, "workers"), format_bytes(number(pool, "budget_bytes")).s,
		     strcmp(text(pool, "mode"), "full") == 0
			     ? "full control"
			     : "degraded mode (see trimtab doctor)");
	(void)printf("%6s  %-9s %8s  %12s    %-12s %10s  %s\n", "worker", "state", "pid",
		     "uses", "limit", "age", "plan");
	for (size_t i = 0; i < json_object_array_length(workers); i++)
		show_worker(json_object_array_get_idx(workers, i));
	(void)printf("\n%6s  %-10s %-9s %-11s %12s  %s\n", "worker", "library",
		     "allocator", "woken by", "longest hold", "last trim");
	for (size_t i = 0; i < json_object_array_length(workers); i++)
		show_trims_of(json_object_array_get_idx(workers, i));
	show_quarantine(get(reply, "quarantine"));
}

static void show_explanation(struct json_object *reply)
{
	struct json_object *pool = get(reply, "pool"), *workers = get(reply, "workers");

	if (pool)
		(void)printf("pool %s: %s\n", text(pool, "name"), text(pool, "sentence"));
	for (size_t i = 0; i < json_object_array_length(workers); i++) {
		struct json_object *w = json_object_array_get_idx(workers, i);

		(void)printf("worker %s: %s\n", text(w, "worker"), text(w, "sentence"));
	}
}

static void show_trim(struct json_object *reply)
{
	(void)printf("worker %s trimmed: %s -> %s in %s\n", text(reply, "worker"),
		     format_bytes(number(reply, "before_bytes")).s,
		     format_bytes(number(reply, "after_bytes")).s,
		     format_usec(number(reply, "took_usec")).s);
}

static void show(const char *verb, struct json_object *reply)
{
	if (strcmp(verb, "status") == 0)
		show_status(reply);
	else if (strcmp(verb, "explain") == 0)
		show_explanation(reply);
	else if (strcmp(verb, "trim") == 0)
		show_trim(reply);
	else if (strcmp(verb, "recycle") == 0)
		(void)printf("worker %s replaced: pid %s -> %s\n", text(reply, "worker"),
			     text(reply, "old_pid"), text(reply, "pid"));
	else if (strcmp(verb, "quarantine") == 0)
		show_kept(reply);
	else if (strcmp(verb, "release") == 0)
		(void)printf("the quarantine of worker %s, pid %s, is over\n",
			     text(reply, "worker"), text(reply, "pid"));
	else if (strcmp(verb, "reload") == 0)
		(void)printf("reloading; the journal says how it goes\n");
	else if (strcmp(verb, "upgrade") == 0)
		(void)printf("trimtab %s took the place of %s\n", text(reply, "version"),
			     text(reply, "from"));
	else
		(void)printf("stopped\n");
}

int main(int argc, char **argv)
{
	struct options o = { 0 };
	char path[256];
	int status = EXIT_FAILURE;

	if (parse(argc, argv, &o) < 0) {
		print_help(stderr);
		return STATUS_USAGE;
	}
	if (pick_socket(&o, path, sizeof(path)) < 0)
		return EXIT_FAILURE;

	auto_free char *answer = ask(path, &o);
	struct json_object *reply = answer ? json_tokener_parse(answer) : NULL;

	if (!reply) {
		(void)fprintf(stderr, "trimtabctl: the pool gave no answer\n");
		return EXIT_FAILURE;
	}
	if (o.json)
		(void)puts(answer);
	if (json_object_get_boolean(get(reply, "ok"))) {
		if (!o.json)
			show(o.verb, reply);
		status = EXIT_SUCCESS;
	} else if (!o.json) {
		(void)fprintf(stderr, "trimtabctl: %s\n", text(reply, "error"));
	}
	json_object_put(reply);
	return status;
}
