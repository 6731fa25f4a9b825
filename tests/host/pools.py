"""Runs trimtab for the host tests: a pool as a child, its JSON log as events, its workers' ends.

Nothing here waits for time to pass: a record of the log, an answer of trimtabctl or of a socket,
or the end of a process is awaited. DEADLINE_SEC says "it hangs"; no test may depend on it."""
import atexit
import contextlib
import glob
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest

from clients import DEADLINE_SEC, Load, get  # noqa: F401  tests take them from here

BUILD = os.environ.get("TRIMTAB_BUILD", os.path.join(os.path.dirname(__file__), "../../build"))
TRIMTAB = os.path.join(BUILD, "src/trimtab")
CTL = os.path.join(BUILD, "src/trimtabctl")
ECHO = os.path.join(BUILD, "tests/host/echo")
EXAMPLE = os.path.realpath(os.path.join(os.path.dirname(__file__), "../../packaging/example"))

# What a service manager or a shell may have set and no test wants.
FOREIGN = ("NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "JOURNAL_STREAM",
           "SYSTEMD_EXEC_PID", "WATCHDOG_USEC", "WATCHDOG_PID", "INVOCATION_ID",
           "GUNICORN_CMD_ARGS", "WEB_CONCURRENCY", "PORT")

_serial = 0


# ---- what a sanitizer finds

# It goes into files there: the exit status by which TSan and LeakSanitizer speak is one that a killed
# process, or one that executes another program, never gives. UBSan says it to standard error whatever
# it is told, where it is not alone, and lets the program go on: it is to end it. And TSan waits for a
# second in exit(2), which makes a worker that could not be executed look alive, and does not know
# pthread_clockjoin_np(3), by which the writer's end is awaited: what is no race is not asked for.
SANITIZERS = {"ASAN_OPTIONS": "", "UBSAN_OPTIONS": "halt_on_error=1:",
              "TSAN_OPTIONS": "atexit_sleep_ms=0:report_thread_leaks=0:"}
_findings = tempfile.mkdtemp(prefix="trimtab-findings-")
atexit.register(shutil.rmtree, _findings, ignore_errors=True)


def take_findings():
    """What sanitizers have found since the last call: texts."""
    texts = []
    for path in glob.glob(os.path.join(_findings, "*")):
        with open(path, encoding="utf-8", errors="replace") as file:
            texts.append(file.read())
        os.unlink(path)
    return texts


def clean_environment(**extra):
    env = {name: value for name, value in os.environ.items() if name not in FOREIGN}
    env.update({"LC_ALL": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"})
    for name, options in SANITIZERS.items():
        env[name] = f"{env.get(name, '')}:{options}log_path={_findings}/found".lstrip(":")
    env.update(extra)
    return env


def until(condition, what, deadline_sec=None):
    """For what announces itself nowhere: asks again and again. Returns the first true answer."""
    deadline = time.monotonic() + (deadline_sec or DEADLINE_SEC)
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"never: {what}")
        time.sleep(0.01)


# ---- processes

class Watched:
    """A process that is not our child, by pidfd: is_gone() cannot be deceived by a reused pid."""

    def __init__(self, pid):
        self.pid = pid
        self._pidfd = os.pidfd_open(pid)

    def wait_gone(self):
        if not select.select([self._pidfd], [], [], DEADLINE_SEC)[0]:
            raise AssertionError(f"process {self.pid} does not end")

    def is_gone(self):
        return bool(select.select([self._pidfd], [], [], 0)[0])

    def kill(self, number=signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, number)

    def close(self):
        os.close(self._pidfd)


def stat_fields(pid):
    """Of /proc/PID/stat, from the third on."""
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
        return file.read().rpartition(")")[2].split()


def children(pid):
    """Pids of its children, zombies included."""
    found = set()
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                if int(stat_fields(entry)[1]) == pid:
                    found.add(int(entry))
    return found


def zombies_of(pid):
    found = []
    for child in children(pid):
        with contextlib.suppress(OSError):
            if stat_fields(child)[0] == "Z":
                found.append(child)
    return found


def descriptors(pid):
    found = {}
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            found[int(name)] = os.readlink(f"/proc/{pid}/fd/{name}")
    return found


def own_cgroup():
    """The directory of our v2 cgroup, or None."""
    mount = None
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        for line in file:
            fields = line.split()
            if fields[fields.index("-") + 1] == "cgroup2":
                mount = fields[4]
    with open("/proc/self/cgroup", encoding="utf-8") as file:
        for line in file:
            if mount and line.startswith("0::"):
                return os.path.normpath(mount + line[3:].strip())
    return None


# ---- the pool

class Pool:
    """One trimtab, started with the arguments behind its options. Use as a context manager, or
    through Case.pool(), which ends it and checks that nothing is left."""

    def __init__(self, *arguments, sets=(), name=None, environment=None, cwd=EXAMPLE,
                 runtime=None, launcher=(), **popen):
        global _serial
        _serial += 1
        self.name = name or f"test-{os.getpid()}-{_serial}"
        self._own_runtime = runtime is None
        self.runtime = runtime or tempfile.mkdtemp(prefix="trimtab-")
        self.environment = clean_environment(RUNTIME_DIRECTORY=self.runtime,
                                             **(environment or {}))
        command = [*launcher, TRIMTAB, "--set", f"pool.name={self.name}", "--set", "log.format=json"]
        for assignment in sets:
            command += ["--set", assignment]
        self.process = subprocess.Popen([*command, *arguments], cwd=cwd, env=self.environment,
                                        stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                        **popen)
        self.pid = self.process.pid
        self.records = []
        self._changed = threading.Condition()
        self._ended = False
        self._watched = {}
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    # -- the log

    def _read(self):
        for line in self.process.stderr:
            text = line.decode("utf-8", "replace").rstrip("\n")
            try:
                record = json.loads(text)
            except ValueError:
                record = {"RAW": text}
            if record.get("TRIMTAB_EVENT") == "start":
                with contextlib.suppress(OSError):
                    pid = int(record["TRIMTAB_PID"])
                    self._watched[pid] = Watched(pid)
            with self._changed:
                self.records.append(record)
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def find(self, event=None, since=0, **fields):
        """Records of an event whose fields are as given: TRIMTAB_WORKER as worker=1, and so on.
        A field given as a function must hold."""
        def matches(record):
            if event and record.get("TRIMTAB_EVENT") != event:
                return False
            for key, wanted in fields.items():
                value = record.get(key) or record.get("TRIMTAB_" + key.upper())
                if not (wanted(value or "") if callable(wanted) else value == str(wanted)):
                    return False
            return True
        return [record for record in self.records[since:] if matches(record)]

    def wait(self, event=None, count=1, since=0, **fields):
        """Until there are so many such records; the last of them."""
        def enough():
            return len(self.find(event, since, **fields)) >= count
        with self._changed:
            if not self._changed.wait_for(lambda: enough() or self._ended, DEADLINE_SEC):
                raise AssertionError(f"no record {event} {fields}\n{self.log()}")
        if not enough():
            raise AssertionError(f"it ended without a record {event} {fields}\n{self.log()}")
        return self.find(event, since, **fields)[count - 1]

    def messages(self, event=None, **fields):
        return [record["MESSAGE"] for record in self.find(event, **fields)]

    def mark(self):
        """For since=: what comes from now on."""
        with self._changed:
            return len(self.records)

    def log(self, n=60):
        """The last records, short, for people."""
        return "\n".join(
            f"{r.get('TRIMTAB_EVENT') or r.get('TRIMTAB_WORKER', '?')}: "
            f"{r.get('MESSAGE', r.get('RAW'))}" for r in self.records[-n:])

    def wait_ready(self, n_workers=None):
        """Until the pool serves, or so many workers have become ready in all."""
        if n_workers is None:
            self.wait("pool", state="ready")
        else:
            self.wait("ready", count=n_workers)
        return self

    @property
    def address(self):
        """Of the first socket, as the pool says it."""
        text = self.wait("pool", state="listening")["MESSAGE"].split(" ")[2].rstrip(",")
        if text.startswith("unix:"):
            return text[len("unix:"):]
        host, _, port = text.rpartition(":")
        return host.strip("[]"), int(port)

    # -- doing things to it

    def get(self, path="/", timeout=None):
        return get(self.address, path, timeout)

    def ctl(self, *arguments, check=True, timeout=None):
        done = subprocess.run([CTL, "-n", self.name, *map(str, arguments)], env=self.environment,
                              capture_output=True, text=True, timeout=timeout or DEADLINE_SEC,
                              check=False)
        if check and done.returncode != 0:
            raise AssertionError(f"trimtabctl {arguments}: {done.stderr}\n{self.log()}")
        return done

    def status(self):
        return json.loads(self.ctl("--json", "status").stdout)

    def workers(self):
        """{number: pid} of those that serve."""
        return {worker["worker"]: worker["pid"] for worker in self.status()["workers"]
                if worker["state"] == "serving"}

    def send(self, number):
        self.process.send_signal(number)

    def wait_exit(self):
        try:
            status = self.process.wait(DEADLINE_SEC)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"trimtab does not end\n{self.log()}") from None
        self._reader.join(DEADLINE_SEC)
        return status

    def stop(self, number=signal.SIGTERM):
        self.send(number)
        return self.wait_exit()

    def wait_workers_gone(self):
        for watched in list(self._watched.values()):
            watched.wait_gone()

    def cgroup(self):
        """Its directory below ours, or None where there is none."""
        own = own_cgroup()
        path = own and os.path.join(own, f"trimtab-{self.name}")
        return path if path and os.path.isdir(path) else None

    def leaves(self):
        path = self.cgroup()
        return sorted(name for name in os.listdir(path)
                      if os.path.isdir(os.path.join(path, name))) if path else []

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._reader.join(DEADLINE_SEC)
        self.process.stderr.close()
        for watched in self._watched.values():
            watched.kill()
            watched.wait_gone()
            watched.close()
        self._remove_cgroup()
        if self._own_runtime:
            shutil.rmtree(self.runtime, ignore_errors=True)

    def _remove_cgroup(self):
        """What a killed supervisor leaves is the next one's to clean; here there is none."""
        path = self.cgroup()
        if not path:
            return
        for leaf in self.leaves():
            with contextlib.suppress(OSError):
                with open(os.path.join(path, leaf, "cgroup.kill"), "w", encoding="ascii") as file:
                    file.write("1")
        for leaf in self.leaves():
            directory = os.path.join(path, leaf)
            until(lambda d=directory: not populated(d), f"{directory} is empty")
            os.rmdir(directory)
        os.rmdir(path)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def populated(directory):
    with open(os.path.join(directory, "cgroup.events"), encoding="ascii") as file:
        return "populated 1" in file.read()


# ---- test cases

class Case(unittest.TestCase):
    def setUp(self):
        self.addCleanup(self._assert_nothing_found)  # the first is the last to be called
        self._directory = tempfile.TemporaryDirectory(prefix="trimtab-")
        self.addCleanup(self._directory.cleanup)
        self.directory = os.path.realpath(self._directory.name)

    def _assert_nothing_found(self):
        texts = take_findings()
        if texts:
            self.fail("a sanitizer found something:\n" + "\n".join(texts))

    def path(self, name):
        return os.path.join(self.directory, name)

    def write(self, name, text):
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write(text)
        return self.path(name)

    def pool(self, *arguments, **options):
        """A pool that ends with the test."""
        pool = Pool(*arguments, **options)
        self.addCleanup(pool.close)
        return pool

    def echo(self, *words, sets=(), workers=1, **options):
        """A pool of tests/workers/echo.c on a port of its own."""
        if "ready" not in words:  # or a busy machine takes it for ready before it has begun
            sets = ("restart.ready-after=10ms", *sets)
        return self.pool("exec", "-w", str(workers), "-b", "127.0.0.1:0", "--", ECHO, *words,
                         sets=sets, **options)

    def gunicorn(self, *words, app="light:app", **options):
        return self.pool("gunicorn", "-b", "127.0.0.1:0", *words, app, **options)

    def watch(self, pid):
        """The process, killed at the end of the test if it is still there."""
        watched = Watched(int(pid))
        self.addCleanup(watched.close)
        self.addCleanup(watched.kill)
        return watched

    def run_trimtab(self, *arguments, environment=None, cwd=None, **options):
        return subprocess.run([TRIMTAB, *arguments], capture_output=True, text=True,
                              env=clean_environment(RUNTIME_DIRECTORY=self.directory,
                                                    **(environment or {})),
                              cwd=cwd or self.directory, timeout=DEADLINE_SEC, check=False,
                              stdin=subprocess.DEVNULL, **options)

    def assert_left_nothing(self, pool):
        """After its end: no worker, no cgroup, no socket file."""
        pool.wait_workers_gone()
        self.assertIsNone(pool.cgroup(), pool.leaves())
        self.assertEqual(os.listdir(pool.runtime), [])


if not os.access(TRIMTAB, os.X_OK):
    sys.exit(f"{TRIMTAB} is not built; set TRIMTAB_BUILD")
