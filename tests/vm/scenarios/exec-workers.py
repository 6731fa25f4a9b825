"""`trimtab exec` with a worker in plain C that takes LISTEN_FDS and says READY, and a file with
`uvicorn --fd 3`, which says nothing: both serve, are replaced when killed and when asked, and stop."""
import os
import signal

from vmtest import Load, Pool, Unit, ask_each, check, equal, note, run, wait_until
from vmtest.journal import Journal

TIMEOUT = 260
PLAIN = ("127.0.0.1", 8300)
UVICORN = ("127.0.0.1", 8301)
N = 2

INI = f"""
[pool]
command = /usr/bin/uvicorn --fd 3 --app-dir /payload/example asgi:app
workers = {N}
bind = 127.0.0.1:8301
[restart]
min-gap = 1s
; uvicorn never says READY=1, and takes ten seconds to start here
ready-after = 30s
"""


def replaced_when_killed(address, journal):
    pids = set(ask_each(address, "/", N))
    victim = min(pids)
    os.kill(victim, signal.SIGKILL)
    end = journal.wait(TRIMTAB_EVENT="exit", TRIMTAB_PID=victim)
    equal(end.get("TRIMTAB_CAUSE"), "signal", "cause of the killed worker's end")
    journal.wait(TRIMTAB_EVENT="ready", TRIMTAB_WORKER=end["TRIMTAB_WORKER"], count=2)
    now = set(ask_each(address, "/", N))
    check(victim not in now and len(now & pids) == N - 1, f"{pids}, then {now}")


def replaced_when_asked(address, ctl):
    before = set(ask_each(address, "/", N))
    with Load(address, pause=0.05) as load:
        ctl("recycle", "2")
    load.expect_no_failure()
    after = set(ask_each(address, "/", N))
    equal(len(before & after), N - 1, "workers that stayed")
    return load


def plain_c():
    with Journal() as journal, \
            Unit("bare-exec", "/usr/sbin/trimtab", "--set", "pool.name=plain",
                 "--set", "restart.min-gap=1s", "exec", "-w", str(N), "-b", "127.0.0.1:8300",
                 "--", "/payload/plain-worker",
                 Type="notify", Delegate="yes", KillMode="mixed") as unit:
        wait_until(lambda: len(journal.all(TRIMTAB_EVENT="ready", TRIMTAB_POOL="plain")) >= N,
                   "both workers to be ready")
        replaced_when_killed(PLAIN, journal)
        load = replaced_when_asked(PLAIN, lambda *words: run("trimtabctl", "-n", "plain", *words))
        run("trimtabctl", "-n", "plain", "stop")
        wait_until(lambda: unit.show("ActiveState") != "active", "the unit to end after stop")
        equal(unit.show("Result"), "success", "result of the unit")
    return load


def uvicorn():
    with Pool("api", INI) as pool:
        pool.wait_serving(N)
        replaced_when_killed(UVICORN, pool.journal)
        return replaced_when_asked(UVICORN, pool.ctl)


def scenario():
    note(f"plain C: requests while one was replaced: {plain_c()}")
    note(f"uvicorn --fd 3: requests while one was replaced: {uvicorn()}")
    return ""
