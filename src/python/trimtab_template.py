"""Load what gunicorn's workers share once, then fork a worker whenever the supervisor asks.

    trimtab_template.py --preload=server|app [--start|--reload] -- GUNICORN_ARGS...

server: gunicorn's configuration and worker class; app: the application too. What is loaded is
collected, frozen out of the garbage collector's sight and trimmed before the first fork, so that
workers go on sharing it: a collection would otherwise write to every object there is.

--start and --reload say what it is loaded for, which gunicorn's master has hooks for: those are run
here, as are the others of the master's, when the supervisor says that their time has come.

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
import gc
import importlib
import os
import signal
import sys
import threading
import traceback
from os import fork  # bound now, like the socket: gevent replaces both
from socket import AF_UNIX, CMSG_SPACE, MSG_CMSG_CLOEXEC, MSG_NOSIGNAL, SCM_RIGHTS, SOCK_SEQPACKET
from socket import SOL_SOCKET, socketpair
from socket import socket as Socket

import trimtab_gunicorn as adapter

PACKET_SIZE = 8192
N_FDS_MAX = 3
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
    return serve_forks(supervisor, app, log, master)


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
    if others:
        warn("threads started while loading do not exist in workers: %s; start them in "
             "post_fork or post_worker_init" % ", ".join(others))
    peers = connected_sockets()
    if peers:
        warn("connections opened while loading are shared by all workers: %s; open them in "
             "post_fork or at the first request" % ", ".join(peers))


def warn(text):
    print("trimtab template: " + text, file=sys.stderr, flush=True)


def connected_sockets():
    own = int(os.environ.get("LISTEN_FDS", "0")) + adapter.FIRST_LISTEN_FD
    peers = []
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        try:
            if fd <= own or not os.readlink("/proc/self/fd/" + name).startswith("socket:"):
                continue
            with Socket(fileno=os.dup(fd)) as peer:
                peers.append(str(peer.getpeername()))
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

def serve_forks(supervisor, app, log, master):
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
        try:
            pid, other = fork_twice(named)
        except OSError as error:
            supervisor.send(b"failed %s %d" % (number.encode(), error.errno or errno.EIO))
        else:
            if pid == 0:
                supervisor.close()
                return become_worker(app, log, named, lines[1:], other)
            supervisor.send(b"forked %s %d" % (number.encode(), pid))
            with other, contextlib.suppress(OSError):  # it may have died already
                other.send(b"go", MSG_NOSIGNAL)
        for fd in fds:
            os.close(fd)


def receive(supervisor):
    fds = array.array("i")
    text, ancillary, _, _ = supervisor.recvmsg(
        PACKET_SIZE, CMSG_SPACE(N_FDS_MAX * fds.itemsize), MSG_CMSG_CLOEXEC)
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


def become_worker(app, log, named, environment, template):
    """Returns the worker's exit status, for main() to leave with as any program does."""
    os.setsid()
    # Unless capture_output has sent it to the log of errors.
    if "output" in named and not getattr(log, "logfile", None):
        os.dup2(named["output"], 1)
        os.dup2(named["output"], 2)
    os.environ.update(entry.split("=", 1) for entry in environment)
    page = os.environ.pop("TRIMTAB_PAGE", None)
    os.environ["LISTEN_PID"] = str(os.getpid())
    if "WATCHDOG_USEC" in os.environ:
        os.environ["WATCHDOG_PID"] = str(os.getpid())
    page_fd = named.pop("page", None)
    for fd in named.values():
        os.close(fd)

    def arrive():
        wait_until_known(template)
        if page and page_fd is not None:
            adopt_page(page_fd, page.rsplit(":", 1)[1])
            os.close(page_fd)

    notifier = adapter.Notifier(os.environ.get("NOTIFY_SOCKET", ""), arrive)
    return adapter.work_with(notifier, app, log)


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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
