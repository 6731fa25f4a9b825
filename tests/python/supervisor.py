"""Plays the supervisor for the adapter's tests: sockets, notifications, fork and exec.

Everything is waited for: a datagram, an exit, an answer. DEADLINE_SEC bounds a test that
hangs; no test measures time.
"""
import ctypes
import functools
import http.client
import importlib.util
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import unittest

ADAPTER = os.path.realpath(os.path.join(os.path.dirname(__file__),
                                        "../../src/python/trimtab_gunicorn.py"))
# Another interpreter for the workers, and directories for its PYTHONPATH: another gunicorn.
PYTHON = os.environ.get("TRIMTAB_TEST_PYTHON", sys.executable)
OTHER_PATH = os.environ.get("TRIMTAB_TEST_PYTHONPATH", "")
DEADLINE_SEC = 60


# The worker classes under test, as gunicorn's arguments, and the object that each serves.
KINDS = {
    "sync": (["-k", "sync"], "app:wsgi"),
    "gthread": (["-k", "gthread", "--threads", "4"], "app:wsgi"),
    "gevent": (["-k", "gevent"], "app:wsgi"),
    "uvicorn": (["-k", "uvicorn.workers.UvicornWorker"], "app:asgi"),
    "asgi": (["-k", "asgi"], "app:asgi"),
}

# "/" says what the process is; "/hold" stops at the gate; "/fork" has a child stopped.
APPLICATION = '''
import asyncio, ctypes, json, os, posix, signal, sys

def gate(name):
    with open(name + ".in", "w") as arrived:
        arrived.write("x")
    with open(name + ".out") as leave:
        leave.read(1)

def death_signal():
    number = ctypes.c_int(0)
    ctypes.CDLL(None).prctl(2, ctypes.byref(number), 0, 0, 0)
    return number.value

DEATH_SIGNAL = death_signal()  # here, as each thread has its own

def stop_a_child():
    # Not os.fork: gevent's loses a child that ends at once, as gunicorn resets SIGCHLD.
    pid = posix.fork()
    if pid == 0:
        os.kill(os.getpid(), signal.SIGTERM)
        os._exit(0)
    posix.waitpid(pid, 0)

def facts():
    return json.dumps({
        "pid": os.getpid(), "argv": sys.argv, "path": sys.path, "cwd": os.getcwd(),
        "uid": os.getuid(), "gid": os.getgid(), "death_signal": DEATH_SIGNAL,
        "environ": dict(os.environ)})

def work(path):
    if path == "/hold":
        gate("hold")
    if path == "/fork":
        stop_a_child()
    return facts().encode()

def wsgi(environ, start_response):
    body = work(environ["PATH_INFO"])
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]

async def asgi(scope, receive, send):
    if scope["type"] == "lifespan":
        return await lifespan(receive, send)
    body = await asyncio.get_running_loop().run_in_executor(None, work, scope["path"])
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})

async def lifespan(receive, send):
    await receive()
    if os.path.exists("startup.in"):
        await asyncio.get_running_loop().run_in_executor(None, gate, "startup")
    if os.path.exists("fail"):
        return await send({"type": "lifespan.startup.failed", "message": "no database"})
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})
'''


class Message:
    """One datagram: its variables, in order, and the pid that the kernel vouches for."""

    def __init__(self, text, pid):
        self.text, self.pid = text, pid
        self.fields = dict(line.split("=", 1) for line in text.splitlines())

    def __repr__(self):
        return "<%r from %d>" % (self.text, self.pid)


class Case(unittest.TestCase):
    """A directory with an application, and workers that do not outlive the test."""

    def setUp(self):
        self._directory = tempfile.TemporaryDirectory(prefix="trimtab-")
        self.addCleanup(self._directory.cleanup)
        self.directory = os.path.realpath(self._directory.name)

    def application(self):
        self.write("app.py", APPLICATION)

    def path(self, name):
        return os.path.join(self.directory, name)

    def write(self, name, text):
        os.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
        with open(self.path(name), "w") as file:
            file.write(text)

    def read(self, name):
        with open(self.path(name), errors="replace") as file:
            return file.read()

    def describe(self, *arguments, **environment):
        return subprocess.run([PYTHON, ADAPTER, "--describe", "--", *arguments],
                              cwd=self.directory, env=test_environment(environment),
                              stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=DEADLINE_SEC)

    def described(self, *arguments, **environment):
        done = self.describe(*arguments, **environment)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)

    def worker(self, *arguments, **options):
        worker = Worker(self, arguments, **options)
        self.addCleanup(worker.close)
        return worker


def needed(kind):
    """gunicorn's arguments for that kind of worker; skips where it cannot be had."""
    reason = why_missing(KINDS[kind][0][1])
    if reason:
        raise unittest.SkipTest("no %s worker in this gunicorn: %s" % (kind, reason))
    return [*KINDS[kind][0], KINDS[kind][1]]


@functools.lru_cache(maxsize=None)
def why_missing(worker_class):
    """Why the gunicorn under test cannot load that class; "" when it can."""
    done = subprocess.run([PYTHON, "-c", "import sys, gunicorn.util as util\n"
                           "util.load_class(sys.argv[1])", worker_class],
                          env=test_environment({}), capture_output=True, text=True)
    lines = [line for line in done.stderr.splitlines() if "Error: " in line]
    return "" if done.returncode == 0 else "".join(lines[:1]) or done.stderr


def import_adapter():
    """The adapter as a module, for what needs no process."""
    sys.path.insert(0, os.path.dirname(ADAPTER))  # as when it is run by path
    spec = importlib.util.spec_from_file_location("trimtab_gunicorn", ADAPTER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_environment(extra):
    kept = {name: value for name, value in os.environ.items()
            if not name.startswith(("GUNICORN_", "LISTEN_", "NOTIFY_", "WATCHDOG_", "TRIMTAB_"))
            and name not in ("WEB_CONCURRENCY", "PORT", "PYTHONPATH")}
    if OTHER_PATH:
        kept["PYTHONPATH"] = OTHER_PATH
    kept.update((name, value) for name, value in extra.items() if value is not None)
    return kept


def tcp_listener(address=("127.0.0.1", 0), backlog=64):
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(address)
    listener.listen(backlog)
    return listener


def unix_listener(path):
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    listener.listen(64)
    return listener


class Gate:
    """A place where the application stops until it is let on."""

    def __init__(self, case, name):
        os.mkfifo(case.path(name + ".in"))
        os.mkfifo(case.path(name + ".out"))
        self.arrivals = os.open(case.path(name + ".in"), os.O_RDONLY | os.O_NONBLOCK)
        self._way_on = os.open(case.path(name + ".out"), os.O_RDWR)
        case.addCleanup(os.close, self.arrivals)
        case.addCleanup(os.close, self._way_on)

    def open(self):
        os.write(self._way_on, b"x")


PR_SET_CHILD_SUBREAPER = 36


class Worker:
    """One adapter process and the supervisor's ends of what it was given."""

    def __init__(self, case, arguments, listeners=None, watchdog_usec=None, environment=None,
                 bound=True, notify="notify", before_exec=None, between=False):
        """between: have a process of its own for parent, which orphan() kills."""
        self.case = case
        self.messages = []
        self.listeners = [tcp_listener()] if listeners is None else listeners
        self.output = open(case.path("output"), "w")
        self.notify = None
        self.listen_for_messages()
        self.status = None
        self._before_exec = before_exec
        self._bound = bound
        self._argv = [PYTHON, ADAPTER, "--", *arguments]
        self._env = self._environment(notify, watchdog_usec)
        self._env.update(environment or {})
        self._between = None
        if between:
            self._start_between()
        else:
            self.pid = self._start()
        self.pidfd = os.pidfd_open(self.pid)

    def _environment(self, notify, watchdog_usec):
        env = test_environment({})
        env["LISTEN_FDS"] = str(len(self.listeners))
        env["LISTEN_FDNAMES"] = ":".join(["web"] * len(self.listeners))
        env["TRIMTAB_WORKER"] = "7"
        if notify:
            env["NOTIFY_SOCKET"] = self.case.path(notify)
        if watchdog_usec:
            env["WATCHDOG_USEC"] = str(watchdog_usec)
        return env

    def _start(self):
        if self._bound:
            self._env["TRIMTAB_SUPERVISOR_PID"] = str(os.getpid())
        pid = os.fork()
        if pid == 0:
            self._exec()
        return pid

    def _start_between(self):
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        inner, outer = os.pipe()
        self._between = os.fork()
        if self._between == 0:
            os.write(outer, b"%d" % self._start())
            signal.pause()
        os.close(outer)
        self.pid = int(os.read(inner, 20))
        os.close(inner)

    def _exec(self):
        try:
            os.chdir(self.case.directory)
            high = [os.dup2(listener.fileno(), 100 + i)
                    for i, listener in enumerate(self.listeners)]
            os.dup2(self.output.fileno(), 1)
            os.dup2(self.output.fileno(), 2)
            for i, fd in enumerate(high):
                os.dup2(fd, 3 + i, inheritable=True)
            os.closerange(3 + len(high), 256)
            self._env.setdefault("LISTEN_PID", str(os.getpid()))
            self._env.setdefault("WATCHDOG_PID", str(os.getpid()))
            if self._before_exec:
                self._before_exec()
            os.execve(self._argv[0], self._argv, self._env)
        finally:
            os._exit(127)

    def listen_for_messages(self):
        """Have a notification socket; called again, a new one at the same place."""
        if self.notify is not None:
            self.notify.close()
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.notify.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        path = self.case.path("notify")
        if os.path.exists(path):
            os.unlink(path)
        self.notify.bind(path)
        os.chmod(path, 0o777)

    def log(self):
        return self.case.read("output")

    # -- waiting

    def receive(self):
        """Take in one message. Returns whether there was one."""
        try:
            text, control, _, _ = self.notify.recvmsg(65536, socket.CMSG_SPACE(12))
        except BlockingIOError:
            return False
        pid = struct.unpack("3i", control[0][2])[0]
        self.messages.append(Message(text.decode(), pid))
        return True

    def wait_for(self, name, value=None):
        """Wait for a message with that variable. Fails when the worker ends without it."""
        seen = 0
        while True:
            ended = self.has_ended()
            while self.receive():
                pass
            for message in self.messages[seen:]:
                if name in message.fields and value in (None, message.fields[name]):
                    return message
            seen = len(self.messages)
            if ended:
                self.case.fail("ended without %s=%s; said %r; wrote:\n%s"
                               % (name, value, self.messages, self.log()))
            self._wait(self.notify, self.pidfd)

    def wait_at(self, gate):
        """Wait until the application stops at the gate."""
        self._wait(gate.arrivals, self.pidfd)
        if not self._ready_now(gate.arrivals):
            self.case.fail("ended before the gate; wrote:\n%s" % self.log())
        os.read(gate.arrivals, 1)

    def wait_exit(self):
        """Wait for the end. Returns the exit status, negative for a signal."""
        if self.status is None:
            self._wait(self.pidfd)
            self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            while self.receive():
                pass
        return self.status

    def has_ended(self, within_sec=0):
        return bool(select.select([self.pidfd], [], [], within_sec)[0])

    @staticmethod
    def _ready_now(source):
        return bool(select.select([source], [], [], 0)[0])

    def _wait(self, *sources):
        if not select.select(sources, [], [], DEADLINE_SEC)[0]:
            self.case.fail("nothing happened; said %r; wrote:\n%s"
                           % (self.messages, self.log()))

    # -- asking

    def ready(self):
        self.wait_for("READY", "1")
        return self

    def said(self, name):
        """The values of that variable in the order they came in so far."""
        while self.status is None and self.receive():
            pass
        return [message.fields[name] for message in self.messages if name in message.fields]

    def kill(self, number):
        signal.pidfd_send_signal(self.pidfd, number)

    def stop(self, number=signal.SIGTERM):
        """Ask for an end. Returns the exit status."""
        self.kill(number)
        return self.wait_exit()

    def orphan(self):
        os.kill(self._between, signal.SIGKILL)
        os.waitpid(self._between, 0)
        self._between = None

    def send(self, path="/", listener=0):
        """Send one request on a connection of its own. Returns the connection."""
        listener = self.listeners[listener]
        client = socket.socket(listener.family, socket.SOCK_STREAM)
        client.settimeout(DEADLINE_SEC)
        client.connect(listener.getsockname())
        client.sendall(b"GET %s HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
                       % path.encode())
        return client

    def answer(self, client):
        """What the application said on that connection; the worker is done with it then."""
        with client:
            response = http.client.HTTPResponse(client)
            response.begin()
            body = response.read().decode()
            while client.recv(4096):
                pass
        self.case.assertEqual(response.status, 200, body)
        return json.loads(body)

    def get(self, path="/", listener=0):
        return self.answer(self.send(path, listener))

    def close(self):
        if self._between is not None:
            self.orphan()
        if self.status is None:
            self.kill(signal.SIGKILL)
            self.wait_exit()
        os.close(self.pidfd)
        self.notify.close()
        self.output.close()
        for listener in self.listeners:
            listener.close()
