"""The examples of packaging/example/servers, just as they are, under load and trimmed without a
pause: every request is answered, no worker dies, and each did give memory back."""
import contextlib
import importlib.util
import json
import shutil
import socket
import unittest

from pools import EXAMPLE, Case, Load, until

SERVERS = f"{EXAMPLE}/servers"
N_REQUESTS, N_TRIMS = 100, 15  # in all; of each worker

# By the name of the program or of the module.
PACKAGES = {"gunicorn": "gunicorn", "flask": "python3-flask", "django": "python3-django",
            "gevent": "python3-gevent", "uvicorn": "uvicorn", "puma": "puma", "node": "nodejs",
            "php": "php-cli"}


class Applications(Case):
    def start(self, name, *sets):
        pool = self.pool("-c", f"{SERVERS}/{name}.ini", cwd=SERVERS, sets=("trim.gc=yes", *sets))
        pool.wait_ready(2)
        return pool

    def listening(self, name, *sets):
        """On a port of its own, instead of the one in the file."""
        pool = self.start(name, "pool.bind=", "pool.bind=127.0.0.1:0", *sets)
        return pool, [pool.address]

    def need(self, *names):
        for name in names:
            if not (shutil.which(name) or importlib.util.find_spec(name)):
                self.skipTest(f"{PACKAGES[name]} is not installed")

    def trim_hard(self, pool, loads):
        """Worker by worker, without a pause, until all of them have had enough of it."""
        trims = dict.fromkeys(pool.workers(), 0)
        while (min(trims.values()) < N_TRIMS or
               any(load.answered < N_REQUESTS for load in loads)):
            for number in trims:
                answer = json.loads(pool.ctl("--json", "trim", number, check=False).stdout)
                self.assertTrue(answer["ok"], f"{answer}\n{pool.log()}")
                trims[number] += 1
            self.assertEqual(sum((load.failures for load in loads), []), [], pool.log())

    def check(self, pool, addresses, trim=trim_hard, n_trims=N_TRIMS, python=True):
        # The library says hello from a thread of its own, so it may be later than READY=1.
        until(lambda: all(worker["can_trim"] for worker in pool.status()["workers"]), "a hello")
        before = pool.workers()
        self.assertEqual(len(before), 2)
        loads = [Load(address, n_clients=4 // len(addresses)) for address in addresses]
        with contextlib.ExitStack() as stack:
            for load in loads:
                stack.enter_context(load)
            trim(self, pool, loads)
        self.assertEqual(sum((load.failures for load in loads), []), [], pool.log())
        self.assertEqual(pool.workers(), before, pool.log())
        self.assertEqual(pool.find("exit"), [], pool.log())
        for worker in pool.status()["workers"]:
            said = worker["trim"]
            self.assertEqual((said["library"], said["allocator"], said["unanswered"]),
                             ("live", "glibc", 0), said)
            self.assertGreaterEqual(said["trims"], n_trims, said)
            self.assertEqual(said["pymalloc"] == "on", python, said)
        answered = {pid for load in loads for pid in load.pids}
        self.assertLessEqual(answered, {str(pid) for pid in before.values()})
        pool.stop()
        self.assert_left_nothing(pool)


class Gunicorn(Applications):
    def test_sync_with_flask(self):
        self.need("gunicorn", "flask")
        self.check(*self.listening("gunicorn-sync"))

    def test_gthread_with_django(self):
        self.need("gunicorn", "django")
        self.check(*self.listening("gunicorn-gthread"))

    def test_gevent_with_flask(self):
        self.need("gunicorn", "gevent", "flask")
        self.check(*self.listening("gunicorn-gevent"))

    def test_uvicorn_worker_class(self):
        self.need("gunicorn", "uvicorn")
        self.check(*self.listening("gunicorn-uvicorn"))

    def test_by_the_clock(self):
        """Without anybody who asks: the interval alone."""
        self.need("gunicorn", "django")

        def await_trims(_, pool, loads):
            for number in (1, 2):
                pool.wait("trim", count=5, worker=number, allocator="glibc",
                          reason=lambda text: "operator" not in text)
            loads[0].wait_answered(1)

        self.check(*self.listening("gunicorn-gthread", "trim.mode=periodic",
                                   "trim.interval=100ms..100ms", "memory.trim-at=1M"),
                   trim=await_trims, n_trims=5)


class Exec(Applications):
    def test_uvicorn(self):
        self.need("uvicorn")
        self.check(*self.listening("uvicorn"))

    def test_puma(self):
        self.need("puma")
        self.check(*self.listening("puma"), python=False)

    def test_node(self):
        self.need("node")
        self.check(*self.listening("node"), python=False)

    def test_php(self):
        self.need("php")
        first = self.two_free_ports() - 1
        pool = self.start("php", f"pool.env=FIRST_PORT={first}")
        addresses = [("127.0.0.1", first + number) for number in (1, 2)]
        self.check(pool, addresses, python=False)

    def two_free_ports(self):
        """Two in a row; nobody else is likely to take them until PHP does."""
        while True:
            with socket.socket() as low, socket.socket() as high:
                low.bind(("127.0.0.1", 0))
                port = low.getsockname()[1]
                try:
                    high.bind(("127.0.0.1", port + 1))
                except (OSError, OverflowError):
                    continue
                return port


if __name__ == "__main__":
    unittest.main()
