"""Measures a trimtab supervisor beside a gunicorn master, both alive in the same run.

    idle     memory (PSS) and wakeups of the process that supervises, over an idle minute
    replace  kill -9 of a worker to the next answer, median of several kills: what a small
             application takes, and the example (numpy) loaded before the fork in both
    memory   (--memory, and nothing else) PSS of all processes with 16 workers of an application
             that has much to share (shelf.py), after 400 requests to each: trimtab with --preload,
             to gunicorn without and with it
    refork   (--refork, and nothing else) the same of an application that loads at its first
             request (lazy.py): trimtab without and with refork-after, whose workers were all
             replaced once after the first of them had become the template

Every figure comes in pairs and as a ratio: the machine is shared, and only the ratio travels.
"""
import argparse
import atexit
import collections
import http.client
import json
import os
import pathlib
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

APP = '''import os
PID = b"%d" % os.getpid()
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [PID]
'''


EXAMPLE = pathlib.Path(__file__).resolve().parents[2] / "packaging" / "example"


class Server:
    """One of the two, with its workers, on a port of its own."""

    def __init__(self, name, command, folder, port):
        self.name = name
        self.port = port
        self.log = open(folder / (name + ".log"), "w")
        self.process = subprocess.Popen(command, cwd=folder, stdout=self.log, stderr=self.log)
        atexit.register(self.stop)  # whatever goes wrong, nothing is left behind
        self.wait_until(lambda: self.answer() is not None)

    def wait_until(self, true, seconds=60):
        deadline = time.monotonic() + seconds
        while not true():
            if self.process.poll() is not None or time.monotonic() > deadline:
                sys.exit("bench: %s does not serve:\n%s" % (self.name, open(self.log.name).read()))

    def answer(self):
        """The pid that answers, or None."""
        try:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
            connection.request("GET", "/pid", headers={"Connection": "close"})
            return int(connection.getresponse().read())
        except (OSError, http.client.HTTPException):
            return None

    def children(self):
        """Workers, and trimtab's template."""
        with open("/proc/%d/task/%d/children" % (self.process.pid, self.process.pid)) as f:
            return [int(pid) for pid in f.read().split()]

    def pss_mib(self, pid=None):
        with open("/proc/%d/smaps_rollup" % (pid or self.process.pid)) as f:
            return next(int(line.split()[1]) for line in f if line.startswith("Pss:")) / 1024

    def whole_pss_mib(self):
        return self.pss_mib() + sum(self.pss_mib(pid) for pid in self.children())

    def wakeups(self):
        total = 0
        for task in os.listdir("/proc/%d/task" % self.process.pid):
            with open("/proc/%d/task/%s/status" % (self.process.pid, task)) as f:
                total += next(int(line.split()[1]) for line in f
                              if line.startswith("voluntary_ctxt_switches"))
        return total

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(60)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def start_one(name, build, folder, workers, arguments, app="app:app", sets=()):
    port = free_port()
    words = ["-w", str(workers), "-b", "127.0.0.1:%d" % port] + arguments + [app]
    command = ["gunicorn"] + words
    if name == "trimtab":
        command = [build + "/src/trimtab", "--set", "pool.name=bench-%d" % port,
                   "--set", "log.level=warning"]
        command += [word for assignment in sets for word in ("--set", assignment)]
        command += ["gunicorn"] + words
    return Server(name, command, folder, port)


def start(build, folder, workers, arguments):
    return [start_one(name, build, folder, workers, arguments) for name in ("trimtab", "gunicorn")]


def row(what, ours, theirs, unit):
    ratio = "%8.2f" % (ours / theirs) if theirs else "       -"
    print("%-46s %9.1f %9.1f  %-5s %s" % (what, ours, theirs, unit, ratio), flush=True)


def idle(build, folder, seconds):
    for label, extra in (("", []), (", no worker timeout", ["--timeout", "0"])):
        servers = start(build, folder, 4, ["-k", "gthread", "--threads", "4"] + extra)
        for server in servers:
            server.wait_until(lambda: len(server.children()) >= 4)
        before = [server.wakeups() for server in servers]
        time.sleep(seconds)  # the measurement itself: nothing is to happen
        woken = [(server.wakeups() - old) * 60 / seconds
                 for server, old in zip(servers, before)]
        if not label:
            row("supervisor's memory (PSS), 4 workers",
                *(server.pss_mib() for server in servers), "MiB")
            row("memory of all processes (PSS), 4 workers",
                *(server.whole_pss_mib() for server in servers), "MiB")
        row("supervisor's wakeups in an idle minute" + label, *woken, "")
        for server in servers:
            server.stop()


def time_one_kill(server):
    old = server.answer()
    began = time.monotonic()
    os.kill(old, signal.SIGKILL)
    while True:
        pid = server.answer()
        if pid is not None and pid != old:
            return (time.monotonic() - began) * 1000


def replace(build, folder, kills):
    example = ["--chdir", str(EXAMPLE)]
    for label, extra in (("kill -9 of the only worker to the next answer", []),
                         ("the same, example application", example),
                         ("the same, with --preload", example + ["--preload"])):
        servers = start(build, folder, 1, ["-k", "gthread"] + extra)
        times = {server.name: [] for server in servers}
        for _ in range(kills):
            for server in servers:  # interleaved: both see the same noise
                times[server.name].append(time_one_kill(server))
        row(label, statistics.median(times["trimtab"]), statistics.median(times["gunicorn"]), "ms")
        for server in servers:
            server.stop()


def serve_each(server, workers, requests):
    """Until every worker has answered that often; returns the pids."""
    answered = collections.Counter()
    deadline = time.monotonic() + 120
    while sum(n >= requests for n in answered.values()) < workers:
        if time.monotonic() > deadline:
            sys.exit("bench: %s: not every worker answers: %s" % (server.name, answered))
        answered[server.answer()] += 1
    return answered


def memory(build, folder, rounds, workers=16, requests=400):
    """One after the other, and medians: what is shared with a page cache changes no PSS."""
    arguments = ["--chdir", str(pathlib.Path(__file__).resolve().parent)]
    kinds = {"trimtab --preload": ["--preload"], "gunicorn": [],
             "gunicorn --preload": ["--preload"]}
    used = {kind: [] for kind in kinds}
    for _ in range(rounds):
        for kind, extra in kinds.items():
            server = start_one(kind.split()[0], build, folder, workers, arguments + extra,
                               "shelf:app")
            serve_each(server, workers, requests)
            used[kind].append(server.whole_pss_mib())
            server.stop()
    for kind in ("gunicorn", "gunicorn --preload"):
        row("all processes, %d workers, to %s" % (workers, kind),
            statistics.median(used["trimtab --preload"]), statistics.median(used[kind]), "MiB")


def replace_all(server, build, workers):
    """Once the template is a worker's child, as the plan would in the course of time."""
    ctl = [build + "/src/trimtabctl", "-n", "bench-%d" % server.port]

    def template():
        done = subprocess.run(ctl + ["--json", "status"], stdout=subprocess.PIPE, check=True)
        return json.loads(done.stdout)["pool"]["template"]

    server.wait_until(lambda: server.answer() and template()["forked_by_worker"])
    for number in range(1, workers + 1):
        subprocess.run(ctl + ["recycle", str(number)], stdout=subprocess.DEVNULL, check=True)


def refork(build, folder, rounds, workers=16, requests=400):
    arguments = ["--preload", "--chdir", str(pathlib.Path(__file__).resolve().parent)]
    kinds = {"trimtab": "pool.refork-after=0", "trimtab refork": "pool.refork-after=100",
             "gunicorn": None}
    used = {kind: [] for kind in kinds}
    for _ in range(rounds):
        for kind, setting in kinds.items():
            server = start_one(kind.split()[0], build, folder, workers, arguments, "lazy:app",
                               ["restart.min-gap=0s", str(setting)])
            if kind == "trimtab refork":
                replace_all(server, build, workers)
            serve_each(server, workers, requests)
            used[kind].append(server.whole_pss_mib())
            server.stop()
    for kind, label in (("trimtab", "as it was"), ("trimtab refork", "refork-after")):
        row("all processes, %d workers, --preload, %s" % (workers, label),
            statistics.median(used[kind]), statistics.median(used["gunicorn"]), "MiB")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", required=True)
    parser.add_argument("--idle", type=float, default=60, help="seconds to watch (60)")
    parser.add_argument("--kills", type=int, default=10, help="kills to take the median of (10)")
    parser.add_argument("--memory", type=int, nargs="?", const=3, metavar="ROUNDS",
                        help="measure the memory of 16 workers instead, so many times (3)")
    parser.add_argument("--refork", type=int, nargs="?", const=3, metavar="ROUNDS",
                        help="measure what refork-after changes instead, so many times (3)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "app.py").write_text(APP)
        print("%-46s %9s %9s  %-5s %s" % ("", "trimtab", "gunicorn", "", "   ratio"))
        if options.memory:
            memory(options.build, folder, options.memory)
            return
        if options.refork:
            refork(options.build, folder, options.refork)
            return
        replace(options.build, folder, options.kills)
        idle(options.build, folder, options.idle)


main()
