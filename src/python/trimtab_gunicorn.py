"""Run one of gunicorn's own workers under a supervisor that is not gunicorn.

gunicorn's worker classes need little from its master: a parsed configuration, sockets, a
parent's pid, somewhere to beat. This file gives them exactly that, so that the application
is served by the very code that served it before, and speaks sd_notify(3) to the supervisor
about it. It runs by path, with the interpreter that gunicorn is installed for, and uses the
standard library and gunicorn only; gunicorn 20.1 to 26 are the same to it.

It must never bind an address, never restart or stop a worker by its own decision, never let
the supervisor's silence or absence disturb a request, and never touch signal masks (the
preload library's helper thread relies on them).

    trimtab_gunicorn.py --describe -- GUNICORN_ARGS...

Reads gunicorn's configuration as gunicorn would, without importing the application, and
writes one JSON object to stdout (see describe()); whatever the user's configuration prints
goes to stderr. Exit status: 0 described; 1 or 2 gunicorn refused its configuration or
arguments and said why on stderr; 64 gunicorn has done what it was asked instead (--help,
--version, --print-config, --check-config): its text is on stdout, and there is nothing to
serve.

    trimtab_gunicorn.py -- GUNICORN_ARGS...

Becomes one worker. From the environment: LISTEN_FDS and LISTEN_PID (sockets from 3 on),
NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID, TRIMTAB_WORKER (slot; gunicorn's "age"),
TRIMTAB_SUPERVISOR_PID (the parent to live and die with; absent: outlive any parent).
Messages, each one datagram:

    READY=1 STATUS=             the worker's main loop serves; for ASGI, after its lifespan
    WATCHDOG=1                  beats, three or four in WATCHDOG_USEC; from READY on
    STOPPING=1 STATUS=          it was told to stop, and drains
    X_TRIMTAB=max-requests      once, in place of gunicorn's exit; it goes on serving
    X_TRIMTAB=boot-error STATUS= [ERRNO=]   it ends before it served; last traceback line
    X_TRIMTAB_REQUESTS=N        beside WATCHDOG, STOPPING and max-requests, where known
    X_TRIMTAB_STAYS=1           beside READY: SIGWINCH, before it drains, has it stay behind
    X_TRIMTAB=kept STATUS=      it has drained, accepts nothing, and waits for its end: one more
                                SIGTERM, SIGINT or SIGQUIT, or the supervisor's

Exit status: as gunicorn's workers (0 stopped, 1 configuration or abort, 2 arguments, 3 failed
to boot, 4 no such application object, 255 failed after boot), save that a worker which ends
by itself before it served ends with 3, never 0.
"""
import os
import signal
import sys
import time
import traceback
from collections import deque
from random import randint
from select import POLLIN
from select import poll as Poll  # bound now, like the socket: gevent replaces those in the modules
from socket import AF_UNIX, MSG_DONTWAIT, SOCK_CLOEXEC, SOCK_DGRAM
from socket import socket as Socket
from stat import S_ISSOCK

from trimtab_parting import Parting, parting_of

STATUS_CONFIG = 1
STATUS_BOOT = 3
STATUS_APP_LOAD = 4
STATUS_AFTER_BOOT = -1
STATUS_PRINTED = 64

STDERR = 2
FIRST_LISTEN_FD = 3
STATUS_LINE_MAX = 512


# ---- telling the supervisor

class Notifier:
    """sd_notify(3) that never blocks, never raises, and is silent in forked children.

    The socket is connected at once: after user= has dropped privileges its path may be out
    of reach. It is connected anew when the supervisor behind it was replaced.
    """

    def __init__(self, address, before_first=None):
        self._before_first = before_first
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._usable = address[:1] in ("/", "@")
        self._pid = os.getpid()
        self._socket = self._connect() if self._usable else None
        self._owed = deque()
        self._settling = False

    def tell(self, *lines):
        """Send what may be lost, such as a beat; the next one makes up for it."""
        self._send("\n".join(lines))

    def tell_surely(self, *lines):
        """Send what must arrive. A full queue is tried again at each settle()."""
        self._owed.append("\n".join(lines))
        self.settle()

    def settle(self):
        # A signal handler that interrupts us leaves its message to us, so order holds; after our
        # last look at what is owed there is nothing left to interrupt. It may also raise
        # SystemExit right through us; live() settles once more at the end.
        if self._settling:
            return
        full = False
        while self._owed and not full:
            self._settling = True
            try:
                if self._owed:  # still: one that came in between has sent them all
                    full = not self._send(self._owed[0])
                    if not full:
                        self._owed.popleft()
            finally:
                self._settling = False

    def fileno(self):
        return self._socket.fileno() if self._socket else -1

    def _send(self, message):
        # A child of the application inherits our signal handlers, but is not the worker.
        if not self._usable or os.getpid() != self._pid:
            return True
        if self._before_first:
            before_first, self._before_first = self._before_first, None
            before_first()
        for _ in range(2):
            connected = self._socket or self._connect()
            if connected is None:
                return False
            try:
                connected.send(message.encode("utf-8", "replace"), MSG_DONTWAIT)
                self._socket = connected
                return True
            except BlockingIOError:
                return False
            except OSError:
                self._socket = None
        return False

    def _connect(self):
        try:
            fresh = Socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC)
            fresh.connect(self._address)
            return fresh
        except OSError:
            return None


def status_line(text):
    return "STATUS=" + " ".join(text.split())[:STATUS_LINE_MAX]


def tell_boot_error(notifier, error):
    # gunicorn turns configuration errors into SystemExit; the error itself is its context.
    if isinstance(error, SystemExit):
        error = error.__context__ or RuntimeError("it left with %s" % (error.code or 0))
    last = traceback.format_exception_only(type(error), error)[-1].splitlines()[0]
    lines = ["X_TRIMTAB=boot-error", status_line(last)]
    if isinstance(error, OSError) and error.errno:
        lines.append("ERRNO=%d" % error.errno)
    notifier.tell_surely(*lines)


# ---- the worker's heartbeat

class Heartbeat:
    """Stands in for worker.tmp, the file whose age gunicorn's master watches.

    Every worker class calls notify() from its main loop, and for the first time when that
    loop serves: sync and gthread just before they accept, gevent, UvicornWorker and gunicorn's
    own ASGI worker after they opened their servers, which is after the lifespan's startup. So
    the first beat of a booted worker is READY, for every class and without a patch.

    Further beats are passed on three or four times in the watchdog's time; gthread alone
    would beat every second, and each datagram wakes the supervisor. Whatever else is asked of worker.tmp is
    answered by gunicorn's own object.
    """

    def __init__(self, worker, notifier, watchdog_sec, request_limit, between=None):
        self._tmp = worker.tmp
        self._worker = worker
        self._between = between  # to be called between two requests, by class sync alone
        self._notifier = notifier
        self._watchdog_sec = watchdog_sec
        self._request_limit = request_limit
        # Not a third: a loop that wakes every third would then miss each second beat.
        self._interval_sec = watchdog_sec / 4 if watchdog_sec else 1.0
        self._due = 0.0
        self._counted = 0
        self.parting = Parting()
        self.ready = False
        self.stopping = False
        self.stays = False

    def __getattr__(self, name):
        return getattr(self._tmp, name)

    def notify(self):
        self.parting.turn()
        if self._request_limit and self._worker.nr >= self._request_limit:
            self._announce_max_requests()
        now = time.monotonic()
        if now >= self._due:
            self._due = now + self._interval_sec
            self._beat()
        if self._between and self.ready:
            self._between(self._worker)

    def _beat(self):
        self._tmp.notify()
        if not self.ready:
            if not self._worker.booted:
                self._due = 0.0  # READY is not to wait for an interval
                return
            self.say_ready()
        elif self._watchdog_sec:
            self._notifier.tell("WATCHDOG=1", *self._requests())
        self._notifier.settle()
        self._leave_with_parent()

    def say_ready(self):
        if self.ready:
            return
        self.ready = True
        restore_backlog(self._worker)
        announce_stop_signals(self)
        self.parting.serves()
        stays = ["X_TRIMTAB_STAYS=1"] if listen_for_stay(self, self._worker) else []
        self._notifier.tell_surely("READY=1", status_line("Serving"), *stays)

    def say_stopping(self):
        if not self.stopping:
            self.stopping = True
            self._notifier.tell_surely("STOPPING=1", status_line("Draining"),
                                       *self._requests())

    def part(self, leave):
        """See Parting.asked(). A child of the application has our handlers, and no connections."""
        return self._worker.pid == os.getpid() and self.parting.asked(leave)

    def count_requests(self, total):
        """For classes that keep their count elsewhere than in worker.nr."""
        if not self._worker.alive and not self.stopping:
            # gunicorn's reloader says so and no more; uvicorn never looks there.
            os.kill(os.getpid(), signal.SIGTERM)
        self._counted = total
        if self._request_limit and total >= self._request_limit:
            self._announce_max_requests()

    def _announce_max_requests(self):
        self._request_limit = 0
        self._worker.log.info("Maximum requests reached (%d), asking to be replaced.",
                              self._n_requests())
        self._notifier.tell_surely("X_TRIMTAB=max-requests", *self._requests())

    def _n_requests(self):
        return max(self._worker.nr, self._counted)

    def _requests(self):
        count = self._n_requests()
        return ["X_TRIMTAB_REQUESTS=%d" % count] if count else []

    def _leave_with_parent(self):
        # The other classes look for themselves; UvicornWorker would keep an orphan's port.
        if self._worker.ppid != os.getppid() and not self.stopping:
            os.kill(os.getpid(), signal.SIGTERM)


class UnreachedLimit(int):
    """A request limit that is never reached, and passes on each count compared with it.

    uvicorn counts in an object that its worker class keeps to itself, and asks ten times a
    second whether that count >= the limit; aiohttp once a second whether it is more. The
    limit is the one thing of theirs that is given from outside, so it does the listening.
    """

    def __new__(cls, heartbeat):
        limit = int.__new__(cls, sys.maxsize)
        limit.heartbeat = heartbeat
        return limit

    def __le__(self, total):
        self.heartbeat.count_requests(total)
        return False

    __lt__ = __le__

    def __add__(self, jitter):
        return self


def announce_stop_signals(heartbeat):
    """Put STOPPING=1 before whatever the worker class does on SIGTERM and SIGINT.

    Called from the serving loop, when the handlers of every class are in place. For asyncio
    the handler in place is empty and the loop reads its wake-up descriptor, which C code
    fills before any Python handler runs: both go on working behind ours.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        behind = signal.getsignal(number)
        if callable(behind):
            try:
                signal.signal(number, stop_handler(heartbeat, behind))
            except ValueError:
                return  # not in the main thread: the drain goes unannounced
    # signal() undid what gunicorn and asyncio asked for: do not interrupt system calls.
    signal.siginterrupt(signal.SIGTERM, False)


def stop_handler(heartbeat, behind):
    def on_stop(number, frame):
        heartbeat.say_stopping()
        if number == signal.SIGTERM and heartbeat.part(lambda: behind(number, frame)):
            return None
        return behind(number, frame)
    return on_stop


def listen_for_stay(heartbeat, worker):
    """Have SIGWINCH say that the worker is to stay behind when it has drained.

    gunicorn's workers ignore that signal. It is looked at after the drain and not before, so it does
    not matter which of the two, it or SIGTERM, Python hears of first.
    """
    def on_stay(number, frame):
        heartbeat.stays = True

    if not ignores_winch(worker):
        return False  # the application's own
    try:
        signal.signal(signal.SIGWINCH, on_stay)
    except ValueError:
        return False
    signal.siginterrupt(signal.SIGWINCH, False)
    return True


def ignores_winch(worker):
    """Whether what is done about SIGWINCH is gunicorn's nothing.

    Its asgi class has a method of the loop for that, and the handler in place is then the loop's, which
    is empty: the loop hears of the signal by its wake-up descriptor, with our handler there too.
    """
    behind = signal.getsignal(signal.SIGWINCH)
    if behind in (signal.SIG_DFL, signal.SIG_IGN, getattr(worker, "handle_winch", None)):
        return True
    module = getattr(behind, "__module__", None) or "uvloop"  # whose code is C, and says no module
    return hasattr(worker, "handle_winch_signal") and module.startswith(("asyncio", "uvloop"))


def survive_second_stop(heartbeat):
    """Let newer uvicorn end with 0: after its drain it raises the signal once more.

    It finds the disposition from before its server, which its worker class leaves at
    default: death by SIGTERM, without worker_exit. Until the drain that default is kept.
    """
    def on_stop(number, frame):
        if not heartbeat.stopping:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    for number in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, on_stop)


def restore_backlog(worker):
    """asyncio listens anew with a backlog of 100 on the socket that all workers share."""
    for listener in worker.sockets:
        try:
            listener.listen(worker.cfg.backlog)
        except (AttributeError, OSError):
            pass


# ---- what the worker is made of

class AnyParent(int):
    """A parent's pid that equals every other: the supervisor may be replaced under us."""

    def __eq__(self, other):
        return True

    def __ne__(self, other):
        return False

    __hash__ = int.__hash__


class Inherited:
    """gunicorn's configuration without addresses, so that nothing can be bound."""

    address = ()
    reuse_port = False  # an option for binding, and an error on unix sockets since Linux 6.12

    def __init__(self, cfg):
        self._cfg = cfg

    def __getattr__(self, name):
        return getattr(self._cfg, name)


class Server:
    """What server hooks get in place of gunicorn's Arbiter."""

    WORKERS = {}
    master_name = "Master"
    master_pid = 0
    reexec_pid = 0
    pidfile = None
    systemd = False

    def __init__(self, app, log, listeners, pid, age):
        self.app, self.cfg, self.log = app, app.cfg, log
        # Also keeps the sockets open: gevent builds its own on the same descriptors.
        self.LISTENERS = listeners
        self.pid, self.worker_age = pid, age
        self.address = app.cfg.address
        # By what they are: in the end their numbers may be other files'.
        self.listening = {os.fstat(listener.fileno()).st_ino for listener in listeners}
        self.num_workers = app.cfg.workers
        self.timeout = app.cfg.timeout
        self.proc_name = app.cfg.proc_name


def load_application(application_class=None):
    """Parse sys.argv, the configuration file and GUNICORN_CMD_ARGS, and change directory."""
    from gunicorn.app.wsgiapp import WSGIApplication

    application_class = application_class or WSGIApplication
    return application_class("%(prog)s [OPTIONS] [APP_MODULE]")


def add_python_paths(cfg):
    for path in (cfg.pythonpath or "").split(","):
        path = os.path.abspath(path) if path else ""
        if path and path not in sys.path:
            sys.path.insert(0, path)


def inherited_sockets(cfg, log, fds=None):
    """fds: where they are, if not where LISTEN_FDS says."""
    from gunicorn import sock, systemd

    count = systemd.listen_fds()
    os.environ.pop("LISTEN_FDNAMES", None)
    if count == 0 and not fds:
        raise RuntimeError("no sockets inherited: LISTEN_FDS is not for this process")
    fds = fds or range(FIRST_LISTEN_FD, FIRST_LISTEN_FD + count)
    return sock.create_sockets(Inherited(cfg), log, fds)


def watchdog_sec():
    """Seconds that may pass between beats; 0.0 when nobody waits for them."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    try:
        return max(int(os.environ.get("WATCHDOG_USEC", "0")), 0) / 1e6
    except ValueError:
        return 0.0


def expected_parent():
    pid = os.environ.get("TRIMTAB_SUPERVISOR_PID")
    return AnyParent(os.getppid()) if pid is None else int(pid)


def take_request_limit(cfg):
    """The worker's own max_requests, switched off for the class: the supervisor decides."""
    if cfg.max_requests <= 0:
        return 0
    limit = cfg.max_requests + randint(0, cfg.max_requests_jitter)
    cfg.set("max_requests", 0)
    return limit


def build_worker(app, notifier, log=None, fds=None, between=None):
    """Do what gunicorn's master does up to its fork. Returns worker, server and heartbeat."""
    import gunicorn
    from gunicorn import debug

    cfg = app.cfg
    if cfg.spew:
        debug.spew()
    add_python_paths(cfg)
    os.environ["SERVER_SOFTWARE"] = gunicorn.SERVER_SOFTWARE
    log = log or cfg.logger_class(cfg)
    worker_class = cfg.worker_class
    os.environ.update(cfg.env)
    sockets = inherited_sockets(cfg, log, fds)
    if hasattr(worker_class, "check_config"):
        worker_class.check_config(cfg, log)

    age = int(os.environ.get("TRIMTAB_WORKER", "1"))
    parent = expected_parent()
    beat_sec = watchdog_sec()
    limit = take_request_limit(cfg)
    wait_sec = beat_sec / 3 if beat_sec else cfg.timeout / 2
    worker = worker_class(age, parent, sockets, app, wait_sec, cfg, log)
    worker.tmp = heartbeat = Heartbeat(worker, notifier, beat_sec, limit, between)
    heartbeat.parting = parting_of(worker, heartbeat)
    server = Server(app, log, sockets, int(parent), age)
    cfg.pre_fork(server, worker)
    adapt(worker, heartbeat)
    return worker, server, heartbeat


def adapt(worker, heartbeat):
    """Step in at the two methods that every class passes: load_wsgi() and run()."""
    load_wsgi, run = worker.load_wsgi, worker.run
    death_signal = parent_death_signal() if drops_privileges(worker.cfg) else 0

    def load_after_drop():
        dump_stacks_at_the_end()
        if death_signal:
            set_parent_death_signal(death_signal)
            if worker.ppid != os.getppid():
                sys.exit(0)
        load_wsgi()

    def run_adapted():
        survive_second_stop(heartbeat)
        learn_count(worker, heartbeat)
        if worker.cfg.timeout == 0 and not is_known(worker):
            heartbeat.say_ready()  # a class that nobody watches need not beat
        return run()

    worker.load_wsgi, worker.run = load_after_drop, run_adapted


def dump_stacks_at_the_end():
    """Have the stacks of all threads written to stderr before a death by SIGABRT or a crash.

    gunicorn's own handler of SIGABRT waits until the interpreter looks for signals, which is never
    where a worker hangs in C code. faulthandler writes at once, and then lets that handler have the
    signal. It goes on top of it only if it comes later: off, gunicorn's back in place, on again.
    """
    import faulthandler

    faulthandler.disable()
    gunicorns = signal.getsignal(signal.SIGABRT)
    if gunicorns is not None:
        signal.signal(signal.SIGABRT, gunicorns)
    faulthandler.enable(file=STDERR)


def learn_count(worker, heartbeat):
    limit = UnreachedLimit(heartbeat)
    if hasattr(getattr(worker, "config", None), "limit_max_requests"):
        worker.config.limit_max_requests = limit
    elif not is_known(worker):
        worker.max_requests = limit
        worker.cfg.settings["max_requests"].value = limit  # set() would make it a plain int


def is_known(worker):
    """Whether the class is, or is made from, one of gunicorn's or uvicorn's."""
    return any(base.__module__.startswith(("gunicorn.workers.", "uvicorn"))
               and base.__module__ not in ("gunicorn.workers.base", "gunicorn.workers.base_async")
               for base in type(worker).__mro__)


def drops_privileges(cfg):
    return cfg.uid != os.geteuid() or cfg.gid != os.getegid()


# prctl(2): a change of user or group clears the signal that the supervisor asked for.
PR_SET_PDEATHSIG = 1
PR_GET_PDEATHSIG = 2


def parent_death_signal():
    import ctypes

    number = ctypes.c_int(0)
    ctypes.CDLL(None).prctl(PR_GET_PDEATHSIG, ctypes.byref(number), 0, 0, 0)
    return number.value


def set_parent_death_signal(number):
    import ctypes

    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)


# ---- the worker's life

def work():
    """Become one worker. Returns the exit status."""
    dump_stacks_at_the_end()
    if expected_parent() != os.getppid():
        return 0
    return work_with(Notifier(os.environ.get("NOTIFY_SOCKET", "")))


class NextTemplate(BaseException):
    """Raised in a child of a worker, which leaves the worker's stack by it: see trimtab_template."""


def work_with(notifier, app=None, log=None, fds=None, between=None):
    """The same, with gunicorn's application, logger and sockets where they are there already."""
    try:
        app = app or load_application()
        worker, server, heartbeat = build_worker(app, notifier, log, fds, between)
    except SystemExit as leave:
        tell_boot_error(notifier, leave)
        raise
    except RuntimeError as error:  # as gunicorn words a bad class, log file or address
        tell_boot_error(notifier, error)
        print("\nError: %s" % error, file=sys.stderr, flush=True)
        return STATUS_CONFIG
    except Exception as error:
        tell_boot_error(notifier, error)
        traceback.print_exc()
        return STATUS_CONFIG
    return live(worker, server, heartbeat, notifier)


def live(worker, server, heartbeat, notifier):
    """Do what gunicorn's worker process does after its fork. Returns the exit status."""
    from gunicorn import util

    worker.pid = os.getpid()
    ends_here = True
    try:
        util._setproctitle("worker [%s]" % worker.cfg.proc_name)
        worker.log.info("Booting worker with pid: %s", worker.pid)
        status, error = serve(worker, server)
        # A lifespan that fails ends gunicorn's own ASGI worker with 0, and an application
        # may leave with 0 while it is imported: both would look like an obedient stop.
        if status == 0 and worker.alive and not heartbeat.ready:
            status, error = STATUS_BOOT, error or RuntimeError("it ended by itself")
        if status != 0 and not heartbeat.ready:
            tell_boot_error(notifier, error)
        return status
    except NextTemplate:
        ends_here = False  # the worker is another process, and goes on
        raise
    finally:
        if ends_here:
            worker.log.info("Worker exiting (pid: %s)", worker.pid)
            notifier.settle()
            say_goodbye(worker, server)
            if heartbeat.stays:
                stay(worker, server, notifier)
            end_at_once_when_asked_again()


def serve(worker, server):
    """Returns the exit status and the exception behind it, if any."""
    try:
        worker.cfg.post_fork(server, worker)
        worker.init_process()
        return 0, None
    except SystemExit as leave:
        return exit_status(leave.code), leave
    except Exception as error:
        return report_failure(worker, error), error


def exit_status(code):
    if code is None or isinstance(code, int):
        return code or 0
    print(code, file=sys.stderr, flush=True)
    return 1


def report_failure(worker, error):
    from gunicorn.errors import AppImportError

    if isinstance(error, AppImportError):
        worker.log.debug("Exception while loading the application", exc_info=True)
        print(error, file=sys.stderr, flush=True)
        return STATUS_APP_LOAD
    worker.log.exception("Exception in worker process")
    if worker.cfg.errorlog != "-":
        traceback.print_exc()
    return STATUS_AFTER_BOOT if worker.booted else STATUS_BOOT


def say_goodbye(worker, server):
    try:
        worker.tmp.close()
        worker.cfg.worker_exit(server, worker)
    except Exception:
        worker.log.warning("Exception during worker exit:\n%s", traceback.format_exc())


# ---- staying behind

ENDS_A_STAY = {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT}


def stay(worker, server, notifier):
    """Wait, out of service, for a debugger to look and for somebody to end it.

    All that a worker's exit does has been done but the interpreter's own end. Not signal.pause():
    a signal that comes just before it would be slept through.
    """
    woken, wakes = os.pipe()
    os.set_blocking(wakes, False)
    for number in ENDS_A_STAY:
        signal.signal(number, lambda *_: None)
    signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
    stop_listening(server.listening)
    notifier.tell_surely("X_TRIMTAB=kept", status_line("Kept for a debugger"))
    parent = parent_fd(worker.ppid)
    if worker.ppid == os.getppid():  # it was not gone before that was opened
        wait_for_end(woken, parent)
    signal.set_wakeup_fd(-1)


def stop_listening(inodes):
    """Let go of the sockets, whoever holds them by now and however often.

    A closed number might be closed again by its owner when it is another file's; this one stays
    taken. shutdown() would end the socket for the other workers.
    """
    with open(os.devnull, "rb") as nothing:
        for name in os.listdir("/proc/self/fd"):
            try:
                status = os.fstat(int(name))
            except OSError:
                continue  # the list's own
            if S_ISSOCK(status.st_mode) and status.st_ino in inodes:
                os.dup2(nothing.fileno(), int(name), inheritable=False)


def parent_fd(ppid):
    """Readable once the supervisor is gone. None where any parent will do, or Python is before 3.9:
    what else ends workers then, their death signal or the service manager, ends this one too."""
    if isinstance(ppid, AnyParent) or not hasattr(os, "pidfd_open"):
        return None
    try:
        return os.pidfd_open(ppid)
    except OSError:
        return None


def wait_for_end(woken, parent):
    poll = Poll()
    poll.register(woken, POLLIN)
    if parent is not None:
        poll.register(parent, POLLIN)
    while True:
        ready = [fd for fd, _ in poll.poll()]
        if parent in ready or ENDS_A_STAY.intersection(os.read(woken, 64)):
            return


def end_at_once_when_asked_again():
    """Keep the class's handlers, which raise SystemExit, out of the interpreter's last steps.

    Nothing catches it there: it would be printed with a traceback, as something gone wrong.
    """
    for number in (signal.SIGQUIT, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(0))


# ---- describing a configuration

def describe():
    """Print what gunicorn would do. Returns the exit status."""
    output = Output()
    try:
        app = load_application(diverting(output))
        if app.cfg.print_config or app.cfg.check_config:
            output.restore()
            app.run()
        description = description_of(app)
    except SystemExit as leave:
        if leave.code in (0, None):
            return STATUS_PRINTED
        raise
    except RuntimeError as error:
        print("\nError: %s" % error, file=sys.stderr, flush=True)
        return STATUS_CONFIG
    import json  # only here: a worker need not pay for it

    output.write(json.dumps(description) + "\n")
    return 0


class Output:
    """Our stdout, out of the reach of the user's configuration while that runs."""

    def __init__(self):
        self._stdout_fd = None

    def divert(self):
        if self._stdout_fd is None:
            self._stdout_fd = os.dup(1)
            os.dup2(2, 1)

    def restore(self):
        sys.stdout.flush()
        os.dup2(self._stdout_fd, 1)

    def write(self, text):
        with open(self._stdout_fd, "w", closefd=False) as stdout:
            stdout.write(text)


def diverting(output):
    """gunicorn's application, diverting stdout between its arguments and the user's file."""
    from gunicorn.app.wsgiapp import WSGIApplication

    class DescribedApplication(WSGIApplication):
        def init(self, parser, opts, args):
            output.divert()
            return super().init(parser, opts, args)

    return DescribedApplication


def description_of(app):
    import gunicorn

    cfg = app.cfg
    changed = sorted(name for name in cfg.settings if is_changed(cfg, name))
    hooks, warnings, refused = judge(gunicorn.__version__, cfg.settings, changed)
    return {
        "gunicorn": gunicorn.__version__,
        "app": app.app_uri,
        "workers": cfg.workers,
        "bind": [address_text(address) for address in cfg.address],
        "backlog": cfg.backlog,
        "reuse_port": bool(cfg.reuse_port),
        "worker_class": class_text(cfg),
        "threads": cfg.threads,
        "timeout": cfg.timeout,
        "graceful_timeout": cfg.graceful_timeout,
        "max_requests": cfg.max_requests,
        "max_requests_jitter": cfg.max_requests_jitter,
        "preload_app": bool(cfg.preload_app),
        "reload": bool(cfg.reload),
        "daemon": bool(cfg.daemon),
        "pidfile": os.path.abspath(cfg.pidfile) if cfg.pidfile else None,
        "umask": cfg.umask,
        "uid": cfg.uid,
        "gid": cfg.gid,
        "user": user_name(cfg.uid),
        "group": group_name(cfg.gid),
        "chdir": cfg.chdir,
        "proc_name": cfg.proc_name,
        "raw_env": ["%s=%s" % pair for pair in cfg.env.items()],
        "changed": changed,
        "template_hooks": hooks,
        "statsd": bool(cfg.statsd_host),
        "warnings": warnings,
        "refused": refused,
    }


def judge(version, known, changed):
    """trimtab_settings.judge(), by path: our directory is nowhere by now, for the user's sake."""
    from importlib.util import module_from_spec, spec_from_file_location

    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "trimtab_settings.py")
    spec = spec_from_file_location("trimtab_settings", path)
    settings = module_from_spec(spec)
    spec.loader.exec_module(settings)
    return settings.judge(version, known, changed)


def address_text(address):
    """One bind address as trimtab writes it; relative unix paths end where gunicorn's do."""
    if isinstance(address, int):
        return "fd://%d" % address
    if isinstance(address, str):
        return "unix:" + os.path.abspath(address)
    host, port = address
    return ("[%s]:%d" if ":" in host else "%s:%d") % (host or "0.0.0.0", port)


def class_text(cfg):
    """The worker class by its short name where it has one; it is not imported."""
    name = cfg.settings["worker_class"].get()
    if not isinstance(name, str):
        return "%s.%s" % (name.__module__, name.__qualname__)
    if (name == "sync" or name.endswith("SyncWorker")) and cfg.threads > 1:
        return "gthread"
    return name


def is_changed(cfg, name):
    """Whether a setting differs from what gunicorn has when nobody says anything."""
    setting = cfg.settings[name] if name in cfg.settings else None
    return setting is not None and setting.get() != type(setting)().get()


def user_name(uid):
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None


def group_name(gid):
    import grp

    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return None


# ---- entry

def main(arguments):
    described = arguments[:1] == ["--describe"]
    if arguments[described:described + 1] != ["--"]:
        print("usage: trimtab_gunicorn.py [--describe] -- GUNICORN_ARGS...", file=sys.stderr)
        return 2
    leave_no_trace(arguments[described + 1:])
    return describe() if described else work()


def leave_no_trace(gunicorn_arguments):
    """Look like gunicorn to the application: its argv, and our directory nowhere."""
    own = os.path.dirname(os.path.abspath(__file__))
    if sys.path and os.path.abspath(sys.path[0] or ".") == own:
        del sys.path[0]
    sys.argv = ["gunicorn"] + gunicorn_arguments


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
