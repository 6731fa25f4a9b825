"""Nothing is lost: clients that keep their connections and never pause, while everything happens to
the pool that an operator does to one."""
import signal
import unittest

from pools import Case, Load, until

QUICK = ("restart.min-gap=10ms", "restart.min-gap-floor=10ms")
N_WORKERS = 3
N_EACH = 4


class Lossless(Case):
    def reload(self, pool):
        mark = pool.mark()
        pool.send(signal.SIGHUP)
        pool.wait("exit", count=N_WORKERS, since=mark)

    def recycle(self, pool, number):
        mark, pid = pool.mark(), pool.workers()[number]
        pool.ctl("recycle", number)
        self.assertEqual(pool.wait("exit", since=mark, pid=pid)["TRIMTAB_CAUSE"], "asked")

    def trim(self, pool, number):
        until(lambda: pool.status()["workers"][number - 1]["can_trim"], "its library says hello")
        pool.ctl("trim", number)

    def check_all_events(self, *words, **options):
        pool = self.gunicorn("-w", str(N_WORKERS), *words, sets=QUICK, **options)
        pool.wait_ready(N_WORKERS)
        number = 0

        def next_number():
            nonlocal number
            number = number % N_WORKERS + 1
            return number

        with Load(pool.address, n_clients=8, keep=True) as load:
            for _ in range(N_EACH):
                for event in (lambda: self.reload(pool),
                              lambda: self.recycle(pool, next_number()),
                              lambda: self.trim(pool, number)):
                    load.wait_answered(40)
                    event()
            load.wait_answered(40)
            pool.ctl("upgrade")
            load.wait_answered(40)
            load.expect_end()
            self.assertEqual(pool.stop(), 0)
            load.wait_end()
        self.assertEqual(load.failures, [], load.counts)
        self.assertEqual({record["TRIMTAB_CAUSE"] for record in pool.find("exit")}, {"asked"})
        self.assert_left_nothing(pool)

    def test_sync(self):
        self.check_all_events("-k", "sync")

    def test_gthread(self):
        self.check_all_events("-k", "gthread", "--threads", "4")

    def test_uvicorn(self):
        self.check_all_events("-k", "uvicorn.workers.UvicornWorker", app="asgi:app")

    def test_uvicorn_without_uvloop(self):
        self.check_all_events("-k", "uvicorn.workers.UvicornH11Worker", app="asgi:app")


if __name__ == "__main__":
    unittest.main()
