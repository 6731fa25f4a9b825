"""The true cause of a worker's end: a kernel OOM kill at its own limit and one at the pool's are
named as such, with the counters; a plain kill -9 and a crash are not. Each is replaced."""
import os
import signal

from vmtest import Failure, Pool, ask, check, equal, note
from vmtest.journal import number

TIMEOUT = 270
ADDRESS = ("127.0.0.1", 8000)
MIB = 1 << 20
N = 3

INI = f"""
[pool]
gunicorn = -k gthread --threads 4 light:app
chdir = /payload/example
workers = {N}
bind = 127.0.0.1:8000
[memory]
worker-max = 200M
"""


# Each ends one worker in its own way.


def at_its_own_limit(pool, pids):
    """A limit written below what a worker uses makes the kernel kill at once."""
    pool.leaf(1).write("memory.max", 1 * MIB)


def at_the_limit_of_the_pool(pool, pids):
    """Whichever worker is asked grows far beyond what the pool has left, though not beyond what
    is its own."""
    cgroup = pool.cgroup
    limit = cgroup.read("memory.max")
    cgroup.write("memory.max", cgroup.number("memory.current") + 16 * MIB)
    try:
        ask(ADDRESS, "/leak?mb=96")
    except Failure:
        pass  # it died of it
    cgroup.write("memory.max", limit)


def by_hand(pool, pids):
    os.kill(pids[2], signal.SIGKILL)


def by_a_crash(pool, pids):
    os.kill(pids[3], signal.SIGSEGV)


def killed(pool, how, cause, status, by_kernel):
    pids = pool.wait_serving(N)
    n_ready = {worker: len(pool.records("ready", TRIMTAB_WORKER=worker)) for worker in pids}
    n_exits = len(pool.records("exit"))
    how(pool, pids)
    end = pool.wait_record("exit", count=n_exits + 1)
    worker, pid = number(end, "TRIMTAB_WORKER"), number(end, "TRIMTAB_PID")
    what = how.__name__.replace("_", " ")
    note(f"{what}: {end.get('MESSAGE')}")
    equal(end.get("TRIMTAB_CAUSE"), cause, f"cause of an end {what}")
    equal(number(end, "TRIMTAB_STATUS"), int(status), f"status of an end {what}")
    kills = number(end, "TRIMTAB_OOM_KILL")
    check(bool(kills) == by_kernel, f"{what}: {kills} kernel kills in the record")
    equal(end.get("PRIORITY"), "3", "priority of the record of an unexpected end")
    pool.wait_record("ready", TRIMTAB_WORKER=worker, count=n_ready[worker] + 1)
    now = pool.wait_serving(N)
    check(now.pop(worker) != pid, f"worker {worker} was not replaced")
    equal(now, {other: pids[other] for other in now}, "the other workers")


def scenario():
    with Pool("shop", INI, MemoryMax="700M") as pool:
        pool.wait_serving(N)
        killed(pool, at_its_own_limit, "oom-worker", signal.SIGKILL, True)
        killed(pool, by_hand, "signal", signal.SIGKILL, False)
        killed(pool, at_the_limit_of_the_pool, "oom-pool", signal.SIGKILL, True)
        killed(pool, by_a_crash, "signal", signal.SIGSEGV, False)
        equal(len(pool.records("exit")), 4, "exits in all")
    return "4 causes told apart"
