"""What trimtab's unit file relies on in systemd: a delegated unit may divide its cgroup, its
MemoryMax= is there, and an OOM kill in a leaf does not end it. Without trimtab; the gunicorn in
it also proves the HTTP client and the example application."""
from vmtest import Load, Unit, ask, ask_each, check, equal, wait_until

NEEDS_TRIMTAB = False
TIMEOUT = 150
ADDRESS = ("127.0.0.1", 8200)
MIB = 1 << 20


def scenario():
    with Unit("plain", "/usr/bin/gunicorn", "-w", "2", "-k", "gthread", "--threads", "4",
              "-b", "127.0.0.1:8200", "--chdir", "/payload/example", "light:app",
              Type="notify", Delegate="yes", MemoryMax="300M", OOMPolicy="continue") as unit:
        cgroup = unit.cgroup
        equal(cgroup.number("memory.max"), 300 * MIB, "memory.max of the unit")
        check("memory" in cgroup.read("cgroup.controllers").split(), "no memory controller")

        workers = ask_each(ADDRESS, "/sleep?s=0.2", 2)
        master = unit.main_pid
        check(master not in workers, "the master answered itself")
        leaf = cgroup.child("leaf").create()
        for pid in cgroup.pids():
            leaf.write("cgroup.procs", pid)
        cgroup.write("cgroup.subtree_control", "+memory")
        check(leaf.number("memory.max") is None, "a new leaf must have no limit")

        with Load(ADDRESS) as load:
            before = ask(ADDRESS)["rss_bytes"]
            after = ask(ADDRESS, "/allocate?mb=40")["rss_bytes"]
            check(after > before, "allocating 40 MiB did not show")
        load.expect_no_failure()

        victim = next(iter(workers))
        kills = leaf.keyed("memory.events.local")["oom_kill"]
        alone = cgroup.child("alone").create()
        alone.write("cgroup.procs", victim)
        # What it used before stays charged where it was used; only this is charged here.
        wait_until(lambda: ask(ADDRESS, "/leak?mb=16")["pid"] == victim, "the victim to leak")
        alone.write("memory.max", 1 * MIB)
        wait_until(lambda: victim not in alone.pids() or None, "the victim to be gone")
        check(kills == leaf.keyed("memory.events.local")["oom_kill"], "the other leaf counted it")
        equal(unit.show("ActiveState"), "active", "the unit after a kill in its leaf")
        equal(unit.main_pid, master, "the main process after a kill in a leaf")
        check(len(ask_each(ADDRESS, "/sleep?s=0.2", 2)) >= 2, "gunicorn did not replace its worker")
    return f"{load}"
