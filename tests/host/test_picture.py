"""docs/picture: what it draws is what the rows say, mark for mark."""
import csv
import os
import re
import subprocess
import tempfile
import unittest
import xml.etree.ElementTree as ElementTree

from pools import BUILD

SOURCE = os.path.realpath(os.path.join(os.path.dirname(__file__), "../.."))
PICTURE = os.path.join(SOURCE, "docs/picture")
SIM = os.path.join(BUILD, "tests/sim/sim")
SVG = "{http://www.w3.org/2000/svg}"
GAP_SECONDS = 900

# Two lives of worker 0 and one of worker 1: restarts at 100, 120 and 950 s, one kill.
ROWS = """\
seconds,slot,mib,event
0.000,0,60.00,ready
0.000,1,60.00,ready
50.000,0,200.00,
50.000,1,210.00,
60.000,1,90.00,trim
100.000,0,300.00,restart
102.000,0,60.00,ready
120.000,1,512.00,killed
122.000,1,60.00,ready
500.000,0,250.00,
500.000,1,0.00,
950.000,0,400.00,restart
1000.000,1,300.00,
"""


def marks(root, kind):
    """Marks of one kind below the legend's own."""
    paths = [path.get("d") for path in root.iter(SVG + "path") if path.get("class") == kind]
    return sum(data.count("M") for data in paths[1:])


def lines(root):
    """Lives drawn, less what the legend shows."""
    return [len([path for path in root.iter(SVG + "path") if path.get("class") == kind]) - shown
            for kind, shown in (("f", 1), ("w", 3))]


class Picture(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.TemporaryDirectory()
        self.addCleanup(self.directory.cleanup)

    def path(self, name):
        return os.path.join(self.directory.name, name)

    def draw(self, *arguments):
        output = self.path("out.svg")
        subprocess.run([PICTURE, "-o", output, *arguments], check=True)
        with open(output, "rb") as file:
            return file.read()

    def test_rows_by_hand(self):
        with open(self.path("run.csv"), "w", encoding="utf-8") as file:
            file.write(ROWS)
        drawn = self.draw("--limit", "512", "--gap", "900", "--mark", "358",
                          f"one & all={self.path('run.csv')}")
        root = ElementTree.fromstring(drawn)
        text = " ".join(root.itertext())
        self.assertIn("one & all", text)
        self.assertIn("3 restarts", text)
        self.assertIn("2 closer than 15 min", text)
        self.assertIn("1 kernel kill", text)
        self.assertIn("1 trim", text)
        self.assertEqual([marks(root, kind) for kind in ("trim", "restart", "kill")], [1, 2, 1])
        self.assertEqual([marks(root, kind) for kind in ("gap", "tick", "pair")], [3, 1, 2])
        # Slot 0 is followed: its first life, and the second until the end of the file.
        self.assertEqual(lines(root), [2, 1])

    def test_simulation(self):
        first = self.draw("--sim", SIM, "--hours", "8", "--seed", "5")
        self.assertEqual(first, self.draw("--sim", SIM, "--hours", "8", "--seed", "5"))
        self.assertNotEqual(first, self.draw("--sim", SIM, "--hours", "8", "--seed", "6"))
        root = ElementTree.fromstring(first)
        found = {kind: marks(root, kind) for kind in ("trim", "restart", "kill", "tick", "pair")}
        self.assertEqual(found, self.counted(8, 5))
        self.assertGreater(found["trim"], 8)
        self.assertGreater(found["kill"], 7)
        self.assertGreater(found["pair"], 4)
        self.assertLess(len(first), 150 << 10)

    def counted(self, hours, seed):
        """The same by another way, from all three runs."""
        counts = dict.fromkeys(("trim", "restart", "kill", "tick", "pair"), 0)
        for strategy in ("trimtab", "jitter 10 %", "limit only"):
            path = self.path("counted.csv")
            subprocess.run([SIM, "--hours", str(hours), "--seed", str(seed), "--csv", path,
                            "--strategy", strategy, "mixed"],
                           check=True, stdout=subprocess.DEVNULL)
            last = None
            with open(path, newline="", encoding="utf-8") as file:
                for row in csv.DictReader(file):
                    counts["trim"] += row["event"] == "trim"
                    counts["restart"] += row["event"] == "restart"
                    counts["kill"] += row["event"] == "killed"
                    if row["event"] not in ("restart", "killed"):
                        continue
                    now = float(row["seconds"])
                    close = last is not None and now - last < GAP_SECONDS - 0.002
                    counts["pair" if close else "tick"] += 1
                    last = now
        return counts

    def test_the_picture_shipped(self):
        with open(os.path.join(SOURCE, "docs/plan.svg"), "rb") as file:
            shipped = file.read()
        self.assertLess(len(shipped), 150 << 10)
        text = " ".join(ElementTree.fromstring(shipped).itertext())
        captions = re.findall(r"(\d+|no) restarts? · (\d+|none) closer than .*? (\d+|no) kernel",
                              re.sub(r"\s+", " ", text))
        self.assertEqual(len(captions), 3, text)
        self.assertEqual(captions[0][1:], ("none", "no"))


if __name__ == "__main__":
    unittest.main()
