"""The memory that the pool may use is changed from outside while it serves, grows and is idle: by
its unit's MemoryMax= and by that of the slice above. trimtab follows at once: budget, workers'
limits and plan; no kernel kill, no failed request."""
import time

from vmtest import Load, Pool, ask_each, check, equal, note, run, wait_until
from vmtest.journal import number, seconds

TIMEOUT = 360
ADDRESS = ("127.0.0.1", 8000)
SLICE = "system-trimtab.slice"
MIB = 1 << 20
N = 4
GAP = 8
# A worker would take nearly three minutes to the first limit, and less than one to the lowered.
GROW = "/grow?mib=4000&rate=1.25&s=0.5"

INI = f"""
[pool]
gunicorn = -k gthread --threads 4 hunger:app
chdir = /payload/lib/apps
workers = {N}
bind = 127.0.0.1:8000
[memory]
reserve = 20%
[restart]
min-gap = {GAP}s
min-gap-floor = {GAP}s
"""


def share(budget):
    return budget * 8 // 10 // N


def change(pool, unit, limit, budget):
    """Sets a MemoryMax= and waits until trimtab has said what it makes of it."""
    asked = time.monotonic()
    run("systemctl", "set-property", "--runtime", unit, f"MemoryMax={limit}")
    written = time.monotonic()
    record = pool.wait_record("pool", TRIMTAB_STATE="limits", TRIMTAB_BUDGET_BYTES=budget,
                              where=lambda r: seconds(r) > asked)
    equal(number(record, "TRIMTAB_WORKER_MAX_BYTES") // MIB, share(budget) // MIB,
          "MiB of a worker's limit")
    equal(pool.status()["pool"]["budget_bytes"], budget, "the budget in the status")
    note(f"{unit}: {limit} followed {seconds(record) - written:+.2f} s after systemd was done")
    return record


def wait_leaf_limits(pool, budget):
    """Until the kernel has the new limits as well. Workers near the old one may be on loan."""
    def followed():
        limits = [entry["limit_bytes"] for entry in pool.workers().values()]
        leaves = [leaf.number("memory.max") for leaf in
                  map(pool.cgroup.child, pool.cgroup.children("worker-")) if leaf.pids()]
        return sorted(limits) == sorted(leaves) and all(limit >= share(budget) // MIB * MIB and
                                        limit <= share(budget) * 3 // 2 for limit in limits)

    wait_until(followed, f"leaves to be limited to about {share(budget) // MIB} MiB")


def scenario():
    with Pool("shop", INI, MemoryMax="1000M") as pool:
        pids = pool.wait_serving(N)
        wait_leaf_limits(pool, 1000 * MIB)
        # Nothing else wakes the supervisor: nobody asks anything of its workers.
        change(pool, pool.name, "800M", 800 * MIB)
        wait_leaf_limits(pool, 800 * MIB)

        with Load(ADDRESS) as load:
            ask_each(ADDRESS, GROW, N)
            load.wait_more(20)
            change(pool, SLICE, "400M", 400 * MIB)
            wait_leaf_limits(pool, 400 * MIB)
            restarts = [pool.wait_record("restart", count=n, patience=200) for n in (1, 2)]
            for record in restarts:
                check(number(record, "TRIMTAB_LIMIT_BYTES") < share(800 * MIB) and
                      number(record, "TRIMTAB_USAGE_BYTES") < share(400 * MIB) * 5 // 4,
                      f"the restart heeds another limit: {record['MESSAGE']}")

            change(pool, SLICE, "infinity", 800 * MIB)
            change(pool, pool.name, "1200M", 1200 * MIB)
            wait_leaf_limits(pool, 1200 * MIB)
            old = [entry for entry in pool.workers().values() if entry["pid"] in pids.values()]
            check(old, "every worker was replaced before the limit was raised")
            # Those that were near the lowered limit live on past it.
            beyond = wait_until(
                lambda: [entry for entry in pool.workers().values()
                         if entry["pid"] in pids.values() and
                         entry["usage_bytes"] > share(400 * MIB) * 5 // 4],
                "a worker to grow past the lowered limit")
            note(f"worker {beyond[0]['worker']} at {beyond[0]['usage_bytes'] // MIB} MiB,"
                 f" its limit was {share(400 * MIB) // MIB}; {load}")
        load.expect_no_failure()
        equal(pool.cgroup.keyed("memory.events")["oom_kill"], 0, "kernel kills")
        equal([r["TRIMTAB_CAUSE"] for r in pool.records("exit")
               if r["TRIMTAB_CAUSE"] != "asked"], [], "causes of exits")
        gaps = [seconds(b) - seconds(a) for a, b in zip(restarts, restarts[1:])]
        check(min(gaps) >= GAP - 1, f"restarts {min(gaps):.1f} s apart")
    return f"4 changes followed; {load}"
