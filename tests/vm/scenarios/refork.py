"""A worker that has made 60 MiB becomes the next template: workers that come later have them at no
charge, and the leaf that goes on being charged for them is gone from the count of any worker."""
from vmtest import Load, Pool, ask, check, equal, note, wait_until

TIMEOUT = 300
ADDRESS = ("127.0.0.1", 8000)
MIB = 1 << 20

INI = """
[pool]
gunicorn = lazy:app
chdir = /payload/lib/apps
workers = 2
bind = 127.0.0.1:8000
refork-after = 100
[memory]
worker-max = 120M
[restart]
min-gap = 1s
min-gap-floor = 1s
"""


def answer_of(pid):
    answer = ask(ADDRESS)
    return answer if answer["pid"] == pid else None


def charged(pool, worker):
    name = next(w["cgroup"] for w in pool.status()["workers"] if w["worker"] == worker)
    return pool.cgroup.child(name).number("memory.current")


def warm_template(pool):
    ask(ADDRESS)
    return pool.status()["pool"]["template"]["forked_by_worker"]


def scenario():
    with Pool("shop", INI, MemoryMax="400M") as pool:
        pids = pool.wait_serving(2)
        for worker in pids:
            wait_until(lambda w=worker: answer_of(pids[w]), f"worker {worker} to answer")
        alone = min(charged(pool, worker) for worker in pids)
        check(alone > 60 * MIB, f"a worker's own: {alone / MIB:.1f} MiB")
        with Load(ADDRESS) as load:
            origin = wait_until(lambda: warm_template(pool), "a worker's child to be the template")
            pool.wait_record("exit", TRIMTAB_PID=pids[origin])
            other = 3 - origin
            pool.ctl("recycle", str(other))
            pool.wait_record("exit", TRIMTAB_PID=pids[other])
            now = pool.wait_serving(2)
            for worker in now:
                answer = wait_until(lambda w=worker: answer_of(now[w]), f"worker {worker} to answer")
                equal(answer["made_by"], pids[origin], "the process that made what it has")
            load.wait_more(50)
        load.expect_no_failure()
        shared = max(charged(pool, worker) for worker in now)
        check(shared < 25 * MIB, f"a later worker's own: {shared / MIB:.1f} MiB")
        names = pool.cgroup.children("worker-")
        note(f"leaves: {names}")
        whole = pool.cgroup.number("memory.current")
        check(whole < 200 * MIB, f"the pool's: {whole / MIB:.1f} MiB")
        equal(pool.records("problem"), [], "problems")
    return f"{alone / MIB:.0f} MiB of each worker before, {shared / MIB:.0f} after"
