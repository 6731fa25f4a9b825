"""A worker that leaks slowly is replaced before the kernel would kill it: no OOM kill, no failed
request, and the others stay as they are."""
from vmtest import Load, Pool, ask, check, equal, note
from vmtest.journal import number, seconds

TIMEOUT = 300
ADDRESS = ("127.0.0.1", 8000)
MIB = 1 << 20

INI = """
[pool]
gunicorn = -k gthread --threads 4 light:app
chdir = /payload/example
workers = 2
bind = 127.0.0.1:8000
[memory]
worker-max = 128M
trim-at = 50%
[restart]
min-gap = 20s
"""


def scenario():
    with Pool("shop", INI, MemoryMax="400M") as pool:
        pids = pool.wait_serving(2)
        with Load(ADDRESS) as load:
            leaking = ask(ADDRESS, "/leak?mb=1000&rate=1.5")
            worker, pid = leaking["worker"], leaking["pid"]
            end = pool.wait_record("exit", TRIMTAB_PID=pid, patience=200)
            restart = pool.wait_record("restart", TRIMTAB_WORKER=worker)
            pool.wait_record("ready", TRIMTAB_WORKER=worker, count=2)
        load.expect_no_failure()
        equal(end.get("TRIMTAB_CAUSE"), "asked", "cause of the leaking worker's end")
        equal(number(end, "TRIMTAB_OOM_KILL"), 0, "kernel kills in the exit record")
        equal(pool.cgroup.keyed("memory.events")["oom_kill"], 0, "kernel kills in the pool")
        check(number(restart, "TRIMTAB_USAGE_BYTES") < number(restart, "TRIMTAB_LIMIT_BYTES"),
              "the restart began above the limit")
        now = pool.wait_serving(2)
        check(now.pop(worker) != pid, "the leaking worker is still there")
        pids.pop(worker)
        equal(now, pids, "the other worker")
        note(f"replaced at {number(restart, 'TRIMTAB_USAGE_BYTES') // MIB} of"
             f" {number(restart, 'TRIMTAB_LIMIT_BYTES') // MIB} MiB, growing"
             f" {number(restart, 'TRIMTAB_RATE_BYTES_PER_SEC') / MIB:.2f} MiB/s,"
             f" {restart.get('TRIMTAB_HOW')}; gone {seconds(end) - seconds(restart):.1f} s later;"
             f" requests: {load}")
    return restart.get("TRIMTAB_REASON", "")
