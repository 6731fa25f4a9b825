"""An idle pool under full control leaves its supervisor asleep: no wakeup in half a minute, the
watchdogs aside, and less than 2 MiB of memory."""
import os
import time

from vmtest import Pool, check

TIMEOUT = 240
SECONDS = 30

INI = """
[pool]
gunicorn = -k gthread --threads 4 --timeout 0 light:app
chdir = /payload/example
workers = 4
bind = 127.0.0.1:8000
"""


def wakeups(pid):
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/status") as f:
            total += sum(int(line.split()[1]) for line in f
                         if line.startswith("voluntary_ctxt_switches"))
    return total


def pss(pid):
    with open(f"/proc/{pid}/smaps_rollup") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("Pss:"))


def scenario():
    with Pool("shop", INI, WatchdogSec="0") as pool:
        pool.wait_serving(4)
        pid = pool.status()["pool"]["supervisor_pid"]
        # What follows a start (first samples, a first trim plan) is over when it slept once.
        for _ in range(10):
            before = wakeups(pid)
            time.sleep(SECONDS)  # nothing is to happen: that is what is measured
            woken = wakeups(pid) - before
            if woken == 0:
                break
        check(woken == 0, f"{woken} wakeups in {SECONDS} s")
        kib = pss(pid)
        check(kib < 2048, f"{kib} KiB")
    return f"0 wakeups in {SECONDS} s, {kib / 1024:.1f} MiB PSS"
