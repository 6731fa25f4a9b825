"""The true cause of a worker's end: a kernel OOM kill at its own limit and one at the pool's are
named as such, with the counters; a plain kill -9 and a crash are not. Each is replaced."""
import os
import signal

from vmtest import Pool, ask, check, equal, note, wait_until
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


def at_its_own_limit(pool, worker, pid):
    """A limit written below what a worker uses makes the kernel kill at once."""
    pool.leaf(worker).write("memory.max", 1 * MIB)


def at_the_limit_of_the_pool(pool, worker, pid):
    # The fattest goes, and one is enough. Reclaim comes first, so the limit must be one that
    # page cache cannot meet.
    wait_until(lambda: ask(ADDRESS, "/leak?mb=64&once=1")["pid"] == pid,
               f"worker {worker} to be asked")
    cgroup = pool.cgroup
    limit = cgroup.read("memory.max")
    cgroup.write("memory.max", cgroup.keyed("memory.stat")["anon"] - 24 * MIB)
    cgroup.write("memory.max", limit)


def by_hand(pool, worker, pid):
    os.kill(pid, signal.SIGKILL)


def by_a_crash(pool, worker, pid):
    os.kill(pid, signal.SIGSEGV)


def killed(pool, how, cause, status, by_kernel):
    pids = pool.wait_serving(N)
    worker = min(pids)
    pid = pids[worker]
    n_ready = len(pool.records("ready", TRIMTAB_WORKER=worker))
    how(pool, worker, pid)
    end = pool.wait_record("exit", TRIMTAB_PID=pid)
    equal(end.get("TRIMTAB_CAUSE"), cause, f"cause of an end {how.__name__}")
    equal(number(end, "TRIMTAB_STATUS"), int(status), f"status of an end {how.__name__}")
    kills = number(end, "TRIMTAB_OOM_KILL")
    check(bool(kills) == by_kernel, f"{how.__name__}: {kills} kernel kills in the record")
    equal(end.get("PRIORITY"), "3", "priority of the record of an unexpected end")
    note(f"{how.__name__.replace('_', ' ')}: {end.get('MESSAGE')}")
    pool.wait_record("ready", TRIMTAB_WORKER=worker, count=n_ready + 1)
    others = {number: other for number, other in pids.items() if number != worker}
    now = pool.wait_serving(N)
    equal({number: now[number] for number in others}, others, "the other workers")
    check(now[worker] != pid, f"worker {worker} was not replaced")


def scenario():
    with Pool("shop", INI, MemoryMax="700M") as pool:
        pool.wait_serving(N)
        killed(pool, at_its_own_limit, "oom-worker", signal.SIGKILL, True)
        killed(pool, by_hand, "signal", signal.SIGKILL, False)
        killed(pool, at_the_limit_of_the_pool, "oom-pool", signal.SIGKILL, True)
        killed(pool, by_a_crash, "signal", signal.SIGSEGV, False)
        equal(len(pool.records("exit")), 4, "exits in all")
    return "4 causes told apart"
