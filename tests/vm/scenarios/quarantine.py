"""A worker in quarantine and the memory of the pool: what is allocated in it (as a debugger that calls
into it would) is charged to its own cgroup. It meets its own limit there, or is ended for the pool's
sake before the pool meets its budget; in neither case is a worker that serves touched."""
import os
import subprocess
import sys

from vmtest import Load, Pool, check, equal, note, wait_until
from vmtest.journal import number

TIMEOUT = 420
ADDRESS = ("127.0.0.1", 8000)
MIB = 1 << 20

INI = """
[pool]
gunicorn = -k gthread --threads 4 hunger:app
chdir = /payload/lib/apps
workers = 2
bind = 127.0.0.1:8000
[memory]
budget = {budget}
worker-max = {limit}
reserve = 0
[restart]
min-gap = 1s
min-gap-floor = 1s
[trim]
mode = off
"""

# Waits to be told, and then holds a MiB more every 50 ms.
HOG = "import sys, time\nsys.stdin.readline()\nheld = []\n" \
      "while True:\n    held.append(b'x' * (1 << 20))\n    time.sleep(0.05)\n"


def leaf_of(pool, pid):
    with open(f"/proc/{pid}/cgroup", encoding="ascii") as file:
        return pool.cgroup.child(os.path.basename(file.read().strip()))


def keep(pool):
    """Has worker 1 kept: its pid and its leaf."""
    pool.ctl("quarantine", "1", "60")
    shown = pool.status()["quarantine"]
    equal(shown["state"], "kept", "the state of the quarantine")
    wait_until(lambda: pool.status()["pool"]["serving"] == 2, "two workers to serve")
    with open(f"/proc/{shown['pid']}/oom_score_adj", encoding="ascii") as file:
        equal(file.read().strip(), "1000", "its oom_score_adj")
    return shown["pid"], leaf_of(pool, shown["pid"])


def fill(leaf):
    """Lets something grow in the leaf until it is killed there; the signal that did it."""
    with subprocess.Popen([sys.executable, "-c", HOG], stdin=subprocess.PIPE) as hog:
        leaf.write("cgroup.procs", hog.pid)
        hog.communicate(b"\n")
        return -hog.returncode


def check_untouched(pool, serving, n_exits):
    equal({n: entry["pid"] for n, entry in pool.workers().items()}, serving, "workers")
    equal(len(pool.records("exit")), n_exits, "exits")
    check(pool.status()["quarantine"] is None, "the quarantine is not over")


def at_its_own_limit():
    ini = INI.format(budget="1G", limit="100M")
    with Pool("shop", ini, MemoryMax="1G") as pool, Load(ADDRESS) as load:
        pool.wait_serving(2)
        pid, leaf = keep(pool)
        serving = {n: entry["pid"] for n, entry in pool.workers().items()}
        equal(leaf.number("memory.max"), 100 * MIB, "its limit")
        equal(fill(leaf), 9, "the signal that ended what grew")
        record = pool.wait_record("exit", TRIMTAB_PID=pid)
        equal(record["TRIMTAB_CAUSE"], "oom-worker", "the cause of its end")
        pool.wait_record("quarantine", TRIMTAB_REASON="it ended by itself")
        check_untouched(pool, serving, 1)
        load.wait_more(5)
        # Its slot has crashed for nobody: it can be asked for again.
        kept, _ = keep(pool)
        check(kept in serving.values(), "another worker was kept")
        pool.ctl("release", "1")
    load.expect_no_failure()


def for_the_pool():
    ini = INI.format(budget="320M", limit="300M")
    with Pool("shop", ini, MemoryMax="320M") as pool, Load(ADDRESS) as load:
        pool.wait_serving(2)
        pid, leaf = keep(pool)
        serving = {n: entry["pid"] for n, entry in pool.workers().items()}
        equal(fill(leaf), 9, "the signal that ended what grew")
        record = pool.wait_record("exit", TRIMTAB_PID=pid)
        equal(record["TRIMTAB_CAUSE"], "asked", "the cause of its end")
        ended = pool.wait_record("quarantine", TRIMTAB_STATE="ended")
        equal(ended["TRIMTAB_REASON"], "the host or container is short of memory", "the reason")
        note(f"ended at {number(ended, 'TRIMTAB_USAGE_BYTES') // MIB} MiB of 300, budget 320")
        equal(pool.cgroup.keyed("memory.events")["oom_kill"], 0, "kernel kills")
        check_untouched(pool, serving, 1)
        load.wait_more(5)
    load.expect_no_failure()
    return ended


def scenario():
    at_its_own_limit()
    ended = for_the_pool()
    return f"killed at its own limit; ended for the pool: {ended['MESSAGE']}"
