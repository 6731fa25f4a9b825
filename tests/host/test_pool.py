"""What is left of a pool on this host: in degraded mode, after 500 crashes, without a supervisor."""
import os
import signal
import subprocess
import tempfile
import unittest
from pathlib import Path

from hostpool import SOURCE, HostPool, free_port, wait_gone
from vmtest import Load, ask, ask_each

MIB = 1 << 20


def plain_worker(folder):
    """The worker in C that the virtual machines use: it starts in a millisecond."""
    program = Path(folder) / "plain-worker"
    subprocess.run(["gcc", "-std=gnu17", "-O2", "-o", program,
                    SOURCE / "tests/vm/plain-worker.c"], check=True)
    return str(program)


def state_and_parent(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        state, parent = f.read().rpartition(")")[2].split()[:2]
    return state, int(parent)


def children(parent):
    """{pid: state} of a process' children, zombies included."""
    found = {}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            state, its_parent = state_and_parent(int(entry))
        except (FileNotFoundError, ProcessLookupError):
            continue
        if its_parent == parent:
            found[int(entry)] = state
    return found


class Degraded(unittest.TestCase):
    """Without any cgroup: the same program, on the figures of /proc."""

    def test_says_so_and_does_everything(self):
        port = free_port()
        address = ("127.0.0.1", port)
        with HostPool.gunicorn("-w", "2", "-k", "gthread", "--threads", "4", port=port,
                               **{"cgroup.use": "no"}) as pool:
            pool.wait("pool", TRIMTAB_STATE="degraded")
            pids = pool.serving(2)
            self.assertEqual({reply["worker"]: pid for pid, reply
                              in ask_each(address, "/sleep?s=0.2", 2).items()}, pids)

            fat = ask(address, "/fragment?mb=100")
            pool.ctl("trim", str(fat["worker"]))
            trim = pool.wait("trim", TRIMTAB_WORKER=fat["worker"])
            before, after = (int(trim[f"TRIMTAB_{when}_BYTES"]) for when in ("BEFORE", "AFTER"))
            self.assertGreater(before, 100 * MIB)
            self.assertLess(after * 2, before)

            with Load(address, pause=0) as load:
                pool.ctl("recycle", "1")
            load.expect_no_failure()
            now = pool.serving(2)
            self.assertNotEqual(now[1], pids[1])
            self.assertEqual(now[2], pids[2])
            self.assertEqual(pool.stop(), 0, pool.text)
            self.assertEqual(wait_gone(now.values()), [])

    def test_kill_is_told_from_exit(self):
        with HostPool.gunicorn("-w", "1", port=free_port(), **{"cgroup.use": "no"}) as pool:
            pid = pool.serving(1)[1]
            os.kill(pid, signal.SIGKILL)
            end = pool.wait("exit", TRIMTAB_PID=pid)
            self.assertEqual((end["TRIMTAB_CAUSE"], end["TRIMTAB_STATUS"]), ("signal", "9"))
            pool.wait("ready", count=2)


class Crashes(unittest.TestCase):
    N_CRASHES = 500
    N_WORKERS = 4

    def test_restarts_leave_nothing_behind(self):
        """No zombie, no descriptor and no leaf is left of 500 workers that died."""
        with tempfile.TemporaryDirectory() as folder:
            with HostPool("exec", "-w", str(self.N_WORKERS), "-b", f"127.0.0.1:{free_port()}",
                          "--", plain_worker(folder)) as pool:
                self.crash_and_look(pool)

    def crash_and_look(self, pool):
        supervisor = pool.process.pid
        pool.serving(self.N_WORKERS)
        # One round first: what is opened once and kept is not a leak.
        self.crash(pool, self.N_WORKERS)
        before = self.left_behind(pool)
        self.crash(pool, self.N_CRASHES)
        after = self.left_behind(pool)
        self.assertEqual(after, before)
        self.assertEqual(before["zombies"], 0)
        self.assertEqual({r["TRIMTAB_CAUSE"] for r in pool.all("exit")}, {"signal"})
        self.assertIsNone(pool.process.poll(), pool.text)
        self.assertTrue(os.path.exists(f"/proc/{supervisor}"))
        leaves = self.leaves(pool)
        self.assertEqual(pool.stop(), 0, pool.text[-2000:])
        self.assertEqual([leaf for leaf in leaves if os.path.exists(leaf)], [])

    def crash(self, pool, n_crashes):
        """Each worker is killed as soon as it is ready, whichever is ready next."""
        already = len(pool.all("exit"))
        n_ready = len(pool.all("ready"))
        victims = list(pool.serving(self.N_WORKERS).values())
        for n in range(n_crashes):
            if not victims:
                n_ready += 1
                victims.append(int(pool.wait("ready", count=n_ready)["TRIMTAB_PID"]))
            os.kill(victims.pop(0), signal.SIGKILL)
        pool.wait("exit", count=already + n_crashes)
        pool.wait("ready", count=already + n_crashes + self.N_WORKERS)

    def leaves(self, pool):
        cgroup = pool.status()["pool"].get("cgroup")
        if not cgroup or not os.path.isdir(cgroup):
            return []
        return [entry.path for entry in os.scandir(cgroup) if entry.is_dir()]

    def left_behind(self, pool):
        pool.serving(self.N_WORKERS)
        supervisor = pool.process.pid
        states = children(supervisor)
        return {"descriptors": len(os.listdir(f"/proc/{supervisor}/fd")),
                "children": len(states),
                "zombies": sum(state == "Z" for state in states.values()),
                "leaves": len(self.leaves(pool)),
                "threads": len(os.listdir(f"/proc/{supervisor}/task"))}


class Supervisor(unittest.TestCase):
    def test_workers_die_with_a_supervisor_that_is_killed(self):
        with HostPool.gunicorn("-w", "2", port=free_port()) as pool:
            pids = pool.serving(2)
            cgroup = pool.status()["pool"].get("cgroup") or ""
            pool.process.kill()
            pool.ended()
            self.assertEqual(wait_gone(pids.values()), [])
            # Nobody was left to do it.
            for folder, _, _ in os.walk(cgroup, topdown=False):
                os.rmdir(folder)


class Children(unittest.TestCase):
    def test_they_end_with_their_worker(self):
        with tempfile.TemporaryDirectory() as folder:
            marker = f"{folder}/child"
            script = f"sleep 1000 & echo $! > {marker}; exec {plain_worker(folder)}"
            with HostPool("exec", "-w", "1", "-b", f"127.0.0.1:{free_port()}", "--",
                          "/bin/sh", "-c", script) as pool:
                pool.serving(1)
                cgroup = pool.status()["pool"].get("cgroup")
                if not cgroup or not os.path.isdir(cgroup):
                    self.skipTest("no cgroup can be made here, and without one a worker's"
                                  " children cannot be told from others")
                child = int(Path(marker).read_text())
                os.kill(pool.pids()[1], signal.SIGKILL)
                pool.wait("ready", count=2)
                self.assertEqual(wait_gone([child]), [])


if __name__ == "__main__":
    unittest.main()
