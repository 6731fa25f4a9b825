"""A worker of each class under a parent that is not gunicorn: serves, drains, keeps faith."""
import ctypes
import http.client
import os
import pathlib
import signal
import socket
import struct
import unittest

from supervisor import ADAPTER, DEADLINE_SEC, PYTHON, Case, Gate, needed, tcp_listener, unix_listener

PR_SET_PDEATHSIG = 1


def backlog_of(listener):
    """What listen(2) was last told: tcpi_sacked of a listening socket."""
    info = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    return struct.unpack("8B24I", info)[13]


def open_to_all(path):
    """Whether any user may go down to that file."""
    return all(os.stat(folder).st_mode & 0o001
               for folder in map(str, pathlib.Path(path).resolve().parents))


class Serving:
    """What every worker class must do alike."""

    kind = ""

    @classmethod
    def setUpClass(cls):
        cls.arguments = needed(cls.kind)

    def setUp(self):
        super().setUp()
        self.application()

    def test_answers(self):
        worker = self.worker(*self.arguments).ready()
        said = worker.get()
        self.assertEqual(said["pid"], worker.pid)
        self.assertEqual(worker.stop(), 0)

    def test_drains(self):
        gate = Gate(self, "hold")
        worker = self.worker(*self.arguments).ready()
        held = worker.send("/hold")
        worker.wait_at(gate)
        # gunicorn has SIGTERM restart system calls, so STOPPING may be as late as the
        # request that the only thread is in.
        worker.kill(signal.SIGTERM)
        gate.open()
        self.assertEqual(worker.answer(held)["pid"], worker.pid)
        self.assertEqual(worker.wait_exit(), 0)
        self.assertEqual(worker.said("STOPPING"), ["1"])

    def test_quick_stop(self):
        worker = self.worker(*self.arguments).ready()
        self.assertEqual(worker.stop(signal.SIGINT), 0)

    def test_several_sockets(self):
        listeners = [tcp_listener(), unix_listener(self.path("web.sock"))]
        if socket.has_ipv6:
            listeners.append(tcp_listener(("::1", 0)))
        worker = self.worker(*self.arguments, listeners=listeners).ready()
        for number in range(len(listeners)):
            self.assertEqual(worker.get(listener=number)["pid"], worker.pid)
        self.assertEqual(worker.stop(), 0)
        self.assertTrue(os.path.exists(self.path("web.sock")))

    def test_nothing_else_is_bound(self):
        blocked = tcp_listener()
        address = "127.0.0.1:%d" % blocked.getsockname()[1]
        worker = self.worker("-b", address, "-b", "fd://3", *self.arguments).ready()
        self.assertEqual(worker.get()["pid"], worker.pid)
        self.assertEqual(worker.stop(), 0)
        blocked.close()

    def test_backlog_is_the_configured_one(self):
        worker = self.worker("--backlog", "77", *self.arguments).ready()
        self.assertEqual(backlog_of(worker.listeners[0]), 77)

    def test_looks_like_gunicorn(self):
        worker = self.worker(*self.arguments, environment={"KEPT": "1"}).ready()
        said = worker.get()
        self.assertEqual(said["argv"], ["gunicorn", *self.arguments])
        self.assertEqual(said["path"][0], self.directory)
        self.assertNotIn(os.path.dirname(ADAPTER), said["path"])
        self.assertRegex(said["environ"]["SERVER_SOFTWARE"], "^gunicorn/")
        self.assertEqual(said["environ"]["KEPT"], "1")
        for name in ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"):
            self.assertNotIn(name, said["environ"])
        self.assertRegex(worker.log(), r"\[%d\] \[INFO\] Booting worker" % worker.pid)

    def test_leaves_with_its_parent(self):
        worker = self.worker("-t", "2", *self.arguments, between=True).ready()
        worker.orphan()
        self.assertEqual(worker.wait_exit(), 0)

    def test_outlives_a_parent_that_is_to_come_back(self):
        worker = self.worker("-t", "2", *self.arguments, between=True, bound=False).ready()
        worker.orphan()
        for _ in range(3):
            self.assertEqual(worker.get()["pid"], worker.pid)
        self.assertEqual(worker.stop(), 0)

    def test_reload(self):
        worker = self.worker("--reload", *self.arguments).ready()
        # gunicorn looks once a second, and takes what it sees first for the old state.
        for later in range(1, 100):
            os.utime(self.path("app.py"), (2e9 + later, 2e9 + later))
            if worker.has_ended(within_sec=0.5):
                break
        self.assertEqual(worker.wait_exit(), 0)

    @unittest.skipIf(os.geteuid() != 0, "needs root: drops privileges")
    @unittest.skipUnless(open_to_all(PYTHON), "only root can reach this interpreter")
    def test_privileges_are_dropped_and_death_signal_kept(self):
        os.chmod(self.directory, 0o755)
        worker = self.worker("-u", "65534", "-g", "65534", *self.arguments,
                             before_exec=die_with_parent).ready()
        said = worker.get()
        self.assertEqual((said["uid"], said["gid"]), (65534, 65534))
        self.assertEqual(said["death_signal"], signal.SIGTERM)
        self.assertEqual(worker.stop(), 0)
        worker.wait_for("STOPPING", "1")


def die_with_parent():
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


class ServingAll(Serving):
    """Beyond that: gunicorn's asgi worker may close a connection whose request it has not read
    yet."""

    def test_what_comes_during_the_drain_is_answered(self):
        gate = Gate(self, "hold")
        listener = tcp_listener()
        worker = self.worker(*self.arguments, listeners=[listener.dup()]).ready()
        held = worker.send("/hold")
        worker.wait_at(gate)
        worker.kill(signal.SIGTERM)
        late = [worker.send() for _ in range(3)]
        gate.open()
        worker.answer(held)
        self.assertEqual(worker.wait_exit(), 0)
        following = self.worker(*self.arguments, listeners=[listener]).ready()
        for client in late:
            self.assertIn(worker.answer(client)["pid"], (worker.pid, following.pid))


class KeepingAlive(ServingAll):
    """Those that keep connections alive."""

    def keeper(self, worker):
        """A connection that has had one answer and could have another."""
        keeper = http.client.HTTPConnection(*worker.listeners[0].getsockname(), DEADLINE_SEC)
        self.addCleanup(keeper.close)
        response = self.ask(keeper)
        self.assertFalse(response.will_close)
        return keeper

    def ask(self, keeper, path="/"):
        keeper.request("GET", path)
        response = keeper.getresponse()
        self.assertEqual(response.status, 200, response.read())
        response.read()
        return response

    def test_a_kept_connection_ends_with_an_answer_that_says_so(self):
        worker = self.worker(*self.arguments).ready()
        keepers = [self.keeper(worker) for _ in range(3)]
        worker.kill(signal.SIGTERM)
        worker.wait_for("STOPPING", "1")
        for keeper in keepers:
            self.assertEqual(self.ask(keeper).getheader("Connection"), "close")
        self.assertEqual(worker.wait_exit(), 0)

    def test_an_answer_that_was_under_way_promises_nothing_it_does_not_keep(self):
        gate = Gate(self, "hold")
        worker = self.worker(*self.arguments).ready()
        keeper = self.keeper(worker)
        keeper.request("GET", "/hold")
        worker.wait_at(gate)
        worker.kill(signal.SIGTERM)  # which may be heard of after that request: see test_drains
        gate.open()
        response = keeper.getresponse()
        response.read()
        while not response.will_close:
            response = self.ask(keeper)
        self.assertEqual(worker.wait_exit(), 0)

    def test_a_quick_stop_waits_for_nobody(self):
        worker = self.worker("--keep-alive", "3600", "--graceful-timeout", "3600",
                             *self.arguments).ready()
        self.keeper(worker)
        worker.kill(signal.SIGTERM)
        worker.wait_for("STOPPING", "1")
        self.assertEqual(worker.stop(signal.SIGINT), 0)


class Lingering(KeepingAlive):
    """Those whose idle connections are ours to end: gevent's last as long as keepalive says."""

    def test_who_says_nothing_holds_nobody_up(self):
        worker = self.worker("--keep-alive", "3600", "--graceful-timeout", "3600",
                             *self.arguments).ready()
        keeper = self.keeper(worker)
        silent = socket.create_connection(worker.listeners[0].getsockname())
        self.addCleanup(silent.close)
        self.keeper(worker)  # accepted after that one
        silent.sendall(b"GET / HTTP/1.1\r\nHost: ")
        worker.kill(signal.SIGTERM)
        silent.close()
        self.assertEqual(worker.wait_exit(), 0)
        self.assertEqual(keeper.sock.recv(1), b"")


class Sync(ServingAll, Case):
    kind = "sync"


class Gthread(Lingering, Case):
    kind = "gthread"


class Gevent(KeepingAlive, Case):
    kind = "gevent"


class Uvicorn(Lingering, Case):
    kind = "uvicorn"


class Asgi(Serving, Case):
    kind = "asgi"


HOOKS = """
import os

def note(name, server=None, worker=None):
    with open("hooks", "a") as file:
        file.write(name + "\\n")
    if server is not None:
        assert server.pid == os.getppid(), "pid"
        assert server.cfg.workers == server.num_workers == 3, "workers"
        assert server.address and server.LISTENERS and server.WORKERS == {}, "sockets"
        assert server.proc_name == "shop" and server.log, "name"
    if worker is not None:
        assert worker.age == 7, "age"

def on_starting(server): note("on_starting")
def when_ready(server): note("when_ready")
def nworkers_changed(server, new, old): note("nworkers_changed")
def child_exit(server, worker): note("child_exit")
def on_exit(server): note("on_exit")
def pre_fork(server, worker): note("pre_fork", server, worker)
def post_fork(server, worker): note("post_fork", server, worker)
def post_worker_init(worker): note("post_worker_init", worker=worker)
def worker_int(worker): note("worker_int", worker=worker)
def worker_abort(worker): note("worker_abort", worker=worker)
def worker_exit(server, worker): note("worker_exit", server, worker)
def pre_request(worker, req): note("pre_request")
def post_request(worker, req, environ, resp): note("post_request")
workers = 3
proc_name = "shop"
"""


class Configuration(Case):
    """The user's gunicorn configuration means in the worker what it meant under gunicorn."""

    def setUp(self):
        super().setUp()
        self.application()

    def test_hooks_of_the_worker_run_and_no_other(self):
        self.write("gunicorn.conf.py", HOOKS)
        worker = self.worker("app:wsgi").ready()
        worker.get()
        self.assertEqual(worker.stop(signal.SIGINT), 0, worker.log())
        self.assertEqual(self.read("hooks").split(),
                         ["pre_fork", "post_fork", "post_worker_init", "pre_request",
                          "post_request", "worker_int", "worker_exit"])

    def test_abort(self):
        self.write("gunicorn.conf.py", HOOKS)
        worker = self.worker("app:wsgi").ready()
        self.assertEqual(worker.stop(signal.SIGABRT), 1)
        self.assertEqual(self.read("hooks").split()[-2:], ["worker_abort", "worker_exit"])

    def test_quit_finds_the_interpreter_at_its_end(self):
        # A thread of the application's that the interpreter waits for before it ends.
        self.write("gunicorn.conf.py", "import threading, app\n"
                   "def linger():\n"
                   "    threading.main_thread().join()\n"
                   "    app.gate('leaving')\n"
                   "def post_worker_init(worker):\n"
                   "    threading.Thread(target=linger).start()\n")
        gate = Gate(self, "leaving")
        worker = self.worker("app:wsgi").ready()
        worker.kill(signal.SIGTERM)
        worker.wait_at(gate)
        # Again where the interpreter was about to wait, but did not yet: it looks after that.
        while not worker.has_ended(within_sec=0.2):
            worker.kill(signal.SIGQUIT)
        self.assertEqual(worker.wait_exit(), 0)
        self.assertNotIn("Traceback", worker.log())

    def test_environment_of_gunicorn(self):
        os.mkdir(self.path("library"))
        os.mkdir(self.path("site"))
        self.write("gunicorn.conf.py", "raw_env = ['FROM_FILE=1']\n")
        worker = self.worker("--chdir", "site", "--pythonpath", "../library,..",
                             "app:wsgi", environment={"GUNICORN_CMD_ARGS": "-e FROM_ENV=2"})
        said = worker.ready().get()
        self.assertEqual(said["cwd"], self.path("site"))
        for directory in ("library", "site"):
            self.assertIn(self.path(directory), said["path"])
        self.assertEqual(said["environ"]["FROM_ENV"], "2")

    def test_log_files(self):
        worker = self.worker("--access-logfile", "access", "--error-logfile", "error",
                             "app:wsgi").ready()
        worker.get()
        self.assertEqual(worker.stop(), 0)
        self.assertIn("GET / HTTP/1.1", self.read("access"))
        self.assertIn("Booting worker", self.read("error"))

    def test_reopens_its_logs(self):
        worker = self.worker("--access-logfile", "access", "app:wsgi").ready()
        worker.get("/one")
        os.rename(self.path("access"), self.path("access.1"))
        worker.kill(signal.SIGUSR1)
        worker.get("/two")
        worker.stop()
        self.assertIn("/one", self.read("access.1"))
        self.assertIn("/two", self.read("access"))

    def test_class_of_the_users_own(self):
        self.write("mine.py", "from gunicorn.workers.sync import SyncWorker\n"
                   "class Mine(SyncWorker):\n"
                   "    def init_process(self):\n"
                   "        self.log.info('mine')\n"
                   "        super().init_process()\n")
        worker = self.worker("-k", "mine.Mine", "--pythonpath", ".", "app:wsgi").ready()
        self.assertEqual(worker.stop(), 0)
        self.assertIn("mine", worker.log())

    def test_class_that_never_beats(self):
        self.write("mine.py", "import select\n"
                   "from gunicorn.workers.base import Worker\n"
                   "class Mute(Worker):\n"
                   "    def run(self):\n"
                   "        while self.alive:\n"
                   "            select.select([self.PIPE[0]], [], [])\n")
        worker = self.worker("-k", "mine.Mute", "--pythonpath", ".", "-t", "0", "app:wsgi")
        worker.ready()
        self.assertEqual(worker.stop(), 0)

    def test_works_without_a_notification_socket(self):
        for notify in (None, "no/such/socket", "app.py"):
            with self.subTest(notify):
                worker = self.worker("app:wsgi", notify=notify)
                self.assertEqual(worker.get()["pid"], worker.pid)
                self.assertEqual(worker.stop(), 0)

    def test_works_without_any_of_our_variables(self):
        worker = self.worker("app:wsgi", bound=False, notify=None,
                             environment={"WATCHDOG_USEC": "nonsense"})
        self.assertEqual(worker.get()["pid"], worker.pid)


if __name__ == "__main__":
    unittest.main()
