"""HTTP clients that tell how each request ended, alone or in a closed loop.

The words for how a request ends, in FAILURES and in every count here:

    refused     nobody listens, or lets us in
    reset       the connection broke after the request was sent
    closed      it ended before the whole answer was there
    raced       as these two, before the first byte of an answer, on a connection that had been kept
                alive: HTTP lets a client send a GET again then, and asks a server to avoid it
    late        no answer in DEADLINE_SEC
    wrong       another answer than the one that was asked for

A kept connection that the server has closed before the next request is sent is none of these: the
client sees it and opens another, and nothing is lost."""
import collections
import contextlib
import http.client
import json
import os
import select
import socket
import threading

DEADLINE_SEC = float(os.environ.get("TRIMTAB_TEST_DEADLINE", "120"))
FAILURES = ("refused", "reset", "closed", "raced", "late", "wrong")


class Answer(collections.namedtuple("Answer", "status text")):
    @property
    def json(self):
        return json.loads(self.text)


class Connection(http.client.HTTPConnection):
    """HTTP over TCP ("127.0.0.1", 80) or a unix path."""

    def __init__(self, address, timeout=None):
        super().__init__("localhost", timeout=timeout or DEADLINE_SEC)
        self._address = address

    def connect(self):
        if isinstance(self._address, str):
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.sock.settimeout(self.timeout)
            self.sock.connect(self._address)
        else:
            self.sock = socket.create_connection(self._address, self.timeout)


def get(address, path="/", timeout=None):
    """One request on a connection of its own."""
    with contextlib.closing(Connection(address, timeout)) as connection:
        connection.request("GET", path, headers={"Connection": "close"})
        response = connection.getresponse()
        return Answer(response.status, response.read().decode("utf-8", "replace"))


class Client:
    """One after the other, on a connection that it keeps for as long as the server does, or on a
    new one for each."""

    def __init__(self, address, keep=False):
        self._connection, self._keep = Connection(address), keep
        self._used = False

    def ask(self, path="/"):
        """Returns ("answered", the answer), or the word for how it ended and what was seen."""
        try:
            self._connect()
        except TimeoutError as error:
            return "late", repr(error)
        except OSError as error:
            return "refused", repr(error)
        word = self._exchange(path)
        if word[0] != "answered" or not self._keep:
            self.close()
        return word

    def connect(self):
        """Before it is asked for anything: OSError where that fails."""
        self._connection.connect()

    def close(self):
        self._connection.close()

    def _connect(self):
        if self._connection.sock is not None and is_over(self._connection.sock):
            self.close()
        self._used = self._connection.sock is not None
        if not self._used:
            self._connection.connect()

    def _exchange(self, path):
        connection, answer_began = self._connection, False
        try:
            connection.request("GET", path, headers={} if self._keep else {"Connection": "close"})
            response = connection.getresponse()
            answer_began = True
            answer = Answer(response.status, response.read().decode("utf-8", "replace"))
            return ("answered" if answer.status == 200 else "wrong"), answer
        except TimeoutError as error:
            return "late", repr(error)
        except (http.client.RemoteDisconnected, http.client.IncompleteRead) as error:
            word, why = "closed", repr(error)
        except OSError as error:
            word, why = "reset", repr(error)
        except http.client.HTTPException as error:
            return "wrong", repr(error)
        return "raced" if self._used and not answer_began else word, why


def is_over(sock):
    """Whether the other side has closed an idle connection: nothing else makes it readable."""
    return bool(select.select([sock], [], [], 0)[0])


class Load:
    """Clients in a closed loop. counts has how often a request ended in which way, failures what was
    seen of those that were not answered, pids which answer came how often."""

    def __init__(self, address, n_clients=2, path="/", keep=False):
        self.failures, self.counts, self.pids = [], collections.Counter(), collections.Counter()
        self._address, self._path, self._keep = address, path, keep
        self._over = threading.Event()
        self._leaving = threading.Event()
        self._changed = threading.Condition()
        self._threads = [threading.Thread(target=self._run, daemon=True)
                         for _ in range(n_clients)]

    def _run(self):
        with contextlib.closing(Client(self._address, self._keep)) as client:
            while not self._over.is_set():
                word, seen = client.ask(self._path)
                if word == "refused" and self._leaving.is_set():
                    return
                with self._changed:
                    self.counts[word] += 1
                    if word == "answered":
                        self.pids[seen.text.strip()] += 1
                    else:
                        self.failures.append(f"{word}: {seen}")
                    self._changed.notify_all()

    @property
    def answered(self):
        return self.counts["answered"]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def wait_answered(self, more):
        """Until so many more requests were answered."""
        with self._changed:
            goal = self.answered + more
            if not self._changed.wait_for(lambda: self.answered >= goal, DEADLINE_SEC):
                raise AssertionError(f"{goal - self.answered} answers are missing; "
                                     f"failures: {self.failures[:3]}")

    def expect_end(self):
        """The server is to stop now: a client that is refused from here on leaves, content."""
        self._leaving.set()

    def wait_end(self):
        """Until the last of them has been refused."""
        for thread in self._threads:
            thread.join(DEADLINE_SEC)
            if thread.is_alive():
                raise AssertionError(f"a client is still served; failures: {self.failures[:3]}")

    def __exit__(self, *_):
        self._over.set()
        for thread in self._threads:
            thread.join(DEADLINE_SEC)
