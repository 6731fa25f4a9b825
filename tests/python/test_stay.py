"""A worker that is to stay behind: drained and out of service, alive until somebody ends it."""
import os
import signal
import threading
import time
import unittest

from supervisor import DEADLINE_SEC, Case, Gate, import_adapter, needed

# Which of the things that a worker's end brings have happened.
HOOKS = "def worker_exit(server, worker):\n    open('hook', 'w').close()\n"
LEAVING = ("import atexit\nfrom app import *\n"
           "atexit.register(lambda: open('left', 'w').close())\n")


class Staying:
    """What every worker class must do alike."""

    kind = ""

    @classmethod
    def setUpClass(cls):
        cls.arguments = needed(cls.kind)

    def setUp(self):
        super().setUp()
        self.application()
        self.write("leaving.py", LEAVING)
        self.write("gunicorn.conf.py", HOOKS)

    def started(self, **options):
        application = self.arguments[-1].replace("app:", "leaving:")
        worker = self.worker(*self.arguments[:-1], application, **options).ready()
        self.assertEqual(worker.said("X_TRIMTAB_STAYS"), ["1"])
        return worker

    def keep(self, worker):
        worker.kill(signal.SIGWINCH)
        worker.kill(signal.SIGTERM)
        worker.wait_for("X_TRIMTAB", "kept")

    def has(self, name):
        return os.path.exists(self.path(name))

    def holds(self, worker, listener):
        """Whether one of its descriptors is that socket."""
        wanted = "socket:[%d]" % os.fstat(listener.fileno()).st_ino
        folder = "/proc/%d/fd/" % worker.pid
        return wanted in [os.readlink(folder + name) for name in os.listdir(folder)]

    def test_drains_and_stays(self):
        gate = Gate(self, "hold")
        worker = self.started()
        held = worker.send("/hold")
        worker.wait_at(gate)
        self.assertTrue(self.holds(worker, worker.listeners[0]))
        worker.kill(signal.SIGTERM)  # the other way round than a supervisor would
        worker.kill(signal.SIGWINCH)
        gate.open()
        self.assertEqual(worker.answer(held)["pid"], worker.pid)
        worker.wait_for("X_TRIMTAB", "kept")
        self.assertEqual(worker.said("STOPPING"), ["1"])
        self.assertFalse(worker.has_ended())
        self.assertFalse(self.holds(worker, worker.listeners[0]))
        self.assertEqual((self.has("hook"), self.has("left")), (True, False))
        # What was not its own is as it was, and connections are nobody's.
        worker.send("/").close()
        self.assertEqual(worker.stop(), 0)
        self.assertTrue(self.has("left"))
        self.assertEqual(worker.said("X_TRIMTAB"), ["kept"])

    def test_each_signal_that_ends_a_worker_ends_its_stay(self):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            with self.subTest(number):
                worker = self.started()
                self.keep(worker)
                self.assertEqual(worker.stop(number), 0)

    def test_serves_on_until_it_is_asked_to_go(self):
        worker = self.started()
        worker.kill(signal.SIGWINCH)
        for _ in range(3):
            self.assertEqual(worker.get()["pid"], worker.pid)
        self.assertEqual(worker.said("STOPPING"), [])
        self.keep(worker)

    def test_ends_with_its_parent(self):
        worker = self.started(between=True)
        self.keep(worker)
        worker.orphan()
        self.assertEqual(worker.wait_exit(), 0)

    def test_an_application_that_has_the_signal_keeps_it(self):
        self.write("leaving.py", LEAVING +
                   "def on_winch(number, frame):\n    open('winch', 'w').close()\n")
        self.write("gunicorn.conf.py", "import signal\ndef post_worker_init(worker):\n"
                   "    import leaving\n    signal.signal(signal.SIGWINCH, leaving.on_winch)\n")
        application = self.arguments[-1].replace("app:", "leaving:")
        worker = self.worker(*self.arguments[:-1], application).ready()
        self.assertEqual(worker.said("X_TRIMTAB_STAYS"), [])
        worker.kill(signal.SIGWINCH)
        self.assertEqual(worker.stop(), 0)
        self.assertEqual(worker.said("X_TRIMTAB"), [])
        self.assertTrue(self.has("winch"))


class Sync(Staying, Case):
    kind = "sync"


class Gthread(Staying, Case):
    kind = "gthread"


class Gevent(Staying, Case):
    kind = "gevent"


class Uvicorn(Staying, Case):
    kind = "uvicorn"


class Asgi(Staying, Case):
    kind = "asgi"


class Waiting(Case):
    def test_other_signals_end_nothing(self):
        adapter = import_adapter()
        woken, wakes = os.pipe()
        self.addCleanup(os.close, woken)
        self.addCleanup(os.close, wakes)
        waits = threading.Thread(target=adapter.wait_for_end, args=(woken, None), daemon=True)
        poll = adapter.Poll()
        poll.register(woken, adapter.POLLIN)
        os.write(wakes, bytes([signal.SIGUSR1, signal.SIGCHLD]))
        waits.start()
        deadline = time.monotonic() + DEADLINE_SEC
        while poll.poll(0) and time.monotonic() < deadline:
            os.sched_yield()
        self.assertTrue(waits.is_alive())
        os.write(wakes, bytes([signal.SIGUSR1, signal.SIGTERM]))
        waits.join(DEADLINE_SEC)
        self.assertFalse(waits.is_alive())


if __name__ == "__main__":
    unittest.main()
