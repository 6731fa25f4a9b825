"""--describe: what gunicorn would do with these arguments, without the application."""
import os
import subprocess
import unittest

from supervisor import ADAPTER, DEADLINE_SEC, PYTHON, Case, test_environment

EXIT_PRINTED = 64


class Arguments(Case):
    def test_defaults_are_gunicorns(self):
        said = self.described("shop:app")
        self.assertEqual(said["app"], "shop:app")
        self.assertEqual(said["proc_name"], "shop:app")
        self.assertEqual(said["bind"], ["127.0.0.1:8000"])
        self.assertEqual((said["workers"], said["threads"]), (1, 1))
        self.assertEqual((said["timeout"], said["graceful_timeout"]), (30, 30))
        self.assertEqual((said["backlog"], said["worker_class"]), (2048, "sync"))
        self.assertEqual((said["uid"], said["gid"]), (os.geteuid(), os.getegid()))
        self.assertEqual(said["chdir"], self.directory)
        self.assertIsNone(said["pidfile"])
        for name in ("preload_app", "reload", "daemon", "reuse_port"):
            self.assertIs(said[name], False, name)
        self.assertEqual((said["template_hooks"], said["warnings"]), ([], []))
        self.assertIsNone(said["refused"])
        self.assertIs(said["statsd"], False)
        self.assertEqual(said["raw_env"], [])

    def test_addresses(self):
        forms = {
            "127.0.0.1:80": "127.0.0.1:80",
            "[::1]:8000": "[::1]:8000",
            "[2001:db8::7]": "[2001:db8::7]:8000",
            ":81": "0.0.0.0:81",
            "": "0.0.0.0:8000",
            "localhost:82": "localhost:82",
            "localhost": "localhost:8000",
            "tcp://10.0.0.1:83": "10.0.0.1:83",
            "unix:/run/shop.sock": "unix:/run/shop.sock",
            "unix:///run/shop.sock": "unix:/run/shop.sock",
            "unix:shop.sock": "unix:" + self.path("shop.sock"),
            "fd://9": "fd://9",
        }
        for written, meant in forms.items():
            with self.subTest(written):
                self.assertEqual(self.described("-b", written, "a")["bind"], [meant])

    def test_several_addresses_keep_their_order(self):
        said = self.described("-b", "[::1]:1", "--bind=unix:/x", "-b", "h:2", "a")
        self.assertEqual(said["bind"], ["[::1]:1", "unix:/x", "h:2"])

    def test_many_forms(self):
        forms = [
            (["-w", "3"], "workers", 3),
            (["--workers=4"], "workers", 4),
            (["-w5"], "workers", 5),
            (["-t", "0"], "timeout", 0),
            (["--graceful-timeout", "7"], "graceful_timeout", 7),
            (["--backlog", "64"], "backlog", 64),
            (["--max-requests", "1000"], "max_requests", 1000),
            (["--max-requests-jitter", "50"], "max_requests_jitter", 50),
            (["--preload"], "preload_app", True),
            (["--reload"], "reload", True),
            (["-D"], "daemon", True),
            (["--reuse-port"], "reuse_port", True),
            (["-n", "shop"], "proc_name", "shop"),
            (["-m", "0o27"], "umask", 0o27),
            (["-m", "027"], "umask", 0o27),
            (["-p", "/run/shop.pid"], "pidfile", "/run/shop.pid"),
            (["-p", "shop.pid"], "pidfile", self.path("shop.pid")),
            (["-e", "A=1", "--env", "B=x=y"], "raw_env", ["A=1", "B=x=y"]),
            (["-u", "1", "-g", "2"], "uid", 1),
            (["-u", "root"], "user", "root"),
            (["-k", "gthread"], "worker_class", "gthread"),
            (["--threads", "2"], "worker_class", "gthread"),
            (["-k", "gevent", "--threads", "2"], "worker_class", "gevent"),
            (["-k", "no.such.Class"], "worker_class", "no.such.Class"),
        ]
        for arguments, name, value in forms:
            with self.subTest(arguments):
                self.assertEqual(self.described(*arguments, "a")[name], value)

    def test_application_may_come_first(self):
        said = self.described("shop:make(1)", "-w", "2")
        self.assertEqual((said["app"], said["workers"]), ("shop:make(1)", 2))

    def test_agrees_with_gunicorn(self):
        self.write("shop.py", "app = print\n")
        self.write("gunicorn.conf.py", "threads = 3\nkeepalive = 9\nworkers = 2\n")
        arguments = ["--backlog", "99", "-w", "4", "shop:app"]
        said = self.described(*arguments, GUNICORN_CMD_ARGS="-t 77 -w 9")
        theirs = self.print_config(arguments, GUNICORN_CMD_ARGS="-t 77 -w 9")
        for name in ("workers", "threads", "timeout", "backlog", "graceful_timeout", "chdir",
                     "umask", "preload_app", "max_requests", "reuse_port"):
            self.assertEqual(str(said[name]), theirs[name], name)

    def print_config(self, arguments, **environment):
        printed = subprocess.run(
            [PYTHON, "-m", "gunicorn", "--print-config", *arguments],
            cwd=self.directory, env=test_environment(environment), check=True,
            capture_output=True, text=True, timeout=DEADLINE_SEC).stdout
        pairs = (line.split("=", 1) for line in printed.splitlines() if "=" in line)
        return {name.strip(): value.strip() for name, value in pairs}


class Files(Case):
    def test_file_is_found_and_argv_wins(self):
        self.write("gunicorn.conf.py", "workers = 2\ntimeout = 2\nbacklog = 2\n")
        said = self.described("-w", "9", "a", GUNICORN_CMD_ARGS="-w 5 -t 5")
        self.assertEqual((said["workers"], said["timeout"], said["backlog"]), (9, 5, 2))

    def test_file_named_in_the_environment(self):
        self.write("other.py", "workers = 6\nwsgi_app = 'shop:app'\n")
        said = self.described(GUNICORN_CMD_ARGS="-c other.py")
        self.assertEqual((said["workers"], said["app"]), (6, "shop:app"))

    def test_module_as_file(self):
        self.write("package/__init__.py", "")
        self.write("package/server.py", "workers = 8\n")
        self.assertEqual(self.described("-c", "python:package.server", "a")["workers"], 8)

    def test_environment_defaults(self):
        said = self.described("a", WEB_CONCURRENCY="3", PORT="5000")
        self.assertEqual((said["workers"], said["bind"]), (3, ["0.0.0.0:5000"]))

    def test_chdir(self):
        self.write("site/settings.py", "workers = 4\nbind = 'unix:s.sock'\n")
        said = self.described("--chdir", "site", "-c", "site/settings.py", "a")
        self.assertEqual(said["chdir"], self.path("site"))
        self.assertEqual(said["bind"], ["unix:" + self.path("site/s.sock")])

    def test_chdir_in_the_file_moves_relative_paths(self):
        os.mkdir(self.path("site"))
        self.write("gunicorn.conf.py", "chdir = %r\nbind = 'unix:s.sock'\n"
                   % self.path("site"))
        self.assertEqual(self.described("a")["bind"], ["unix:" + self.path("site/s.sock")])

    def test_the_application_is_not_imported(self):
        self.write("shop.py", "raise SystemExit('imported')\n")
        self.assertEqual(self.described("shop:app")["app"], "shop:app")

    def test_nothing_the_file_prints_reaches_stdout(self):
        self.write("gunicorn.conf.py", "import os\nprint('from python')\n"
                   "os.system('echo from a child')\n"
                   "import atexit; atexit.register(print, 'at exit')\n"
                   "def on_starting(server): pass\n")
        done = self.describe("a")
        self.assertEqual(len(done.stdout.splitlines()), 1)
        for line in ("from python", "from a child", "at exit"):
            self.assertIn(line, done.stderr)
            self.assertNotIn(line, done.stdout)

    def test_own_directory_and_name_are_hidden(self):
        self.write("gunicorn.conf.py", "import sys\nprint(sys.argv, sys.path)\n")
        done = self.describe("-w", "2", "a")
        self.assertIn("['gunicorn', '-w', '2', 'a']", done.stderr)
        self.assertNotIn(os.path.dirname(ADAPTER) + "'", done.stderr)

    def test_class_object(self):
        self.write("gunicorn.conf.py", "from gunicorn.workers.sync import SyncWorker\n"
                   "class Mine(SyncWorker): pass\nworker_class = Mine\n")
        self.assertEqual(self.described("a")["worker_class"], "__config__.Mine")

    def test_hooks_for_the_template_are_named(self):
        self.write("gunicorn.conf.py",
                   "def on_starting(server): pass\n"
                   "def when_ready(server): pass\n"
                   "def child_exit(server, worker): pass\n"
                   "def post_fork(server, worker): pass\n"
                   "def on_exit(server): pass\n")
        said = self.described("a")
        self.assertEqual(said["template_hooks"],
                         ["on_starting", "when_ready", "child_exit", "on_exit"])
        self.assertEqual(said["warnings"], [])
        self.assertIn("post_fork", said["changed"])

    def test_changed_settings_are_named(self):
        said = self.described("-w", "1", "--keep-alive", "5", "-k", "gthread", "a")
        self.assertEqual(said["changed"], ["default_proc_name", "keepalive", "worker_class"])


class Refusals(Case):
    def refused(self, status, text, *arguments, **environment):
        done = self.describe(*arguments, **environment)
        self.assertEqual(done.returncode, status, done.stderr)
        self.assertEqual(done.stdout, "")
        self.assertIn(text, done.stderr)

    def test_no_application(self):
        self.refused(1, "No application module specified")

    def test_bad_arguments(self):
        self.refused(2, "unrecognized arguments: --nonsense", "--nonsense", "a")
        self.refused(2, "invalid int value", "-w", "many", "a")
        self.refused(2, "unrecognized arguments", "a", GUNICORN_CMD_ARGS="--nonsense")

    def test_bad_values(self):
        self.refused(1, "Value must be positive", "--backlog", "-1", "a")
        self.refused(1, "not a valid port number", "-b", "h:nan", "a")
        self.refused(1, "not a valid file descriptor", "-b", "fd://x", "a")
        self.refused(1, "environment setting 'x' invalid", "-e", "x", "a")
        self.refused(1, "no.such.user", "-u", "no.such.user", "a")

    def test_bad_file(self):
        self.refused(1, "doesn't exist", "-c", "missing.py", "a")
        self.write("bad.py", "workers = = 2\n")
        self.refused(1, "SyntaxError", "-c", "bad.py", "a")
        self.write("raises.py", "raise KeyError('secret')\n")
        self.refused(1, "KeyError: 'secret'", "-c", "raises.py", "a")
        self.write("value.py", "workers = 'many'\n")
        self.refused(1, "Invalid value for workers: many", "-c", "value.py", "a")

    def test_file_that_leaves(self):
        self.write("leaves.py", "import sys\nsys.exit(5)\n")
        self.refused(5, "", "-c", "leaves.py", "a")
        self.write("says.py", "import sys\nsys.exit('no licence')\n")
        self.refused(1, "no licence", "-c", "says.py", "a")

    def test_usage(self):
        for arguments in ([], ["a"], ["--describe"], ["--describe", "a"]):
            done = subprocess.run([PYTHON, ADAPTER, *arguments], text=True,
                                  capture_output=True, timeout=DEADLINE_SEC)
            self.assertEqual(done.returncode, 2)
            self.assertIn("usage:", done.stderr)


class Instead(Case):
    """gunicorn does something else than serve; its words are for the user's stdout."""

    def printed(self, *arguments, **environment):
        done = self.describe(*arguments, **environment)
        self.assertEqual(done.returncode, EXIT_PRINTED, done.stderr)
        return done.stdout

    def test_version_and_help(self):
        self.assertRegex(self.printed("--version"), r"^gunicorn \(version \d+\.")
        self.assertIn("usage: gunicorn [OPTIONS] [APP_MODULE]", self.printed("-h"))

    def test_help_does_not_run_the_file(self):
        self.write("gunicorn.conf.py", "raise SystemExit('ran')\n")
        self.printed("--help")

    def test_check_config(self):
        self.write("good.py", "app = print\n")
        self.assertEqual(self.printed("--check-config", "good:app"), "")
        self.write("bad.py", "import no_such_module\n")
        done = self.describe("--check-config", "bad:app")
        self.assertEqual(done.returncode, 1)
        self.assertIn("no_such_module", done.stderr)

    def test_print_config(self):
        self.write("good.py", "app = print\n")
        self.assertRegex(self.printed("--print-config", "-w", "3", "good:app"),
                         r"(?m)^workers +\S* *= 3$")


if __name__ == "__main__":
    unittest.main()
