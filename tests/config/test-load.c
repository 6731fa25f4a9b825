/* Files, good and bad: what is read, and the one line that is said when it cannot be. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "config/config.h"

static struct config *c;
static struct config_error err;

static void setup(void)
{
	cr_assert_eq(config_new(&c), 0);
}

static void teardown(void)
{
	config_free(c);
}

TestSuite(load, .init = setup, .fini = teardown);

static char *allocate(size_t n)
{
	char *p = malloc(n);

	cr_assert_not_null(p);
	return p;
}

static int load(const char *text)
{
	return config_load_text(c, "shop.ini", text, strlen(text), &err);
}

static void expect_loaded(const char *text)
{
	int r = load(text);

	cr_assert_eq(r, 0, "%d: %s", r, err.text);
}

static void expect_refused(const char *text, const char *message)
{
	struct config *fresh;

	cr_assert_eq(config_new(&fresh), 0);
	cr_expect_eq(config_load_text(fresh, "shop.ini", text, strlen(text), &err),
		     CONFIG_BAD, "<%s> was taken", text);
	cr_expect_str_eq(err.text, message, "<%s> said\n%s\nnot\n%s", text, err.text,
			 message);
	config_free(fresh);
}

/* ---- what is read ---- */

Test(load, the_example_of_the_manual)
{
	expect_loaded(
		"[pool]\n"
		"gunicorn = -k gthread --threads 4 -c gunicorn.conf.py myapp:app   ; or "
		"command = ./worker\n"
		"workers = 8                     ; -w\n"
		"bind = 127.0.0.1:8000           ; repeatable\n"
		"bind = unix:/run/shop.sock\n"
		"[memory]\n"
		"budget = auto\n"
		"trim-at = 75%\n"
		"[restart]\n"
		"min-gap=90m\n"
		"max-lifetime : 1d\n"
		"surge = never\n"
		"[trim]\n"
		"interval = 45s..2m\n"
		"gc = yes\n"
		"[pressure]\n"
		"some = off\n");
	cr_expect_str_eq(c->pool_gunicorn,
			 "-k gthread --threads 4 -c gunicorn.conf.py myapp:app");
	cr_expect_eq(c->pool_workers, 8);
	cr_assert_eq(c->pool_bind.n, 2);
	cr_expect_str_eq(c->pool_bind.items[0], "127.0.0.1:8000");
	cr_expect_str_eq(c->pool_bind.items[1], "unix:/run/shop.sock");
	cr_expect_str_eq(c->pool_bind.where[1], "shop.ini:5");
	cr_expect_eq(c->memory_budget.kind, SIZE_AUTO);
	cr_expect_eq(c->memory_trim_at.value, 7500);
	cr_expect_eq(c->restart_min_gap, 90 * USEC_PER_MIN);
	cr_expect_eq(c->restart_max_lifetime, 24 * USEC_PER_HOUR);
	cr_expect_eq(c->restart_surge, CONFIG_SURGE_NEVER);
	cr_expect_eq(c->trim_interval.max, 2 * USEC_PER_MIN);
	cr_expect(c->trim_gc);
	cr_expect_eq(c->pressure_some.window_usec, 0);
	cr_expect_str_eq(c->where[KEY_pool_gunicorn], "shop.ini:2");
	cr_expect_null(c->where[KEY_trim_signal]);
	cr_expect_str_eq(c->path, "shop.ini");
}

Test(load, nothing_is_a_file_too)
{
	expect_loaded("");
	expect_loaded("\n\n# nothing\n;\n");
	expect_loaded("[pool]");
	expect_loaded("[pool] ; with a comment\n[log]\n[pool]\nworkers = 2");
	cr_expect_eq(c->pool_workers, 2);
}

Test(load, carriage_returns_and_a_mark_do_no_harm)
{
	expect_loaded(
		"\xef\xbb\xbf[pool]\r\nworkers = 8\r\nname = shop\r\n\r\nchdir = /srv");
	cr_expect_eq(c->pool_workers, 8);
	cr_expect_str_eq(c->pool_name, "shop");
	cr_expect_str_eq(c->pool_chdir, "/srv");
}

/* To inih's default build the second key would be a part of the first value. */
Test(load, indented_keys_are_keys)
{
	expect_loaded("  [pool]\n\tworkers = 8\n\tbacklog = 64\n    name = shop\n");
	cr_expect_eq(c->pool_workers, 8);
	cr_expect_eq(c->pool_backlog, 64);
	cr_expect_str_eq(c->pool_name, "shop");
}

/* inih's buffer is 200 bytes in Debian's build, and it cuts what is longer. */
Test(load, a_long_line_is_whole)
{
	char *text = allocate(31000);

	for (size_t n = 150; n <= 30000; n = n < 400 ? n + 1 : n * 3) {
		size_t at = (size_t)sprintf(text, "[pool]\nworkers = 3\ngunicorn = ");

		teardown();
		setup();
		memset(text + at, 'x', n);
		strcpy(text + at + n, " last:app\nbacklog = 77\n");
		expect_loaded(text);
		cr_assert_eq(strlen(c->pool_gunicorn), n + strlen(" last:app"));
		cr_expect_str_eq(c->pool_gunicorn + n, " last:app");
		cr_expect_str_eq(c->where[KEY_pool_gunicorn], "shop.ini:3");
		cr_expect_eq(c->pool_backlog, 77);
	}
	free(text);
}

Test(load, long_comments_and_blank_lines_are_nothing)
{
	char *text = allocate(100000);

	memset(text, ' ', 100000);
	text[0] = '#';
	strcpy(text + 70000, "\n[pool]\nworkers = 3\n");
	expect_loaded(text);
	cr_expect_eq(c->pool_workers, 3);
	free(text);
}

Test(load, a_line_goes_on_after_a_backslash)
{
	expect_loaded("[pool]\ngunicorn = -k gthread \\\n    --threads 4 \\\n    # note\n"
		      "    myapp:app\nworkers = 8\nbacklog = 9\n");
	cr_expect_str_eq(c->pool_gunicorn, "-k gthread --threads 4 myapp:app");
	cr_expect_str_eq(c->where[KEY_pool_gunicorn], "shop.ini:2");
	cr_expect_str_eq(c->where[KEY_pool_backlog], "shop.ini:7");
}

Test(load, the_value_is_all_after_the_first_sign)
{
	expect_loaded("[pool]\nenv = A=b:c=d\nenv : E=f\nbind = [::1]:80\n"
		      "gunicorn = shop:app --env X=y ; c\nname=a\n");
	cr_expect_str_eq(c->pool_env.items[0], "A=b:c=d");
	cr_expect_str_eq(c->pool_env.items[1], "E=f");
	cr_expect_str_eq(c->pool_bind.items[0], "[::1]:80");
	cr_expect_str_eq(c->pool_gunicorn, "shop:app --env X=y");
}

Test(load, an_empty_list_forgets_what_was_said)
{
	expect_loaded("[pool]\nbind = :80\nbind =\nbind = :81\n");
	cr_assert_eq(c->pool_bind.n, 1);
	cr_expect_str_eq(c->pool_bind.items[0], ":81");
}

/* ---- what is refused ---- */

Test(load, unknown_names)
{
	expect_refused(
		"[pool]\nwrokers = 8\n",
		"shop.ini:2: [pool] wrokers = 8: unknown key; did you mean workers?");
	expect_refused("[pool]\nmin_gap = 8m\n",
		       "shop.ini:2: [pool] min_gap = 8m: unknown "
		       "key; did you mean min-gap of [restart]?");
	expect_refused("[restart]\nmin_gap = 8m\n", "shop.ini:2: [restart] min_gap = 8m: "
						    "unknown key; did you mean min-gap?");
	expect_refused(
		"[trim]\nxyzzy = 1",
		"shop.ini:2: [trim] xyzzy = 1: unknown key; keys of [trim]: mode, "
		"interval, max-pause, signal, wake, gc, pymalloc, preload-library, arena-max, min-yield");
	expect_refused("\n[memroy]\n",
		       "shop.ini:2: [memroy]: unknown section; did you mean [memory]?");
	expect_refused("[xyzzy]", "shop.ini:1: [xyzzy]: unknown section; allowed: [pool] "
				  "[memory] [restart] [trim] [pressure] [log] [control] "
				  "[cgroup]");
	expect_refused("[]", "shop.ini:1: []: unknown section; allowed: [pool] [memory] "
			     "[restart] [trim] [pressure] [log] [control] [cgroup]");
	expect_refused("[ pool ]", "shop.ini:1: [ pool ]: unknown section; did you mean "
				   "[pool]?");
	expect_refused("[pool]\n= 8\n",
		       "shop.ini:2: [pool]  = 8: unknown key; keys of "
		       "[pool]: name, gunicorn, command, workers, bind, "
		       "backlog, preload, refork-after, python, chdir, env, socket-mode, "
		       "socket-user, socket-group");
}

Test(load, values)
{
	expect_refused(
		"[pool]\nworkers = many\n",
		"shop.ini:2: [pool] workers = many: cannot be read; allowed: auto, or a "
		"whole number from 1 to 4096");
	expect_refused(
		"[pool]\nworkers = 5000 ; lots\n",
		"shop.ini:2: [pool] workers = 5000: is too large; allowed: auto, or a "
		"whole number from 1 to 4096");
	expect_refused("[pool]\nworkers =\n",
		       "shop.ini:2: [pool] workers = : has no value; allowed: auto, or a "
		       "whole number from 1 to 4096");
	expect_refused(
		"[restart]\nsurge = allways\n",
		"shop.ini:2: [restart] surge = allways: is not one of the choices; did "
		"you mean always? allowed: auto, always or never");
	expect_refused(
		"[memory]\n\ntrim-at = 101%",
		"shop.ini:3: [memory] trim-at = 101%: is too large; allowed: a size "
		"such as 512M or 1.5G, or a percentage up to 100%");
	expect_refused(
		"[trim]\nsignal = SIGTERM\n",
		"shop.ini:2: [trim] signal = SIGTERM: is a signal that has another "
		"meaning; allowed: SIGUSR1, SIGUSR2, or SIGRTMIN+0 to SIGRTMIN+30");
	expect_refused("[pool]\ncommand = sh -c 'a ; b'\n",
		       "shop.ini:2: [pool] command = sh -c 'a: has a quote that is never "
		       "closed (a ; after a blank begins a comment: write \\; for the "
		       "character); allowed: words, quoted as in a shell");
}

Test(load, the_number_is_that_of_the_line)
{
	expect_refused(
		"[pool]\ngunicorn = a \\\n b \\\n c\n# x\n\nworkers = x\n",
		"shop.ini:7: [pool] workers = x: cannot be read; allowed: auto, or a "
		"whole number from 1 to 4096");
	expect_refused(
		"\r\n\r\n[pool]\r\nworkers = x\r\n",
		"shop.ini:4: [pool] workers = x: cannot be read; allowed: auto, or a "
		"whole number from 1 to 4096");
}

Test(load, a_key_given_twice)
{
	expect_refused(
		"[pool]\nworkers = 2\n\n[log]\n[pool]\nworkers = 3\n",
		"shop.ini:6: [pool] workers = 3: already set at shop.ini:2; allowed: "
		"once; remove one");
	/* Also when it says the same, or the default. */
	expect_refused("[pool]\nbacklog = 2048\nbacklog = 2048\n",
		       "shop.ini:3: [pool] backlog = 2048: already set at shop.ini:2; "
		       "allowed: once; remove one");
}

Test(load, lines_that_are_neither)
{
	static const char allowed[] =
		"cannot be read; allowed: [SECTION], KEY = VALUE, # comment";
	char message[300];

	(void)snprintf(message, sizeof(message), "shop.ini:2: workers: %s", allowed);
	expect_refused("[pool]\nworkers\n", message);
	expect_refused("[pool]\nworkers ; = 8\nbacklog = x\n", message);
	(void)snprintf(message, sizeof(message), "shop.ini:4: gunicorn: %s", allowed);
	expect_refused("[pool]\nworkers = \\\n 8\ngunicorn", message);
}

Test(load, sections_that_are_none)
{
	expect_refused("[pool\nworkers = 8\n",
		       "shop.ini:1: [pool: a section is [NAME] on a line of its own");
	expect_refused("[pool] workers = 8\n",
		       "shop.ini:1: [pool] workers = 8: a section is "
		       "[NAME] on a line of its own");
	expect_refused(
		"workers = 8\n",
		"shop.ini:1: workers = 8: comes before any [SECTION]; put it below one");
}

Test(load, what_is_no_text)
{
	static const char utf16[] = "\xff\xfe[\0p\0o\0o\0l\0]\0";

	cr_expect_eq(config_load_text(c, "shop.ini", utf16, sizeof(utf16) - 1, &err),
		     CONFIG_BAD);
	cr_expect_str_eq(err.text,
			 "shop.ini:1: the line contains a NUL byte: no text file");
	cr_expect_eq(config_load_text(c, "shop.ini", "[pool]\nname = a\0b\n", 19, &err),
		     CONFIG_BAD);
	cr_expect_str_eq(err.text,
			 "shop.ini:2: the line contains a NUL byte: no text file");
	expect_refused("[pool]\nname = a\x1b[31mb\n",
		       "shop.ini:2: name = a?[31mb: contains a control character");
	expect_refused("[pool]\n\f[memroy]\n",
		       "shop.ini:2: ?[memroy]: contains a control character");
	expect_refused("[pool]\rworkers = 8\r",
		       "shop.ini:1: [pool]?workers = 8: contains a control character");
}

Test(load, what_is_too_long)
{
	char *text = allocate(70000);

	memset(text, 'x', 70000);
	memcpy(text, "[pool]\ngunicorn = ", 18);
	text[69999] = '\0';
	expect_refused(text, "shop.ini:2: the line is too long; allowed: 65536 bytes");
	text[40000] = '\0';
	cr_expect_eq(load(text), CONFIG_BAD);
	cr_expect_not_null(strstr(err.text, "shop.ini:2: [pool] gunicorn = xxxx"));
	cr_expect_not_null(strstr(err.text, "...: is too long; allowed: 32768 bytes"));

	free(text);
}

/* A key longer than inih's buffer is not cut to one of ours. */
Test(load, a_key_that_is_too_long)
{
	char text[3100] = "[pool]\n";
	size_t n = strlen(text);

	memset(text + n, ' ', 3000);
	memcpy(text + n, "workers", 7);
	memset(text + n + 7, 'x', 2000);
	strcpy(text + n + 3000, " = 8\n");
	cr_expect_eq(load(text), CONFIG_BAD);
	cr_expect_not_null(strstr(err.text, "shop.ini:2: workersxxx"), "%s", err.text);
}

/* The message stays one bounded line whatever is in the file, and ends a value between two
 * characters. */
Test(load, messages_are_bounded)
{
	static char text[30000];

	for (size_t shift = 0; shift < 2; shift++) {
		size_t at =
			(size_t)sprintf(text, "[pool]\nworkers = %s", shift ? "x" : "");

		for (size_t i = at; i < sizeof(text); i++)
			text[i] = (char)((i - at) % 2 ? 0xbc : 0xc3);
		text[at + 2 * ((sizeof(text) - 1 - at) / 2)] = '\0';
		cr_expect_eq(load(text), CONFIG_BAD);
		cr_expect_lt(strlen(err.text), 400);
		cr_expect_not_null(strstr(err.text, "\xc3\xbc...: cannot be read"));
	}
}

Test(load, the_first_mistake_is_reported)
{
	expect_refused("[pool]\nnonsense\nworkers = x\n",
		       "shop.ini:2: nonsense: cannot be read; allowed: [SECTION], KEY = "
		       "VALUE, # comment");
	expect_refused("[pool]\nnonsense\n[memroy]\n",
		       "shop.ini:2: nonsense: cannot be read; allowed: [SECTION], KEY = "
		       "VALUE, # comment");
	expect_refused(
		"[pool]\nworkers = x\nnonsense\n[memroy]\n",
		"shop.ini:2: [pool] workers = x: cannot be read; allowed: auto, or a "
		"whole number from 1 to 4096");
}

Test(load, messages_are_one_line_whatever_the_file_is_called)
{
	cr_expect_eq(config_load_text(c, "a\nb.ini", "[pool]\nworkers = x", 18, &err),
		     CONFIG_BAD);
	cr_expect_not_null(strstr(err.text, "a?b.ini:2: [pool] workers = x: "));
	cr_expect_null(strchr(err.text, '\n'));
}

/* ---- files ---- */

static char directory[] = "/tmp/trimtab-test-XXXXXX";

static char *in_directory(const char *name)
{
	char *path;

	cr_assert_geq(asprintf(&path, "%s/%s", directory, name), 0);
	return path;
}

static void setup_files(void)
{
	setup();
	cr_assert_not_null(mkdtemp(directory));
}

static void teardown_files(void)
{
	teardown();
	cr_expect_eq(rmdir(directory), 0);
}

TestSuite(load_file, .init = setup_files, .fini = teardown_files);

static char *write_file(const char *name, const char *text, size_t n)
{
	char *path = in_directory(name);
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	cr_assert_geq(fd, 0);
	cr_assert_eq(write(fd, text, n), (ssize_t)n);
	close(fd);
	return path;
}

static void expect_unreadable(const char *path, const char *why)
{
	char message[300];

	(void)snprintf(message, sizeof(message), "%s: %s", path, why);
	cr_expect_eq(config_load(c, path, &err), CONFIG_BAD);
	cr_expect_str_eq(err.text, message);
}

Test(load_file, reads_and_names_the_pool_after_it)
{
	static const char text[] = "[pool]\ncommand = ./worker";
	char *path = write_file("shop.blue.ini", text, strlen(text));
	char *where;

	cr_assert_eq(config_load(c, path, &err), 0, "%s", err.text);
	cr_assert_eq(config_validate(c, &err), 0, "%s", err.text);
	cr_expect_str_eq(c->pool_command, "./worker");
	cr_expect_str_eq(c->pool_name, "shop.blue");
	cr_assert_geq(asprintf(&where, "%s:2", path), 0);
	cr_expect_str_eq(c->where[KEY_pool_command], where);
	free(where);
	unlink(path);
	free(path);
}

Test(load_file, that_is_not_there)
{
	char *path = in_directory("none.ini");

	expect_unreadable(path, "cannot be read: No such file or directory");
	free(path);
	expect_unreadable(directory, "cannot be read: Is a directory");
	expect_unreadable("", "cannot be read: No such file or directory");
}

/* As root the mode forbids nothing, so a child steps down first. */
Test(load_file, that_may_not_be_read)
{
	char *path = write_file("shut.ini", "[pool]\n", 7);
	int status = 0;
	pid_t pid;

	cr_assert_eq(chmod(path, 0), 0);
	cr_assert_eq(chmod(directory, 0755), 0);
	pid = fork();
	if (pid == 0) {
		if (geteuid() == 0 && setresuid(65534, 65534, 65534) != 0)
			_exit(3);
		_exit(config_load(c, path, &err) == CONFIG_BAD &&
				      strstr(err.text,
					     "cannot be read: Permission denied")
			      ? 0
			      : 1);
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %x", status);
	unlink(path);
	free(path);
}

Test(load_file, that_is_too_large)
{
	size_t n = (1 << 20) + 1;
	char *text = allocate(n), *path;

	memset(text, '\n', n);
	memcpy(text, "[log]", 5);
	path = write_file("large.ini", text, n);
	expect_unreadable(path, "the file is too large; allowed: 1048576 bytes");
	cr_assert_eq(truncate(path, (off_t)n - 1), 0);
	cr_expect_eq(config_load(c, path, &err), 0, "%s", err.text);
	unlink(path);
	free(path);
	free(text);
}

/* `trimtab -c <(generate)`: parts arrive as they are written. */
Test(load_file, from_a_pipe)
{
	char path[64];
	int fds[2];
	pid_t pid;

	cr_assert_eq(pipe(fds), 0);
	pid = fork();
	if (pid == 0) {
		close(fds[0]);
		for (const char *p = "[pool]\nworkers = 12\n"; *p; p++)
			if (write(fds[1], p, 1) != 1)
				_exit(1);
		_exit(0);
	}
	close(fds[1]);
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fds[0]);
	cr_expect_eq(config_load(c, path, &err), 0, "%s", err.text);
	cr_expect_eq(c->pool_workers, 12);
	cr_expect_eq(waitpid(pid, NULL, 0), pid);
	close(fds[0]);
}
