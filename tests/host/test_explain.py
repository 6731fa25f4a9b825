"""trimtabctl explain: what is planned, when and why, as one sentence a worker and as figures."""
import json
import os
import unittest

from pools import Case, until


class Explain(Case):
    def explained(self, pool, *worker):
        return json.loads(pool.ctl("--json", "explain", *worker).stdout)

    def test_a_calm_pool(self):
        pool = self.echo("ready", workers=2, sets=("restart.min-gap=15m",)).wait_ready(2)
        text = pool.ctl("explain").stdout.splitlines()
        self.assertRegex(text[0], rf"^pool {pool.name}: 2 of 2 workers serve; uses .*; "
                                  "no restart is planned, the gap is 15 min; ")
        for number, line in enumerate(text[1:], 1):
            self.assertRegex(line, rf"^worker {number}: uses \d.*; does not grow; "
                                   "nothing is planned; ")
        self.assertEqual(len(text), 3)
        one = pool.ctl("explain", "2").stdout.splitlines()
        self.assertEqual(len(one), 1)
        self.assertTrue(one[0].startswith("worker 2: uses "))

    def test_figures(self):
        pool = self.echo("ready", workers=2,
                         sets=("restart.min-gap=15m", "memory.budget=400M")).wait_ready(2)
        reply = self.explained(pool)
        self.assertEqual(reply["pool"]["gap_usec"], 900_000_000)
        self.assertEqual(reply["pool"]["budget_bytes"], 400 << 20)
        self.assertEqual(reply["pool"]["serving"], 2)
        self.assertFalse(reply["pool"]["gap_shrunk"])
        self.assertIsNone(reply["pool"]["last_restart_ago_usec"])
        self.assertEqual([worker["worker"] for worker in reply["workers"]], [1, 2])
        worker = reply["workers"][0]
        self.assertGreater(worker["usage_bytes"], 0)
        self.assertEqual(worker["limit_bytes"], 180 << 20)  # 90 % shared out
        for key in ("restart_in_usec", "restart_reason", "waits_for", "reaches_limit_in_usec"):
            self.assertIsNone(worker[key], key)
        self.assertNotIn("pool", self.explained(pool, "2"))
        self.assertEqual(pool.ctl("explain", "3", check=False).returncode, 1)

    def test_a_lifetime_and_who_comes_first(self):
        pool = self.echo("ready", workers=2, sets=(
            "restart.max-lifetime=2h", "restart.min-gap=20m")).wait_ready(2)
        workers = until(lambda: [w for w in self.explained(pool)["workers"]
                                 if w["restart_in_usec"]][1:] and
                        self.explained(pool)["workers"], "both are planned")
        first, second = sorted(workers, key=lambda worker: worker["restart_in_usec"])
        self.assertEqual(second["after_worker"], first["worker"])
        self.assertGreaterEqual(second["after_usec"], 1_200_000_000)
        self.assertEqual(first["restart_reason"], "reached its lifetime")
        self.assertIsNone(first["after_worker"])
        self.assertRegex(second["sentence"],
                         rf"replacement planned in \d.* after worker {first['worker']}: "
                         "reached its lifetime")

    def test_a_worker_that_does_not_boot(self):
        pool = self.echo("exit=1", sets=("restart.ready-after=30m", "restart.boot-timeout=1h",
                                         "restart.backoff-max=1h"))
        pool.wait("exit", count=3)
        worker = until(lambda: [w for w in self.explained(pool)["workers"]
                                if w["waits_for"] == "backoff"], "it waits")[0]
        self.assertGreaterEqual(worker["failed_boots"], 3)
        self.assertRegex(worker["sentence"],
                         r"^is down; its last \d+ boots failed; starts again in \d")

    def test_one_waits_for_the_other(self):
        fifo = self.path("fifo")
        os.mkfifo(fifo)
        pool = self.echo("ready", f"hold={fifo}", workers=2, sets=(
            "restart.min-gap=10ms", "restart.min-gap-floor=10ms", "restart.surge=always",
            "restart.ready-after=30m", "restart.boot-timeout=1h"))
        with open(fifo, "w", encoding="ascii"):
            pool.wait_ready(2)
        mark = pool.mark()
        pool.ctl("reload")
        taken = int(pool.wait("restart", since=mark)["TRIMTAB_WORKER"])
        pool.wait("start", since=mark)
        reply = self.explained(pool)
        other = next(w for w in reply["workers"] if w["worker"] != taken)
        self.assertEqual((other["waits_for"], other["waits_for_worker"]), ("worker", taken))
        self.assertIn(f"waits for its turn: worker {taken} is being replaced", other["sentence"])
        self.assertRegex(reply["workers"][taken - 1]["sentence"],
                         "^is being replaced: reload; the new one boots for ")
        with open(fifo, "w", encoding="ascii"):
            pool.wait("ready", count=2, since=mark)


class Decisions(Case):
    def test_each_is_told_with_its_numbers(self):
        pool = self.echo("ready", workers=2, sets=(
            "restart.min-gap=10ms", "restart.min-gap-floor=10ms", "restart.surge=always",
            "log.level=debug")).wait_ready(2)
        for record in pool.find("decision"):
            self.assertTrue(record["TRIMTAB_REASON"])
            for field in ("USAGE_BYTES", "LIMIT_BYTES", "RATE_BYTES_PER_SEC", "BYTES"):
                self.assertRegex(record["TRIMTAB_" + field], r"^-?\d+$")
        self.assertEqual(len(pool.find("decision", action="start")), 2)
        mark = pool.mark()
        pool.ctl("recycle", "1")
        record = pool.wait("decision", action="surge", since=mark)
        self.assertEqual(record["TRIMTAB_REASON"], "asked for by the operator")
        self.assertEqual(record["TRIMTAB_GAP_USEC"], "10000")
        self.assertGreater(int(record["TRIMTAB_USAGE_BYTES"]), 0)
        pool.send(22)  # SIGTTOU
        record = pool.wait("restart", how="retire")
        self.assertEqual(record["TRIMTAB_WORKER"], "2")
        self.assertIn("goes for good: more workers than wanted", record["MESSAGE"])
        pool.wait("decision", action="retire")


if __name__ == "__main__":
    unittest.main()
