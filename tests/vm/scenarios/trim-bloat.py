"""A worker whose heap grows request by request, and keeps what each has freed, is trimmed: its
memory falls by more than half, the record has the figures, it is the same process, and no request
fails."""
from vmtest import Load, Pool, ask, check, equal, note
from vmtest.journal import number

TIMEOUT = 240
ADDRESS = ("127.0.0.1", 8000)
MIB = 1 << 20

MARK = 100 * MIB

INI = f"""
[pool]
gunicorn = -k gthread --threads 4 light:app
chdir = /payload/example
workers = 1
bind = 127.0.0.1:8000
[memory]
worker-max = 400M
trim-at = {MARK}
[trim]
interval = 3s..6s
"""


def halved(record):
    return int(record.get("TRIMTAB_AFTER_BYTES", 1)) * 2 < int(record.get("TRIMTAB_BEFORE_BYTES", 0))


def scenario():
    with Pool("shop", INI, MemoryMax="600M") as pool:
        pid = pool.wait_serving(1)[1]
        leaf = pool.leaf(1)
        with Load(ADDRESS, pause=0.3) as load:
            # A few MiB a second: had it been a leak, there would still be time to see. No further
            # once it is above its mark, so that what the trim gave back stays given back.
            for mb in range(10, 200, 10):
                equal(ask(ADDRESS, f"/fragment?mb={mb}")["pid"], pid, "who answered")
                if leaf.number("memory.current") > MARK:
                    break
                load.wait_more(10)
            # The leaf's own figures; what the request of that moment adds comes after.
            record = pool.wait_record("trim", where=halved)
        load.expect_no_failure()
        before, after = (number(record, f"TRIMTAB_{when}_BYTES") for when in ("BEFORE", "AFTER"))
        check(before > 90 * MIB, f"before the trim: {before}")
        check(number(record, "TRIMTAB_USEC") > 0, "how long the trim took")
        check(record.get("TRIMTAB_REASON"), "the record has no reason")
        equal(number(record, "TRIMTAB_PID"), pid, "pid in the record")
        equal(number(record, "TRIMTAB_VERIFIED"), 1, "the figures are the leaf's own")
        equal(pool.records("exit"), [], "exits")
        equal(pool.workers()[1]["pid"], pid, "pid of the trimmed worker")
        note(f"{before // MIB} -> {after // MIB} MiB ({record['TRIMTAB_REASON']}),"
             f" {len(pool.records('trim'))} trims in all, requests: {load}")
    return f"{before // MIB} -> {after // MIB} MiB"
