"""HTTP by hand: http.client takes seconds to import here, and hides how a connection ended."""
import json
import socket
import threading
import time

from .check import PATIENCE, Failure, wait_until

# A request may wait for a worker that is being replaced, in a guest twelve times slower.
REQUEST_TIMEOUT = 60


def _connect(address):
    if isinstance(address, str):
        s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        s.settimeout(REQUEST_TIMEOUT)
        s.connect(address)
        return s
    return socket.create_connection(address, REQUEST_TIMEOUT)


def _request(address, path):
    """Returns (outcome, body): outcome is "ok", or what went wrong, in one word."""
    try:
        with _connect(address) as s:
            s.sendall(f"GET {path} HTTP/1.1\r\nHost: vm\r\nConnection: close\r\n\r\n".encode())
            data = b""
            while chunk := s.recv(65536):
                data += chunk
    except ConnectionRefusedError:
        return "refused", b""
    except FileNotFoundError:
        return "refused", b""
    except (ConnectionResetError, BrokenPipeError):
        return "reset", b""
    except TimeoutError:
        return "timeout", b""
    head, separator, body = data.partition(b"\r\n\r\n")
    if not separator:
        return "closed", data
    status, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.strip().lower(): value.strip()
               for name, _, value in (line.partition(":") for line in lines)}
    if "content-length" in headers and len(body) < int(headers["content-length"]):
        return "closed", body
    if headers.get("transfer-encoding") == "chunked":
        body = _unchunk(body)
        if body is None:
            return "closed", data
    if status.split()[1:2] != ["200"]:
        return "wrong", body
    return "ok", body


def _unchunk(data):
    body = b""
    while True:
        size, separator, data = data.partition(b"\r\n")
        if not separator:
            return None
        size = int(size, 16)
        if size == 0:
            return body
        body, data = body + data[:size], data[size + 2:]


def ask(address, path="/"):
    """One request that must succeed; returns the reply's JSON."""
    outcome, body = _request(address, path)
    if outcome != "ok":
        raise Failure(f"GET {path}: {outcome} {body[:200]!r}")
    return json.loads(body)


def ask_each(address, path, n_workers, patience=PATIENCE):
    """Asks until n_workers different processes have answered; returns {pid: reply}. The kernel
    gives a connection to whichever worker wakes first, so a held request keeps each worker busy
    while the next one is asked."""
    replies = {}
    deadline = time.monotonic() + patience
    lock = threading.Lock()

    def one():
        outcome, body = _request(address, path)
        if outcome == "ok":
            reply = json.loads(body)
            with lock:
                replies[reply["pid"]] = reply

    while len(replies) < n_workers:
        if time.monotonic() > deadline:
            raise Failure(f"only {sorted(replies)} of {n_workers} workers answered {path}")
        threads = [threading.Thread(target=one) for _ in range(2 * n_workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return replies


class Load:
    """Steady requests in the background. Counts how each ended: ok, refused, reset, closed
    (before the whole reply), timeout, wrong (another status, or not this application). Keeps
    what was answered, with the seconds that it took under `took`."""

    def __init__(self, address, path="/", threads=2, pause=0.1):
        self.address, self.path, self.pause = address, path, pause
        self.counts = {}
        self.pids = set()
        self.answers = []
        self.first_faults = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(threads)]

    def _run(self):
        while not self._stop.is_set():
            asked = time.monotonic()
            outcome, body = _request(self.address, self.path)
            took = time.monotonic() - asked
            pid = None
            if outcome == "ok":
                try:
                    reply = json.loads(body)
                    pid = reply["pid"]
                except (ValueError, KeyError):
                    outcome = "wrong"
            with self._lock:
                self.counts[outcome] = self.counts.get(outcome, 0) + 1
                if pid:
                    self.pids.add(pid)
                    self.answers.append(reply | {"took": took})
                elif len(self.first_faults) < 5:
                    self.first_faults.append(
                        f"{outcome} at {time.monotonic():.2f} after {took:.2f} s"
                        f" {body[:80]!r}")
            self._stop.wait(self.pause)

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception):
        self.stop()

    def stop(self):
        self._stop.set()
        for thread in self._threads:
            thread.join()
        return self

    def wait_more(self, n_replies, patience=PATIENCE):
        """Until so many more requests were answered."""
        wanted = self.counts.get("ok", 0) + n_replies
        wait_until(lambda: self.counts.get("ok", 0) >= wanted, f"{wanted} replies", patience)

    @property
    def failed(self):
        return sum(n for outcome, n in self.counts.items() if outcome != "ok")

    def __str__(self):
        text = ", ".join(f"{n} {outcome}" for outcome, n in sorted(self.counts.items()))
        return text + (": " + "; ".join(self.first_faults) if self.first_faults else "")

    def expect_no_failure(self):
        if self.failed or not self.counts.get("ok"):
            raise Failure(f"requests: {self}")
