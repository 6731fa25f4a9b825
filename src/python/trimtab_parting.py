"""Let a worker that was told to go lose no request on a connection that is kept alive.

Whoever closes an idle connection races with the client, whose next request may be on its way: it is
answered by a reset. Only a response that says `Connection: close` ends one without a race, so a
worker that leaves says that in each response from then on, and gives connections that are idle
LINGER_SEC to send one more request. After that they are closed as after keepalive's own time.
gunicorn's gevent does so by itself. gthread and uvicorn close what is idle at once, or end under it,
and gthread closes also what it has just promised to keep: 39 of 50,542 requests lost in 4 reloads.

What is done here stands on attributes of those two that are no public interface, so it looks for
each before it relies on it, and leaves a class alone that is not as expected. It must never keep a
worker for longer than LINGER_SEC after the last request that it was serving, and never take part in
a quick stop.
"""
import os
import selectors
import sys
import threading
import time

LINGER_SEC = 2.0  # as long as gunicorn's default of keepalive
INSTANT_SEC = 0.01
CLOSE = (b"connection", b"close")


def parting_of(worker, heartbeat):
    """What is to be done about this worker's connections: see Parting."""
    linger_sec = min(LINGER_SEC, worker.cfg.graceful_timeout / 2)
    if all(hasattr(worker, name) for name in Threads.NEEDS):
        return Threads(worker, linger_sec)
    if all(hasattr(getattr(worker, "config", None), name) for name in Uvicorn.NEEDS):
        return Uvicorn(worker, heartbeat, linger_sec)
    return Parting()


class Parting:
    """For a class that needs nothing: it closes every connection, or knows how to part."""

    def serves(self):
        """The worker's loop has begun."""

    def turn(self):
        """The worker's loop has come round once more."""

    def asked(self, leave):
        """SIGTERM has come, and leave() is what the class does about it. Returns whether that is
        called from here, when its time has come. In a signal handler."""
        return False


class Threads(Parting):
    """gthread, whose loop turns after each event and once a second.

    Until nobody is connected it goes on as if it had not been told to leave, but that it accepts
    nobody and finds no room to keep a connection in: so it says `Connection: close`.
    """

    NEEDS = ("poller", "tpool", "max_keepalived", "enqueue_req", "finish_request", "PIPE")

    def __init__(self, worker, linger_sec):
        self._worker, self._linger_sec = worker, linger_sec
        self._leave = None
        self._lets_in = True
        self._until = 0.0
        self._lock = threading.Lock()
        self._n_busy = 0
        self._count_requests(worker.enqueue_req, worker.finish_request)

    def _count_requests(self, enqueue, finish):
        def enqueue_counted(*arguments):
            enqueue(*arguments)
            with self._lock:
                self._n_busy += 1

        def finish_counted(*arguments):
            try:
                return finish(*arguments)
            finally:
                with self._lock:
                    self._n_busy -= 1
                if self._leave:
                    self._wake()

        self._worker.enqueue_req, self._worker.finish_request = enqueue_counted, finish_counted

    def serves(self):
        # Signals are written there. Unwatched, one would be noticed up to a second late.
        self._worker.poller.register(self._worker.PIPE[0], selectors.EVENT_READ, self._empty)

    def _empty(self, pipe):
        try:
            os.read(pipe, 4096)
        except BlockingIOError:
            pass

    def _wake(self):
        try:
            os.write(self._worker.PIPE[1], b".")
        except OSError:
            pass  # full, which wakes as well; or closed, and nobody is there to be woken

    def asked(self, leave):
        self._leave = leave
        self._worker.max_keepalived = 0
        self._wake()
        return True

    def turn(self):
        if not self._leave:
            return
        now = time.monotonic()
        if self._lets_in:
            self._lets_in = False
            self._shut_out()
            self._until = now + self._linger_sec
        with self._lock:
            n_busy = self._n_busy
        if n_busy > 0:
            self._until = now + self._linger_sec  # it may have been promised to be kept
            return
        idle = self._idle()
        if not idle or now >= self._until:
            for connection in idle:
                connection.timeout = 0  # after the loop's next look: who is heard then is served
            self._leave()
            self._wake()

    def _shut_out(self):
        worker = self._worker
        if hasattr(worker, "set_accept_enabled"):
            worker.worker_connections = 0  # as of gunicorn 24 the loop then stops accepting
            return
        for listener in worker.sockets:
            try:
                worker.poller.unregister(listener)
            except KeyError:
                pass

    def _idle(self):
        """Whom the loop waits to hear from: as gunicorn 20 names them, and as 24 does."""
        return [connection for name in ("_keep", "keepalived_conns", "pending_conns")
                for connection in list(getattr(self._worker, name, ()))]


class Uvicorn(Parting):
    """uvicorn, whose connections are objects of a class that its configuration names."""

    NEEDS = ("load", "loaded", "timeout_keep_alive")

    def __init__(self, worker, heartbeat, linger_sec):
        self._worker = worker
        config, load = worker.config, worker.config.load

        def load_lingering():
            load()
            config.http_protocol_class = lingering(config.http_protocol_class, heartbeat,
                                                   linger_sec)

        config.load = load_lingering

    def asked(self, leave):
        # asyncio's server drops what it has accepted in the very turn in which it is closed, which
        # comes a tenth of a second later. From now on it accepts nobody.
        asyncio = sys.modules["asyncio"]  # other classes need not have it
        loop = asyncio.get_running_loop()
        if isinstance(loop, asyncio.SelectorEventLoop):
            for listener in self._worker.sockets:
                loop.call_soon_threadsafe(loop.remove_reader, listener.fileno())
        return False


def lingering(base, heartbeat, linger_sec):
    """One of uvicorn's protocol classes, with another way to leave."""

    class Lingering(base):
        def connection_made(self, transport):
            super().connection_made(transport)
            if heartbeat.stopping:
                self.shutdown()  # it was accepted just before: nobody else will tell it

        def data_received(self, data):
            super().data_received(data)
            if heartbeat.stopping:
                self._make_it_the_last()

        def shutdown(self):
            if not self._is_idle():
                self._make_it_the_last()
                return
            # uvloop looks at its timers before it reads: a look later, what was sent is here.
            self.loop.call_later(linger_sec, self.loop.call_later, INSTANT_SEC, self._end)

        def _end(self):
            if self._is_idle() and not self.transport.is_closing():
                super().shutdown()

        def _is_idle(self):
            return self.cycle is None or self.cycle.response_complete

        def _make_it_the_last(self):
            # One that has begun cannot say so any more: it is kept, and asked for one more.
            cycle = self.cycle
            if not self._is_idle() and not cycle.response_started:
                cycle.default_headers = [*cycle.default_headers, CLOSE]
                cycle.keep_alive = False

    return Lingering
