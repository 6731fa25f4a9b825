"""A worker that runs away at 20 MB/s while no restart is due yet: at least 30 s from the first
sign of it to its end, or it is replaced before; the others are untouched. Beside it the same
runaway under a bare memory.max, whose figure is printed."""
import time

from vmtest import Pool, Unit, ask, check, equal, note, wait_until
from vmtest.journal import seconds

TIMEOUT = 330
ADDRESS = ("127.0.0.1", 8000)
BARE = ("127.0.0.1", 8001)
RUN_AWAY = "/leak?mb=4000&rate=20"

INI = """
[pool]
gunicorn = -k gthread --threads 4 light:app
chdir = /payload/example
workers = 3
bind = 127.0.0.1:8000
[memory]
worker-max = 128M
[restart]
min-gap = 1h
min-gap-floor = 30s
"""


def bare_memory_max():
    """Seconds from the first thing anybody could be woken by to the kernel's kill."""
    with Unit("bare", "/usr/bin/gunicorn", "-w", "1", "-k", "gthread", "-b", "127.0.0.1:8001",
              "--chdir", "/payload/example", "light:app", Type="notify", MemoryMax="128M",
              OOMPolicy="continue") as unit:
        cgroup = unit.cgroup
        wait_until(lambda: ask(BARE), "gunicorn to answer")
        before = cgroup.keyed("memory.events")
        ask(BARE, RUN_AWAY)
        cgroup.wait_event("memory.events", lambda seen: seen != before)
        first = time.monotonic()
        cgroup.wait_event("memory.events", lambda seen: seen["oom_kill"] > before["oom_kill"])
        return time.monotonic() - first


def scenario():
    bare = bare_memory_max()
    note(f"bare memory.max: {bare:.3f} s from the first event to the kill")
    with Pool("shop", INI, MemoryMax="480M") as pool:
        pids = pool.wait_serving(3)
        # Takes the gap, so that the runaway's turn is not now.
        pool.ctl("recycle", "1")
        pool.wait_record("exit", TRIMTAB_PID=pids[1])
        pids = pool.wait_serving(3)
        began = time.monotonic()
        runaway = ask(ADDRESS, RUN_AWAY)
        worker, pid = runaway["worker"], runaway["pid"]
        # Whatever the journal says of it first. Pressure is said of the worker alone, the rest of
        # a process.
        sign = pool.journal.wait(TRIMTAB_WORKER=worker, where=lambda r: (
            "TRIMTAB_EVENT" in r and seconds(r) >= began
            and r.get("TRIMTAB_PID", str(pid)) == str(pid)))
        end = pool.wait_record("exit", TRIMTAB_PID=pid, patience=240)
        lasted = seconds(end) - seconds(sign)
        cause = end.get("TRIMTAB_CAUSE")
        note(f"first sign: {sign['TRIMTAB_EVENT']} after {seconds(sign) - began:.1f} s; end:"
             f" {cause} {lasted:.1f} s later: {end.get('MESSAGE')}")
        check(cause == "asked" or lasted >= 30,
              f"{cause} {lasted:.1f} s after the first sign ({sign['TRIMTAB_EVENT']})")
        others = {number: other for number, other in pids.items() if number != worker}
        now = {number: entry["pid"] for number, entry in pool.workers().items()}
        equal({number: now[number] for number in others}, others, "the other workers")
        equal([r["TRIMTAB_PID"] for r in pool.records("exit")
               if int(r["TRIMTAB_PID"]) in others.values()], [], "exits of the others")
        pool.wait_serving(3)
    return f"{cause} {lasted:.1f} s after the first sign; bare memory.max: {bare:.3f} s"
