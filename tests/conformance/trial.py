"""Behaviours, how each is tried, and what it says.

A behaviour is a function of a Trial, which starts servers of one kind. It is tried with trimtab,
and with gunicorn as control: what gunicorn has must pass there too, and what it lacks must fail
there, so that every test has been seen to do what it should.
"""
import concurrent.futures
import contextlib
import os
import shutil
import tempfile
from dataclasses import dataclass
from typing import Callable, Optional

from servers import APPLICATION, HOOKS, NotSo, Trimtab, open_gate

ALL = {}  # number -> Behaviour


@dataclass
class Behaviour:
    number: int
    title: str
    function: Callable
    gunicorn: object        # passes there: ALWAYS, a version from which on, NEVER, whether it does
                            # as a function of the version; NO_CONTROL: not tried there
    differs: str            # how trimtab differs on purpose, or ""
    needs: Optional[Callable]   # says what this machine lacks for it, or None

    def expects(self, version):
        """Whether gunicorn of that version must pass; None: nothing to see there."""
        if self.gunicorn is NO_CONTROL:
            return None
        if callable(self.gunicorn):
            return self.gunicorn(version)
        return self.gunicorn is not NEVER and version >= self.gunicorn

    @property
    def verdict(self):
        if self.differs:
            return "differs: " + self.differs
        if self.gunicorn == ALWAYS:
            return "same"
        if isinstance(self.gunicorn, tuple):
            return "as gunicorn " + ".".join(map(str, self.gunicorn))
        return "better"


ALWAYS = (0,)
NEVER = "never"
NO_CONTROL = "no control"


def behaviour(number, title, gunicorn=ALWAYS, differs="", needs=None):
    def declare(function):
        assert number not in ALL, number
        ALL[number] = Behaviour(number, title, function, gunicorn, differs, needs)
        return function
    return declare


class Trial:
    def __init__(self, server_class, version, python_path):
        self._class, self.version, self._python_path = server_class, version, python_path
        self.is_trimtab = server_class is Trimtab
        self.directory = os.path.realpath(tempfile.mkdtemp(prefix="conformance-"))
        self.executor = concurrent.futures.ThreadPoolExecutor(64)
        self._stack = contextlib.ExitStack()
        self._n_servers = self._n_gates = 0
        self.servers = []
        os.chmod(self.directory, 0o755)  # workers may run as somebody else
        self.write("app.py", APPLICATION)

    # -- files

    def path(self, name):
        return os.path.join(self.directory, name)

    def write(self, name, text, mode="w"):
        os.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
        with open(self.path(name), mode, encoding="utf-8") as file:
            file.write(text)
        return self.path(name)

    def read(self, name):
        with open(self.path(name), encoding="utf-8", errors="replace") as file:
            return file.read()

    def new_notes(self):
        """An empty file for the notes of one server."""
        self._n_servers += 1
        path = self.write(f"notes-{self._n_servers}", "")
        os.chmod(path, 0o666)
        return path

    def new_gate(self):
        """A FIFO for a request to wait at; opened at the end at the latest."""
        self._n_gates += 1
        name = self.path(f"gate-{self._n_gates}")
        os.mkfifo(name)
        self.at_end(lambda: open_gate(name))
        return name

    # -- servers

    def start(self, *words, app="app:app", bind="127.0.0.1:0", hooks="", **options):
        """gunicorn's arguments, with a port and noting hooks; hooks= adds to the latter."""
        arguments = ["-c", self.write("hooks.py", HOOKS + hooks)]
        if bind:
            arguments += ["-b", bind]
        return self.run(*arguments, *words, *([app] if app else []), **options)

    def run(self, *arguments, **options):
        """Exactly these arguments."""
        server = self._class(self, arguments, self._python_path, **options)
        self.servers.append(server)
        return server

    def story(self):
        """What was seen of all servers, for people."""
        return "\n".join(f"{server.notes()}\n{server.text()}" for server in self.servers)

    def started(self, n_workers=1, *words, **options):
        """start(), until so many workers have booted."""
        server = self.start("-w", str(n_workers), *words, **options)
        server.wait_workers(n_workers)
        return server

    # -- judging

    def check(self, holds, otherwise):
        if not holds:
            raise NotSo(otherwise() if callable(otherwise) else otherwise)

    def equal(self, seen, wanted, what=""):
        self.check(seen == wanted, lambda: f"{what or 'seen'}: {seen!r}, not {wanted!r}")

    # -- the end

    def at_end(self, function):
        self._stack.callback(function)

    def close(self):
        try:
            self._stack.close()
        finally:
            self.executor.shutdown(wait=False, cancel_futures=True)
            shutil.rmtree(self.directory, ignore_errors=True)
