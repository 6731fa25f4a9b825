"""The kernel behaves as src/kernel/ and src/policy/ take for granted, without trimtab."""
import os
import select
import signal

from vmtest import Cgroup, check, equal, note

NEEDS_TRIMTAB = False
TIMEOUT = 150
MIB = 1 << 20


class Hog:
    """A child in a cgroup that grows by what it is told, and keeps it."""

    def __init__(self, cgroup):
        self.orders, self.tell = os.pipe()
        self.hear, self.answers = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            cgroup.write("cgroup.procs", 0)
            kept = []
            while order := os.read(self.orders, 1):
                kept.append(b"x" * (order[0] * MIB))
                os.write(self.answers, b".")
            os._exit(0)
        os.close(self.answers)

    def grow(self, mib):
        """Returns False when the hog died of it."""
        os.write(self.tell, bytes([mib]))
        return os.read(self.hear, 1) == b"."

    def end(self):
        os.kill(self.pid, signal.SIGKILL)
        return os.waitpid(self.pid, 0)[1]


def poll_now(file, timeout_ms=0):
    poller = select.poll()
    poller.register(file, select.POLLPRI)
    return next((mask for _, mask in poller.poll(timeout_ms)), 0)


def high_wakes_poll(parent):
    leaf = parent.child("high").create()
    leaf.write("memory.high", 24 * MIB)
    hog = Hog(leaf)
    with open(leaf.path + "/memory.events") as events:
        check(poll_now(events) & select.POLLPRI, "memory.events never read: poll must fire at once")
        events.read()
        equal(poll_now(events), 0, "memory.events just read: poll")
        check(hog.grow(16), "the hog died below memory.high")
        equal(poll_now(events), 0, "below memory.high: poll")
        os.write(hog.tell, bytes([16]))
        equal(poll_now(events, 60_000), select.POLLPRI | select.POLLERR,
              "memory.high crossed: poll")
        events.seek(0)
        check("high 0\n" not in events.read(), "the high counter did not move")
        # Raised, the worker runs free again: the tripwire of src/policy/.
        leaf.write("memory.high", "max")
        check(os.read(hog.hear, 1) == b".", "the hog did not go on after memory.high was raised")
    hog.end()
    leaf.wait_event("cgroup.events", lambda seen: seen["populated"] == 0)
    leaf.remove()


def counters_of_a_kill(parent):
    leaf = parent.child("own").create()
    leaf.write("memory.max", 16 * MIB)
    hog = Hog(leaf)
    check(not hog.grow(32), "the hog outgrew memory.max and lived")
    equal(os.waitpid(hog.pid, 0)[1], signal.SIGKILL, "wait status of the hog")
    own = leaf.keyed("memory.events.local")
    check(own["oom"] >= 1 and own["oom_kill"] >= 1, f"killed at its own limit: {own}")
    equal(parent.keyed("memory.events.local")["oom"], 0, "oom of the parent")
    leaf.remove()

    leaf = parent.child("shared").create()
    parent.write("memory.max", 24 * MIB)
    before = parent.keyed("memory.events.local")["oom"]
    hog = Hog(leaf)
    check(not hog.grow(48), "the hog outgrew the parent's memory.max and lived")
    os.waitpid(hog.pid, 0)
    shared = leaf.keyed("memory.events.local")
    check(shared["oom"] == 0 and shared["oom_kill"] >= 1, f"killed at the parent's limit: {shared}")
    check(parent.keyed("memory.events.local")["oom"] > before, "oom of the parent did not move")
    parent.write("memory.max", "max")
    leaf.remove()


def pressure_is_there(parent):
    for path in ("/proc/pressure/memory", parent.path + "/memory.pressure"):
        with open(path) as f:
            check(f.read().startswith("some avg10="), f"{path} is no PSI file")
    trigger = os.open(parent.path + "/memory.pressure", os.O_RDWR | os.O_NONBLOCK)
    os.write(trigger, b"some 200000 2000000\0")
    equal(poll_now(trigger), 0, "PSI trigger just armed: poll")
    os.close(trigger)


def limit_written_below_usage_kills(parent):
    """How oom-attribution forces a kernel OOM kill."""
    leaf = parent.child("forced").create()
    hog = Hog(leaf)
    check(hog.grow(16), "the hog died without a limit")
    leaf.write("memory.max", 1 * MIB)
    equal(os.waitpid(hog.pid, 0)[1], signal.SIGKILL, "wait status of the hog")
    check(leaf.keyed("memory.events.local")["oom_kill"] >= 1, "oom_kill did not move")
    leaf.remove()


def scenario():
    parent = Cgroup("/facts").create()
    parent.write("cgroup.subtree_control", "+memory")
    for fact in (high_wakes_poll, counters_of_a_kill, limit_written_below_usage_kills,
                 pressure_is_there):
        fact(parent)
        note(fact.__name__.replace("_", " "))
    parent.remove()
    return f"kernel {os.uname().release}"
