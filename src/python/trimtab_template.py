"""Load what gunicorn's workers share once, then fork a worker whenever the supervisor asks.

    trimtab_template.py --preload=server|app [--start|--reload] -- GUNICORN_ARGS...

server: gunicorn's configuration and worker class; app: the application too. What is loaded is
collected, frozen out of the garbage collector's sight and trimmed before the first fork, so that
workers go on sharing it: a collection would otherwise write to every object there is.

--start and --reload say what it is loaded for, which gunicorn's master has hooks for: those are run
here, as are the others of the master's, when the supervisor says that their time has come.

A worker of class sync that has answered enough requests may become the next template (Candidate):
a child of it, forked between two requests, leaves the worker's stack, drops what was the worker's,
and goes on here where this process was. What the worker holds that no fork survives forbids it.

Descriptor TRIMTAB_TEMPLATE is a socket of packets, described in src/process/template.h. A worker
is forked twice: its parent ends at once, so that it becomes the supervisor's child. It is born in
its own cgroup, or enters it before it touches memory. What it is from then on is
trimtab_gunicorn's.

This process must never serve, never have a second thread of its own making (what a thread holds at
the fork is held for ever in the worker), and end when the socket does.
"""
import array
import contextlib
import ctypes
import errno
import fcntl
import gc
import importlib
import logging
import os
import signal
import stat
import sys
import threading
import traceback
from os import fork  # bound now, like the socket: gevent replaces both
from socket import AF_UNIX, CMSG_SPACE, MSG_CMSG_CLOEXEC, MSG_DONTWAIT, MSG_NOSIGNAL, SCM_RIGHTS
from socket import SOCK_SEQPACKET, SOL_SOCKET, socketpair
from socket import socket as Socket

import trimtab_gunicorn as adapter

PACKET_SIZE = 8192
N_FDS_MAX = 4
DEATH_SIGNAL = adapter.parent_death_signal()
LIBC = ctypes.CDLL(None)  # once: each is a class of its own, built of memory that workers share
ADOPT = getattr(LIBC, "trimtab_preload_adopt", None)  # where the preload library is loaded

# What worker classes import when they begin to serve, by the module they come from.
IMPORTED_LATE = {
    "gunicorn.workers.gthread": ("concurrent.futures.thread",),
    "uvicorn.workers": ("uvicorn.loops.auto", "uvicorn.lifespan.on",
                        "uvicorn.protocols.http.auto", "uvicorn.protocols.websockets.auto"),
}


def main(arguments):
    options = arguments[:arguments.index("--")] if "--" in arguments else []
    if not options or options[0] not in ("--preload=server", "--preload=app") or \
            not set(options[1:]) <= {"--start", "--reload"}:
        print("usage: trimtab_template.py --preload=server|app [--start|--reload] -- "
              "GUNICORN_ARGS...", file=sys.stderr)
        return 2
    supervisor = Socket(fileno=int(os.environ.pop("TRIMTAB_TEMPLATE")))
    supervisor.set_inheritable(False)
    adapter.dump_stacks_at_the_end()
    adapter.leave_no_trace(arguments[len(options) + 1:])
    # multiprocessing's spawn and forkserver run it anew in each child, where our imports fail.
    del sys.modules["__main__"].__file__
    try:
        app = load(with_application=options[0] == "--preload=app")
    except SystemExit:
        raise
    except Exception as error:
        return report(error)
    warn_of_what_no_fork_survives()
    try:
        log = app.cfg.logger_class(app.cfg)  # as gunicorn: opened once, inherited
    except Exception as error:
        return report(error)
    master = Master(app, log)
    master.loaded(options[1:])
    settle()
    supervisor.send(b"ready")
    listeners = None
    while True:
        try:
            return serve_forks(supervisor, app, log, master, listeners)
        except adapter.NextTemplate as successor:
            promotion, = successor.args
        supervisor, listeners, master = promotion.become_template(app, log)


# ---- loading

def load(with_application):
    import gunicorn

    app = adapter.load_application()
    cfg = app.cfg
    adapter.add_python_paths(cfg)
    os.environ["SERVER_SOFTWARE"] = gunicorn.SERVER_SOFTWARE
    import_for_workers(cfg)
    if with_application:
        os.environ.update(cfg.env)
        app.wsgi()
    return app


def import_for_workers(cfg):
    """What each worker would import on its way to READY: 30 ms and 2 MiB, of each of them."""
    cfg.logger_class  # imported by being looked at
    for base in cfg.worker_class.__mro__:
        for name in IMPORTED_LATE.get(base.__module__, ()):
            try:
                importlib.import_module(name)
            except ImportError:
                pass  # of an extra that is not installed: the class does without


def report(error):
    """Say why nothing could be loaded, and which of gunicorn's statuses that is."""
    from gunicorn.errors import AppImportError

    if isinstance(error, AppImportError):
        print(error, file=sys.stderr, flush=True)
        return adapter.STATUS_APP_LOAD
    traceback.print_exc()
    return adapter.STATUS_CONFIG if isinstance(error, RuntimeError) else adapter.STATUS_BOOT


def warn_of_what_no_fork_survives():
    """An application that opened these while it was imported breaks in workers, later."""
    others = [t.name for t in threading.enumerate() if t is not threading.main_thread()]
    hazards = (("threads", others), ("connections", connected_sockets()),
               ("event-loops", event_loops()))
    for kind, found in hazards:
        if found:
            notifier = adapter.Notifier(os.environ.get("NOTIFY_SOCKET", ""))
            notifier.tell_surely("X_TRIMTAB_HAZARD=" + kind,
                                 adapter.status_line(", ".join(found)))


def event_loops():
    """asyncio's and uvloop's that are not closed. By their types: an object's own word for its
    class may be code of the application's."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return []
    found = [thing for thing in gc.get_objects()
             if issubclass(type(thing), asyncio.AbstractEventLoop)]
    return ["%s.%s" % (type(loop).__module__, type(loop).__qualname__) for loop in found
            if not loop.is_closed()]


def connected_sockets():
    own = int(os.environ.get("LISTEN_FDS", "0")) + adapter.FIRST_LISTEN_FD
    peers = []
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        try:
            if fd <= own or not os.readlink("/proc/self/fd/" + name).startswith("socket:"):
                continue
            with Socket(fileno=os.dup(fd)) as peer:
                peers.append(str(peer.getpeername()) or "a socket without a name")
        except OSError:
            continue  # gone, or not connected
    return peers


def settle():
    """Leave as little as possible that a worker would have to copy."""
    gc.collect()
    gc.freeze()
    end_threads_of_libraries()
    try:
        LIBC.malloc_trim(0)
    except (AttributeError, OSError):
        pass  # another C library


# ---- hooks of gunicorn's master

class Worker:
    """What child_exit gets in place of the worker that is gone."""

    booted, aborted = True, False

    def __init__(self, master, pid, age, exitcode):
        self.cfg, self.log, self.pid, self.age = master.cfg, master.log, pid, age
        self.exitcode = exitcode


class Master:
    """Stands where gunicorn's master would, for hooks and for the figure that it sends to statsd.

    Nothing of the pool depends on it: a hook that fails is logged, one that takes long delays the
    next worker, as it does in gunicorn.
    """

    def __init__(self, app, log):
        self.cfg, self.log = app.cfg, log
        self._server = adapter.Server(app, log, [], supervisor_pid(), 0)

    def loaded(self, reasons):
        if "--start" in reasons:
            self._hook("nworkers_changed", self._server.num_workers, None)
            self._hook("on_starting")
            self._hook("when_ready")
        elif "--reload" in reasons:
            self._hook("on_reload")

    def happened(self, word, *numbers):
        """What the supervisor says: see src/process/template.h."""
        if word == "serving":
            self.log.debug("%d workers" % numbers, extra={
                "metric": "gunicorn.workers", "value": numbers[0], "mtype": "gauge"})
        elif word == "workers":
            new, old = numbers
            self._server.num_workers = new
            self._hook("nworkers_changed", new, old)
        elif word == "exit":
            self._hook("child_exit", Worker(self, *numbers))
        elif word == "end":
            self._hook("on_exit")

    def _hook(self, name, *arguments):
        try:
            getattr(self.cfg, name)(self._server, *arguments)
        except Exception:
            self.log.exception("Exception in %s", name)


# ---- forking

def serve_forks(supervisor, app, log, master, listeners):
    """Returns an exit status: the template's at the end of the socket, or a worker's."""
    while True:
        text, fds = receive(supervisor)
        if not text:
            return 0
        lines = text.decode().split("\n")
        word, *rest = lines[0].split()
        if word != "fork":
            master.happened(word, *map(int, rest))
            continue
        number, *names = rest
        named = dict(zip(names, fds))
        flush_output()
        follow_rotated_logs(log)
        try:
            pid, other = fork_twice(named)
        except OSError as error:
            supervisor.send(b"failed %s %d" % (number.encode(), error.errno or errno.EIO))
        else:
            if pid == 0:
                supervisor.close()
                return become_worker(app, log, named, lines[1:], other, listeners)
            supervisor.send(b"forked %s %d" % (number.encode(), pid))
            with other, contextlib.suppress(OSError):  # it may have died already
                other.send(b"go", MSG_NOSIGNAL)
        for fd in fds:
            os.close(fd)


def receive(supervisor, flags=0):
    fds = array.array("i")
    text, ancillary, _, _ = supervisor.recvmsg(
        PACKET_SIZE, CMSG_SPACE(N_FDS_MAX * fds.itemsize), MSG_CMSG_CLOEXEC | flags)
    for level, kind, data in ancillary:
        if level == SOL_SOCKET and kind == SCM_RIGHTS:
            fds.frombytes(data[:len(data) - len(data) % fds.itemsize])
    return text, list(fds)


def flush_output():
    """What waits in a buffer now would be written by each worker at its end."""
    for stream in sys.stdout, sys.stderr:
        with contextlib.suppress(AttributeError, OSError, ValueError):  # none, broken, closed
            stream.flush()
    LIBC.fflush(None)


def follow_rotated_logs(log):
    """Open anew what has another file in its place. Workers do so at SIGUSR1, which their successors
    will never have seen."""
    loggers = (logging.root, *logging.root.manager.loggerDict.values())
    handlers = [handler for logger in loggers for handler in getattr(logger, "handlers", ())]
    if any(isinstance(handler, logging.FileHandler) and is_rotated(handler) for handler in handlers):
        try:
            log.reopen_files()
        except Exception:
            traceback.print_exc()


def is_rotated(handler):
    """Not while there is none: whoever rotates it is about to make it."""
    try:
        return not os.path.samestat(os.stat(handler.baseFilename),
                                    os.fstat(handler.stream.fileno()))
    except (AttributeError, OSError, ValueError):  # not open, gone, closed
        return False


def fork_twice(named):
    """Returns the worker's pid and a socket to let it go by; in the worker, 0 and the socket."""
    global clone_is_refused
    leaf = named.get("leaf")
    if leaf is not None and not clone_is_refused and n_threads() == 1:
        try:
            return make_worker(lambda: clone_into(leaf))
        except OSError as error:
            # EIO: the kernel killed it at birth, for which process/leaf.h has the reason.
            clone_is_refused = error.errno in CLONE_REFUSALS or error.errno == errno.EIO
    leaf = named.get("leaf", named.get("join"))
    if leaf is None:
        return make_worker(fork)
    procs = os.open("cgroup.procs", os.O_WRONLY | os.O_CLOEXEC, dir_fd=leaf)
    try:
        return make_worker(fork, procs)
    finally:
        os.close(procs)


def make_worker(fork_middle, procs=None):
    ours, theirs = socketpair(AF_UNIX, SOCK_SEQPACKET)
    middle = fork_middle()
    if middle == 0:
        pid = fork_or_error()
        if pid != 0:
            theirs.send(b"%d" % pid)
            os._exit(0)
        # First of all: what is touched from here on is charged to the worker.
        if procs is not None:
            os.write(procs, b"0")
        ours.close()
        return 0, theirs
    theirs.close()
    pid = int(ours.recv(32) or b"-%d" % errno.EIO)
    os.waitpid(middle, 0)
    if pid < 0:
        ours.close()
        raise OSError(-pid, os.strerror(-pid))
    return pid, ours


def fork_or_error():
    try:
        return fork()
    except OSError as error:
        return -error.errno


# Entering a cgroup by a write costs a grace period of the kernel's, 10 to 20 ms of a busy machine;
# being cloned into it costs nothing. glibc and Python know nothing of such a clone, so none of
# their locks, threads and handlers is prepared for it. They need not be: there is one thread, and
# the child does nothing but fork() as everybody does, into the cgroup that it is in.
CLONE_INTO_CGROUP = 0x200000000
SYS_CLONE3 = 435  # wherever Debian runs but on mips, which has no call of that number
CLONE_REFUSALS = (errno.ENOSYS, errno.EPERM, errno.EINVAL, errno.E2BIG, errno.EOPNOTSUPP,
                  errno.EACCES)
clone_is_refused = False
system_call = ctypes.PyDLL(None, use_errno=True).syscall  # PyDLL: keeps the GIL, in the child too
system_call.argtypes = ctypes.c_long, ctypes.c_void_p, ctypes.c_long
system_call.restype = ctypes.c_long


class CloneArguments(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in (
        "flags", "pidfd", "child_tid", "parent_tid", "exit_signal", "stack", "stack_size", "tls",
        "set_tid", "set_tid_size", "cgroup")]


def clone_into(leaf):
    arguments = CloneArguments(flags=CLONE_INTO_CGROUP, exit_signal=signal.SIGCHLD, cgroup=leaf)
    pid = system_call(SYS_CLONE3, ctypes.addressof(arguments), ctypes.sizeof(arguments))
    if pid < 0:
        raise OSError(ctypes.get_errno(), "clone3")
    return pid


def n_threads():
    return len(os.listdir("/proc/self/task"))


def end_threads_of_libraries():
    """OpenBLAS and its like end their threads before a fork, and start them when they need them."""
    if n_threads() > 1:
        pid = fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)


def lead_session(named, log):
    os.setsid()
    # Unless capture_output has sent it to the log of errors.
    if "output" in named and not getattr(log, "logfile", None):
        os.dup2(named["output"], 1)
        os.dup2(named["output"], 2)


def become_worker(app, log, named, environment, template, listeners):
    """Returns the worker's exit status, for main() to leave with as any program does."""
    lead_session(named, log)
    os.environ.update(entry.split("=", 1) for entry in environment)
    page = os.environ.pop("TRIMTAB_PAGE", None)
    os.environ["LISTEN_PID"] = str(os.getpid())
    if "WATCHDOG_USEC" in os.environ:
        os.environ["WATCHDOG_PID"] = str(os.getpid())
    page_fd = named.pop("page", None)
    warm_fd = named.pop("warm", None)
    n_requests = int(os.environ.pop("TRIMTAB_REFORK_AFTER", "0"))
    for fd in named.values():
        os.close(fd)

    def arrive():
        wait_until_known(template)
        if page and page_fd is not None:
            adopt_page(page_fd, page.rsplit(":", 1)[1])
            os.close(page_fd)

    notifier = adapter.Notifier(os.environ.get("NOTIFY_SOCKET", ""), arrive)
    between = None
    if warm_fd is not None:
        between = Candidate(warm_fd, n_requests, app.cfg, notifier).look
    return adapter.work_with(notifier, app, log, listeners, between)


def wait_until_known(template):
    """Until we are the supervisor's child and it has been told so: only then it hears us. By the
    time that a worker has something to say this has long been so."""
    with template:
        if template.recv(2) != b"go":
            os._exit(0)  # the template is gone, and what it did not tell nobody waits for
    if DEATH_SIGNAL:
        # Neither before, since the end of the parent between us and the supervisor sends it.
        LIBC.prctl(adapter.PR_SET_PDEATHSIG, DEATH_SIGNAL, 0, 0, 0)
    if os.getppid() != supervisor_pid():
        os._exit(0)


def supervisor_pid():
    return int(os.environ.get("TRIMTAB_SUPERVISOR_PID", "0")) or os.getppid()


def adopt_page(fd, cookie):
    """Bring the preload library to life in this process, which it has not been loaded for."""
    if ADOPT:
        ADOPT(b"%d:%d:%s" % (fd, os.getpid(), cookie.encode()))


# ---- the next template

class Candidate:
    """A worker that may become the next template, once it has answered so many requests.

    It says "warm" then, and looks between requests whether it is wanted. What is asked of it is a
    fork and no more: it goes on serving, whatever becomes of the child.
    """

    def __init__(self, fd, n_requests, cfg, notifier):
        self._channel = Socket(fileno=fd)
        self._n_requests, self._notifier = n_requests, notifier
        self._max_requests = cfg.max_requests  # which the worker is going to switch off
        self._known = set(links_of_descriptors().values())
        self._told = False
        if not any(base.__module__ == "gunicorn.workers.sync" for base in cfg.worker_class.__mro__):
            self._refuse("its class does not serve one request after the other in one thread")
        elif adapter.drops_privileges(cfg):
            self._refuse("it gives up the privileges that making workers takes")

    def look(self, worker):
        """Between two requests."""
        if self._channel is None or not self._told and worker.nr < self._n_requests:
            return
        try:
            if not self._told:
                self._channel.send(b"warm", MSG_NOSIGNAL)
                self._told = True
            text, fds = receive(self._channel, MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            text, fds = b"", []
        named = dict(zip(text.decode().split()[1:], fds))
        try:
            if text:
                self._fork(worker, named)
        finally:
            for fd in fds:
                os.close(fd)
            self._channel = None

    def _fork(self, worker, named):
        why = self._unfit(worker, named.values())
        if not why:
            flush_output()
            try:
                pid, other = fork_twice(named)
            except OSError as error:
                why = "it cannot fork: %s" % error.strerror
        if why:
            self._refuse(why)
            return
        if pid == 0:
            lead_session(named, worker.log)
            raise adapter.NextTemplate(Promotion(self._channel, other, worker, self._max_requests))
        with other, contextlib.suppress(OSError):  # not told to go on, the child ends
            self._channel.send(b"promoted %d" % pid, MSG_NOSIGNAL)
            other.send(b"go", MSG_NOSIGNAL)

    def _refuse(self, why):
        with contextlib.suppress(OSError):
            self._channel.send(b"refused " + why.encode("ascii", "replace")[:200], MSG_NOSIGNAL)
        self._channel = None

    def _unfit(self, worker, received):
        """What the worker has that a template must not have, or None."""
        others = [t.name for t in threading.enumerate() if t is not threading.main_thread()]
        if others:
            return "it has other threads: " + ", ".join(others)
        if n_foreign_threads() > 0:
            end_threads_of_libraries()
        if n_foreign_threads() > 0:
            return "it has threads that Python does not know"
        return self._unshareable(worker, received)

    def _unshareable(self, worker, received):
        """Named like /proc/self/fd does: what all later workers would use together."""
        own = {0, 1, 2, self._channel.fileno(), self._notifier.fileno(), worker.tmp.fileno(),
               *worker.PIPE, *(s.fileno() for s in worker.sockets), *received}
        for fd, link in links_of_descriptors().items():
            if fd in own or link in self._known or is_harmless(fd):
                continue
            with contextlib.suppress(OSError), Socket(fileno=os.dup(fd)) as peer:
                link = "a connection to %s" % (peer.getpeername(),)
            return "it has something open that workers cannot share: " + link
        return None


class Promotion:
    """What a worker's child takes along on its way out of the worker's stack."""

    def __init__(self, supervisor, parent, worker, max_requests):
        self._supervisor, self._parent, self._max_requests = supervisor, parent, max_requests
        self._signals = worker.SIGNALS
        signal.set_wakeup_fd(-1)
        # The worker's own objects close theirs as they go. Where LISTEN_FDS had them there may be
        # something of the application's by now.
        self._listeners = [fcntl.fcntl(s.fileno(), fcntl.F_DUPFD_CLOEXEC, adapter.FIRST_LISTEN_FD)
                           for s in worker.sockets]
        for fd in worker.PIPE:
            os.close(fd)

    def become_template(self, app, log):
        """Returns what main() goes on with: the supervisor's socket, listeners, hooks."""
        from gunicorn import util

        wait_until_known(self._parent)
        self._forget_signals()
        util._setproctitle("template [%s]" % app.cfg.proc_name)
        app.cfg.set("max_requests", self._max_requests)
        for name in ("TRIMTAB_WORKER", "MEMORY_PRESSURE_WATCH"):
            os.environ.pop(name, None)
        settle()
        with contextlib.suppress(OSError):  # it has changed its mind: the loop ends at once
            self._supervisor.send(b"ready", MSG_NOSIGNAL)
        return self._supervisor, self._listeners, Master(app, log)

    def _forget_signals(self):
        """Those that every worker class sets anew; others may be the application's."""
        for number in self._signals:
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        adapter.dump_stacks_at_the_end()


def links_of_descriptors():
    links = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the directory's own is closed by now
            links[int(name)] = os.readlink("/proc/self/fd/" + name)
    return links


def is_harmless(fd):
    """Whether processes can share it: read only, or written at its end."""
    try:
        mode, flags = os.fstat(fd).st_mode, fcntl.fcntl(fd, fcntl.F_GETFL)
    except OSError:
        return True  # gone meanwhile
    return stat.S_ISDIR(mode) or stat.S_ISCHR(mode) or stat.S_ISREG(mode) and (
        flags & os.O_ACCMODE == os.O_RDONLY or bool(flags & os.O_APPEND))


def n_foreign_threads():
    """But for ours and the preload library's."""
    n = -1
    for task in os.listdir("/proc/self/task"):
        with contextlib.suppress(OSError), open("/proc/self/task/%s/comm" % task) as file:
            n += file.read() != "trimtab\n"
    return n


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
