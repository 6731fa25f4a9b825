"""A worker becomes the next template: refork-after."""
import collections
import json
import os
import signal
import socket
import unittest

from pools import Case, Load, Watched, children, get, until

# What is filled at the first request says in which process that was.
LAZY = """
import json, os
VERSION = 1
STATE = {}
def app(environ, start_response):
    STATE.setdefault("filled_by", os.getpid())
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({"pid": os.getpid(), "version": VERSION, **STATE}).encode()]
"""

# Something that no fork survives, from the first request on.
THREAD = LAZY + """
import threading
END = threading.Event()
inner = app
def app(environ, start_response):
    if "thread" not in STATE:
        STATE["thread"] = True
        threading.Thread(target=END.wait, name="collector", daemon=True).start()
    return inner(environ, start_response)
"""
CONNECTION = LAZY + """
import socket
HELD = []
inner = app
def app(environ, start_response):
    if not HELD:
        HELD.append(socket.create_connection(("127.0.0.1", PORT)))
    return inner(environ, start_response)
"""
FILE = LAZY + """
HELD = []
inner = app
def app(environ, start_response):
    if not HELD:
        HELD.append(open("ledger", "w"))
    return inner(environ, start_response)
"""

# Dies in whoever collects garbage and is not the worker.
DEADLY = LAZY + """
import gc, signal
inner = app
def app(environ, start_response):
    if not gc.callbacks:
        own = os.getpid()
        gc.callbacks.append(lambda *_: os.getpid() == own or os.kill(os.getpid(), signal.SIGKILL))
    return inner(environ, start_response)
"""

HOOKS = """
import os
LOG = os.open(%r, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
def write(name, pid=0):
    os.write(LOG, b"%%s %%d %%d\\n" %% (name, os.getpid(), pid))
def on_starting(server): write(b"on_starting")
def when_ready(server): write(b"when_ready")
def on_reload(server): write(b"on_reload")
def on_exit(server): write(b"on_exit")
def post_fork(server, worker): write(b"post_fork")
def worker_exit(server, worker): write(b"worker_exit", worker.pid)
def child_exit(server, worker): write(b"child_exit", worker.pid)
"""


def is_warm(record):
    return "a child of worker" in record["MESSAGE"]


class Refork(Case):
    def start(self, *words, app=LAZY, after=5, workers=2, sets=()):
        self.write("app.py", app)
        pool = self.pool("gunicorn", "-w", str(workers), "-b", "127.0.0.1:0", *words,
                         "--chdir", self.directory, "app:app",
                         sets=("restart.min-gap=0s", f"pool.refork-after={after}", *sets))
        return pool.wait_ready(workers)

    def ask_until(self, pool, condition, what):
        """Requests, until it is so."""
        def done():
            pool.get()
            return condition()
        return until(done, what)

    def warm_up(self, pool, since=0):
        """Returns the worker that the template is a child of now, once it was replaced."""
        def found():
            return [r for r in pool.find("pool", since, state="template") if is_warm(r)]
        message = self.ask_until(pool, found, "a child of a worker is the template")[0]["MESSAGE"]
        origin = int(message.split("worker ")[1].split()[0])
        pid = int(message.split("(pid ")[2].split(")")[0])
        pool.wait("exit", since=since, pid=pid)
        return origin, pid

    def filled_by(self, pool, pid):
        """Who filled it, as the worker of that pid says."""
        answer = self.ask_until(pool, lambda: self.answer_of(pool, pid), f"{pid} answers")
        return answer["filled_by"]

    def answer_of(self, pool, pid):
        answer = pool.get().json
        return answer if answer["pid"] == pid else None

    def test_later_workers_have_what_the_warm_one_had(self):
        pool = self.start()
        cold = pool.status()["pool"]["template"]
        self.assertEqual((cold["state"], cold["forked_by_worker"]), ("ready", None))
        watched = Watched(cold["pid"])
        self.addCleanup(watched.close)
        with Load(pool.address) as load:
            origin, origin_pid = self.warm_up(pool)
            watched.wait_gone()
            template = pool.status()["pool"]["template"]
            self.assertEqual((template["state"], template["forked_by_worker"]), ("ready", origin))
            self.assertIn(template["pid"], children(pool.pid))
            words = f"a child of worker {origin}"
            self.assertIn(words, pool.ctl("status").stdout)
            self.assertIn(words, pool.ctl("explain").stdout)
            self.assertEqual(self.filled_by(pool, pool.workers()[origin]), origin_pid)
            # One that was there before has its own; the one that comes after it has not.
            other = 3 - origin
            self.assertNotEqual(self.filled_by(pool, pool.workers()[other]), origin_pid)
            pool.ctl("recycle", str(other))
            self.assertEqual(self.filled_by(pool, pool.workers()[other]), origin_pid)
            # They would be warm by now, and are not asked.
            load.wait_answered(50)
        self.assertEqual(load.failures, [])
        self.assertEqual(len([r for r in pool.find("pool", state="template") if is_warm(r)]), 1)
        self.assertEqual(pool.find("problem", worker=lambda n: n), [])
        self.assertEqual(pool.stop(), 0)
        self.assert_left_nothing(pool)

    def test_its_leaf_is_not_used_again(self):
        pool = self.start(workers=1)
        if not pool.cgroup():
            self.skipTest("there are no cgroups here")
        before = os.stat(os.path.join(pool.cgroup(), "worker-1")).st_ino
        self.warm_up(pool)
        for _ in range(3):  # by turns: worker-1.2, then worker-1, if there is one again
            pool.ctl("recycle", "1")
        inodes = [os.stat(os.path.join(pool.cgroup(), name)).st_ino for name in pool.leaves()]
        self.assertNotIn(before, inodes)

    def test_workers_from_it_are_as_others(self):
        path = self.path("socket")
        pool = self.start("--max-requests", "40", "-b", f"unix:{path}", workers=1)
        _, origin_pid = self.warm_up(pool)
        self.assertEqual(get(path).json["filled_by"], origin_pid)  # both sockets came along
        pid = pool.workers()[1]
        until(lambda: pool.status()["workers"][0]["can_trim"], "its library is there")
        trimmed = json.loads(pool.ctl("--json", "trim", 1).stdout)
        self.assertGreater(trimmed["after_bytes"], 0)
        # The library's handler was armed by the trim: a plain signal is one more.
        os.kill(pid, signal.SIGUSR2)
        mark = pool.mark()
        with Load(pool.address) as load:
            pool.wait("restart", worker=1, since=mark,
                      MESSAGE=lambda m: "number of requests" in m)
            pool.wait("exit", pid=pid)
        self.assertEqual(load.failures, [])
        pool.wait("ready", since=mark)
        self.assertEqual(self.filled_by(pool, pool.workers()[1]), origin_pid)

    def test_a_signal_of_ones_own_choice_trims_workers_from_it(self):
        number = signal.SIGRTMIN + 3
        pool = self.start(workers=1, sets=["trim.signal=SIGRTMIN+3"])
        until(lambda: pool.status()["workers"][0]["can_trim"], "its library is there")
        pool.ctl("trim", "1")  # from here on the worker has the library's handler, and so its child
        self.warm_up(pool)
        pid = pool.workers()[1]
        until(lambda: pool.status()["workers"][0]["can_trim"], "its library is there")
        pool.ctl("trim", "1")
        mark = pool.mark()
        os.kill(pid, number)
        pool.wait("trim", since=mark, MESSAGE=lambda m: "plain signal" in m)
        self.assertEqual(pool.workers(), {1: pid})

    def test_hooks_run_where_they_belong(self):
        self.write("conf.py", HOOKS % self.path("hooks"))
        pool = self.start("-c", self.path("conf.py"), workers=1)
        cold = pool.status()["pool"]["template"]["pid"]
        _, origin_pid = self.warm_up(pool)
        warm, pid = pool.status()["pool"]["template"]["pid"], pool.workers()[1]
        self.assertEqual(pool.stop(), 0)
        with open(self.path("hooks"), encoding="ascii") as file:
            lines = [line.split() for line in file]
        ran = collections.defaultdict(list)
        for name, runs_in, worker in lines:
            ran[name].append((int(runs_in), int(worker)))
        self.assertEqual(ran["on_starting"], [(cold, 0)])
        self.assertEqual(ran["when_ready"], [(cold, 0)])
        self.assertEqual(ran["on_reload"], [])
        self.assertEqual([own for own, _ in ran["post_fork"]], [origin_pid, pid])
        self.assertEqual(ran["worker_exit"], [(origin_pid, origin_pid), (pid, pid)])
        self.assertEqual(ran["child_exit"], [(warm, origin_pid), (warm, pid)])
        self.assertEqual(ran["on_exit"], [(warm, 0)])

    def test_one_that_goes_before_it_looks_is_followed_by_another(self):
        pool = self.start(after=1, workers=1)
        pid = pool.workers()[1]
        pool.get()  # it is warm now, and sleeps
        pool.ctl("recycle", "1")
        pool.wait("exit", pid=pid)
        self.warm_up(pool)
        self.assertEqual(pool.find("problem", worker=lambda n: n), [])

    def test_a_killed_worker_is_replaced_from_it_and_itself_from_the_disk(self):
        pool = self.start(workers=1)
        _, origin_pid = self.warm_up(pool)
        mark = pool.mark()
        os.kill(pool.workers()[1], signal.SIGKILL)
        pool.wait("ready", since=mark)
        self.assertEqual(self.filled_by(pool, pool.workers()[1]), origin_pid)
        mark = pool.mark()
        os.kill(pool.status()["pool"]["template"]["pid"], signal.SIGKILL)
        pool.wait("pool", since=mark, state="template")
        pool.ctl("recycle", "1")
        self.assertNotEqual(self.filled_by(pool, pool.workers()[1]), origin_pid)
        self.warm_up(pool, mark)  # and it may be followed, as the first was

    def test_a_reload_loads_from_the_disk_and_warms_up_again(self):
        for preload in ("server", "app"):
            with self.subTest(preload):
                pool = self.start(sets=[f"pool.preload={preload}"])
                self.warm_up(pool)
                self.write("app.py", LAZY.replace("VERSION = 1", "VERSION = 2"))
                for _ in range(2):
                    mark = pool.mark()
                    pool.ctl("reload")
                    pool.wait("ready", count=2, since=mark)
                    self.assertIsNone(pool.status()["pool"]["template"]["forked_by_worker"])
                    answer = self.ask_until(pool, lambda: self.answer_of(pool, pool.workers()[1]),
                                            "it answers")
                    self.assertEqual(answer["version"], 2)
                    self.warm_up(pool, mark)
                self.assertEqual(pool.stop(), 0)

    def check_refused(self, app, *what, words=()):
        pool = self.start(*words, app=app)
        template = pool.status()["pool"]["template"]["pid"]
        pids = pool.workers()
        with Load(pool.address) as load:
            problem = self.ask_until(pool, lambda: pool.find("problem", worker=lambda n: n),
                                     "it is said")
            for part in what:
                self.assertIn(part, problem[0]["MESSAGE"])
            load.wait_answered(50)
        self.assertEqual(load.failures, [])
        self.assertEqual(len(pool.find("problem", worker=lambda n: n)), 1, pool.log())
        self.assertEqual(pool.status()["pool"]["template"]["pid"], template)
        self.assertEqual(pool.workers(), pids)
        return pool

    def test_a_worker_with_a_thread_is_refused_until_a_reload(self):
        pool = self.check_refused(THREAD, "other threads: collector")
        self.write("app.py", LAZY)
        mark = pool.mark()
        pool.ctl("reload")
        self.warm_up(pool, mark)

    def test_a_worker_with_a_connection_is_refused(self):
        with socket.create_server(("127.0.0.1", 0)) as database:
            port = str(database.getsockname()[1])
            self.check_refused(CONNECTION.replace("PORT", port),
                               f"a connection to ('127.0.0.1', {port})")

    def test_a_worker_with_a_file_to_write_is_refused(self):
        self.check_refused(FILE, os.path.join(self.directory, "ledger"))

    def test_another_class_is_refused(self):
        self.check_refused(LAZY, "its class", words=["-k", "gthread", "--threads", "2"])

    def test_a_child_that_dies_changes_nothing(self):
        self.check_refused(DEADLY, "died of signal 9")

    def test_a_supervisor_that_is_killed_takes_it_along(self):
        pool = self.start()
        self.warm_up(pool)
        watched = [Watched(pid) for pid in (pool.status()["pool"]["template"]["pid"],
                                            *pool.workers().values())]
        for process in watched:
            self.addCleanup(process.close)
        pool.process.kill()
        for process in watched:
            process.wait_gone()

    def test_without_a_template_it_is_said_that_nothing_changes(self):
        pool = self.start(sets=["pool.preload=none"])
        pool.wait("problem", MESSAGE=lambda m: m.startswith("refork-after changes nothing"))

    def test_an_upgrade_takes_it_along(self):
        pool = self.start()
        mark = pool.mark()
        pool.ctl("upgrade")  # before: the workers that there are can still be asked
        origin, origin_pid = self.warm_up(pool, mark)
        before = pool.status()["pool"]["template"]
        pool.ctl("upgrade")  # and after
        self.assertEqual(pool.status()["pool"]["template"], before)
        pool.ctl("recycle", 3 - origin)
        self.assertEqual(self.filled_by(pool, pool.workers()[3 - origin]), origin_pid)


if __name__ == "__main__":
    unittest.main()
