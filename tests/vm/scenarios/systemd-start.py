"""Started by systemd from the packaged unit: READY comes with the first worker that is ready, four
workers answer from their own cgroups, the journal has every step, `systemctl reload` replaces them
without a failed request, and a stop leaves nothing."""
import re

from vmtest import Load, Pool, ask_each, check, equal, note, run
from vmtest.journal import MICROSECONDS, number, seconds

TIMEOUT = 300  # a reload asks gunicorn for its settings, which takes half a minute here
ADDRESS = ("127.0.0.1", 8000)
N = 4

INI = f"""
[pool]
gunicorn = -k gthread --threads 4 light:app
chdir = /payload/example
workers = {N}
bind = 127.0.0.1:8000
[restart]
min-gap = 1s
[log]
level = debug
"""


def ready_after_first_worker(pool):
    active = int(pool.show("ActiveEnterTimestampMonotonic")) / MICROSECONDS
    first = pool.wait_record("ready")
    # journald stamps a record when it reads it, systemd the unit when it reads READY: both came
    # in order from one process, so half a second is only for the two readers.
    check(seconds(first) <= active + 0.5,
          f"READY at {active:.2f}, the first worker was ready at {seconds(first):.2f}")
    note(f"unit active at {active:.2f} s, workers ready at "
         + ", ".join(f"{seconds(r):.2f}" for r in pool.records("ready")))


def own_cgroups(pool, pids):
    cgroup = pool.cgroup
    equal(len(cgroup.children("worker-")), N, "leaves")
    equal(cgroup.pids(), [], "processes in the pool's own cgroup")
    equal(cgroup.child("supervisor").pids(), [pool.main_pid], "processes in supervisor")
    for worker, pid in pids.items():
        leaf = pool.leaf(worker)
        check(pid in leaf.pids(), f"worker {worker}: {pid} is not in {leaf.pids()}")
        equal(leaf.number("memory.oom.group"), 1, f"memory.oom.group of worker {worker}")
        check(leaf.number("memory.max") is not None, f"worker {worker} has no memory.max")
        check(leaf.number("memory.high") is not None, f"worker {worker} has no tripwire")


def journal_has_every_step(pool, pids):
    for worker, pid in pids.items():
        start, = pool.records("start", TRIMTAB_WORKER=worker)
        equal(number(start, "TRIMTAB_PID"), pid, f"pid in the start record of worker {worker}")
        ready, = pool.records("ready", TRIMTAB_WORKER=worker)
        check(number(ready, "TRIMTAB_USEC") > 0, "boot time of a worker")
        check(number(ready, "TRIMTAB_USAGE_BYTES") > 1 << 20, "usage of a worker that is ready")
    check(pool.records("pool"), "no record of the pool's own steps")
    check(pool.records("capability"), "no record of what the host can do")
    ours = [r for r in pool.journal.all() if "TRIMTAB_EVENT" in r]
    for record in ours:
        check(re.fullmatch("[0-9a-f]{32}", record.get("MESSAGE_ID", "")), f"MESSAGE_ID: {record}")
        equal(record.get("TRIMTAB_POOL"), "shop", "TRIMTAB_POOL")
        equal(record.get("_SYSTEMD_UNIT"), pool.name, "_SYSTEMD_UNIT")
    for message_id in {r["MESSAGE_ID"] for r in ours}:
        text = run("journalctl", "--list-catalog", message_id).stdout
        check(message_id in text, f"the catalog does not explain {message_id}")


def workers_speak_under_their_names(pool, pids):
    for worker, pid in pids.items():
        pool.journal.wait(where=lambda r: r.get("SYSLOG_IDENTIFIER") == f"shop/worker-{worker}"
                          and "TRIMTAB_EVENT" not in r, _PID=pid)


def reloaded(pool, pids):
    with Load(ADDRESS) as load:
        run("systemctl", "reload", pool.name)
        for pid in pids.values():
            end = pool.wait_record("exit", TRIMTAB_PID=pid)
            equal(end.get("TRIMTAB_CAUSE"), "asked", "cause of an end by reload")
        now = pool.wait_serving(N)
    load.expect_no_failure()
    equal(set(now.values()) & set(pids.values()), set(), "workers that outlived the reload")
    note(f"requests during the reload: {load}")
    return now


def scenario():
    with Pool("shop", INI, MemoryMax="600M") as pool:
        ready_after_first_worker(pool)
        pids = pool.wait_serving(N)
        answered = ask_each(ADDRESS, "/sleep?s=0.5", N)
        equal({r["worker"]: pid for pid, r in answered.items()}, pids, "who answered")
        own_cgroups(pool, pids)
        journal_has_every_step(pool, pids)
        workers_speak_under_their_names(pool, pids)
        check(pool.show("StatusText"), "systemctl status shows no text")
        pids = reloaded(pool, pids)
        cgroup = pool.cgroup
        run("systemctl", "stop", pool.name)
        equal(pool.show("Result"), "success", "result of the unit")
        check(not cgroup.exists(), "the stop left the cgroup")
        for worker, pid in pids.items():
            end = pool.wait_record("exit", TRIMTAB_PID=pid)
            equal(end.get("TRIMTAB_CAUSE"), "asked", f"cause of worker {worker}'s end")
    return f"{N} workers"
