"""A worker whose heap keeps what was freed is trimmed: its memory falls by more than half, the
record has the figures, it is the same process, and no request fails."""
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


def scenario():
    with Pool("shop", INI, MemoryMax="800M") as pool:
        pids = pool.wait_serving(2)
        with Load(ADDRESS) as load:
            bloated = ask(ADDRESS, "/fragment?mb=160")
            worker, pid = bloated["worker"], bloated["pid"]
            leaf = pool.leaf(worker)
            # It crosses the mark while it still grows, and a trim then finds little to give
            # back; the one that counts comes after.
            record = pool.wait_record("trim", TRIMTAB_WORKER=worker, where=lambda r: int(
                r.get("TRIMTAB_AFTER_BYTES", 1)) * 2 < int(r.get("TRIMTAB_BEFORE_BYTES", 0)))
            now = leaf.number("memory.current")
        load.expect_no_failure()
        before, after = (number(record, f"TRIMTAB_{when}_BYTES") for when in ("BEFORE", "AFTER"))
        check(before > 160 * MIB, f"before the trim: {before}")
        check(now * 2 < before, f"memory.current is {now} after a trim that began at {before}")
        check(number(record, "TRIMTAB_USEC") > 0, "how long the trim took")
        check(record.get("TRIMTAB_REASON"), "the record has no reason")
        equal(number(record, "TRIMTAB_PID"), pid, "pid in the record")
        equal(pool.workers()[worker]["pid"], pid, "pid of the trimmed worker")
        equal(pool.wait_serving(2), pids, "pids of the workers")
        equal(pool.records("exit"), [], "exits")
        trims = pool.records("trim", TRIMTAB_WORKER=worker)
        note(f"{before // MIB} -> {after // MIB} MiB ({record['TRIMTAB_REASON']}),"
             f" {len(trims)} trims in all, requests: {load}")
    return f"{before // MIB} -> {after // MIB} MiB"
