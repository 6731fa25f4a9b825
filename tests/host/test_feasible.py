"""Settings that cannot hold, told by a running pool: once each, with the numbers and what would do."""
import re
import unittest

from pools import ECHO, Case


class Feasible(Case):
    def test_a_pool_whose_settings_fit_says_nothing(self):
        pool = self.echo("ready", workers=2).wait_ready(2)
        self.assertEqual(pool.stop(), 0)
        self.assertEqual(pool.find("infeasible"), [])

    def test_at_the_start(self):
        self.write("shop.ini", f"[pool]\ncommand = {ECHO} ready\nbind = 127.0.0.1:0\nworkers = 4\n"
                               "[memory]\nbudget = 400M\nworker-max = 360M\n"
                               "[restart]\nmin-gap = 1h\nmax-lifetime = 2h\n")
        pool = self.pool("-c", self.path("shop.ini"), name="shop").wait_ready()
        gap = pool.wait("infeasible", what="gap")
        self.assertIn("shop.ini:9: [restart] min-gap = 1h: 4 workers", gap["MESSAGE"])
        self.assertEqual(gap["TRIMTAB_WOULD_DO"], str(1800 * 1000000))
        self.assertEqual(gap["PRIORITY"], "4")
        limits = pool.wait("infeasible", what="limits")
        self.assertIn("shop.ini:7: [memory] worker-max = 360M: 4 workers of 360.0 MiB",
                      limits["MESSAGE"])
        self.assertIn("worker-max = 90M would do, or workers = 1", limits["MESSAGE"])
        self.assertEqual(pool.stop(), 0)
        self.assertEqual(len(pool.find("infeasible")), 2, "told once")

    def test_a_footprint_that_fills_the_limit(self):
        pool = self.gunicorn("-w", "2", sets=("memory.worker-max=4M", "memory.trim-at=3M",
                                              "pool.preload=none", "restart.min-gap=1h"))
        pool.wait_ready(2)
        record = pool.wait("infeasible", what="footprint")
        self.assertEqual(record["PRIORITY"], "3")
        footprint = int(record["TRIMTAB_FOOTPRINT_BYTES"])
        self.assertGreater(footprint, 4 << 20)
        self.assertAlmostEqual(int(record["TRIMTAB_WOULD_DO"]), footprint * 1.2, delta=2)
        would_do = int(re.search(r"worker-max = (\d+)M would do", record["MESSAGE"])[1])
        self.assertGreaterEqual(would_do << 20, int(record["TRIMTAB_WOULD_DO"]))
        self.assertIn("--set: [memory] worker-max = 4M: a fresh worker uses ", record["MESSAGE"])
        self.assertEqual(len(pool.workers()), 2, "it serves all the same")

    def test_a_change_is_looked_at_again(self):
        pool = self.echo("ready", workers=1, sets=(
            "memory.budget=400M", "memory.worker-max=180M")).wait_ready()
        pool.send(21)  # SIGTTIN
        pool.wait("ready", worker=2)
        self.assertEqual(pool.find("infeasible"), [])
        pool.send(21)
        record = pool.wait("infeasible", what="limits")
        self.assertIn("3 workers of 180.0 MiB", record["MESSAGE"])


if __name__ == "__main__":
    unittest.main()
