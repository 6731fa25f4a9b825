"""What the worker says to the supervisor, when, and what it does when that cannot be said."""
import os
import signal
import socket
import types
import unittest
from unittest import mock

from supervisor import Case, Gate, import_adapter, needed


class Speaking:
    """Messages that every worker class must send alike."""

    kind = ""

    @classmethod
    def setUpClass(cls):
        cls.arguments = needed(cls.kind)

    def setUp(self):
        super().setUp()
        self.application()

    def test_ready_comes_when_the_application_is_loaded(self):
        gate = Gate(self, "import")
        self.write("slow.py", "from app import *\nfrom app import gate\ngate('import')\n")
        worker = self.worker(*self.arguments[:-1], "slow:" + self.arguments[-1].split(":")[1])
        worker.wait_at(gate)
        self.assertEqual(worker.said("READY"), [])
        gate.open()
        message = worker.wait_for("READY", "1")
        self.assertEqual(message.pid, worker.pid)
        self.assertIn("STATUS", message.fields)

    def test_everything_is_said_once_and_in_order(self):
        worker = self.worker(*self.arguments).ready()
        worker.get()
        self.assertEqual(worker.stop(), 0)
        names = [list(message.fields)[0] for message in worker.messages]
        self.assertEqual(names, ["READY", "STOPPING"])

    def test_stopping_is_said_for_a_quick_stop(self):
        worker = self.worker(*self.arguments).ready()
        worker.stop(signal.SIGINT)
        self.assertEqual(worker.said("STOPPING"), ["1"])

    def test_max_requests_is_announced_and_not_executed(self):
        worker = self.worker("--max-requests", "3", *self.arguments).ready()
        for _ in range(2):
            worker.get()
        self.assertEqual(worker.said("X_TRIMTAB"), [])
        worker.get()
        message = worker.wait_for("X_TRIMTAB", "max-requests")
        self.assertEqual(message.fields["X_TRIMTAB_REQUESTS"], "3")
        for _ in range(4):
            self.assertEqual(worker.get()["pid"], worker.pid)
        self.assertEqual(worker.stop(), 0)
        self.assertEqual(worker.said("X_TRIMTAB"), ["max-requests"])
        # uvicorn's count is as old as its last tick
        self.assertIn(int(worker.said("X_TRIMTAB_REQUESTS")[-1]), range(3, 8))

    def test_beats_arrive_while_idle(self):
        worker = self.worker(*self.arguments, watchdog_usec=4000000).ready()
        for _ in range(2):
            worker.wait_for("WATCHDOG", "1")
            worker.messages.clear()
        self.assertEqual(worker.stop(), 0)

    def test_no_beat_where_nobody_waits(self):
        for environment in ({}, {"WATCHDOG_PID": "1", "WATCHDOG_USEC": "1000"}):
            with self.subTest(environment):
                worker = self.worker(*self.arguments, environment=environment).ready()
                for _ in range(20):
                    worker.get()
                self.assertEqual(worker.stop(), 0)
                self.assertEqual(worker.said("WATCHDOG"), [])

    def test_beats_do_not_follow_requests(self):
        worker = self.worker(*self.arguments, watchdog_usec=3600000000).ready()
        for _ in range(20):
            worker.get()
        self.assertEqual(worker.stop(), 0)
        self.assertEqual(worker.said("WATCHDOG"), [])

    def test_a_child_of_the_application_says_nothing(self):
        worker = self.worker(*self.arguments).ready()
        worker.get("/fork")
        self.assertEqual(worker.get()["pid"], worker.pid)
        self.assertEqual(worker.said("STOPPING"), [])


class SpeakingAsgi(Speaking):
    def test_ready_comes_after_the_lifespan_has_started(self):
        gate = Gate(self, "startup")
        worker = self.worker(*self.arguments)
        worker.wait_at(gate)
        self.assertEqual(worker.said("READY"), [])
        gate.open()
        worker.ready()

    def test_ready_comes_without_a_lifespan(self):
        self.write("bare.py", "from app import asgi as full\n"
                   "async def asgi(scope, receive, send):\n"
                   "    assert scope['type'] == 'http'\n"
                   "    await full(scope, receive, send)\n")
        worker = self.worker(*self.arguments[:-1], "bare:asgi").ready()
        self.assertEqual(worker.get()["pid"], worker.pid)


class Sync(Speaking, Case):
    kind = "sync"


class Gthread(Speaking, Case):
    kind = "gthread"


class Gevent(Speaking, Case):
    kind = "gevent"


class Uvicorn(SpeakingAsgi, Case):
    kind = "uvicorn"


class Asgi(SpeakingAsgi, Case):
    kind = "asgi"


class Delivery(Case):
    """What must arrive arrives, late if need be."""

    def setUp(self):
        super().setUp()
        self.application()

    def test_ready_outlasts_a_full_queue(self):
        notify = "full"
        queue = bound_queue(self.path(notify))
        self.addCleanup(queue.close)
        stuffed = stuff(self.path(notify))
        worker = self.worker("--threads", "2", "app:wsgi", notify=notify)
        self.assertEqual(worker.get()["pid"], worker.pid)
        for _ in range(stuffed):
            self.assertEqual(queue.recv(100), b"STATUS=stuffing")
        self.assertRegex(queue.recv(100), b"^READY=1\n")

    def test_a_new_supervisor_at_the_same_place_is_told(self):
        worker = self.worker("app:wsgi").ready()
        worker.listen_for_messages()
        self.assertEqual(worker.stop(), 0)
        self.assertEqual(worker.said("STOPPING"), ["1"])

    def test_abstract_socket(self):
        name = "trimtab-test-%d" % os.getpid()
        queue = bound_queue("\0" + name)
        self.addCleanup(queue.close)
        self.worker("app:wsgi", environment={"NOTIFY_SOCKET": "@" + name})
        self.assertRegex(queue.recv(100), b"^READY=1\n")

    def test_jitter_stays_in_its_range(self):
        adapter = import_adapter()
        cfg = types.SimpleNamespace(max_requests_jitter=5, set=lambda name, value: None)
        cfg.max_requests = 0
        self.assertEqual(adapter.take_request_limit(cfg), 0)
        cfg.max_requests = 10
        limits = {adapter.take_request_limit(cfg) for _ in range(1000)}
        self.assertEqual(limits, set(range(10, 16)))


def bound_queue(address):
    queue = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    queue.bind(address)
    queue.settimeout(60)
    return queue


def stuff(address):
    """Fill the queue of the socket at that address. Returns the number of messages."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
        sender.connect(address)
        for sent in range(100000):
            try:
                sender.send(b"STATUS=stuffing")
            except BlockingIOError:
                return sent
    raise AssertionError("the queue has no end")


class Beats(unittest.TestCase):
    """The heartbeat alone, against a clock that stands still."""

    def setUp(self):
        self.adapter = import_adapter()
        self.now = 1000.0
        clock = mock.patch.object(self.adapter.time, "monotonic", lambda: self.now)
        clock.start()
        self.addCleanup(clock.stop)
        quiet = mock.patch.object(self.adapter, "announce_stop_signals")
        quiet.start()
        self.addCleanup(quiet.stop)
        self.said = []
        self.touched = 0

    def heartbeat(self, watchdog_sec, limit=0):
        tmp = types.SimpleNamespace(notify=self.touch, last_update=lambda: 42)
        self.worker = types.SimpleNamespace(
            tmp=tmp, nr=0, booted=True, sockets=[], ppid=os.getppid(), log=mock.Mock())
        notifier = types.SimpleNamespace(
            tell=lambda *lines: self.said.append(lines[0]),
            tell_surely=lambda *lines: self.said.append(lines[0]), settle=lambda: None)
        return self.adapter.Heartbeat(self.worker, notifier, watchdog_sec, limit)

    def touch(self):
        self.touched += 1

    def drive(self, heartbeat, step_sec, seconds):
        for _ in range(int(seconds / step_sec)):
            heartbeat.notify()
            self.now += step_sec

    def test_not_ready_before_it_has_booted(self):
        heartbeat = self.heartbeat(30)
        self.worker.booted = False
        self.drive(heartbeat, 1, 100)
        self.assertEqual(self.said, [])
        self.worker.booted = True
        heartbeat.notify()
        self.assertEqual(self.said, ["READY=1"])

    def test_a_busy_loop_beats_four_times_a_watchdog(self):
        heartbeat = self.heartbeat(30)
        self.drive(heartbeat, 0.125, 300)
        self.assertEqual(self.said, ["READY=1"] + ["WATCHDOG=1"] * 39)

    def test_a_loop_that_wakes_each_third_is_never_late(self):
        heartbeat = self.heartbeat(30)
        for wake in range(30):
            heartbeat.notify()
            self.assertEqual(len(self.said), wake + 1)
            self.now += 10 - 0.5 * (wake % 2)

    def test_the_file_of_gunicorn_lives_on(self):
        heartbeat = self.heartbeat(0)
        self.drive(heartbeat, 0.125, 10)
        self.assertEqual(self.said, ["READY=1"])
        self.assertEqual(self.touched, 10)
        self.assertEqual(heartbeat.last_update(), 42)

    def test_max_requests_does_not_wait_for_the_next_beat(self):
        heartbeat = self.heartbeat(30, limit=5)
        heartbeat.notify()
        for self.worker.nr in range(1, 10):
            heartbeat.notify()
        self.assertEqual(self.said, ["READY=1", "X_TRIMTAB=max-requests"])


class Order(unittest.TestCase):
    def setUp(self):
        self.adapter = import_adapter()

    def test_a_message_of_a_signal_handler_waits_for_the_one_it_interrupts(self):
        notifier = self.adapter.Notifier("")
        sent = []

        def send(message):
            if not sent:
                sent.append(message)
                notifier.tell_surely("STOPPING=1")
            else:
                sent.append(message)
            return True

        notifier._send = send
        notifier.tell_surely("READY=1")
        self.assertEqual(sent, ["READY=1", "STOPPING=1"])

    def test_one_that_comes_at_any_look_is_sent(self):
        """Each time that the queue is looked at is a place where a handler may come between."""
        for look in range(1, 6):
            notifier = self.adapter.Notifier("")
            sent, looks = [], []

            class Interrupted(self.adapter.deque):
                def __bool__(self):
                    owed = len(self) > 0
                    looks.append(owed)
                    if len(looks) == look:
                        notifier.tell_surely("STOPPING=1")
                    return owed

            notifier._owed = Interrupted()
            notifier._send = lambda message: sent.append(message) or True
            notifier.tell_surely("READY=1")
            if len(looks) >= look:
                self.assertEqual(sent, ["READY=1", "STOPPING=1"], look)
        self.assertLess(len(looks), look, "every look was tried")


if __name__ == "__main__":
    unittest.main()
