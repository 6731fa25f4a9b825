"""gunicorn's settings as trimtab takes them: hooks of the master, what is refused, what is told.
tests/conformance/ compares behaviour; this is what it cannot see from outside."""
import os
import signal
import socket
import subprocess
import sys
import unittest
from pathlib import Path

from pools import DEADLINE_SEC, EXAMPLE, TRIMTAB, Case, Load, clean_environment, get, until

NOTE = """
def note(*words):
    with open(%r, "a") as file:
        print(*words, file=file, flush=True)
"""


class Hooks(Case):
    ALL = """
import os
def on_starting(server): note("on_starting", os.getpid())
def when_ready(server): note("when_ready", server.pid, server.cfg.workers)
def on_reload(server): note("on_reload")
def nworkers_changed(server, new, old): note("nworkers_changed", new, old, server.num_workers)
def child_exit(server, worker): note("child_exit", worker.pid, worker.age, worker.exitcode)
def on_exit(server): note("on_exit")
"""

    def setUp(self):
        super().setUp()
        self.notes = self.write("notes", "")

    def lines(self, word=""):
        with open(self.notes, encoding="utf-8") as file:
            return [line.split() for line in file if line.startswith(word)]

    def start(self, text, *words, **options):
        conf = self.write("hooks.py", NOTE % self.notes + text)
        return self.gunicorn("-c", conf, *words, **options)

    def test_each_is_called_in_its_time(self):
        pool = self.start(self.ALL, "-w", "1", sets=("restart.min-gap=10ms",
                                                     "restart.min-gap-floor=10ms"))
        pool.wait_ready()
        old = pool.workers()[1]
        self.assertEqual([line[0] for line in self.lines()],
                         ["nworkers_changed", "on_starting", "when_ready"])
        self.assertEqual(self.lines("when_ready")[0][1:], [str(pool.pid), "1"])
        self.assertNotIn(self.lines("on_starting")[0][1], (str(pool.pid), str(old)))
        pool.send(signal.SIGTTIN)
        pool.wait("ready", worker=2)
        until(lambda: self.lines("nworkers_changed")[1:] == [["nworkers_changed", "2", "1", "2"]],
              "nworkers_changed")
        killed = pool.workers()[2]
        os.kill(killed, signal.SIGKILL)
        until(lambda: ["child_exit", str(killed), "2", "-9"] in self.lines(), "child_exit")
        pool.wait("ready", worker=2, count=2)
        pool.send(signal.SIGHUP)
        pool.wait("exit", count=3)
        self.assertEqual(len(self.lines("on_reload")), 1)
        self.assertEqual(len(self.lines("on_starting")), 1)
        # The one that TTIN added is forgotten.
        self.assertEqual(self.lines("nworkers_changed")[-1][1:], ["1", "2", "1"])
        last = set(map(str, pool.workers().values()))
        self.assertEqual(pool.stop(), 0)
        # All of them were heard of before the end.
        self.assertEqual({line[1] for line in self.lines("child_exit")[-1:]}, last)
        self.assertEqual(self.lines()[-1], ["on_exit"])
        self.assert_left_nothing(pool)

    def test_an_upgrade_is_no_start(self):
        pool = self.start(self.ALL, "-w", "1").wait_ready()
        before = self.lines()
        pool.send(signal.SIGUSR2)
        until(lambda: "took the place of" in pool.log(), "the upgrade")
        killed = pool.workers()[1]
        os.kill(killed, signal.SIGKILL)
        until(lambda: ["child_exit", str(killed), "1", "-9"] in self.lines(), "child_exit")
        self.assertEqual(self.lines()[:-1], before)
        pool.wait("ready", worker=1, count=2)
        self.assertEqual(pool.stop(), 0)
        self.assertEqual(self.lines()[-1], ["on_exit"])

    def test_one_that_fails_is_logged_and_nothing_else(self):
        pool = self.start("def when_ready(server): raise RuntimeError('no luck')\n"
                          "def child_exit(server, worker): raise RuntimeError('no chance')\n")
        pool.wait_ready()
        self.assertIn("no luck", pool.log())
        os.kill(pool.workers()[1], signal.SIGKILL)
        pool.wait("ready", count=2)
        until(lambda: "no chance" in pool.log(), "it is logged")
        self.assertEqual(pool.get().status, 200)
        self.assertEqual(pool.stop(), 0)

    def test_an_end_that_never_ends_is_cut(self):
        pool = self.start("def on_exit(server):\n    note('on_exit')\n"
                          "    import signal\n    signal.pause()\n").wait_ready()
        self.assertEqual(pool.stop(), 0)
        self.assertEqual(self.lines(), [["on_exit"]])
        self.assertIn("The template is not ready, does not answer or does not end in time", pool.log())
        self.assert_left_nothing(pool)

    def test_without_a_template_it_is_said(self):
        pool = self.start("def on_exit(server): note('on_exit')\n", sets=("pool.preload=none",))
        pool.wait("problem", MESSAGE=lambda m: "on_exit" in m and "preload = none" in m)
        pool.wait_ready()
        self.assertEqual(pool.stop(), 0)
        self.assertEqual(self.lines(), [])


class FromGunicorn(Case):
    """A running gunicorn is told to start its successor, and what it executes is trimtab by now."""

    def setUp(self):
        super().setUp()
        self.log = open(self.write("log", ""), "a", encoding="utf-8")
        self.addCleanup(self.log.close)
        self.script = self.write("gunicorn", "from gunicorn.app.wsgiapp import run\nrun()\n")
        self.address = self.path("http.sock")

    def start(self, *words):
        """gunicorn itself, serving."""
        old = subprocess.Popen(
            [sys.executable, self.script, "-w", "2", "-b", f"unix:{self.address}",
             "-p", self.path("pid"), *words, "light:app"], cwd=EXAMPLE, stdin=subprocess.DEVNULL,
            stderr=self.log, env=clean_environment(RUNTIME_DIRECTORY=self.directory))
        self.addCleanup(old.wait)
        self.addCleanup(old.kill)
        until(lambda: os.path.exists(self.address), "it listens")
        self.assertEqual(get(self.address).status, 200)
        return old

    def upgrade(self, old):
        """Returns trimtab, serving beside it."""
        self.write("gunicorn", f"import os, sys\nos.execv({TRIMTAB!r}, [{TRIMTAB!r}, '--set', "
                               f"'pool.name=test-{os.getpid()}', 'gunicorn', *sys.argv[1:]])\n")
        old.send_signal(signal.SIGUSR2)
        until(lambda: " serves" in self.text(), "trimtab serves")
        return self.watch(Path(self.path("pid.2")).read_text("ascii"))

    def text(self):
        with open(self.path("log"), encoding="utf-8") as file:
            return file.read()

    def pidfiles(self):
        return {name: int(Path(self.path(name)).read_text("ascii"))
                for name in ("pid", "pid.2") if os.path.exists(self.path(name))}

    def test_to_trimtab(self):
        old = self.start()
        with Load(self.address, path="/pid") as load:
            load.wait_answered(10)
            new = self.upgrade(old)
            self.assertEqual(self.pidfiles(), {"pid": old.pid, "pid.2": new.pid})
            new.kill(signal.SIGUSR2)
            until(lambda: "still lives" in self.text(), "no upgrade meanwhile")
            load.wait_answered(10)
            old.terminate()
            self.assertEqual(old.wait(DEADLINE_SEC), 0)
            until(lambda: self.pidfiles() == {"pid": new.pid}, "the pidfile is taken over")
            load.wait_answered(20)
            # From here on it is as if trimtab had bound it: a reload finds its address.
            new.kill(signal.SIGHUP)
            until(lambda: "replaced one by one" in self.text(), "the reload")
            load.wait_answered(20)
        self.assertEqual(load.failures, [], self.text())
        new.kill(signal.SIGTERM)
        new.wait_gone()
        self.assertEqual(self.pidfiles(), {})
        self.assertFalse(os.path.exists(self.address))

    def test_and_back(self):
        old = self.start()
        with Load(self.address, path="/pid") as load:
            load.wait_answered(10)
            new = self.upgrade(old)
            new.kill(signal.SIGTERM)
            new.wait_gone()
            load.wait_answered(10)
        self.assertEqual(load.failures, [], self.text())
        self.assertEqual(self.pidfiles(), {"pid": old.pid})
        self.assertEqual(get(self.address).status, 200)

    def test_old_variables_mean_nothing(self):
        pool = self.gunicorn(environment={"GUNICORN_FD": "0,1,99", "GUNICORN_PID": "1"})
        pool.wait_ready()
        self.assertEqual(pool.get().status, 200)


class Hangs(Case):
    def test_a_template_says_where(self):
        self.write("slow.py", "import signal\nsignal.pause()\n")
        pool = self.pool("gunicorn", "--preload", "-b", "127.0.0.1:0", "slow:app",
                         cwd=self.directory, sets=("restart.boot-timeout=15s",))
        self.assertEqual(pool.wait_exit(), 1)
        self.assertTrue(any("slow.py" in r["MESSAGE"] and "line 2" in r["MESSAGE"]
                            for r in pool.records), pool.log())
        self.assert_left_nothing(pool)

    def test_a_configuration_may_load_the_next_time(self):
        # Not 2, after which the packaged unit stays down.
        for does, says, timeout in (("signal.pause()", "boot-timeout", "2s"),
                                    ("signal.raise_signal(9)", "killed by signal 9", "1h")):
            with self.subTest(does):
                self.write("gunicorn.conf.py", f"import signal\n{does}\n")
                pool = self.pool("gunicorn", "-b", "127.0.0.1:0", "app:app",
                                 cwd=self.directory,
                                 sets=("restart.ready-after=1s",
                                       f"restart.boot-timeout={timeout}"))
                self.assertEqual(pool.wait_exit(), 1)
                self.assertIn(says, pool.log())


class Told(Case):
    def test_what_has_no_effect_is_named_at_the_start_and_by_check(self):
        self.write("app.py", "app = print\n")
        conf = self.write("conf.py", "def pre_exec(server): pass\n")
        pool = self.gunicorn("-c", conf)
        pool.wait("problem", MESSAGE=lambda m: "pre_exec" in m)
        done = self.run_trimtab("check", "gunicorn", "-c", conf, "app:app")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("pre_exec", done.stdout)


class Sockets(Case):
    def test_reuse_port_lets_another_listen_there_too(self):
        for words, shared in (((), False), (("--reuse-port",), True)):
            with self.subTest(words):
                pool = self.gunicorn(*words).wait_ready()
                with socket.socket() as other:
                    other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                    if shared:
                        other.bind(pool.address)
                    else:
                        self.assertRaises(OSError, other.bind, pool.address)


if __name__ == "__main__":
    unittest.main()
