"""What is left behind, by a supervisor that was killed, by many ends, by many reloads; and what
the supervisor itself costs."""
import contextlib
import os
import signal
import socket
import unittest

from pools import TRIMTAB, Case, children, descriptors, until, zombies_of

N_CYCLES = int(os.environ.get("TRIMTAB_TEST_CYCLES", "500"))
QUICK = ("restart.min-gap=10ms", "restart.min-gap-floor=10ms", "restart.backoff-max=100ms")


class SupervisorKilled(Case):
    def test_workers_die_with_it(self):
        for kind in ("echo", "gunicorn"):
            with self.subTest(kind):
                pool = (self.echo("ready", workers=2) if kind == "echo"
                        else self.gunicorn("-w", "2")).wait_ready(2)
                workers = [self.watch(pid) for pid in pool.workers().values()]
                pool.process.kill()
                pool.wait_exit()
                for worker in workers:
                    worker.wait_gone()

    def test_the_next_one_cleans_up(self):
        """Children of dead workers, leaves and socket files, those of slots that it has not
        itself included."""
        first = self.echo("ready", workers=3, runtime=self.directory, name="again")
        first.wait_ready(3)
        if not first.cgroup():
            self.skipTest("no cgroup can be made here")
        left = {}
        until(lambda: left.update({leaf_of(pid := first.get("/fork?session").text): pid})
              or len(left) == 3, "a child in every leaf")
        left = [self.watch(pid) for pid in left.values()]
        first.process.kill()
        first.wait_exit()
        first.wait_workers_gone()
        self.assertFalse(any(process.is_gone() for process in left))

        second = self.echo("ready", workers=1, runtime=self.directory, name="again").wait_ready()
        self.assertEqual(second.get().status, 200)
        self.assertEqual(second.stop(), 0)
        for process in left:
            process.wait_gone()
        self.assert_left_nothing(second)


def leaf_of(pid):
    with open(f"/proc/{pid.strip()}/cgroup", encoding="ascii") as file:
        return [line.strip() for line in file if line.startswith("0::")][0]


class Leftovers(Case):
    """Descriptors, children, leaves: the same after as before."""

    def state(self, pool):
        # Whatever was due before the second answer has been dealt with. This connection stays.
        if not hasattr(self, "_control"):
            self._control = socket.socket(socket.AF_UNIX)
            self.addCleanup(self._control.close)
            self._control.connect(os.path.join(pool.runtime, f"{pool.name}.sock"))
        for _ in range(2):
            self._control.sendall(b"status\n")
            while not self._control.recv(1 << 16).endswith(b"\n"):
                pass
        leaves = pool.leaves()
        # A leaf has its own, for as long as it is kept.
        found = [target.split(":")[0] for target in descriptors(pool.pid).values()
                 if not any(f"/{leaf}" in target for leaf in leaves)]
        return {"descriptors": sorted(found), "children": len(children(pool.pid)),
                "zombies": zombies_of(pool.pid), "leaves": leaves}

    def assert_same(self, pool, before):
        """Soon: the connection of the last operator, the last old worker, may just be going."""
        with contextlib.suppress(AssertionError):
            until(lambda: self.state(pool) == before, "the same as before", 30)
        self.assertEqual(self.state(pool), before)

    def test_crashes(self):
        """A worker that says READY=1 and dies of a signal, again and again."""
        pool = self.echo("ready", workers=2, sets=QUICK).wait_ready(2)
        before = self.state(pool)
        for _ in range(N_CYCLES // 2):
            mark = pool.mark()
            for pid in pool.workers().values():
                os.kill(pid, signal.SIGKILL)
            pool.wait("ready", count=2, since=mark)
        until(lambda: len(pool.workers()) == 2, "both serve")
        self.assert_same(pool, before)
        self.assertEqual(len(pool.find("exit", cause="signal")), N_CYCLES // 2 * 2)
        self.assertEqual(pool.stop(), 0)
        self.assert_left_nothing(pool)

    def test_crashes_that_leave_children(self):
        pool = self.echo("ready", "fork", workers=2, sets=QUICK).wait_ready(2)
        before = self.state(pool)
        for _ in range(50):
            mark = pool.mark()
            for pid in pool.workers().values():
                os.kill(pid, signal.SIGKILL)
            pool.wait("ready", count=2, since=mark)
        # One that is still dying may have cost each slot a second leaf, never one a crash.
        leaves = pool.leaves()
        self.assertLessEqual(len(leaves), len(before["leaves"]) + 4, leaves)
        self.assert_same(pool, before | {"leaves": leaves})
        self.assertEqual(pool.stop(), 0)
        self.assert_left_nothing(pool)

    def test_reloads(self):
        pool = self.echo("ready", workers=2, sets=(*QUICK, "restart.surge=always")).wait_ready(2)
        self.reload(pool, 2)  # the second leaf of each slot is made
        before = self.state(pool)
        for _ in range(10):
            self.reload(pool, 2)
        self.assert_same(pool, before)

    def test_reloads_of_gunicorn(self):
        pool = self.gunicorn("-w", "2", sets=QUICK).wait_ready(2)
        self.reload(pool, 2)
        before = self.state(pool)
        for _ in range(5):
            self.reload(pool, 2)
        self.assert_same(pool, before)

    def reload(self, pool, n_workers):
        mark = pool.mark()
        pool.send(signal.SIGHUP)
        pool.wait("exit", count=n_workers, since=mark)
        pool.wait("ready", count=n_workers, since=mark)

    def test_operators(self):
        pool = self.echo("ready").wait_ready()
        before = self.state(pool)
        for _ in range(200):
            pool.status()
        self.assert_same(pool, before)

    def test_descriptors_are_close_on_exec(self):
        pool = self.gunicorn("-w", "2").wait_ready(2)
        for fd, target in descriptors(pool.pid).items():
            if fd > 2:
                self.assertTrue(flags(pool.pid, fd) & os.O_CLOEXEC, f"{fd}: {target}")


def flags(pid, fd):
    with open(f"/proc/{pid}/fdinfo/{fd}", encoding="ascii") as file:
        return next(int(line.split()[1], 8) for line in file if line.startswith("flags:"))


class Cost(Case):
    def test_memory_of_the_supervisor(self):
        with open(TRIMTAB, "rb") as program:
            text = program.read()
        if b"__asan_init" in text or b"__tsan_init" in text:
            self.skipTest("a sanitizer's own memory is not trimtab's; the plain build is measured")
        pool = self.echo("ready", workers=4).wait_ready(4)
        with open(f"/proc/{pool.pid}/smaps_rollup", encoding="ascii") as file:
            kib = {fields[0]: int(fields[1]) for fields in map(str.split, file)
                   if fields[-1] == "kB"}
        print(f"# the supervisor: PSS {kib['Pss:']} KiB, of which {kib['Pss_Dirty:']} are its own",
              flush=True)
        # Who else has the libraries mapped decides about the rest of PSS.
        self.assertLess(kib["Pss_Dirty:"], 1536)
        self.assertLess(kib["Pss:"], 4096)


if __name__ == "__main__":
    unittest.main()
