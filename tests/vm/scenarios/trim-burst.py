"""One request that fills the heap by half the worker's limit in a second, and frees it: a burst is
no leak, so the worker is trimmed once it is over, not replaced, and no request fails."""
from vmtest import Load, Pool, ask, check, equal, note
from vmtest.journal import number

TIMEOUT = 240
ADDRESS = ("127.0.0.1", 8000)
MIB = 1 << 20

INI = """
[pool]
gunicorn = -k gthread --threads 4 light:app
chdir = /payload/example
workers = 2
bind = 127.0.0.1:8000
[memory]
worker-max = 320M
trim-at = 30%
[trim]
interval = 3s..6s
"""


def halved(record):
    return int(record.get("TRIMTAB_AFTER_BYTES", 1)) * 2 < int(record.get("TRIMTAB_BEFORE_BYTES", 0))


def scenario():
    with Pool("shop", INI, MemoryMax="800M") as pool:
        pids = pool.wait_serving(2)
        with Load(ADDRESS) as load:
            worker = ask(ADDRESS, "/fragment?mb=160")["worker"]
            # It crosses its mark while it still grows, and a trim then finds nothing to give
            # back; the one that counts comes after.
            record = pool.wait_record("trim", TRIMTAB_WORKER=worker, where=halved)
            now = pool.leaf(worker).number("memory.current")
        load.expect_no_failure()
        equal(pool.records("exit"), [], "exits")
        equal(pool.wait_serving(2), pids, "pids of the workers")
        before, after = (number(record, f"TRIMTAB_{when}_BYTES") for when in ("BEFORE", "AFTER"))
        check(now * 2 < before, f"memory.current is {now} after a trim from {before}")
        trims = len(pool.records("trim", TRIMTAB_WORKER=worker))
        note(f"{trims} trims until it helped ({record['TRIMTAB_REASON']}), requests: {load}")
    return f"{before // MIB} -> {after // MIB} MiB"
