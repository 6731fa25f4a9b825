"""trimtab takes trimtab's place under systemd: same main process, same workers in their leaves, no
request lost; afterwards marks, stalls and kernel kills are still seen, the watchdog is still fed, a
crash, a package's reload and a stop work, and a program that is broken changes nothing."""
import os
import shutil
import signal

from vmtest import Load, Pool, ask, check, equal, note, run, wait_until
from vmtest.journal import number

TIMEOUT = 400
ADDRESS = ("127.0.0.1", 8000)
N = 3
UPGRADES = 4

INI = f"""
[pool]
gunicorn = -k gthread --threads 4 light:app
chdir = /payload/example
workers = {N}
bind = 127.0.0.1:8000
[memory]
worker-max = 120M
trim-at = 60M
spread = 0%
[restart]
min-gap = 1s
min-gap-floor = 1s
[log]
level = debug
"""


def where():
    return shutil.which("trimtab")


def install(make):
    """As a package does: another file, renamed onto the old one."""
    path = where()
    make(path + ".new")
    os.rename(path + ".new", path)


def broken(path):
    with open(path, "w", encoding="ascii") as file:
        file.write("#!/bin/sh\nexit 7\n")
    os.chmod(path, 0o755)


def upgraded(pool, pids, count):
    pool.journal.wait(count=count, TRIMTAB_EVENT="pool", TRIMTAB_STATE="upgraded")
    equal({k: w["pid"] for k, w in pool.workers().items()}, pids, "workers after an upgrade")
    equal(pool.show("ActiveState"), "active", "state of the unit")


def scores(pids):
    found = {}
    for worker, pid in pids.items():
        with open(f"/proc/{pid}/oom_score_adj", encoding="ascii") as file:
            found[worker] = int(file.read())
    return found


def limits(pool):
    return {k: (pool.leaf(k).number("memory.max"), pool.leaf(k).number("memory.oom.group"))
            for k in range(1, N + 1)}


def watchdog_fed(pool):
    return int(pool.show("WatchdogTimestampMonotonic"))


def crossed_mark(pool, worker, pid):
    """What the kernel tells of a leaf reaches the new program: the tripwire is raised, and the
    worker is asked to trim."""
    answer = None
    for _ in range(200):
        answer = ask(ADDRESS, "/leak?mb=70&once=1")
        if answer["pid"] == pid:
            break
    check(answer["pid"] == pid, f"worker {worker} never answered")
    record = pool.wait_record("trim", TRIMTAB_WORKER=worker, TRIMTAB_PID=pid)
    note(f"worker {worker} crossed its mark at {number(record, 'TRIMTAB_BEFORE_BYTES') >> 20} MiB")


def killed_by_the_kernel(pool, pids):
    """memory.events counted from the worker's start, by the program before."""
    leaf = pool.leaf(2)
    leaf.write("memory.high", "max")
    leaf.write("memory.max", "1M")
    end = pool.wait_record("exit", TRIMTAB_PID=pids[2])
    equal(end.get("TRIMTAB_CAUSE"), "oom-worker", "cause")
    wait_until(lambda: pool.workers()[2]["state"] == "serving" and
               pool.workers()[2]["pid"] != pids[2], "worker 2 serves again")


def scenario():
    with Pool("shop", INI, MemoryMax="700M", WatchdogSec="20s") as pool:
        pids = pool.wait_serving(N)
        main, before, scores_before = pool.main_pid, limits(pool), scores(pids)
        wait_until(lambda: all(w["can_trim"] for w in pool.workers().values()), "hellos")
        with Load(ADDRESS) as load:
            for n in range(1, UPGRADES + 1):
                if n % 2:
                    run("systemctl", "kill", "--kill-whom=main", "--signal=USR2", pool.name)
                else:
                    pool.ctl("upgrade")
                upgraded(pool, pids, n)
        load.expect_no_failure()
        note(f"requests during {UPGRADES} upgrades: {load}")
        for record in pool.records("pool", TRIMTAB_STATE="upgraded"):
            note(record["MESSAGE"])
        equal(pool.main_pid, main, "main pid")
        equal(limits(pool), before, "limits of the leaves")
        for worker, pid in pids.items():
            check(pid in pool.leaf(worker).pids(), f"worker {worker} has left its leaf")
        equal(pool.cgroup.child("supervisor").pids(), [main], "processes in supervisor")

        crossed_mark(pool, 1, pids[1])
        killed_by_the_kernel(pool, pids)
        os.kill(pids[3], signal.SIGKILL)
        end = pool.wait_record("exit", TRIMTAB_PID=pids[3])
        equal(end.get("TRIMTAB_CAUSE"), "signal", "cause")
        wait_until(lambda: all(w["state"] == "serving" for w in pool.workers().values()),
                   "all serve again")

        fed = watchdog_fed(pool)
        wait_until(lambda: watchdog_fed(pool) > fed, "the new program feeds the watchdog")

        original = where() + ".original"
        shutil.copy2(where(), original)
        install(broken)
        refused = pool.ctl("upgrade", check=False)
        check("status 7" in refused.stderr, refused.stderr)
        equal(pool.show("ActiveState"), "active", "state of the unit")
        install(lambda path: shutil.copy2(original, path))
        now = {k: w["pid"] for k, w in pool.workers().items()}
        with Load(ADDRESS) as load:
            run("systemctl", "reload", pool.name)
            upgraded_first = pool.journal.wait(count=UPGRADES + 1, TRIMTAB_EVENT="pool",
                                               TRIMTAB_STATE="upgraded")
            for pid in now.values():
                equal(pool.wait_record("exit", TRIMTAB_PID=pid).get("TRIMTAB_CAUSE"), "asked",
                      "cause of an end by reload")
        load.expect_no_failure()
        check(upgraded_first, "the reload did not take the new program")
        # By a new template, which the new program started.
        equal(scores(pool.wait_serving(N)), scores_before, "oom_score_adj of workers")
        equal(pool.main_pid, main, "main pid")
        cgroup = pool.cgroup
        run("systemctl", "stop", pool.name)
        equal(pool.show("Result"), "success", "result of the unit")
        check(not cgroup.exists(), "the stop left the cgroup")
    return f"{UPGRADES} upgrades, {N} workers"
