"""One server as an operator sees it, be it trimtab or gunicorn: a process to start, signal and ask.

What a behaviour may look at is the same for both: the answers of the application, what gunicorn's
own hooks in the workers note in a file (Server.notes), processes, files, sockets, exit statuses, and
the log where the behaviour is about the log. So a test that passes with gunicorn and with trimtab
has seen the same thing twice.
"""
import contextlib
import http.client
import os
import re
import signal
import subprocess
import sys
import threading

from pools import DEADLINE_SEC, Pool, Watched, children, clean_environment, get, stat_fields, until

# An application whose every path is an event or a question, and hooks that note what happens.
APPLICATION = '''
import json, os, select, sys, time

def note(*words):
    fd = os.open(os.environ["NOTES"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    words += (time.monotonic(),)
    os.write(fd, (" ".join(str(word) for word in words) + "\\n").encode())
    os.close(fd)

note("load", os.getpid())
AT_IMPORT = dict(os.environ)

def hold(name):
    """Says that it is here, and stays until somebody writes there. Signals are handled meanwhile."""
    gate = os.open(name, os.O_RDWR)
    note("hold", os.getpid())
    select.select([gate], [], [])
    os.close(gate)

def orphan(status):
    if os.fork() == 0:
        if os.fork() == 0:
            os._exit(int(status))
        os._exit(0)
    os.wait()

def umask():
    mask = os.umask(0o022)
    os.umask(mask)
    return mask

def answer(path, query):
    if path == "/hold":
        hold(query)
    elif path == "/exit":
        os._exit(int(query))
    elif path == "/raise":
        os.kill(os.getpid(), int(query))
    elif path == "/orphan":
        orphan(query)
    elif path == "/env":
        return json.dumps(dict(os.environ))
    elif path == "/import":
        return json.dumps(AT_IMPORT)
    elif path == "/who":
        return json.dumps({"pid": os.getpid(), "uid": os.getuid(), "gid": os.getgid(),
                           "groups": os.getgroups(), "cwd": os.getcwd(), "argv": sys.argv,
                           "path": sys.path, "umask": umask()})
    elif path == "/stdout":
        print(query, flush=True)
    elif path == "/stderr":
        print(query, file=sys.stderr, flush=True)
    return str(os.getpid())

def app(environ, start_response):
    text = answer(environ["PATH_INFO"], environ.get("QUERY_STRING", "")).encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(text)))])
    return [text]

async def asgi(scope, receive, send):
    if scope["type"] != "http":
        return
    text = answer(scope["path"], scope["query_string"].decode()).encode()
    await send({"type": "http.response.start", "status": 200,
                "headers": [(b"content-length", b"%d" % len(text))]})
    await send({"type": "http.response.body", "body": text})
'''

HOOKS = '''
import os, time
def note(*words):
    fd = os.open(os.environ["NOTES"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    words += (time.monotonic(),)
    os.write(fd, (" ".join(str(word) for word in words) + "\\n").encode())
    os.close(fd)
def post_fork(server, worker): note("fork", os.getpid())
def post_worker_init(worker): note("init", os.getpid())
def worker_abort(worker): note("abort", os.getpid())
def worker_exit(server, worker): note("exit", os.getpid())
'''


class NotSo(AssertionError):
    """The server does not behave like that."""


class Server:
    """What trimtab and gunicorn have in common."""

    is_trimtab = False

    def __init__(self, trial, python_path):
        self.trial = trial
        self.notes_path = trial.new_notes()
        self.environment = {"NOTES": self.notes_path, "XDG_RUNTIME_DIR": trial.directory,
                            "HOME": trial.directory}
        if python_path:
            self.environment["PYTHONPATH"] = python_path

    # -- its notes

    def notes(self, word=None):
        """What the application and its hooks wrote, as lists of words; of one kind, if it is named."""
        return [words[:-1] for words in self._lines_of(word)]

    def times(self, word):
        """When those were written, in seconds."""
        return [float(words[-1]) for words in self._lines_of(word)]

    def _lines_of(self, word):
        with open(self.notes_path, encoding="utf-8") as file:
            lines = [line.split() for line in file if line.endswith("\n")]
        return [line for line in lines if word is None or line[0] == word]

    def pids(self, word):
        return [int(line[1]) for line in self.notes(word)]

    def wait_note(self, word, count=1):
        """Until that was noted so often. Returns the pid of the count-th."""
        def there():
            if len(self.notes(word)) >= count:
                return True
            self.check_lives()
            return False
        until(there, f"{count} notes of {word}")
        return self.pids(word)[count - 1]

    # -- its workers

    def workers(self):
        """Pids of the workers that have booted and still live."""
        booted = set(self.pids("init"))
        return {pid for pid in children(self.pid) & booted if is_alive(pid)}

    def wait_workers(self, count, other_than=()):
        """Until exactly so many have booted and live, none of them among those."""
        def there():
            now = self.workers()
            if len(now) == count and not now & set(other_than):
                return now
            self.check_lives()
            return None
        return until(there, f"{count} workers")

    # -- asking it

    def get(self, path="/", address=None, timeout=None):
        return get(address or self.address, path, timeout)

    def try_to_get(self, path="/"):
        """An answer, or None when the connection breaks off."""
        try:
            return self.get(path)
        except (OSError, http.client.HTTPException):
            return None

    def ask(self, path):
        """In a thread of its own; .result() is the answer or what became of it."""
        return self.trial.executor.submit(self.get, path)

    def hold(self):
        """A request that does not end until it is let go. Returns (its answer, letting go, pid)."""
        name = self.trial.new_gate()
        n_held = len(self.notes("hold"))
        answer = self.ask(f"/hold?{name}")
        pid = self.wait_note("hold", n_held + 1)
        return answer, lambda: open_gate(name), pid

    # -- its process

    def send(self, number):
        self.process.send_signal(number)

    def stop(self, number=signal.SIGTERM):
        self.send(number)
        return self.wait_exit()

    def has_ended(self):
        return self.process.poll() is not None

    def watch(self, pid):
        watched = Watched(pid)
        self.trial.at_end(watched.close)
        self.trial.at_end(watched.kill)
        return watched

    def wait_text(self, pattern, count=1):
        """Until the log has that so often. Returns the last match."""
        def matches():
            ended = self.has_ended()
            if ended:
                self.drain()
            found = list(re.finditer(pattern, self.text()))
            if len(found) < count and ended:
                raise NotSo(f"it ended without {pattern}")
            return found if len(found) >= count else None
        return until(matches, pattern)[count - 1]

    def check_lives(self):
        self.trial.check(not self.has_ended(), "it ended")


def is_cut(answer):
    """Whether a request was not served: gunicorn 24 and later answer 500 as they drop it."""
    return answer.exception() is not None or answer.result().status != 200


def open_gate(name):
    """Lets go whoever still waits there, and nobody else."""
    with contextlib.suppress(OSError):
        gate = os.open(name, os.O_WRONLY | os.O_NONBLOCK)
        os.write(gate, b"x")
        os.close(gate)


def is_alive(pid):
    with contextlib.suppress(OSError):
        return stat_fields(pid)[0] not in "ZX"
    return False


class Trimtab(Server):
    is_trimtab = True

    def __init__(self, trial, arguments, python_path=None, environment=None, cwd=None,
                 sets=(), launcher=(), **popen):
        super().__init__(trial, python_path)
        self.environment.update(environment or {})
        sets = ("restart.min-gap=10ms", "restart.min-gap-floor=10ms",
                f"pool.python={sys.executable}", *sets)
        self.pool = Pool("gunicorn", *arguments, sets=sets, environment=self.environment,
                         cwd=cwd or trial.directory, launcher=launcher, **popen)
        trial.at_end(self.pool.close)
        self.process, self.pid = self.pool.process, self.pool.pid

    @property
    def address(self):
        return self.pool.address

    def text(self):
        return "\n".join(record.get("MESSAGE") or record.get("RAW") or ""
                         for record in list(self.pool.records))

    def records(self, event=None, **fields):
        return self.pool.find(event, **fields)

    def wait_exit(self):
        return self.pool.wait_exit()

    def drain(self):
        self.pool.wait_exit()


class Gunicorn(Server):
    program = (sys.executable, "-m", "gunicorn")

    def __init__(self, trial, arguments, python_path=None, environment=None, cwd=None,
                 sets=(), launcher=(), **popen):
        super().__init__(trial, python_path)
        self.environment.update(environment or {})
        self.process = subprocess.Popen(
            [*launcher, *self.program, *arguments], cwd=cwd or trial.directory,
            env=clean_environment(**self.environment), stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True, **popen)
        self.pid = self.process.pid
        self._lines = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        trial.at_end(self._close)

    def _read(self):
        for line in self.process.stderr:
            self._lines.append(line.decode("utf-8", "replace").rstrip("\n"))

    @property
    def address(self):
        text = self.wait_text(r"Listening at: (\S+) \(").group(1).split(",")[0]
        if text.startswith("unix:"):
            return text[len("unix:"):]
        host, _, port = text.partition("://")[2].rpartition(":")
        return host.strip("[]"), int(port)

    def text(self):
        return "\n".join(self._lines)

    def wait_exit(self):
        status = self.process.wait(DEADLINE_SEC)
        self.drain()
        return status

    def drain(self):
        # Orphans of a killed master keep its stderr open.
        self._reader.join(5 if self.workers() else DEADLINE_SEC)

    def _close(self):
        everybody = [self.process.pid, *children(self.process.pid), *self.pids("fork")]
        for pid in everybody:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        self._reader.join(DEADLINE_SEC)
        self.process.stderr.close()


class Keeper:
    """One keep-alive connection."""

    def __init__(self, address):
        self.connection = http.client.HTTPConnection(*address, timeout=DEADLINE_SEC)

    def get(self, path="/"):
        self.connection.request("GET", path)
        response = self.connection.getresponse()
        return response.status, response.getheader("Connection"), response.read().decode()

    def is_closed(self):
        """Waits for what comes: nothing more, if the server closed it."""
        sock = self.connection.sock
        try:
            return sock is None or sock.recv(1) == b""
        except ConnectionResetError:
            return True

    def close(self):
        self.connection.close()
