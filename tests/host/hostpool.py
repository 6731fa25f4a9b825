"""A trimtab of the build tree, run by a test as its service manager would run it."""
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("TRIMTAB_BUILD", SOURCE / "build"))
EXAMPLE = SOURCE / "packaging" / "example"
PATIENCE = 120  # seconds; says "it hangs", never "it is slow"

sys.path.insert(0, str(SOURCE / "tests" / "vm" / "lib"))


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_gone(pids, patience=PATIENCE):
    """Until none of the processes is there; returns those that still are."""
    deadline = time.monotonic() + patience
    left = []
    for pid in pids:
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            poller = select.poll()
            poller.register(fd, select.POLLIN)
            if not poller.poll(max(0, deadline - time.monotonic()) * 1000):
                left.append(pid)
        finally:
            os.close(fd)
    return left


class HostPool:
    """Started at once; `with` stops it. Its records are read from stderr, where each is a JSON
    object, so a test waits for what happens and not for time to pass."""

    n_pools = 0

    def __init__(self, *arguments, **settings):
        HostPool.n_pools += 1
        self.name = f"test-{os.getpid()}-{HostPool.n_pools}"
        settings = {"pool.name": self.name, "pool.python": "/usr/bin/python3",
                    "log.target": "stderr", "log.format": "json", "restart.min-gap": "0s",
                    **settings}
        words = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
        self.command = [str(BUILD / "src" / "trimtab"), *words, *arguments]
        self._records, self._changed = [], threading.Condition()
        self.process = subprocess.Popen(self.command, stderr=subprocess.PIPE,
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @classmethod
    def gunicorn(cls, *arguments, port, **settings):
        return cls("gunicorn", "-b", f"127.0.0.1:{port}", "--chdir", str(EXAMPLE), *arguments,
                   "light:app", **settings)

    def _read(self):
        for line in self.process.stderr:
            try:
                record = json.loads(line)
            except ValueError:
                record = {"MESSAGE": line.decode(errors="replace")}
            with self._changed:
                self._records.append(record)
                self._changed.notify_all()
        with self._changed:
            self._records.append({"TRIMTAB_EVENT": "end of stderr"})
            self._changed.notify_all()

    @property
    def text(self):
        return "\n".join(record.get("MESSAGE", "") for record in self._records)

    def all(self, event, **fields):
        wanted = {"TRIMTAB_EVENT": event, **{key: str(value) for key, value in fields.items()}}
        with self._changed:
            return [r for r in self._records if wanted.items() <= r.items()]

    def wait(self, event, count=1, **fields):
        """The count-th record of that event with those fields, as soon as it is there."""
        wanted = {"TRIMTAB_EVENT": event, **{key: str(value) for key, value in fields.items()}}
        deadline = time.monotonic() + PATIENCE
        seen = found = 0
        with self._changed:
            while True:
                for record in self._records[seen:]:
                    seen += 1
                    if wanted.items() <= record.items():
                        found += 1
                        if found == count:
                            return record
                left = deadline - time.monotonic()
                ended = self._records and self._records[-1].get("TRIMTAB_EVENT") == "end of stderr"
                if ended or left <= 0:
                    raise AssertionError(f"{found} of {count} records {wanted} in:\n{self.text}")
                self._changed.wait(left)

    def ctl(self, *words, check=True):
        done = subprocess.run([BUILD / "src" / "trimtabctl", "-n", self.name, *words],
                              capture_output=True, text=True, timeout=PATIENCE)
        if check and done.returncode != 0:
            raise AssertionError(f"trimtabctl {words}: {done.stderr or done.stdout}\n{self.text}")
        return done.stdout

    def status(self):
        return json.loads(self.ctl("--json", "status"))

    def pids(self):
        return {entry["worker"]: entry["pid"] for entry in self.status()["workers"]}

    def serving(self, n_workers):
        """Waits until n_workers serve; returns {worker: pid}."""
        self.wait("pool", TRIMTAB_STATE="ready")
        deadline = time.monotonic() + PATIENCE
        while True:
            workers = self.status()["workers"]
            if [w["state"] for w in workers] == ["serving"] * n_workers:
                return {w["worker"]: w["pid"] for w in workers}
            if time.monotonic() > deadline:
                raise AssertionError(f"not {n_workers} serving: {workers}\n{self.text}")
            time.sleep(0.05)

    def stop(self, by=signal.SIGTERM):
        """Returns the exit status."""
        self.process.send_signal(by)
        try:
            return self.ended()
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise

    def ended(self):
        status = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return status

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        if self.process.poll() is None:
            self.stop()
        self.process.stderr.close()
