"""What trims give back and what they cost, beside what else one could do: tests/bench/run --allocators

    nothing   Python and glibc as they are
    arenas    MALLOC_ARENA_MAX=2
    loop      a thread in the application that calls malloc_trim(3) at random intervals
    jemalloc  preloaded, as it comes
    trimtab   the worker under trimtab, which trims it at the same intervals: malloc_trim, and
              CPython's arenas

Workers of all five live at the same time, for each profile of tests/bench/regime.py with 1 and with
8 threads. They take turns: a burst each, then as much quiet for each, then short spells of steady
requests, round by round, so that whatever else the machine does falls on all alike. Intervals are 1
to 2 seconds, thirty times as often as trimtab's default, so that a spell holds a trim or two; what a
trim costs is told apart, and scaled to the default. trimtab waits longer after trims in vain, so one
is asked for by hand at the end of the quiet and in every other spell. A quarter of an hour a
repetition."""
import argparse
import collections
import contextlib
import json
import math
import mmap
import os
import pathlib
import random
import select
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

REGIME = pathlib.Path(__file__).resolve().parent / "regime.py"
PROFILES, THREADS = ("small", "mixed", "large", "huge"), (1, 8)
CONTENDERS = ("nothing", "arenas", "loop", "jemalloc", "trimtab")
INTERVAL_SEC = (1, 2)
DEFAULT_INTERVAL_SEC = 45  # the middle of 30s..60s
MIB = 1 << 20
JEMALLOC = "libjemalloc.so.2"


class Worker:
    def __init__(self, name, build, folder, profile, n_threads):
        self.name, self.spells, self.samples = name, [], []
        path = str(folder / f"{name}.sock")
        command = ["/usr/bin/python3", "-B", str(REGIME), path, profile, str(n_threads)]
        environment = {key: value for key, value in os.environ.items()
                       if not key.startswith(("MALLOC_", "LD_", "PYTHON"))}
        environment |= {"arenas": {"MALLOC_ARENA_MAX": "2"}, "jemalloc": {"LD_PRELOAD": JEMALLOC},
                        "loop": {"BENCH_LOOP": "%d..%d" % INTERVAL_SEC}}.get(name, {})
        self.control = [build + "/src/trimtabctl", "-s", str(folder / "control.sock"), "--json"]
        if name == "trimtab":
            command = [build + "/src/trimtab", "--set", f"pool.name=bench-{os.getpid()}",
                       "--set", f"control.socket={folder}/control.sock",
                       "--set", "memory.trim-at=1M", "--set", "trim.mode=periodic",
                       "--set", "trim.interval=%ds..%ds" % INTERVAL_SEC,
                       "exec", "-w", "1", "--", *command]
        self.log = open(folder / f"{name}.log", "w", encoding="utf-8")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen()
            listener.settimeout(60)
            self.process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL,
                                            stdout=self.log, stderr=self.log)
            try:
                self.connection = listener.accept()[0]
            except TimeoutError:
                sys.exit(f"bench: {name} does not come up:\n" + open(self.log.name).read())
        self.lines = self.connection.makefile("rw")
        self.pid = json.loads(self.lines.readline())["pid"]
        self.start_mib = self.rss_mib()

    def rss_mib(self):
        with open(f"/proc/{self.pid}/statm", encoding="ascii") as file:
            mib = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / MIB
        self.samples.append(mib)
        return mib

    def ask(self, line):
        """Its answer, and meanwhile how big it is."""
        self.lines.write(line + "\n")
        self.lines.flush()
        self.samples = []
        while not select.select([self.connection], [], [], 0.05)[0]:
            self.rss_mib()
        self.rss_mib()
        text = self.lines.readline()
        if not text:
            sys.exit(f"bench: {self.name} ended; {self.log.name}")
        return json.loads(text)

    def burst(self):
        self.ask("burst")
        self.burst_ended = time.monotonic()
        self.peak_mib, self.after_burst_mib = max(self.samples), self.rss_mib()

    def rest(self, seconds):
        time.sleep(max(0, self.burst_ended + seconds - time.monotonic()))
        # Its intervals are longer now: the trims that met the burst brought nothing.
        self.trim()
        self.quiet_mib = self.rss_mib()
        self.live_mib = self.ask("live")["live"] / MIB

    def spell(self, seconds):
        before = self.n_trims()
        timer = threading.Timer(random.uniform(0.2, 0.8) * seconds, self.trim)
        if len(self.spells) % 2 == 0:
            timer.start()
        spell = self.ask(f"steady {seconds}")
        timer.cancel()
        spell |= {"seconds": seconds}
        spell |= {"mib": statistics.mean(self.samples), "trims": self.n_trims() - before}
        self.spells.append(spell)

    def ctl(self, *words):
        done = subprocess.run([*self.control, *words], capture_output=True, check=False)
        return json.loads(done.stdout)

    def trim(self):
        """One when it matters: trimtab waits longer after each that brought nothing."""
        if self.name == "trimtab":
            self.ctl("trim", "1")

    def trims(self):
        """What trimtab says about its worker's trims."""
        return self.ctl("status")["workers"][0]["trim"]

    def n_trims(self):
        return self.trims()["trims"] if self.name == "trimtab" else 0

    def results(self):
        times = sorted(t for spell in self.spells for t in spell["times"])
        return {
            "start": self.start_mib, "peak": self.peak_mib, "burst": self.after_burst_mib,
            "quiet": self.quiet_mib, "live": self.live_mib,
            "steady": statistics.median(spell["mib"] for spell in self.spells),
            "cpu_ms": [1e3 * spell["cpu"] / len(spell["times"]) for spell in self.spells],
            "other_cpu": sum(spell["other_cpu"] for spell in self.spells),
            "faults": sum(spell["faults"] for spell in self.spells),
            "trims": sum(spell["trims"] for spell in self.spells),
            "p99_ms": 1e3 * times[int(0.99 * len(times))],
            "p99_by_default": self.p99_by_default(),
        }

    def p99_by_default(self):
        """At the default interval, to without a trim: spells with and without one are weighed so
        that a trim comes as often as that."""
        without = [t for spell in self.spells if not spell["trims"] for t in spell["times"]]
        trimmed = [spell for spell in self.spells if spell["trims"]]
        if not without or not trimmed:
            return math.nan
        with_one = [t for spell in trimmed for t in spell["times"]]
        share = statistics.mean(spell["seconds"] / spell["trims"] for spell in trimmed) / \
            DEFAULT_INTERVAL_SEC
        weighed = [(t, (1 - share) / len(without)) for t in without] + \
            [(t, share / len(with_one)) for t in with_one]
        return weighted_p99(weighed) / weighted_p99([(t, 1 / len(without)) for t in without])

    def close(self):
        self.process.terminate()
        self.process.wait(60)
        self.connection.close()
        self.log.close()


def weighted_p99(weighed):
    left = 0.01
    for value, weight in sorted(weighed, reverse=True):
        left -= weight
        if left <= 0:
            break
    return value


def compete(build, folder, profile, n_threads, options):
    """One profile: {contender: results}."""
    with contextlib.ExitStack() as stack:
        workers = []
        for name in CONTENDERS:
            workers.append(Worker(name, build, folder, profile, n_threads))
            stack.callback(workers[-1].close)
        for worker in workers:
            worker.burst()
        for worker in workers:
            worker.rest(options.quiet)
        for k in range(options.spells):
            for worker in workers[k % len(workers):] + workers[:k % len(workers)]:
                worker.spell(options.spell)
        results = {worker.name: worker.results() for worker in workers}
        said = workers[-1].trims()
        results["trimtab"]["said"] = "pymalloc %s, longest hold %.1f ms" % (
            said["pymalloc"], said["longest_hold_usec"] / 1e3)
        return results


def fault_sec():
    """CPU of one page fault, here and now: the refill of what a trim gave away."""
    size = 64 * MIB
    took = []
    for _ in range(5):
        with mmap.mmap(-1, size) as memory:
            memory.madvise(mmap.MADV_NOHUGEPAGE)
            began = time.thread_time()
            for offset in range(0, size, mmap.PAGESIZE):
                memory[offset] = 1
            took.append((time.thread_time() - began) / (size // mmap.PAGESIZE))
    return statistics.median(took)


def median_of(runs, name, key):
    return statistics.median(run[name][key] for run in runs)


def paired(runs, name, key):
    """Median ratio to `nothing` over pairs from the same round."""
    return statistics.median(a / b for run in runs
                             for a, b in zip(run[name][key], run["nothing"][key]))


def table(title, regimes, value, form="%9.1f"):
    print(f"\n{title}\n%-18s" % "", *("%9s" % name for name in CONTENDERS))
    for regime, runs in regimes.items():
        print("%-18s" % regime, *(form % value(runs, name) for name in CONTENDERS), flush=True)


def report(regimes, fault):
    print("\nresident MiB; all figures: medians of", len(next(iter(regimes.values()))), "runs")
    table("at the peak of the burst", regimes, lambda runs, name: median_of(runs, name, "peak"))
    table("after the burst and a quiet spell", regimes,
          lambda runs, name: median_of(runs, name, "quiet"))
    table("mean under steady load", regimes, lambda runs, name: median_of(runs, name, "steady"))
    table("CPU of a request, to nothing, at an interval of 1 to 2 s", regimes,
          lambda runs, name: paired(runs, name, "cpu_ms"), "%9.2f")
    table("p99 of a request, to nothing, at an interval of 1 to 2 s", regimes,
          lambda runs, name: statistics.median(
              run[name]["p99_ms"] / run["nothing"]["p99_ms"] for run in runs), "%9.2f")
    goals(regimes, fault)


def cost_sec(ours, theirs, fault):
    """CPU of one trim: of the threads that do it, and of the faults that follow."""
    faults = max(0, ours["faults"] - theirs["faults"])
    return (ours["other_cpu"] - theirs["other_cpu"] + faults * fault) / max(1, ours["trims"])


def goals(regimes, fault):
    print("\n%-18s %9s %9s %9s %9s %9s %9s %9s %9s" % (
        "trimtab", "dead", "returned", "of dead", "by loop", "jemalloc", "ms a trim", "% of CPU",
        "p99"))
    for regime, runs in regimes.items():
        quiet = {name: median_of(runs, name, "quiet") for name in CONTENDERS}
        dead = quiet["nothing"] - median_of(runs, "nothing", "start") - \
            median_of(runs, "nothing", "live")
        ours, theirs = (quiet["nothing"] - quiet[name] for name in ("trimtab", "loop"))
        cost = statistics.median(cost_sec(run["trimtab"], run["nothing"], fault) for run in runs)
        print("%-18s %9.1f %9.1f %8.0f%% %8.0f%% %9.2f %9.1f %8.2f%% %9.2f" % (
            regime, dead, ours, 100 * ours / dead, 100 * theirs / dead,
            quiet["trimtab"] / quiet["jemalloc"], 1e3 * cost,
            100 * cost / DEFAULT_INTERVAL_SEC, median_of(runs, "trimtab", "p99_by_default")),
            flush=True)
    print("""
dead      what `nothing` keeps after the quiet spell, less what it had at its start and what lives
of dead   how much of that trimtab gave back; by loop: malloc_trim alone
jemalloc  trimtab's resident memory after the quiet spell, to jemalloc's
ms a trim CPU of the library's threads, and of the page faults that `nothing` did not have
%% of CPU  the same at one trim in %d s, the default
p99       of requests at one trim in %d s, to no trim: spells of the same worker, weighed""" % (
        DEFAULT_INTERVAL_SEC, DEFAULT_INTERVAL_SEC))


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", required=True)
    parser.add_argument("--runs", type=int, default=1, help="repetitions (1)")
    parser.add_argument("--quiet", type=float, default=20, help="seconds after the burst (20)")
    parser.add_argument("--spells", type=int, default=6, help="rounds of steady requests (6)")
    parser.add_argument("--spell", type=float, default=2, help="seconds of each (2)")
    parser.add_argument("--profile", action="append", choices=PROFILES)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # nobody is left behind
    regimes = collections.defaultdict(list)
    fault = fault_sec()
    print("a page fault takes %.2f us here" % (fault * 1e6))
    for _ in range(options.runs):
        for profile in options.profile or PROFILES:
            for n_threads in THREADS:
                with tempfile.TemporaryDirectory(prefix="bench-") as folder:
                    regime = "%s, %d thread%s" % (profile, n_threads, "s" * (n_threads > 1))
                    results = compete(options.build, pathlib.Path(folder), profile, n_threads,
                                      options)
                    regimes[regime].append(results)
                    print(regime + ":", *("%s %.1f" % (name, one["quiet"])
                                          for name, one in results.items()),
                          "MiB;", results["trimtab"]["said"], flush=True)
    report(regimes, fault)


main()
