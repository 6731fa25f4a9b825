"""Four workers that leak alike from the same moment: no two restarts closer than min-gap, never
more than one worker away, no kernel OOM kill, no failed request. Beside them gunicorn, with the
same limit and the same load; its figures are printed."""
import threading
import time

from vmtest import (GunicornTrace, Load, Pool, PoolTrace, Unit, ask_each, check, equal, most_away,
                    note)
from vmtest.journal import seconds

TIMEOUT = 420
OURS = ("127.0.0.1", 8000)
GUNICORN = ("127.0.0.1", 8001)
N = 4
LIMIT = "640M"
MIN_GAP = 15
# Each worker leaks 1 MiB a second from its first request on, so it lives about 100 s: this is
# long enough for every worker of the first generation to be replaced, and some of the second.
WINDOW = 200
LEAK = "/leak?mb=4000&rate=1&once=1"
# journald stamps a record when it reads it, and the guest is slow: not a loophole for the plan,
# which is off by whole gaps when it is wrong.
STAMP_ERROR = 1.0

INI = f"""
[pool]
gunicorn = -k gthread --threads 4 light:app
chdir = /payload/example
workers = {N}
bind = 127.0.0.1:8000
[memory]
worker-max = 128M
[restart]
min-gap = {MIN_GAP}s
min-gap-floor = {MIN_GAP}s
"""


def scenario():
    gunicorn = Unit("plain", "/usr/bin/gunicorn", "-w", str(N), "-k", "gthread", "--threads", "4",
                    "-b", "127.0.0.1:8001", "--chdir", "/payload/example", "light:app",
                    Type="notify", Delegate="yes", MemoryMax=LIMIT, OOMPolicy="continue")
    with Pool("shop", INI, MemoryMax=LIMIT) as pool, gunicorn:
        pids = pool.wait_serving(N)
        both = [threading.Thread(target=ask_each, args=(address, LEAK, N))
                for address in (OURS, GUNICORN)]
        for thread in both:
            thread.start()
        for thread in both:
            thread.join()
        began = time.monotonic()
        with PoolTrace(pool) as trace, GunicornTrace(gunicorn, pool.journal) as their_trace, \
                Load(OURS, LEAK) as load, Load(GUNICORN, LEAK) as their_load:
            # The last of the first generation is gone well before the window ends; whatever
            # else happens in it is looked at as well.
            for pid in pids.values():
                pool.wait_record("exit", TRIMTAB_PID=pid, patience=WINDOW)
            first_generation = time.monotonic() - began
            time.sleep(max(0, WINDOW - first_generation))
        trace.write("leak-together-trimtab")
        their_trace.write("leak-together-gunicorn")

        starts = [seconds(r) for r in pool.records("restart")]
        gaps = [b - a for a, b in zip(starts, starts[1:])]
        kills = pool.cgroup.keyed("memory.events")["oom_kill"]
        theirs = gunicorn.cgroup.keyed("memory.events")
        their_deaths = sum("was terminated due to signal 9" in r.get("MESSAGE", "")
                           for r in pool.journal.all(_SYSTEMD_UNIT=gunicorn.name)
                           if isinstance(r.get("MESSAGE"), str))
        note(f"trimtab: {len(starts)} restarts, closest {min(gaps, default=0):.1f} s apart,"
             f" {kills} kernel kills, at most {most_away(pool, N)} not accepting;"
             f" requests: {load}")
        note(f"gunicorn, same limit and load: {theirs['oom_kill']} kernel kills,"
             f" {their_deaths} workers lost to them; requests: {their_load}")
        check(len(starts) >= N, f"only {len(starts)} restarts")
        check(min(gaps) >= MIN_GAP - STAMP_ERROR,
              f"restarts {min(gaps):.1f} s apart: " + ", ".join(f"{s:.1f}" for s in starts))
        check(most_away(pool, N) <= 1, f"{most_away(pool, N)} workers away, by the journal")
        check(trace.fewest >= N - 1,
              f"only {trace.fewest} workers alive, once in {len(trace.samples)} looks")
        equal(kills, 0, "kernel kills")
        # graceful-timeout is a real machine's: a guest that others starve may well miss it.
        equal({r["TRIMTAB_CAUSE"] for r in pool.records("exit")} - {"asked", "drain-timeout"},
              set(), "other causes of exits")
        load.expect_no_failure()
    return (f"{len(starts)} restarts at least {min(gaps):.1f} s apart, 0 kernel kills;"
            f" gunicorn: {theirs['oom_kill']} kernel kills")
