"""What is lost while everything happens that an operator does to a pool: lossless.py [CLASS...]

Clients in a closed loop, whose connections stay for as long as the server lets them, while 4 workers
are reloaded 4 times, replaced 4 times, trimmed 4 times, upgraded and stopped: with trimtab, and with
gunicorn where it has the like (HUP, SIGTERM to a worker, USR2 and TERM to the old master, TERM).

    raced    a kept connection ended before the first byte of an answer: a client may send a GET
             again then, and must not a POST
    lost     refused, reset, closed in the middle, raced, late and wrong together

Then a stop while 40 requests of 0.3 s wait for 4 sync workers, and 4 sync workers that reach
max_requests at the same time, with an application that takes a second to start.
"""
import argparse
import os
import pathlib
import signal
import sys

TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "host"), str(TESTS / "conformance")]

from beyond import SLOW_BOOT  # noqa: E402
from clients import DEADLINE_SEC, FAILURES, Client, Load  # noqa: E402
from pools import stat_fields, until  # noqa: E402
from servers import Gunicorn, Trimtab  # noqa: E402
from trial import Trial  # noqa: E402

CLASSES = {
    "sync": (["-k", "sync"], "app:app"),
    "gthread": (["-k", "gthread", "--threads", "4"], "app:app"),
    "uvicorn": (["-k", "uvicorn.workers.UvicornWorker"], "app:asgi"),
}
N_WORKERS = 4
N_CLIENTS = 16
N_EACH = 4
BETWEEN = 500  # answers from one event to the next


class OfTrimtab:
    """What is done to it, and how. Each returns when it is over."""

    name = "trimtab"
    server_class = Trimtab

    def __init__(self, server):
        self.server = server

    def reload(self):
        before = self.server.workers()
        self.server.send(signal.SIGHUP)
        self.server.wait_workers(N_WORKERS, other_than=before)

    def replace(self, turn):
        number = turn % N_WORKERS + 1
        pid = self.server.pool.workers()[number]
        self.server.pool.ctl("recycle", number)
        self.server.wait_workers(N_WORKERS, other_than={pid})

    def trim(self, turn):
        index = turn % N_WORKERS
        pool = self.server.pool
        until(lambda: pool.status()["workers"][index]["can_trim"], "its library says hello")
        pool.ctl("trim", index + 1)
        return True

    def upgrade(self):
        self.server.pool.ctl("upgrade")

    def stop(self):
        self.server.stop()


class InstalledGunicorn(Gunicorn):
    """Not by -m: what USR2 executes would then find gunicorn's http in the place of Python's."""

    program = ("gunicorn",)


class OfGunicorn(OfTrimtab):
    name = "gunicorn"
    server_class = InstalledGunicorn

    def __init__(self, server):
        super().__init__(server)
        self.successor = None

    def replace(self, turn):
        pid = sorted(self.server.workers())[turn % N_WORKERS]
        os.kill(pid, signal.SIGTERM)
        self.server.wait_workers(N_WORKERS, other_than={pid})

    def trim(self, turn):
        return False

    def upgrade(self):
        """Leaves a new master, which is nobody's child when the old one has ended."""
        n_before = len(self.server.pids("init"))
        self.server.send(signal.SIGUSR2)
        pid = self.server.wait_note("init", n_before + N_WORKERS)
        self.successor = self.server.watch(int(stat_fields(pid)[1]))
        self.server.send(signal.SIGTERM)
        self.server.process.wait(DEADLINE_SEC)

    def stop(self):
        self.successor.kill(signal.SIGTERM)
        self.successor.wait_gone()


def lossless(kind, operator_class):
    """Returns what its clients saw, and whether it was trimmed."""
    words, app = CLASSES[kind]
    trial = Trial(operator_class.server_class, None, None)
    trimmed = False
    try:
        server = trial.started(N_WORKERS, *words, app=app)
        operator = operator_class(server)
        with Load(server.address, n_clients=N_CLIENTS, keep=True) as load:
            for turn in range(N_EACH):
                for event in (operator.reload, lambda t=turn: operator.replace(t),
                              lambda t=turn: operator.trim(t)):
                    load.wait_answered(BETWEEN)
                    trimmed = bool(event()) or trimmed
            load.wait_answered(BETWEEN)
            operator.upgrade()
            load.wait_answered(BETWEEN)
            load.expect_end()
            operator.stop()
            load.wait_end()
        return load, trimmed
    finally:
        trial.close()


def queued_at_stop(operator_class):
    """How many of 40 requests are answered."""
    trial = Trial(operator_class.server_class, None, None)
    try:
        trial.write("slow.py", "import time\nimport app as fast\n"
                    "def app(environ, start):\n"
                    "    time.sleep(0.3)\n    return fast.app(environ, start)\n")
        server = trial.started(N_WORKERS, "-k", "sync", app="slow:app")
        clients = [Client(server.address) for _ in range(40)]
        for client in clients:
            client.connect()
        answers = [trial.executor.submit(client.ask) for client in clients]
        server.stop()
        return sum(answer.result()[0] == "answered" for answer in answers)
    finally:
        trial.close()


def max_requests(operator_class):
    """Returns how few were accepting at the worst, and for how many seconds it was none."""
    trial = Trial(operator_class.server_class, None, None)
    try:
        server = trial.started(N_WORKERS, "-k", "sync", "--max-requests", "400",
                               hooks=SLOW_BOOT.replace("0.3", "1"))
        with Load(server.address, n_clients=N_CLIENTS):
            until(lambda: len(server.notes("leave")) >= 2 * N_WORKERS, "two rounds")
            until(lambda: len(server.notes("init")) >= 3 * N_WORKERS, "who takes their places")
        moments = sorted([(when, 1) for when in server.times("init")] +
                         [(when, -1) for when in server.times("leave")])
    finally:
        trial.close()
    accepting, least, none_since, none_sec = 0, N_WORKERS, None, 0.0
    for n, (when, step) in enumerate(moments):
        accepting += step
        if none_since is not None:
            none_sec, none_since = none_sec + when - none_since, None
        if n >= N_WORKERS:  # all have started
            least = min(least, accepting)
            none_since = when if accepting == 0 else None
    return least, none_sec


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("classes", nargs="*", metavar="CLASS", help=", ".join(CLASSES))
    classes = parser.parse_args().classes or list(CLASSES)
    if not set(classes) <= set(CLASSES):
        parser.error("the classes are " + ", ".join(CLASSES))
    operators = (OfTrimtab, OfGunicorn)
    print("%-8s %-9s %9s %s %8s   %s" % ("", "", "requests", " ".join("%8s" % w for w in FAILURES),
                                         "lost", "reloads, replacements, trims, upgrades, stops"))
    for kind in classes:
        for operator in operators:
            load, trimmed = lossless(kind, operator)
            counts = [load.counts[word] for word in FAILURES]
            print("%-8s %-9s %9d %s %8d   %d %d %s 1 1" %
                  (kind, operator.name, load.counts.total(),
                   " ".join("%8d" % count for count in counts), sum(counts), N_EACH, N_EACH,
                   N_EACH if trimmed else "-"), flush=True)
    for operator in operators:
        print("%-8s %-9s a stop, 40 requests waiting: %d answered" %
              ("sync", operator.name, queued_at_stop(operator)), flush=True)
    for operator in operators:
        print("%-8s %-9s max_requests, 1 s to start: %d of 4 accept at the worst, none for %.1f s" %
              ("sync", operator.name, *max_requests(operator)), flush=True)


if __name__ == "__main__":
    main()
