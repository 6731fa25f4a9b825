"""What comes before a worker goes: its figures in the journal, and on-recycle."""
import concurrent.futures
import os
import signal
import unittest

from pools import Case, Load, children, until

QUICK = ("restart.min-gap=10ms", "restart.min-gap-floor=10ms")


class BlackBox(Case):
    def test_before_a_restart(self):
        pool = self.gunicorn("-w", "2", "--timeout", "3", sets=QUICK).wait_ready(2)
        until(lambda: pool.status()["workers"][0]["can_trim"], "its library says hello")
        pool.ctl("trim", "1")
        pid = pool.workers()[1]
        until(lambda: pool.get() and pool.status()["workers"][0]["requests"],
              "it says how many it has served")
        pool.ctl("recycle", "1")
        pool.wait("exit", pid=pid)
        box, = pool.find("black-box", pid=pid)
        self.assertEqual(box["TRIMTAB_STATE"], "restart")
        self.assertEqual(box["TRIMTAB_TRIMS"], "1")
        for name in ("USEC", "REQUESTS", "USAGE_BYTES", "RSS_BYTES", "PSS_BYTES", "PRIVATE_BYTES",
                     "BEFORE_BYTES", "AFTER_BYTES"):
            self.assertGreater(int(box["TRIMTAB_" + name]), 0, name)
        self.assertGreaterEqual(int(box["TRIMTAB_RSS_BYTES"]), int(box["TRIMTAB_PSS_BYTES"]))
        end = pool.find("exit", pid=pid)[0]
        self.assertLess(pool.records.index(box), pool.records.index(end))
        # A stop is no restart, and what was asked to go tells nothing at its end.
        self.assertEqual(pool.stop(), 0)
        self.assertEqual(len(pool.find("black-box")), 1)

    def test_of_the_dead(self):
        pool = self.gunicorn(sets=QUICK).wait_ready()
        pid = pool.workers()[1]
        os.kill(pid, signal.SIGKILL)
        box = pool.wait("black-box")
        self.assertEqual(box["TRIMTAB_PID"], str(pid))
        self.assertEqual(box["TRIMTAB_STATE"], "death")
        self.assertEqual(box["TRIMTAB_REASON"], "signal")
        self.assertGreater(int(box["TRIMTAB_USAGE_BYTES"]), 0)
        self.assertNotIn("TRIMTAB_RSS_BYTES", box)


class OnRecycle(Case):
    def pool_with(self, script, *sets, workers=1, **options):
        """One whose on-recycle is this shell script; $1 is the directory of the test."""
        path = self.write("on-recycle", "#!/bin/sh\n" + script)
        os.chmod(path, 0o755)
        return self.echo("ready", workers=workers,
                         sets=(*QUICK, f"restart.on-recycle={path} '{self.directory}'", *sets),
                         **options).wait_ready(workers)

    def read(self, name):
        with open(self.path(name), encoding="utf-8") as file:
            return file.read()

    def test_sees_the_worker_alive(self):
        pool = self.pool_with('env > "$1/env"; kill -0 $TRIMTAB_PID && echo yes > "$1/alive"\n')
        pid = pool.workers()[1]
        pool.ctl("recycle", "1")
        self.assertEqual(pool.wait("exit", pid=pid)["TRIMTAB_CAUSE"], "asked")
        self.assertEqual(self.read("alive"), "yes\n")
        environment = self.read("env").splitlines()
        for entry in (f"TRIMTAB_PID={pid}", "TRIMTAB_WORKER=1", f"TRIMTAB_POOL={pool.name}"):
            self.assertIn(entry, environment)
        self.assertTrue(any(e.startswith("TRIMTAB_REASON=") for e in environment))
        self.assertEqual(pool.find("problem"), [])
        self.assertEqual(pool.stop(), 0)
        self.assert_left_nothing(pool)

    def test_the_worker_serves_until_it_has_ended(self):
        for surge in ("never", "always"):
            with self.subTest(surge):
                fifo = self.path(surge)
                os.mkfifo(fifo)
                pool = self.pool_with(f'echo > "$1/{surge}.began"; read x < "$1/{surge}"\n',
                                      f"restart.surge={surge}",
                                      "restart.on-recycle-timeout=1h")
                pid = pool.workers()[1]
                with concurrent.futures.ThreadPoolExecutor() as clients, Load(pool.address) as load:
                    asked = clients.submit(pool.ctl, "recycle", "1")
                    until(lambda s=surge: os.path.exists(self.path(s + ".began")), "it runs")
                    load.wait_answered(10)
                    self.assertEqual(pool.find("exit"), [])
                    with open(fifo, "w", encoding="ascii") as file:
                        file.write("go\n")
                    self.assertEqual(pool.wait("exit", pid=pid)["TRIMTAB_CAUSE"], "asked")
                    asked.result()
                self.assertEqual(load.failures, [])
                self.assertEqual(len(pool.find("restart")), 1)
                self.assertEqual(pool.stop(), 0)
                self.assert_left_nothing(pool)

    def test_has_its_time(self):
        pool = self.pool_with('sleep 1000 & echo $! > "$1/child"; sleep 1000\n',
                              "restart.on-recycle-timeout=3s")
        pid = pool.workers()[1]
        with concurrent.futures.ThreadPoolExecutor() as clients:
            asked = clients.submit(pool.ctl, "recycle", "1")
            child = self.watch(until(lambda: os.path.exists(self.path("child")) and
                                     self.read("child").strip(), "it runs"))
            self.assertEqual(pool.wait("exit", pid=pid)["TRIMTAB_CAUSE"], "asked")
            asked.result()
        child.wait_gone()
        pool.wait("problem", MESSAGE=lambda m: "on-recycle-timeout" in m)

    def test_that_fails_holds_nothing_up(self):
        for script, says in (("exit 3\n", "status 3"), ("kill -9 $$\n", "signal 9")):
            with self.subTest(script):
                pool = self.pool_with(script)
                pid = pool.workers()[1]
                pool.ctl("recycle", "1")
                self.assertEqual(pool.wait("exit", pid=pid)["TRIMTAB_CAUSE"], "asked")
                pool.wait("problem", MESSAGE=lambda m, s=says: s in m)
        pool = self.echo("ready", sets=(*QUICK, "restart.on-recycle=no-such-program")).wait_ready()
        pid = pool.workers()[1]
        pool.ctl("recycle", "1")
        self.assertEqual(pool.wait("exit", pid=pid)["TRIMTAB_CAUSE"], "asked")
        pool.wait("problem", MESSAGE=lambda m: "status 127" in m)

    def test_a_stop_does_not_wait_for_it(self):
        pool = self.pool_with('echo $$ > "$1/pid"; exec sleep 1000\n',
                              "restart.on-recycle-timeout=1h")
        with concurrent.futures.ThreadPoolExecutor() as clients:
            asked = clients.submit(pool.ctl, "recycle", "1", check=False)
            command = self.watch(until(lambda: os.path.exists(self.path("pid")) and
                                       self.read("pid").strip(), "it runs"))
            self.assertEqual(pool.stop(), 0)
            asked.result()
        command.wait_gone()
        self.assert_left_nothing(pool)

    def test_a_worker_that_dies_meanwhile(self):
        pool = self.pool_with('echo $$ > "$1/pid"; exec sleep 1000\n',
                              "restart.on-recycle-timeout=1h", "restart.surge=never")
        pid = pool.workers()[1]
        with concurrent.futures.ThreadPoolExecutor() as clients:
            asked = clients.submit(pool.ctl, "recycle", "1", check=False)
            command = self.watch(until(lambda: os.path.exists(self.path("pid")) and
                                       self.read("pid").strip(), "it runs"))
            os.kill(pid, signal.SIGKILL)
            pool.wait("exit", pid=pid)
            asked.result()
        command.wait_gone()
        until(lambda: pool.workers().get(1) not in (None, pid), "it is replaced")
        until(lambda: children(pool.pid) == set(pool.workers().values()), "no zombie")

    def test_an_upgrade_ends_the_wait(self):
        pool = self.pool_with('echo $$ > "$1/pid"; exec sleep 1000\n',
                              "restart.on-recycle-timeout=1h", "restart.surge=always")
        pid = pool.workers()[1]
        with concurrent.futures.ThreadPoolExecutor() as clients:
            asked = clients.submit(pool.ctl, "recycle", "1", check=False)
            command = self.watch(until(lambda: os.path.exists(self.path("pid")) and
                                       self.read("pid").strip(), "it runs"))
            asked.result()
            pool.ctl("upgrade")
            self.assertEqual(pool.wait("exit", pid=pid)["TRIMTAB_CAUSE"], "asked")
        command.kill()
        until(lambda: children(pool.pid) == set(pool.workers().values()), "it is reaped")


if __name__ == "__main__":
    unittest.main()
