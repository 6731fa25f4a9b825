"""A worker that swings to and fro across its brake line: slowed, it makes no progress, and would
stand there for ever. The hold is given up, well before hold-max, and the worker runs free. And
one that does make progress while it is held is replaced before hold-max is over, although the gap
between restarts is not, since nothing else would save it."""
from vmtest import Pool, ask, ask_each, check, equal, note, wait_until
from vmtest.journal import number, seconds

TIMEOUT = 420
ADDRESS = ("127.0.0.1", 8000)
MIB = 1 << 20
SECOND = 1_000_000
N = 2
WORKER_MAX = 128 * MIB
LINE = WORKER_MAX * 85 // 100       # TRIPWIRE_LINE_MIN_PERMYRIAD
# How late the supervisor may come to a deadline of its own, in a guest that others slow down.
LATE = 10

# A restart takes the turn, and the next is due after the scenario: a hold ends by itself, or by a
# restart that comes before its turn. The budget has nothing to lend.
INI = f"""
[pool]
gunicorn = -k gthread --threads 4 hunger:app
chdir = /payload/lib/apps
workers = {N}
bind = 127.0.0.1:8000
[memory]
worker-max = {WORKER_MAX}
[restart]
min-gap = 1h
min-gap-floor = 30m
hold-max = %s
[trim]
mode = off
"""


def held_pool(name, hold_max):
    return Pool(name, INI % hold_max, MemoryMax="280M")


def take_the_turn(pool):
    pids = pool.wait_serving(N)
    pool.ctl("recycle", "1")
    pool.wait_record("exit", TRIMTAB_PID=pids[1])
    return pool.wait_serving(N)


def leaf_of(pool, pid):
    """A replacement that started first is in a leaf of another name."""
    return next(leaf for leaf in map(pool.cgroup.child, pool.cgroup.children("worker-"))
                if pid in leaf.pids())


def ask_worker(pid):
    return ask_each(ADDRESS, "/hold?s=0.3", N)[pid]


def stuck():
    with held_pool("stuck", "2m") as pool:
        pids = take_the_turn(pool)
        # Two MiB below the line at the low end of a swing, two above at the high end.
        fresh = max(leaf_of(pool, pid).number("memory.current") for pid in pids.values())
        churning = ask(ADDRESS, f"/churn?mib={(LINE - fresh) // MIB - 2}&rate=4&swing=4")
        pid, leaf = churning["pid"], leaf_of(pool, churning["pid"])
        began = pool.wait_record("hold", TRIMTAB_PID=pid, TRIMTAB_HELD=1)
        ended = pool.wait_record("hold", TRIMTAB_PID=pid, TRIMTAB_HELD=0, patience=240)
        lasted = number(ended, "TRIMTAB_USEC")
        stat = leaf.keyed("memory.stat")
        note(f"held at {number(began, 'TRIMTAB_USAGE_BYTES') / MIB:.1f} MiB; high"
             f" {leaf.keyed('memory.events')['high']}, pgscan {stat['pgscan']}, pgsteal"
             f" {stat['pgsteal']}; released after {lasted / SECOND:.1f} s:"
             f" {ended['TRIMTAB_REASON']}")
        equal(ended["TRIMTAB_REASON"], "slowing it led nowhere", "why the hold ended")
        check(lasted < 120 * SECOND, f"held for {lasted / SECOND:.0f} s")
        # Let go, it swings on and nothing stands in its way.
        wait_until(lambda: leaf.number("memory.high") is None, "memory.high to be lifted")
        high = leaf.keyed("memory.events")["high"]
        swings = ask_worker(pid)["swings"]
        wait_until(lambda: ask_worker(pid)["swings"] > swings + 20, "20 swings more")
        equal(leaf.keyed("memory.events")["high"], high, "memory.events high, let go")
        equal({n: entry["pid"] for n, entry in pool.workers().items()}, pids, "the workers")
        return f"a hold without progress ended after {lasted / SECOND:.1f} s"


def saved():
    """Without a turn it would be let go after hold-max, and the limit would kill it."""
    with held_pool("slow", "20s") as pool:
        pids = take_the_turn(pool)
        grown = ask(ADDRESS, "/grow?mib=1000&rate=4")
        worker, pid = grown["worker"], grown["pid"]
        other = pids[3 - worker]
        began = pool.wait_record("hold", TRIMTAB_PID=pid, TRIMTAB_HELD=1)
        restart = pool.wait_record("restart", TRIMTAB_PID=pid)
        end = pool.wait_record("exit", TRIMTAB_PID=pid, patience=240)
        lasted = seconds(restart) - seconds(began)
        note(f"held for {lasted:.1f} s of 20, then: {restart['MESSAGE']}; {end['MESSAGE']}")
        equal(end.get("TRIMTAB_CAUSE"), "asked", "the cause of its end")
        check(lasted < 20 + LATE, f"held for {lasted:.1f} s")
        equal(pool.wait_serving(N)[3 - worker], other, "the other worker")
        return f"one that made progress was replaced after {lasted:.1f} s of hold-max = 20 s"


def scenario():
    return f"{stuck()}; {saved()}"
