"""kill -9 of the supervisor: its workers go with it, systemd starts it again in the same cgroup,
which was left divided into leaves, and the pool serves as before. Twice, since what the second
start finds was left by the first."""
import os
import signal

from vmtest import Pool, ask_each, check, equal, note, run, wait_until

TIMEOUT = 300
ADDRESS = ("127.0.0.1", 8000)
N = 2

INI = f"""
[pool]
gunicorn = -k gthread --threads 4 light:app
chdir = /payload/example
workers = {N}
bind = 127.0.0.1:8000
"""


def killed(pool, round_number):
    before = pool.wait_serving(N)
    supervisor = pool.main_pid
    enabled = pool.cgroup.read("cgroup.subtree_control").split()
    check("memory" in enabled, f"the unit's cgroup hands down {enabled}")
    os.kill(supervisor, signal.SIGKILL)
    wait_until(lambda: pool.show("NRestarts") == str(round_number), "a restart by systemd")
    wait_until(lambda: pool.show("ActiveState") in ("active", "failed"), "the end of the start")
    equal(pool.show("ActiveState"), "active", "the unit")
    check(pool.main_pid != supervisor, "the main process is still the old one")
    now = pool.wait_serving(N)
    equal(set(now.values()) & set(before.values()), set(), "workers that outlived the supervisor")
    for pid in before.values():
        check(not os.path.exists(f"/proc/{pid}"), f"the old worker {pid} still runs")
    answered = ask_each(ADDRESS, "/sleep?s=0.5", N)
    equal({r["worker"]: pid for pid, r in answered.items()}, now, "who answers")
    cgroup = pool.cgroup
    equal(len(cgroup.children("worker-")), N, "leaves")
    equal(cgroup.child("supervisor").pids(), [pool.main_pid], "processes in supervisor")
    for worker, pid in now.items():
        equal(pool.leaf(worker).number("memory.oom.group"), 1, f"memory.oom.group of {worker}")
        check(pid in pool.leaf(worker).pids(), f"worker {worker} is not in its leaf")
    note(f"restart {round_number}: {pool.show('Result')}, workers {now}")


def scenario():
    with Pool("shop", INI, MemoryMax="400M", RestartSec="100ms") as pool:
        for round_number in 1, 2:
            killed(pool, round_number)
        cgroup = pool.cgroup
        run("systemctl", "stop", pool.name)
        check(not cgroup.exists(), "the stop left the cgroup")
    return f"{N} workers, twice"
