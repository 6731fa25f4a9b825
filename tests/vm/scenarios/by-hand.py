"""Started from a shell: trimtab asks systemd for a scope of its own, has full control in it, and
leaves nothing behind."""
import json
import subprocess

from vmtest import Cgroup, Journal, ask_each, check, equal, run, wait_until

TIMEOUT = 120
ADDRESS = ("127.0.0.1", 8400)
COMMAND = ["/usr/sbin/trimtab", "--set", "pool.name=hand", "--set", "log.target=journal",
           "--set", "memory.worker-max=100M", "exec", "-w", "2", "-b", "127.0.0.1:8400",
           "--", "/payload/plain-worker"]


def scenario():
    with Journal() as journal:
        process = subprocess.Popen(COMMAND)
        try:
            journal.wait(count=2, TRIMTAB_EVENT="ready", TRIMTAB_POOL="hand")
            with open(f"/proc/{process.pid}/cgroup") as f:
                home = f.read().strip().split("::")[1]
            scope, _, leaf = home.rpartition("/")
            equal(leaf, "supervisor", "where the supervisor is")
            check(scope.endswith(f"/trimtab-hand-{process.pid}.scope"), f"not in a scope: {home}")

            status = json.loads(run("trimtabctl", "-n", "hand", "--json", "status").stdout)
            equal(status["pool"]["mode"], "full", "mode")
            equal(Cgroup(scope).child("worker-1").read("memory.max"), str(100 << 20), "a limit")
            pids = {entry["pid"] for entry in status["workers"]}
            equal(set(ask_each(ADDRESS, "/", 2)), pids, "who answers")
            run("trimtabctl", "-n", "hand", "stop")
            equal(process.wait(60), 0, "exit status")
        finally:
            process.kill()
        wait_until(lambda: not Cgroup(scope).exists(), "the scope to go")
    return scope.rpartition("/")[2]
