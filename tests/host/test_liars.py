"""A worker whose library is gone, frozen or lying harms nobody: it is not killed, nothing hangs,
the log stays short, and the worker beside it is trimmed as ever."""
import json
import os
import signal
import socket
import time
import unittest

from pools import Case, until

LIAR = os.path.realpath(os.path.join(os.path.dirname(__file__), "../workers/liar.py"))


class Liars(Case):
    def start(self, mode):
        pool = self.pool("exec", "-w", "2", "--", "/usr/bin/python3", "-B", LIAR, mode,
                         sets=("restart.ready-after=1h", "restart.boot-timeout=2h"))
        pool.wait_ready(2)
        until(lambda: pool.status()["workers"][1]["can_trim"], "the honest one's hello")
        return pool

    def check(self, mode, rounds=3):
        """What trimtabctl says of the first worker, and the records of its trims."""
        pool, began = self.start(mode), time.monotonic()
        before, said = pool.workers(), []
        self.assertEqual(len(before), 2)
        for _ in range(rounds):
            said.append(json.loads(pool.ctl("--json", "trim", "1", check=False).stdout))
            honest = json.loads(pool.ctl("--json", "trim", "2").stdout)
            self.assertTrue(honest["ok"], pool.log())
        self.check_figures(pool.status()["workers"][0]["trim"])
        self.assertEqual(pool.workers(), before, pool.log())
        self.assertEqual(pool.find("exit"), [], pool.log())
        records = pool.find("trim", worker=1)
        # One for each try, and one a second of what it says without being asked.
        self.assertLessEqual(len(records), rounds + time.monotonic() - began + 2, pool.log())
        return said, records

    def check_figures(self, trim):
        for key, value in trim.items():
            if key.endswith("_bytes") and value is not None:
                self.assertTrue(0 <= value <= 1 << 47, trim)

    def test_one_that_left_the_library_behind(self):
        said, records = self.check("away")
        self.assertEqual({answer["ok"] for answer in said}, {False})
        self.assertEqual(records, [])

    def test_one_that_is_frozen(self):
        """Waited for once; the record is about that one time."""
        said, records = self.check("frozen")
        self.assertEqual({answer["ok"] for answer in said}, {False})
        self.assertEqual([record["TRIMTAB_REASON"] for record in records], ["no answer"])

    def test_one_that_lies(self):
        _, records = self.check("lying")
        for record in records:
            self.assertEqual(record.get("TRIMTAB_ALLOCATOR", "unknown"), "unknown")

    def test_one_that_makes_noise(self):
        self.check("noise")

    def test_one_that_says_more_than_can_be_heard(self):
        """Others get their turn between: an operator's request does not wait for all of it."""
        fifo = self.path("fifo")
        os.mkfifo(fifo)
        pool = self.pool("exec", "-w", "2", "--", "/usr/bin/python3", "-B", LIAR, "flood", fifo,
                         sets=("restart.ready-after=1h", "restart.boot-timeout=2h"),
                         launcher=self.long_queue())
        liar = pool.wait_ready(2).workers()[1]
        pool.send(signal.SIGSTOP)
        os.kill(liar, signal.SIGUSR1)
        with open(fifo, encoding="ascii") as file:
            sent = int(file.read())
        self.assertGreater(sent, 64)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as operator:
            operator.connect(os.path.join(pool.runtime, f"{pool.name}.sock"))
            operator.sendall(b"status\n")
            pool.send(signal.SIGCONT)
            answer = json.loads(operator.makefile().readline())
        self.assertLess(int(answer["workers"][0]["status"]), sent)
        until(lambda: pool.status()["workers"][0]["status"] == str(sent), "all of it is heard")

    def long_queue(self):
        """As systemd makes it on its hosts; in a network name space where it is short here."""
        with open("/proc/sys/net/unix/max_dgram_qlen", encoding="ascii") as file:
            if int(file.read()) >= 512:
                return ()
        if os.geteuid() != 0:
            self.skipTest("net.unix.max_dgram_qlen is short here, and only root may change it")
        return ("unshare", "-n", "sh", "-c",
                'echo 512 > /proc/sys/net/unix/max_dgram_qlen && exec "$@"', "sh")


if __name__ == "__main__":
    unittest.main()
