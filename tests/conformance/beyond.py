"""What gunicorn does not do, 54 to 61: each must fail there."""
import contextlib
import http.client
import os
import signal

from pools import Load, descriptors, own_cgroup, until
from servers import is_alive
from start_stop import backlog_of
from trial import NEVER, NO_CONTROL, behaviour


@behaviour(54, "HUP with an application that does not load keeps the old workers", gunicorn=NEVER)
def broken_deploy(t):
    t.write("shop.py", "def app(e, s):\n    s('200 OK', [])\n    return [b'old']\n")
    for words in ((), ("--preload",)) if t.is_trimtab else ((),):
        server = t.started(2, *words, app="shop:app")
        before = server.workers()
        t.write("shop.py", "raise RuntimeError('out of paper')\n")
        server.send(signal.SIGHUP)
        server.wait_text("out of paper")
        if not t.is_trimtab:
            t.check(server.wait_exit() == 0, "the whole server ended")
        t.equal(server.get().text, "old")
        t.equal(server.workers(), before, "workers")
        t.write("shop.py", "def app(e, s):\n    s('200 OK', [])\n    return [b'old']\n")


SLOW_BOOT = '''
def post_worker_init(worker):
    import time
    time.sleep(0.3)  # what booting costs an application; nothing waits for it
    note("init", os.getpid())
def worker_exit(server, worker): note("leave", os.getpid())
'''


@behaviour(55, "max_requests and HUP: never more than one worker of three is not accepting",
           gunicorn=NEVER)
def never_together(t):
    server = t.started(3, "-k", "sync", "--max-requests", "20", hooks=SLOW_BOOT)
    with Load(server.address, n_clients=3) as load:
        until(lambda: len(server.notes("leave")) >= 6 or server.has_ended(), "two rounds")
        before = server.workers()
        server.send(signal.SIGHUP)
        until(lambda: not server.workers() & before and len(server.workers()) >= 3, "fresh workers")
    t.equal(load.failures, [], "failures")
    accepting, least = 0, 3
    started = False
    for word, _ in server.notes():
        accepting += {"init": 1, "leave": -1}.get(word, 0)
        started = started or accepting == 3
        least = min(least, accepting) if started else least
    t.check(least >= 2, f"only {least} of 3 were accepting")


@behaviour(56, "a worker that dies as it starts is started ever more slowly", gunicorn=NEVER)
def back_off(t):
    # It boots, and is gone at once: gunicorn has it back within milliseconds.
    t.write("gone.py", "import os, threading\nfrom app import note\nnote('start', os.getpid())\n"
                       "os._exit(0)\n")
    server = t.start(app="gone:app")
    until(lambda: len(server.notes("start")) >= 4 or server.has_ended(), "four starts")
    t.check(not server.has_ended(), server.text())
    times = server.times("start")
    waits = [later - earlier for earlier, later in zip(times, times[1:])]
    # 1.5, 2.25, 3.4 s by the rule; a slow machine only adds to them.
    t.check(all(wait > least for wait, least in zip(waits, (1.4, 2.1, 3.2))), f"waits of {waits} s")


@behaviour(57, "TERM serves what waits in the backlog", gunicorn=NEVER)
def backlog_served(t):
    server = t.started(1, "-k", "sync")
    address = server.address
    first, let_go, _ = server.hold()
    queued = [server.ask("/") for _ in range(40)]
    until(lambda: queue_of(address[1]) >= 40, "a queue")
    server.send(signal.SIGTERM)
    server.wait_text("(?i)handling signal: (sig)?term")
    let_go()
    t.equal(first.result().status, 200)
    answers = [future.exception() or future.result().status for future in queued]
    t.equal(answers, [200] * 40, "queued requests")
    t.equal(server.wait_exit(), 0)


def queue_of(port):
    """Connections that wait to be accepted."""
    with open("/proc/net/tcp", encoding="ascii") as file:
        for line in file:
            fields = line.split()
            if fields[3] == "0A" and fields[1].endswith(":%04X" % port):
                return int(fields[4].partition(":")[2], 16)
    return 0


@behaviour(58, "a draining worker does not hold its slot", gunicorn=NEVER)
def slot_is_free(t):
    # gunicorn 24 and later block for graceful_timeout at a HUP.
    server = t.started(1, "-k", "sync", "--graceful-timeout", "600" if t.is_trimtab else "1")
    _, let_go, old = server.hold()
    server.send(signal.SIGHUP)
    server.wait_note("init", 2)
    fresh = server.watch((server.workers() - {old}).pop())
    until(lambda: server.get().text == str(fresh.pid), "the fresh one serves")
    fresh.kill()
    fresh.wait_gone()
    if t.is_trimtab:
        server.wait_note("init", 3)
    for n in range(1, 4):  # turns of the master's loop
        server.send(signal.SIGUSR1)
        server.wait_text("(?i)handling signal: (sig)?usr1", n)
    t.check(is_alive(old), "the old one did not drain")
    t.check(len(server.notes("fork")) >= 3, "nobody is started while the old one drains")
    let_go()


@behaviour(59, "the backlog survives ASGI workers", gunicorn=lambda version: version < (24,))
def asgi_backlog(t):
    kind = "asgi" if t.version >= (24,) else "uvicorn.workers.UvicornWorker"
    server = t.started(1, "-k", kind, "--backlog", "37", app="app:asgi")
    t.equal(server.get().status, 200)
    t.equal(backlog_of("-t", "sport", "=", ":%d" % server.address[1]), 37)


@behaviour(60, "orphaned uvicorn workers die with the master", gunicorn=NEVER)
def uvicorn_orphans(t):
    server = t.started(1, "-k", "uvicorn.workers.UvicornWorker", "-t", "1", app="app:asgi")
    worker = server.watch(server.workers().pop())
    if t.is_trimtab:
        server.process.kill()
        worker.wait_gone()
        return
    # It goes on beating, and with each beat it could look for its parent.
    number = next(number for number, target in descriptors(worker.pid).items()
                  if "wgunicorn-" in target)
    server.process.kill()
    server.process.wait()
    beats = set()

    def beat():
        with contextlib.suppress(OSError):
            beats.add(os.stat(f"/proc/{worker.pid}/fd/{number}").st_ctime_ns)
        return worker.is_gone() or len(beats) > 3
    until(beat, "it goes, or beats thrice more")
    t.check(worker.is_gone(), "it lives on")


def no_memory_controller():
    own = own_cgroup()
    with contextlib.suppress(OSError):
        with open(f"{own}/cgroup.controllers", encoding="ascii") as file:
            if "memory" in file.read().split():
                return None
    return "no memory controller of cgroup v2 here; tests/run vm oom-attribution shows it"


@behaviour(61, "a kernel's memory kill is named as one, with the counters", gunicorn=NO_CONTROL,
           needs=no_memory_controller)
def oom_is_named(t):
    server = t.started(1, sets=("memory.worker-max=64M", "trim.mode=off"), hooks="""
def pre_request(worker, req):
    if req.path == "/eat":
        worker.eaten = bytearray(1 << 30)
""")
    pid = server.workers().pop()
    with contextlib.suppress(OSError, http.client.HTTPException):
        server.get("/eat")
    server.wait_workers(1, other_than={pid})
    record = server.records("exit")[0]
    t.equal(record["TRIMTAB_CAUSE"], "oom-worker")
    t.check(int(record["TRIMTAB_OOM_KILL"]) > 0, record)
