"""cgroup v2 directories of the guest."""
import os
import select
import time

from .check import PATIENCE, Failure

ROOT = "/sys/fs/cgroup"


class Cgroup:
    def __init__(self, path):
        self.path = path if path.startswith(ROOT) else ROOT + path

    def __repr__(self):
        return f"Cgroup({self.path})"

    def child(self, name):
        return Cgroup(f"{self.path}/{name}")

    def create(self):
        os.mkdir(self.path)
        return self

    def remove(self):
        os.rmdir(self.path)

    def exists(self):
        return os.path.isdir(self.path)

    def children(self, prefix=""):
        return sorted(entry.name for entry in os.scandir(self.path)
                      if entry.is_dir() and entry.name.startswith(prefix))

    def read(self, file):
        with open(f"{self.path}/{file}") as f:
            return f.read().strip()

    def write(self, file, text):
        with open(f"{self.path}/{file}", "w") as f:
            f.write(str(text))

    def number(self, file):
        """Bytes or a count; None for "max"."""
        text = self.read(file)
        return None if text == "max" else int(text)

    def keyed(self, file):
        """A flat keyed file such as memory.events or memory.stat."""
        return {key: int(value) for key, value in
                (line.split() for line in self.read(file).splitlines())}

    def pids(self):
        return [int(pid) for pid in self.read("cgroup.procs").split()]

    def wait_event(self, file, condition, patience=PATIENCE):
        """Sleeps in poll() until condition(keyed file) holds; returns the figures."""
        with open(f"{self.path}/{file}") as f:
            poller = select.poll()
            poller.register(f, select.POLLPRI)
            deadline = time.monotonic() + patience
            while True:
                f.seek(0)  # only a read re-arms the file
                seen = {key: int(value) for key, value in
                        (line.split() for line in f.read().splitlines())}
                if condition(seen):
                    return seen
                left = deadline - time.monotonic()
                if left <= 0:
                    raise Failure(f"{self.path}/{file} stayed at {seen} for {patience} s")
                poller.poll(left * 1000)
