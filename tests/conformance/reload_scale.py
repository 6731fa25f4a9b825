"""Reload, scaling, logs, the signals: behaviours 17 to 34."""
import os
import signal

from pools import descriptors, get, until
from servers import HOOKS, is_alive
from start_stop import refuses
from trial import NEVER, NO_CONTROL, behaviour


@behaviour(17, "HUP: as many fresh workers, still serving, the same master")
def hup(t):
    server = t.started(2)
    before = server.workers()
    server.send(signal.SIGHUP)
    after = server.wait_workers(2, other_than=before)
    t.check(int(server.get().text) in after, "answered by an old one")
    t.check(not server.has_ended(), "the master ended")


@behaviour(18, "HUP: new workers are there before old ones go")
def spawn_first(t):
    # pre_fork is the master's with gunicorn: what a new worker notes itself may be noted late.
    server = t.started(2, hooks="def pre_fork(server, worker): note('before', 0)\n")
    before = server.workers()
    server.send(signal.SIGHUP)
    server.wait_workers(2, other_than=before)
    words = [note[0] for note in server.notes() if note[0] in ("before", "exit")]
    t.check(words.index("exit") > 2, f"an old one went before a new one came: {words}")


@behaviour(19, "the log says which signal was handled")
def signal_is_named(t):
    server = t.started(1)
    for name in ("hup", "ttin", "ttou", "usr1", "term"):
        server.send(getattr(signal, "SIG" + name.upper()))
        server.wait_text(f"(?i)handling signal: (sig)?{name}")
    t.equal(server.wait_exit(), 0)


def reconfigured(t, server, text, n_workers=None):
    """Changes the configuration file and has it read: until fresh workers serve with it."""
    before = server.workers()
    t.write("hooks.py", HOOKS + text)
    server.send(signal.SIGHUP)
    return server.wait_workers(n_workers or len(before), other_than=before)


@behaviour(20, "HUP reads the file, the environment it sets and the number of workers again")
def reread(t):
    # Not -w: an argument would win over the file.
    server = t.start(hooks="workers = 1\nraw_env = ['COLOUR=red', 'SHAPE=round']\n")
    server.wait_workers(1)
    t.equal(server.get("/env").json.get("COLOUR"), "red")
    reconfigured(t, server, "workers = 3\nraw_env = ['COLOUR=blue']\n", 3)
    seen = server.get("/env").json
    t.equal((seen.get("COLOUR"), seen.get("SHAPE")), ("blue", None), "raw_env")
    # The number that TTIN made is forgotten.
    server.send(signal.SIGTTIN)
    server.wait_workers(4)
    reconfigured(t, server, "workers = 2\n", 2)


LOG_REQUESTS = """
def pre_request(worker, req): worker.log.debug("asked for %s", req.path)
loglevel = """


@behaviour(21, "HUP applies another log level", gunicorn=(26, 1))
def log_level(t):
    server = t.started(1, hooks=LOG_REQUESTS + "'info'\n")
    server.get("/one")
    t.check("asked for" not in server.text(), "it is debug already")
    reconfigured(t, server, LOG_REQUESTS + "'debug'\n")
    server.get("/two")
    if t.is_trimtab:  # which passes on what workers write by a way of its own
        until(lambda: "asked for /two" in server.text(), "its line")
    server.send(signal.SIGUSR1)  # what the worker wrote before has come by then
    server.wait_text("(?i)handling signal: (sig)?usr1")
    t.check("asked for /two" in server.text(), "the old level goes on")


@behaviour(22, "HUP with a broken logging configuration keeps the old one and the server")
def broken_log_config(t):
    server = t.started(1)
    before = server.workers()
    t.write("hooks.py", HOOKS + "logconfig_dict = {'version': 1, 'formatters': 7}\n")
    server.send(signal.SIGHUP)
    # The old workers go on, or new ones with the old configuration have taken over.
    if t.is_trimtab:
        server.wait_text("reload failed")
    else:
        server.wait_workers(1, other_than=before)
    t.check(not server.has_ended(), "the master ended")
    t.equal(server.get().status, 200)
    t.equal(server.stop(), 0)


@behaviour(23, "repeated reloads do not write log lines twice")
def no_double_lines(t):
    server = t.started(1, "--access-logfile", t.path("access.log"))
    for _ in range(3):
        before = server.workers()
        server.send(signal.SIGHUP)
        server.wait_workers(1, other_than=before)
    server.get("/only-once")
    until(lambda: "/only-once" in t.read("access.log"), "its line")
    t.equal(server.stop(), 0)
    t.equal(t.read("access.log").count("/only-once"), 1, "lines")


def n_threads(pid):
    return len(os.listdir(f"/proc/{pid}/task"))


@behaviour(24, "ten reloads leak neither descriptors nor threads")
def no_leaks(t):
    server = t.started(1)

    def settle():
        before = server.workers()
        server.send(signal.SIGHUP)
        server.wait_workers(1, other_than=before)
        until(lambda: len(descriptors(server.pid)) <= first, "descriptors are closed")

    first = 10000
    settle()
    first, threads = len(descriptors(server.pid)), n_threads(server.pid)
    for _ in range(10):
        settle()
    t.check(n_threads(server.pid) <= threads, "threads are left")


@behaviour(25, "HUP with another bind listens there, and no longer where it did")
def rebind(t):
    paths = [t.path(name) for name in ("one.sock", "two.sock")]
    server = t.start(bind=None, hooks=f"bind = 'unix:{paths[0]}'\n")
    server.wait_workers(1)
    t.equal(get(paths[0]).status, 200)
    reconfigured(t, server, f"bind = 'unix:{paths[1]}'\n")
    t.equal(get(paths[1]).status, 200)
    until(lambda: refuses(paths[0]), "nobody listens at the old address")
    if t.is_trimtab:  # gunicorn leaves the file there, and nobody behind it
        until(lambda: not os.path.exists(paths[0]), "it is removed")
    t.equal(server.stop(), 0)
    t.check(not os.path.exists(paths[1]), "the path is left")


@behaviour(26, "HUP writes the pidfile anew")
def pidfile_rewritten(t):
    path = t.path("server.pid")
    server = t.started(1, "-p", path)
    t.equal(t.read("server.pid").strip(), str(server.pid))
    os.unlink(path)
    before = server.workers()
    server.send(signal.SIGHUP)
    server.wait_workers(1, other_than=before)
    t.equal(t.read("server.pid").strip(), str(server.pid))
    t.equal(server.stop(), 0)
    t.check(not os.path.exists(path), "it is left")


COUNT_TERMS = '''
import signal
def post_worker_init(worker):
    behind = signal.getsignal(signal.SIGTERM)
    def on_term(number, frame):
        note("term", worker.pid)
        behind(number, frame)
    signal.signal(signal.SIGTERM, on_term)
    note("init", os.getpid())
'''


@behaviour(27, "an old worker gets one TERM and no more", gunicorn=NEVER)
def one_term(t):
    # gunicorn 24 and later block for graceful_timeout at a HUP.
    server = t.started(1, "-k", "sync", "--graceful-timeout", "600" if t.is_trimtab else "1",
                       hooks=COUNT_TERMS)
    _, let_go, old = server.hold()
    server.send(signal.SIGHUP)
    server.wait_note("term")
    # Turns of the master's loop while the old one is busy: each is a chance to repeat it.
    for n in range(1, 4):
        server.send(signal.SIGUSR1)
        server.wait_text("(?i)handling signal: (sig)?usr1", n)
    let_go()
    until(lambda: not is_alive(old), "the old worker ends")
    t.equal(server.pids("term").count(old), 1, "TERMs")


@behaviour(28, "TTIN adds one, several add up; TTOU takes one, never the last",
           differs="the worker with the highest number goes, not the oldest: numbers, cgroups and "
                   "metrics of the others stay as they are")
def scaling(t):
    server = t.started(1)
    first = server.workers()
    for n in (2, 3):
        server.send(signal.SIGTTIN)
        server.wait_workers(n)
    newest = server.pids("init")[-1]
    server.send(signal.SIGTTOU)
    left = server.wait_workers(2)
    if t.is_trimtab:
        t.check(newest not in left, "the newest stays")
    else:
        t.check(not first & left, "the oldest stays")
    server.send(signal.SIGTTOU)
    last = server.wait_workers(1)
    server.send(signal.SIGTTOU)
    server.send(signal.SIGUSR1)
    server.wait_text("(?i)handling signal: (sig)?usr1")
    t.equal(server.workers(), last, "after one TTOU too many")
    t.equal(server.get().text, str(last.pop()))


@behaviour(29, "USR1 reopens the logs; workers survive it")
def usr1(t):
    server = t.started(2, "--access-logfile", t.path("access.log"))
    before = server.workers()
    server.get("/first")
    until(lambda: "/first" in t.read("access.log"), "a line")
    os.rename(t.path("access.log"), t.path("access.log.1"))
    server.send(signal.SIGUSR1)
    until(lambda: server.get("/second") and os.path.exists(t.path("access.log")) and
          "/second" in t.read("access.log"), "a new file")
    t.equal(server.workers(), before, "workers")


@behaviour(30, "WINCH is ignored in the foreground")
def winch(t):
    server = t.started(1)
    before = server.workers()
    server.send(signal.SIGWINCH)
    server.send(signal.SIGTTIN)
    server.wait_workers(2)
    t.check(before <= server.workers(), "a worker went")


@behaviour(31, "each signal is served, pending ones together too; a foreign one changes nothing")
def all_signals(t):
    server = t.started(1)
    before = server.workers()
    # All pending before the first is looked at. (SIGCONT would drop TTIN and TTOU.)
    server.send(signal.SIGSTOP)
    for number in (signal.SIGUSR1, signal.SIGHUP, signal.SIGCHLD, signal.SIGPIPE):
        server.send(number)
    server.send(signal.SIGCONT)
    for name in ("usr1", "hup"):
        server.wait_text(f"(?i)handling signal: (sig)?{name}")
    after = server.wait_workers(1, other_than=before)
    t.equal(server.get().text, str(after.pop()))
    for number in (signal.SIGTTIN, signal.SIGUSR1, signal.SIGTTIN, signal.SIGTTOU):
        server.send(number)
    for name in ("ttin", "ttou"):
        server.wait_text(f"(?i)handling signal: (sig)?{name}")
    t.equal(server.stop(signal.SIGQUIT), 0)


IN_PLACE = "in place: the same process and its workers go on, and there is nothing to end"


@behaviour(32, "USR2: the version that is installed now goes on with the same sockets",
           gunicorn=NO_CONTROL, differs=IN_PLACE)
def usr2(t):
    server = t.started(2)
    before, address = server.workers(), server.address
    server.send(signal.SIGUSR2)
    server.wait_text("took the place of")
    t.equal(server.workers(), before, "workers")
    t.check(int(server.get(address=address).text) in before, "answered by another")
    t.check(not server.has_ended(), "the process ended")
    t.equal(server.stop(), 0)


@behaviour(33, "a second USR2 meanwhile does no harm", gunicorn=NO_CONTROL, differs=IN_PLACE)
def usr2_twice(t):
    server = t.started(1)
    before = server.workers()
    for count in range(1, 4):
        server.send(signal.SIGUSR2)
        server.wait_text("(?i)handling signal: sigusr2", count)
    server.wait_text("took the place of")
    t.equal(server.workers(), before, "workers")
    t.equal(server.stop(), 0)


@behaviour(34, "the pidfile during and after an upgrade", gunicorn=NO_CONTROL, differs=IN_PLACE)
def usr2_pidfile(t):
    path = t.path("pidfile")
    server = t.started(1, "-p", path)
    before = t.read("pidfile")
    server.send(signal.SIGUSR2)
    server.wait_text("took the place of")
    t.equal(t.read("pidfile"), before, "pidfile")
    t.check(not os.path.exists(path + ".2"), "there is a second pidfile")
    t.equal(server.stop(), 0)
    t.check(not os.path.exists(path), "the pidfile was left")
