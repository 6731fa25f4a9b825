"""Supervision: behaviours 35 to 47."""
import os
import re
import signal
import sys

from pools import children, descriptors, stat_fields, until
from servers import Keeper, is_cut
from trial import behaviour

CHILD_EXIT = '''
def child_exit(server, worker): note("child", worker.pid)
'''


@behaviour(35, "a worker that ended is replaced, child_exit is called, nothing of it stays open")
def replaced(t):
    server = t.started(1, hooks=CHILD_EXIT)
    old = server.workers().pop()
    before = len(descriptors(server.pid))
    os.kill(old, signal.SIGTERM)
    new = server.wait_workers(1, other_than={old})
    t.equal(server.wait_note("child"), old, "child_exit of")
    t.equal(server.get().text, str(new.pop()))
    until(lambda: len(descriptors(server.pid)) <= before, "its descriptors are closed")


@behaviour(36, "how a worker ended is logged: status, signal, a hint at memory", gunicorn=(24,))
def endings(t):
    server = t.started(1)
    n_settled = 0

    def settle():
        """Until the log has all that came before."""
        nonlocal n_settled
        n_settled += 1
        server.send(signal.SIGUSR1)
        server.wait_text("(?i)handling signal: (sig)?usr1", n_settled)

    for path, pattern in ((f"/raise?{int(signal.SIGKILL)}", r"(?i)SIGKILL.*(memory|\n)"),
                          (f"/raise?{int(signal.SIGSEGV)}", r"(?i)SIG(SEGV)?.*(11|SEGV)|SIGSEGV"),
                          ("/exit?7", r"(?i)(code|status):? 7")):
        before = server.workers()
        server.try_to_get(path)
        server.wait_workers(1, other_than=before)
        settle()
        t.check(re.search(pattern, server.text()), f"nothing like {pattern} is said")
    if t.is_trimtab:
        kill, crash, code = server.records("exit")[:3]
        t.equal([r["PRIORITY"] for r in (kill, crash, code)], ["3"] * 3)
        before = server.workers()
        os.kill(next(iter(before)), signal.SIGTERM)
        server.wait_workers(1, other_than=before)
        settle()
        t.equal(server.records("exit")[3]["PRIORITY"], "6", "TERM by somebody")
        t.check("out-of-memory" in kill["MESSAGE"], kill["MESSAGE"])
        t.equal((crash["TRIMTAB_STATUS"], code["TRIMTAB_STATUS"]), ("11", "7"))
    else:
        t.check("Perhaps out of memory" in server.text(), server.text())


@behaviour(37, "exit 3 at boot and 4 for a missing application end the first start")
def boot_failure(t):
    t.write("raises.py", "raise RuntimeError('out of paper')\n")
    # With one worker: the second failure makes 1 of gunicorn's status, in some runs.
    server = t.start(app="raises:app")
    t.equal(server.wait_exit(), 3)
    server.wait_text("out of paper")
    server = t.start(app="app:nothing_of_the_kind")
    t.equal(server.wait_exit(), 4)


@behaviour(38, "worker_exit runs in the worker")
def worker_exit(t):
    server = t.started(1)
    pid = server.workers().pop()
    t.equal(server.stop(), 0)
    t.equal(server.pids("exit"), [pid])


# A process that adopts its descendants' orphans, as PID 1 does.
SUBREAPER = (sys.executable, "-c",
             "import ctypes, os, sys\n"
             "ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)\n"
             "os.execvp(sys.argv[1], sys.argv[1:])\n")


@behaviour(39, "orphans (PID 1) are reaped quietly, whatever their exit status", gunicorn=(26, 1))
def orphans(t):
    server = t.started(2, launcher=SUBREAPER)
    before = server.workers()
    for status in (3, 4, 0):
        for _ in range(3):
            t.check(server.try_to_get(f"/orphan?{status}"), "an answer is missing")
    server.send(signal.SIGUSR1)  # served after what came before it
    server.wait_text("(?i)handling signal: (sig)?usr1")
    until(lambda: all(stat_fields(pid)[0] != "Z" for pid in children(server.pid)
                      if os.path.exists(f"/proc/{pid}")), "no zombie")
    t.check(not server.has_ended(), server.text())
    t.equal(server.workers(), before, "workers")
    t.equal(server.get().status, 200)


@behaviour(40, "a silent worker gets ABRT, then KILL; timeout = 0 does neither")
def silence(t):
    server = t.started(1, "-k", "sync", "-t", "1")
    answer, _, pid = server.hold()
    t.equal(server.wait_note("abort"), pid, "worker_abort of")
    t.check(is_cut(answer), "answered")
    new = server.wait_workers(1, other_than={pid})
    # Stopped, ABRT stays pending: only KILL ends it.
    stopped = server.watch(new.pop())
    stopped.kill(signal.SIGSTOP)
    stopped.wait_gone()
    server.wait_workers(1, other_than={pid, stopped.pid})

    patient = t.started(1, "-k", "sync", "-t", "0")
    answer, let_go, pid = patient.hold()
    # The other server's worker is found silent a second time meanwhile.
    _, _, silent = server.hold()
    until(lambda: silent in server.pids("abort"), "ABRT of the impatient server's worker")
    let_go()
    t.equal(answer.result().text, str(pid))


@behaviour(41, "the heartbeat is seen from outside and beats in the worker's loop")
def heartbeat(t):
    server = t.started(1, "-k", "gthread", "--threads", "2", "-t", "2")
    pid = server.workers().pop()
    number = next(number for number, target in descriptors(pid).items()
                  if "wgunicorn-" in target)
    changes = {os.stat(f"/proc/{pid}/fd/{number}").st_ctime_ns}
    until(lambda: changes.add(os.stat(f"/proc/{pid}/fd/{number}").st_ctime_ns) or
          len(changes) >= 3, "two beats")


@behaviour(42, "workers leave when the master dies")
def orphaned(t):
    for words in (("-k", "sync", "-t", "2"), ("-k", "gthread", "--threads", "2")):
        server = t.started(2, *words)
        workers = [server.watch(pid) for pid in server.workers()]
        server.process.kill()
        server.process.wait()
        for worker in workers:
            worker.wait_gone()


@behaviour(43, "a killed worker is replaced, the others are left alone")
def killed(t):
    server = t.started(2)
    victim, other = sorted(server.workers())
    os.kill(victim, signal.SIGKILL)
    after = server.wait_workers(2, other_than={victim})
    t.check(other in after, "the other one went too")


@behaviour(44, "a worker that is gone before it is signalled is no error")
def vanished(t):
    server = t.started(3)
    workers = server.workers()
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    server.send(signal.SIGTTOU)  # whom it asks to go may be gone
    server.wait_workers(2, other_than=workers)
    t.equal(server.get().status, 200)
    for pid in server.workers():
        os.kill(pid, signal.SIGKILL)
    t.equal(server.stop(), 0)
    t.check("Traceback" not in server.text(), server.text())


@behaviour(45, "TERM: a running gthread request ends well, keep-alive is closed, nothing new let in")
def drain(t):
    server = t.started(1, "-k", "gthread", "--threads", "2", "--keep-alive", "600")
    address = server.address
    idle = Keeper(address)
    t.at_end(idle.close)
    t.equal(idle.get()[0], 200)
    answer, let_go, _ = server.hold()
    server.send(signal.SIGTERM)
    server.wait_text("(?i)handling signal: (sig)?term")
    t.check(not answer.done(), "the request did not last")
    let_go()
    t.equal(answer.result().status, 200)
    t.check(idle.is_closed(), "keep-alive goes on")
    t.equal(server.wait_exit(), 0)

    # No longer than graceful_timeout.
    server = t.started(1, "-k", "gthread", "--threads", "2", "--graceful-timeout", "1")
    answer, _, _ = server.hold()
    t.equal(server.stop(), 0)
    t.check(is_cut(answer), "the request was finished")


@behaviour(46, "max_requests replaces a worker, jitter alone does not")
def max_requests(t):
    server = t.started(1, "--max-requests", "5", "--max-requests-jitter", "2")
    old = server.workers()
    pids = []
    while len(set(pids)) < 2:
        pids.append(int(server.get().text))
        t.check(len(pids) < 2000, "it is never replaced")
    t.check(pids.count(next(iter(old))) >= 5, f"replaced after {pids}")

    server = t.started(1, "--max-requests-jitter", "1")
    old = server.workers()
    for _ in range(10):
        server.get()
    t.equal(server.workers(), old, "workers")


@behaviour(47, "reload: a change restarts the worker; a syntax error is shown and mended; extra files")
def on_change(t):
    t.write("shop.py", "def app(e, s):\n    s('200 OK', [])\n    return [b'one']\n")
    t.write("extra.txt", "1")
    server = t.start("-w", "1", "--reload", "--reload-engine", "poll",
                     "--reload-extra-file", t.path("extra.txt"), app="shop:app")

    def says(status, text):
        def asks():
            answer = server.try_to_get()  # the restart may cut it off
            if answer and answer.status == status and text in answer.text:
                return True
            touch(t, "shop.py")
            return False
        until(asks, f"{status} {text}")

    says(200, "one")
    t.write("shop.py", "def app(e, s):\n    s('200 OK', [])\n    return [b'two']\n")
    says(200, "two")
    t.write("shop.py", "def app(e, s:\n")
    says(500, "import_module")
    t.write("shop.py", "def app(e, s):\n    s('200 OK', [])\n    return [b'three']\n")
    says(200, "three")
    old = server.workers()
    until(lambda: touch(t, "extra.txt") or not server.workers() & old, "another worker")


def touch(t, name):
    """A later time than ever: the poller may not have seen the file before it changed."""
    info = os.stat(t.path(name))
    os.utime(t.path(name), (info.st_atime, info.st_mtime + 10))
