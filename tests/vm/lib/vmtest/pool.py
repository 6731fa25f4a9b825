"""systemd units, and pools of trimtab as one of them."""
import json
import os
import subprocess

from .cgroup import Cgroup
from .check import Failure, wait_until
from .journal import Journal

COMMAND_TIMEOUT = 300
CONFIG = "/etc/trimtab"
DROPINS = "/run/systemd/system"

_open_units = []


def run(*command, check=True):
    """Runs a command to its end; returns the finished process with its text."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_TIMEOUT)
    if check and done.returncode != 0:
        raise Failure(f"{' '.join(command)} ended with {done.returncode}: "
                      f"{(done.stderr or done.stdout).strip()}")
    return done


def stop_everything():
    """What a scenario left running when it failed."""
    for unit in list(_open_units):
        print(unit.describe())
        unit.stop(check=False)


class Unit:
    """A transient service: Unit("plain", "gunicorn", "app:app", MemoryMax="256M")."""

    def __init__(self, name, *command, **properties):
        self.name = name if name.endswith(".service") else name + ".service"
        self.command = command
        self.properties = properties

    def start(self):
        _open_units.append(self)
        settings = [f"--property={name}={value}" for name, value in self.properties.items()]
        run("systemd-run", "--quiet", f"--unit={self.name}", *settings, "--", *self.command)
        return self

    def stop(self, check=True):
        # systemd forgets a transient unit that ended well by itself, and then knows no such
        # unit to stop.
        if self.show("LoadState") == "loaded":
            run("systemctl", "stop", self.name, check=check)
        run("systemctl", "reset-failed", self.name, check=False)
        if self in _open_units:
            _open_units.remove(self)

    def __enter__(self):
        return self.start()

    def __exit__(self, *exception):
        if exception[0] is not None:
            print(self.describe())
        self.stop(check=exception[0] is None)

    def describe(self):
        return run("systemctl", "status", "--no-pager", "--lines=0", self.name, check=False).stdout

    def show(self, name):
        return run("systemctl", "show", "--value", f"--property={name}", self.name).stdout.strip()

    @property
    def main_pid(self):
        return int(self.show("MainPID"))

    @property
    def cgroup(self):
        path = self.show("ControlGroup")
        if not path:
            raise Failure(f"{self.name} has no control group: it is {self.show('ActiveState')}")
        return Cgroup(path)


class Pool(Unit):
    """trimtab@NAME.service with the packaged unit file and a configuration of the scenario's
    own; the unit's settings come in a drop-in: Pool("shop", ini, MemoryMax="512M")."""

    def __init__(self, name, configuration, **properties):
        super().__init__(f"trimtab@{name}")
        self.pool = name
        self.configuration = configuration
        self.properties = properties

    def start(self):
        """Returns when systemd has seen READY."""
        os.makedirs(CONFIG, exist_ok=True)
        with open(f"{CONFIG}/{self.pool}.ini", "w") as f:
            f.write(self.configuration)
        dropin = f"{DROPINS}/{self.name}.d"
        os.makedirs(dropin, exist_ok=True)
        with open(f"{dropin}/scenario.conf", "w") as f:
            f.write("[Service]\n")
            f.writelines(f"{name}={value}\n" for name, value in self.properties.items())
        self.journal = Journal()
        _open_units.append(self)
        run("systemctl", "daemon-reload")
        run("systemctl", "start", self.name)
        return self

    def stop(self, check=True):
        super().stop(check)
        os.unlink(f"{DROPINS}/{self.name}.d/scenario.conf")
        os.unlink(f"{CONFIG}/{self.pool}.ini")
        self.journal.close()

    def leaf(self, worker):
        return self.cgroup.child(f"worker-{worker}")

    def ctl(self, *command, check=True):
        return run("trimtabctl", "-n", self.pool, *command, check=check)

    def describe(self):
        return super().describe() + self.ctl("status", check=False).stdout

    def status(self):
        return json.loads(self.ctl("status", "--json").stdout)

    def workers(self):
        """{worker number: its entry in the status}"""
        return {entry["worker"]: entry for entry in self.status()["workers"]}

    def wait_serving(self, n_workers):
        """Until n_workers have said that they serve; returns {worker number: pid}."""
        self.journal.wait(count=n_workers, TRIMTAB_EVENT="ready", TRIMTAB_POOL=self.pool)

        def serving():
            pids = {number: entry["pid"] for number, entry in self.workers().items()
                    if entry["state"] == "serving"}
            return pids if len(pids) == n_workers else None

        return wait_until(serving, f"{n_workers} workers in state serving")

    def records(self, event, **fields):
        return self.journal.all(TRIMTAB_EVENT=event, TRIMTAB_POOL=self.pool, **fields)

    def wait_record(self, event, **fields):
        return self.journal.wait(TRIMTAB_EVENT=event, TRIMTAB_POOL=self.pool, **fields)
