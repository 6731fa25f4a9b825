"""The walk through a running pool that `packaging/quickstart --check` shows: starts the given
trimtab command, asks every worker, trims one, replaces one, stops. One line for each step; exit
status 0 only when all of them worked."""
import argparse
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

N_WORKERS = 4
PATIENCE = 120  # seconds; only a hang takes so long


class Failed(Exception):
    pass


def say(step, text):
    print(f"{step:<9} {text}", flush=True)


class Check:
    def __init__(self, port, ctl, command, log):
        self.port, self.ctl_command, self.command, self.log = port, ctl, command, log
        self.trimtab = None

    def start(self):
        """trimtab tells its service manager when the pool is ready; here that is us."""
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as scratch, \
                socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.bind(f"{scratch}/notify")
            notify.settimeout(1)
            self.trimtab = subprocess.Popen(
                self.command, stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL,
                env={**os.environ, "NOTIFY_SOCKET": f"{scratch}/notify"})
            while b"READY=1" not in self._message(notify):
                if self.trimtab.poll() is not None:
                    raise Failed(f"trimtab ended with status {self.trimtab.returncode}")
                if time.monotonic() - began > PATIENCE:
                    raise Failed(f"the pool was not ready after {PATIENCE} s")
            ready = time.monotonic() - began
            self.wait_serving()
        say("started", f"pool ready after {ready:.1f} s, {N_WORKERS} workers after"
            f" {time.monotonic() - began:.1f} s")

    @staticmethod
    def _message(notify):
        try:
            return notify.recv(4096).split(b"\n")
        except TimeoutError:
            return []

    def ctl(self, *arguments):
        done = subprocess.run([*self.ctl_command, *arguments], capture_output=True, text=True,
                              timeout=PATIENCE, check=False)
        if done.returncode != 0:
            raise Failed(f"trimtabctl {' '.join(arguments)} ended with {done.returncode}: "
                         f"{(done.stderr or done.stdout).strip()}")
        return done.stdout.strip()

    def workers(self):
        return {entry["worker"]: entry
                for entry in json.loads(self.ctl("status", "--json"))["workers"]}

    def wait_serving(self):
        deadline = time.monotonic() + PATIENCE
        while True:
            workers = self.workers()
            if [w["state"] for w in workers.values()] == ["serving"] * N_WORKERS:
                return {number: w["pid"] for number, w in workers.items()}
            if time.monotonic() > deadline:
                raise Failed(f"not all workers serve after {PATIENCE} s: {workers}")
            time.sleep(0.1)

    def get(self, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request("GET", path)
            reply = connection.getresponse()
            body = reply.read()
        except (OSError, http.client.HTTPException) as error:
            raise Failed(f"GET {path}: {error!r}") from error
        finally:
            connection.close()
        if reply.status != 200:
            raise Failed(f"GET {path}: status {reply.status}")
        return json.loads(body)

    def ask_every_worker(self):
        """Requests that are held for a moment, many at once: the kernel gives a connection to
        whichever worker wakes first, and that may be the same one again and again."""
        serving = self.wait_serving()
        answered, faults = {}, []

        def ask():
            try:
                reply = self.get("/sleep?s=0.2")
                answered[reply["worker"]] = reply["pid"]
            except Failed as fault:
                faults.append(fault)

        n_requests = 0
        deadline = time.monotonic() + PATIENCE
        while answered != serving:
            if time.monotonic() > deadline:
                raise Failed(f"answered: {answered}; serving: {serving}")
            threads = [threading.Thread(target=ask) for _ in range(3 * N_WORKERS)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            n_requests += len(threads)
            if faults:
                raise faults[0]
        say("answered", ", ".join(f"worker {n} (pid {pid})" for n, pid in sorted(answered.items()))
            + f" in {n_requests} requests")

    def trim_one(self):
        worker = self.get("/fragment?mb=64")["worker"]  # whichever answers has something to give
        say("trimmed", self.ctl("trim", str(worker)).splitlines()[-1])
        return worker

    def replace_one(self, worker):
        before = self.workers()[worker]["pid"]
        stop = threading.Event()
        served, faults = [], []

        def keep_asking():
            while not stop.is_set():
                try:
                    served.append(self.get("/")["pid"])
                except Failed as fault:
                    faults.append(fault)

        asking = threading.Thread(target=keep_asking)
        asking.start()
        try:
            line = self.ctl("recycle", str(worker)).splitlines()[-1]
            after = self.wait_serving()[worker]
        finally:
            stop.set()
            asking.join()
        if faults:
            raise faults[0]
        if after == before:
            raise Failed(f"worker {worker} is still pid {before}: {line}")
        say("replaced", f"{line}; {len(served)} requests meanwhile, none failed")

    def stop(self):
        began = time.monotonic()
        self.trimtab.send_signal(signal.SIGTERM)
        try:
            status = self.trimtab.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise Failed(f"trimtab still runs {PATIENCE} s after SIGTERM") from None
        if status != 0:
            raise Failed(f"trimtab ended with status {status} after SIGTERM")
        say("stopped", f"exit status 0 after {time.monotonic() - began:.1f} s")

    def abandon(self):
        if self.trimtab and self.trimtab.poll() is None:
            self.trimtab.terminate()
            try:
                self.trimtab.wait(40)
            except subprocess.TimeoutExpired:
                self.trimtab.kill()
                self.trimtab.wait()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--trimtabctl", type=Path, required=True)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("command", nargs="+")
    args = parser.parse_args()

    with open(args.log, "w", encoding="utf-8") as log:
        check = Check(args.port, [args.trimtabctl, "-n", "quickstart"], args.command, log)
        try:
            check.start()
            check.ask_every_worker()
            check.replace_one(check.trim_one())
            check.stop()
            return 0
        except (Failed, subprocess.TimeoutExpired) as failure:
            say("FAILED", failure)
        finally:
            check.abandon()
    lines = args.log.read_text(encoding="utf-8", errors="replace").splitlines()
    print(f"--- end of {args.log}", *lines[-40:], sep="\n", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
