"""What each worker used over time and what happened to it, as the table that `sim --csv` writes:
seconds,slot,mib,event. Pictures are drawn of it, and how many workers were alive is counted."""
import re
import threading
import time

from .check import Failure
from .journal import number, seconds

RESULTS = "/results"
MIB = 1 << 20
BOOTED = re.compile(r"Booting worker with pid: (\d+)")
KILLED = re.compile(r"Worker with pid (\d+) was terminated due to signal 9")


class Trace(threading.Thread):
    """Looks at the workers every PAUSE seconds until it is stopped. What a subclass sees of them
    is {pid: bytes}; which pid served in which slot is known when all is over."""

    PAUSE = 1.0

    def __init__(self):
        super().__init__(daemon=True)
        self.began = time.monotonic()
        self.samples = []
        self._done = threading.Event()

    def run(self):
        while not self._done.wait(self.PAUSE):
            self.samples.append((time.monotonic(), self.look()))

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *exception):
        self._done.set()
        self.join()

    @property
    def fewest(self):
        """The fewest processes that a look found alive."""
        if not self.samples:
            raise Failure("nobody looked")
        return min(len(seen) for _, seen in self.samples)

    def write(self, name):
        """To build/vm-results/MACHINE/NAME.csv. Slots count from 0, as the simulator's do."""
        events = sorted(self.events())
        ready = {pid: (when, slot) for when, slot, pid, _, event in events if event == "ready"}
        rows = [(when, slot, mib, event) for when, slot, _, mib, event in events]
        for when, seen in self.samples:
            newest = {}
            for pid, used in seen.items():
                since, slot = ready.get(pid, (None, None))
                if slot is not None and since <= when and since > newest.get(slot, (0, 0))[0]:
                    newest[slot] = (since, used)
            rows += [(when, slot, used / MIB, "") for slot, (_, used) in newest.items()]
        with open(f"{RESULTS}/{name}.csv", "w") as f:
            f.write("seconds,slot,mib,event\n")
            for when, slot, mib, event in sorted(rows):
                f.write(f"{when - self.began:.3f},{slot},{mib:.2f},{event}\n")


class PoolTrace(Trace):
    """Workers of trimtab: what their leaves are charged with."""

    def __init__(self, pool):
        super().__init__()
        self.pool, self.cgroup = pool, pool.cgroup

    def look(self):
        seen = {}
        for name in self.cgroup.children("worker-"):
            leaf = self.cgroup.child(name)
            try:
                pids = leaf.pids()
                if pids:
                    seen[pids[0]] = leaf.number("memory.current")
            except OSError:
                pass  # removed since it was listed
        return seen

    def events(self):
        for event, field, shown in (("ready", "TRIMTAB_USAGE_BYTES", "ready"),
                                    ("restart", "TRIMTAB_USAGE_BYTES", "restart"),
                                    ("trim", "TRIMTAB_AFTER_BYTES", "trim"),
                                    ("exit", "TRIMTAB_USAGE_BYTES", "killed")):
            for record in self.pool.records(event):
                if (event == "exit" and not number(record, "TRIMTAB_OOM_KILL")) or \
                        field not in record:
                    continue  # a trim that was not answered
                yield (max(seconds(record), self.began), number(record, "TRIMTAB_WORKER") - 1,
                       number(record, "TRIMTAB_PID"), number(record, field) / MIB, shown)


class GunicornTrace(Trace):
    """Workers of a gunicorn unit: their anonymous memory, whichever cgroup they are in."""

    def __init__(self, unit, journal):
        super().__init__()
        self.unit, self.journal, self.master = unit, journal, unit.main_pid

    def look(self):
        seen = {}
        with open(f"/proc/{self.master}/task/{self.master}/children") as f:
            pids = [int(pid) for pid in f.read().split()]
        for pid in pids:
            try:
                with open(f"/proc/{pid}/status") as f:
                    anon = [line.split() for line in f if line.startswith("RssAnon:")]
            except OSError:
                continue
            if anon:  # a zombie has none
                seen[pid] = int(anon[0][1]) * 1024
        return seen

    def messages(self, pattern):
        for record in self.journal.all(_SYSTEMD_UNIT=self.unit.name):
            found = isinstance(record.get("MESSAGE"), str) and pattern.search(record["MESSAGE"])
            if found:
                yield seconds(record), int(found[1])

    def killed(self):
        """When each worker was found killed, in order."""
        return sorted(when for when, _ in self.messages(KILLED))

    def events(self):
        steps = sorted([(*step, "ready") for step in self.messages(BOOTED)] +
                       [(*step, "killed") for step in self.messages(KILLED)])
        last = {pid: used for _, seen in self.samples for pid, used in seen.items()}
        slots, free = {}, []
        for when, pid, event in steps:
            if event == "killed":
                if pid not in slots:
                    continue
                free.append(slots[pid])
                used = last.get(pid, 0)
            else:
                slots[pid] = free.pop(0) if free else len(slots)
                used = 0
            yield max(when, self.began), slots[pid], pid, used / MIB, event
