"""Workers from their start to their end: readiness, beats, crashes, leftovers, trims."""
import concurrent.futures
import contextlib
import datetime
import http.client
import json
import os
import signal
import socket
import subprocess
import unittest

from pools import (CTL, ECHO, Case, Load, children, descriptors, stat_fields, until,
                   zombies_of)

QUICK = ("restart.min-gap=10ms", "restart.min-gap-floor=10ms")


def seconds(record):
    return datetime.datetime.fromisoformat(record["TIME"].rstrip("Z")).timestamp()


class Readiness(Case):
    def test_a_program_that_never_says_so(self):
        """Staying alive for ready-after is enough."""
        pool = self.echo(sets=("restart.ready-after=300ms",))
        ready = pool.wait("ready")
        self.assertGreaterEqual(int(ready["TRIMTAB_USEC"]), 300000)
        self.assertEqual(pool.get().status, 200)

    def test_a_program_that_says_so(self):
        fifo = self.path("fifo")
        os.mkfifo(fifo)
        pool = self.echo("ready", f"hold={fifo}", sets=("restart.ready-after=30m",
                                                        "restart.boot-timeout=1h"))
        pool.wait("start")
        self.assertEqual(pool.status()["workers"][0]["state"], "booting")
        with open(fifo, "w", encoding="ascii"):
            pool.wait("ready")
        self.assertEqual(pool.status()["workers"][0]["state"], "serving")

    def test_a_program_behind_a_wrapper(self):
        """A child of the worker says it: it is in the worker's cgroup."""
        pool = self.pool("exec", "--", "/bin/sh", "-c", f"{ECHO} ready status=behind; :",
                         sets=("restart.ready-after=30m", "restart.boot-timeout=1h"))
        pool.wait("start")
        if not pool.cgroup():
            self.skipTest("no cgroup to tell its child from a stranger by")
        pool.wait("ready")
        until(lambda: pool.status()["workers"][0]["status"] == "behind", "the child's status")

    def test_a_gunicorn_worker_that_does_not_become_ready(self):
        self.write("slow.py", "import time\ntime.sleep(3600)\n")
        pool = self.pool("gunicorn", "-b", "127.0.0.1:0", "slow:app", cwd=self.directory,
                         sets=("restart.boot-timeout=15s",))
        exit_record = pool.wait("exit")
        self.assertEqual(exit_record["TRIMTAB_CAUSE"], "boot-timeout")
        # It has said where it hangs.
        self.assertEqual(exit_record["TRIMTAB_STATUS"], "1")
        lines = [record["MESSAGE"] for record in pool.records if "TRIMTAB_EVENT" not in record]
        self.assertTrue(any("slow.py" in line and "line 2" in line for line in lines), pool.log())
        pool.wait("start", count=2)
        self.assertEqual(pool.find("ready"), [])

    def test_a_stranger_cannot_say_it(self):
        """READY=1 and trims from a process that is no worker, with the right to send."""
        fifo = self.path("fifo")
        os.mkfifo(fifo)
        pool = self.echo("ready", f"hold={fifo}", sets=("restart.ready-after=30m",
                                                        "restart.boot-timeout=1h"))
        pool.wait("start")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stranger:
            for text in (b"READY=1", b"X_TRIMTAB=hello", b"X_TRIMTAB=done", b"\0", b"x" * 9000):
                stranger.sendto(text, os.path.join(pool.runtime, f"{pool.name}.d", "notify"))
        self.assertEqual(pool.status()["workers"][0]["state"], "booting")
        self.assertEqual(pool.find("ready"), [])


class Descriptors(Case):
    def test_started_without_the_standard_ones(self):
        """Nothing of the pool's may take their places: they are read, written and handed on."""
        pool = self.echo("ready", launcher=("sh", "-c", 'exec "$@" <&- >&-', "sh")).wait_ready()
        own = descriptors(pool.pid)
        self.assertEqual((own[0], own[1]), ("/dev/null", "/dev/null"))
        self.assertEqual(pool.stop(), 0)


class FirstStart(Case):
    """As gunicorn: what cannot load ends the pool, with gunicorn's status."""

    def check(self, source, status, says, app="shop:app", **options):
        self.write("shop.py", source)
        for preload in ("none", "server"):
            with self.subTest(preload):
                pool = self.pool("gunicorn", "-w", "2", "-b", "127.0.0.1:0", app,
                                 cwd=self.directory, sets=(f"pool.preload={preload}",), **options)
                self.assertEqual(pool.wait_exit(), status, pool.log())
                lines = [r["MESSAGE"] for r in pool.records if "TRIMTAB_EVENT" not in r]
                self.assertTrue(any(says in line for line in lines), pool.log())
                # No storm: each worker at most once more than the first.
                self.assertLessEqual(len(pool.find("start")), 4, pool.log())
                self.assertEqual(pool.find("ready"), [])
                self.assert_left_nothing(pool)

    def test_an_application_that_does_not_import(self):
        self.check("import no_such_module\napp = None\n", 3, "No module named 'no_such_module'")

    def test_an_application_that_raises(self):
        self.check("raise RuntimeError('out of paper')\n", 3, "RuntimeError: out of paper")

    def test_an_object_that_is_not_there(self):
        self.check("other = None\n", 4, "app")

    def test_a_module_that_is_not_there(self):
        self.check("", 3, "No module named 'nothing'", app="nothing:app")

    def test_preloaded(self):
        self.write("shop.py", "raise RuntimeError('out of paper')\n")
        pool = self.pool("gunicorn", "-b", "127.0.0.1:0", "shop:app", cwd=self.directory,
                         sets=("pool.preload=app",))
        self.assertNotEqual(pool.wait_exit(), 0)
        self.assertIn("out of paper", pool.log())
        self.assert_left_nothing(pool)

    def test_a_program_that_cannot_be_executed(self):
        script = self.write("script", "#!/nonexistent/interpreter\n")
        os.chmod(script, 0o755)
        pool = self.pool("exec", "-b", "127.0.0.1:0", "--", script)
        self.assertEqual(pool.wait_exit(), 127)
        record = pool.find("exit")[0]
        self.assertEqual(record["TRIMTAB_CAUSE"], "exec-failed")
        self.assertIn("could not execute its program: No such file or directory",
                      record["MESSAGE"])
        self.assert_left_nothing(pool)

    def test_a_directory_that_is_not_there(self):
        pool = self.echo("ready", sets=("pool.chdir=/nonexistent",))
        self.assertEqual(pool.wait_exit(), 127)
        self.assertIn("could not change to its directory", pool.find("exit")[0]["MESSAGE"])


class Ends(Case):
    def check_replaced(self, pool, cause, says, number=1):
        record = pool.wait("exit", worker=number)
        self.assertEqual(record["TRIMTAB_CAUSE"], cause, record)
        self.assertIn(says, record["MESSAGE"])
        pool.wait("ready", worker=number, count=2)
        self.assertEqual(pool.get().status, 200)
        return record

    def test_killed_by_somebody(self):
        pool = self.gunicorn("-w", "2").wait_ready(2)
        other = pool.workers()[2]
        os.kill(pool.workers()[1], signal.SIGKILL)
        record = self.check_replaced(pool, "signal", "the kernel counts no out-of-memory kill")
        self.assertEqual(record["TRIMTAB_STATUS"], "9")
        self.assertEqual(record["PRIORITY"], "3")
        self.assertEqual(pool.workers()[2], other)

    def test_crashed(self):
        pool = self.echo("ready").wait_ready()
        with self.assertRaises(Exception):
            pool.get(f"/raise?{int(signal.SIGSEGV)}")
        self.check_replaced(pool, "signal", "SIGSEGV")

    def test_left_by_itself(self):
        for status in (0, 1, 3, 4):
            with self.subTest(status):
                pool = self.echo("ready").wait_ready()
                with self.assertRaises(Exception):
                    pool.get(f"/exit?{status}")
                record = self.check_replaced(pool, "exited", f"exited with status {status}")
                self.assertEqual(record["TRIMTAB_STATUS"], str(status))

    def test_terminated_by_somebody(self):
        pool = self.gunicorn().wait_ready()
        os.kill(pool.workers()[1], signal.SIGTERM)
        self.check_replaced(pool, "exited", "exited with status 0")

    def test_children_die_with_it(self):
        pool = self.echo("ready").wait_ready()
        child = self.watch(pool.get("/fork").text)
        session = self.watch(pool.get("/fork?session").text)
        orphan = self.watch(pool.get("/orphan").text)
        os.kill(pool.workers()[1], signal.SIGKILL)
        pool.wait("ready", count=2)
        child.wait_gone()
        if pool.cgroup():
            session.wait_gone()
            orphan.wait_gone()
        until(lambda: not zombies_of(pool.pid), "no zombie")

    def test_orphans_are_reaped(self):
        pool = self.echo("ready", workers=2).wait_ready(2)
        for _ in range(50):
            pool.get("/orphan?end")
        until(lambda: not zombies_of(pool.pid), "no zombie")
        self.assertEqual(children(pool.pid), set(pool.workers().values()))

    def test_last_words_come_before_the_end(self):
        pool = self.echo("ready").wait_ready()
        pool.get("/print?fatal:no-newline")
        os.kill(pool.workers()[1], signal.SIGKILL)
        pool.wait("ready", count=2)
        messages = pool.messages()
        words = messages.index("fatal:no-newline")
        self.assertLess(words, [i for i, m in enumerate(messages) if "died of" in m][0])


class CrashLoop(Case):
    def test_backs_off(self):
        """Waits grow from one start to the next, up to backoff-max: by the log's own times."""
        pool = self.echo("exit=1", sets=("restart.ready-after=30m", "restart.boot-timeout=1h",
                                         "restart.backoff-max=4s"))
        pool.wait("exit", count=5)
        starts, ends = pool.find("start"), pool.find("exit")
        waits = [seconds(start) - seconds(end) for end, start in zip(ends, starts[1:])]
        # 1.5, 2.25, 3.4, 4 s by the rule; a slow machine only adds to them.
        for wait, least in zip(waits, (1.4, 2.1, 3.2, 3.8)):
            self.assertGreaterEqual(wait, least, waits)
        self.assertTrue(all(r["TRIMTAB_CAUSE"] == "boot-failed" for r in ends))

    def test_others_serve_meanwhile(self):
        pool = self.echo("ready", workers=2).wait_ready(2)
        pid = pool.workers()[1]
        with Load(pool.address) as load:
            for _ in range(5):
                mark = pool.mark()
                os.kill(pid, signal.SIGKILL)
                pool.wait("ready", worker=1, since=mark)
                pid = pool.workers()[1]
            load.wait_answered(5)
        # What the killed one had accepted is lost; what waited is not.
        self.assertLessEqual(len(load.failures), 5)

    def test_a_worker_that_came_up_once_is_forgiven(self):
        """The count of failures ends with the first success."""
        log = self.path("starts")
        pool = self.echo("ready", f"touch={log}", sets=(
            "restart.backoff-max=1h", "restart.ready-after=1h", "restart.boot-timeout=2h"))
        pool.wait_ready()
        for n in range(1, 6):
            os.kill(pool.workers()[1], signal.SIGKILL)
            pool.wait("ready", count=1 + n)
        self.assertEqual(os.path.getsize(log), 6)


class Watchdog(Case):
    def test_a_silent_worker_is_aborted(self):
        pool = self.echo("ready", "beat", sets=("restart.watchdog=2s",)).wait_ready()
        self.assertIn("WATCHDOG_USEC=2000000", pool.get("/env").text.splitlines())
        pool.get("/mute")
        record = pool.wait("exit")
        self.assertEqual(record["TRIMTAB_CAUSE"], "watchdog")
        self.assertEqual(record["TRIMTAB_STATUS"], str(int(signal.SIGABRT)))
        pool.wait("ready", count=2)

    def test_a_stopped_worker_is_killed(self):
        """SIGABRT stays pending in a stopped process: SIGKILL follows."""
        pool = self.echo("ready", "beat", sets=("restart.watchdog=2s",)).wait_ready()
        os.kill(pool.workers()[1], signal.SIGSTOP)
        record = pool.wait("exit")
        self.assertEqual(record["TRIMTAB_CAUSE"], "watchdog")
        self.assertEqual(record["TRIMTAB_STATUS"], str(int(signal.SIGKILL)))
        pool.wait("ready", count=2)

    def test_a_worker_that_beats_lives(self):
        pool = self.echo("ready", "beat", sets=("restart.watchdog=3s",)).wait_ready()
        pid = pool.workers()[1]
        # It would not have got so old without a beat, nor with the first alone.
        until(lambda: pool.status()["workers"][0]["age_usec"] > 8000000, "it is more than twice as old")
        self.assertEqual(pool.workers()[1], pid)
        self.assertEqual(pool.find("exit"), [])

    def test_a_worker_that_asks_for_it(self):
        pool = self.echo("ready").wait_ready()
        with contextlib.suppress(http.client.HTTPException, OSError):
            pool.get("/notify?WATCHDOG=trigger")  # it may be gone before it has answered
        self.assertEqual(pool.wait("exit")["TRIMTAB_CAUSE"], "watchdog")

    def test_a_gunicorn_worker_that_hangs(self):
        pool = self.gunicorn("-k", "sync", "--timeout", "2").wait_ready()
        with concurrent.futures.ThreadPoolExecutor() as clients:
            answer = clients.submit(pool.get, "/sleep?s=3600")
            record = pool.wait("exit")
            with self.assertRaises(Exception):
                answer.result()
        self.assertEqual(record["TRIMTAB_CAUSE"], "watchdog")
        self.assert_told_where(pool, "light.py")
        pool.wait("ready", count=2)

    def assert_told_where(self, pool, *places):
        """The stacks came before the end."""
        lines = [record.get("MESSAGE", "") for record in pool.records]
        end = next(i for i, record in enumerate(pool.records)
                   if record.get("TRIMTAB_EVENT") == "exit")
        self.assertTrue(any("Fatal Python error: Aborted" in line for line in lines[:end]),
                        pool.log())
        for place in places:
            self.assertTrue(any("File" in line and place in line for line in lines[:end]), pool.log())

    def test_one_that_hangs_in_c_code_says_where(self):
        """Python's own handlers never run there: the stacks come from C, all threads', then KILL."""
        self.write("stuck.py", """
import ctypes, threading
def waits_elsewhere():
    threading.Event().wait()
def app(environ, start_response):
    threading.Thread(target=waits_elsewhere, daemon=True).start()
    mutex = ctypes.create_string_buffer(64)
    lock = ctypes.PyDLL(None).pthread_mutex_lock
    lock(mutex)
    lock(mutex)  # for ever, with the interpreter's lock: no signal interrupts it
""")
        for kind in ("sync", "uvicorn.workers.UvicornWorker"):
            with self.subTest(kind):
                app = "stuck:app" if kind == "sync" else "stuck_asgi:app"
                self.write("stuck_asgi.py", "import stuck\n"
                           "async def app(scope, receive, send):\n"
                           "    if scope['type'] == 'http':\n        stuck.app(None, None)\n")
                pool = self.gunicorn("-k", kind, "--timeout", "1", app=app, cwd=self.directory,
                                     sets=("restart.abort-grace=1s",)).wait_ready()
                with concurrent.futures.ThreadPoolExecutor() as clients:
                    clients.submit(pool.get)
                    record = pool.wait("exit")
                self.assertEqual(record["TRIMTAB_CAUSE"], "watchdog")
                self.assert_told_where(pool, "stuck.py", "threading.py")
                pool.wait("ready", count=2)

    def test_abort_grace(self):
        """A stopped process takes its ABRT when it goes on, if it has not been killed by then."""
        pool = self.echo("ready", "beat", sets=("restart.watchdog=2s",
                                                "restart.abort-grace=1h")).wait_ready()
        pid = pool.workers()[1]
        os.kill(pid, signal.SIGSTOP)
        until(lambda: pool.status()["workers"][0]["state"] == "aborting", "it is aborted")
        os.kill(pid, signal.SIGCONT)
        self.assertEqual(pool.wait("exit")["TRIMTAB_STATUS"], str(int(signal.SIGABRT)))

    def test_an_idle_gunicorn_worker_lives(self):
        for words in (("-k", "sync"), ("-k", "gthread", "--threads", "2")):
            with self.subTest(words):
                pool = self.gunicorn("--timeout", "1", *words).wait_ready()
                until(lambda p=pool: p.status()["workers"][0]["age_usec"] > 4000000, "its age")
                self.assertEqual(pool.find("exit"), [])


class Replacement(Case):
    def test_recycle(self):
        for surge in ("always", "never"):
            with self.subTest(surge):
                pool = self.gunicorn("-w", "2", "-k", "gthread", "--threads", "2",
                                     sets=(*QUICK, f"restart.surge={surge}")).wait_ready(2)
                before = pool.workers()
                with Load(pool.address, path="/pid") as load:
                    load.wait_answered(10)
                    reply = json.loads(pool.ctl("--json", "recycle", "1").stdout)
                    load.wait_answered(10)
                self.assertEqual(load.failures, [])
                self.assertEqual(reply["old_pid"], before[1])
                until(lambda p=pool: p.workers().get(1) == reply["pid"], "the new one serves")
                self.assertNotEqual(reply["pid"], before[1])
                self.assertEqual(pool.workers()[2], before[2])
                self.assertEqual(pool.wait("exit")["TRIMTAB_PID"], str(before[1]))
                self.assertEqual(pool.find("restart")[0]["TRIMTAB_WORKER"], "1")

    def test_recycles_of_all_at_once(self):
        pool = self.echo("ready", workers=3, sets=QUICK).wait_ready(3)
        before = pool.workers()
        with concurrent.futures.ThreadPoolExecutor() as operators:
            for done in operators.map(lambda n: pool.ctl("recycle", n), (1, 2, 3)):
                self.assertIn("replaced", done.stdout)
        self.assertEqual(set(pool.workers().values()) & set(before.values()), set())

    def test_recycle_of_one_that_is_being_recycled(self):
        fifo = self.path("fifo")
        os.mkfifo(fifo)
        pool = self.echo("ready", f"hold={fifo}", sets=(*QUICK, "restart.ready-after=30m",
                                                        "restart.boot-timeout=1h"))
        with open(fifo, "w", encoding="ascii"):
            pool.wait_ready()
        with concurrent.futures.ThreadPoolExecutor() as operators:
            first = operators.submit(pool.ctl, "recycle", "1")
            pool.wait("restart")
            second = pool.ctl("recycle", "1", check=False)
            self.assertEqual(second.returncode, 1)
            self.assertIn("being replaced", second.stderr)
            with open(fifo, "w", encoding="ascii"):
                self.assertIn("replaced", first.result().stdout)

    def test_recycle_by_a_client_that_leaves(self):
        pool = self.echo("ready", sets=QUICK).wait_ready()
        operator = subprocess.Popen([CTL, "-n", pool.name, "recycle", "1"], env=pool.environment,
                                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        operator.kill()
        operator.wait()
        self.assertTrue(pool.status()["ok"])
        self.assertIn("replaced", until(lambda: pool.ctl("recycle", "1", check=False).stdout,
                                        "a recycle"))

    def test_recycle_whose_replacement_fails(self):
        flag = self.path("flag")
        script = self.write("worker", "#!/bin/sh\n"
                            f"[ -e {flag} ] && exit 1\n"
                            f"exec {ECHO} ready\n")
        os.chmod(script, 0o755)
        pool = self.pool("exec", "-b", "127.0.0.1:0", "--", script,
                         sets=(*QUICK, "restart.ready-after=30m", "restart.boot-timeout=1h",
                               "restart.surge=always")).wait_ready()
        pid = pool.workers()[1]
        with open(flag, "w", encoding="ascii"):
            done = pool.ctl("recycle", "1", check=False)
            self.assertEqual(done.returncode, 1)
            self.assertIn("did not become ready", done.stderr)
        # The old one was not touched.
        self.assertEqual(pool.get().text.strip(), str(pid))

    def test_recycle_of_one_that_is_retired_meanwhile(self):
        pool = self.echo("ready", workers=2, sets=("restart.min-gap=1h",
                                                   "restart.min-gap-floor=1h")).wait_ready(2)
        pool.ctl("recycle", "1")
        with concurrent.futures.ThreadPoolExecutor() as operators:
            waiting = operators.submit(pool.ctl, "recycle", "2", check=False)  # an hour to go
            until(lambda: pool.find("plan", worker=2), "its plan")
            pool.send(signal.SIGTTOU)
            self.assertEqual(waiting.result().returncode, 1)

    def test_max_requests(self):
        """Announced by gunicorn's workers; carried out one at a time, no request lost."""
        pool = self.gunicorn("-w", "3", "-k", "gthread", "--threads", "2", "--max-requests", "20",
                             sets=QUICK).wait_ready(3)
        with Load(pool.address, n_clients=4, path="/pid") as load:
            pool.wait("exit", count=6)
        self.assertEqual(load.failures, [])
        self.assertEqual({r["TRIMTAB_CAUSE"] for r in pool.find("exit")}, {"asked"})
        self.assertGreaterEqual(len(pool.find("restart", reason=lambda r: "request" in r)), 6)
        # Never two replacements under way: each is ready before the next begins.
        booting = 0
        for record in pool.records:
            if record.get("TRIMTAB_EVENT") == "restart":
                booting += 1
                self.assertEqual(booting, 1, record)
            elif record.get("TRIMTAB_EVENT") == "ready" and booting:
                booting -= 1

    def test_gap_between_restarts(self):
        pool = self.echo("ready", workers=3, sets=("restart.min-gap=1500ms",
                                                   "restart.min-gap-floor=1500ms")).wait_ready(3)
        pool.send(signal.SIGHUP)
        pool.wait("restart", count=3)
        times = [seconds(record) for record in pool.find("restart")]
        for earlier, later in zip(times, times[1:]):
            self.assertGreaterEqual(later - earlier, 1.45)

    def test_max_lifetime(self):
        pool = self.echo("ready", sets=(*QUICK, "restart.max-lifetime=1s")).wait_ready()
        pool.wait("exit", count=2)
        for record in pool.find("restart"):
            self.assertIn("lifetime", record["TRIMTAB_REASON"])
        for record in pool.find("exit"):
            self.assertEqual(record["TRIMTAB_CAUSE"], "asked")


class Degraded(Case):
    """Without any cgroup: the same program, on the figures of /proc."""

    def test_says_so_and_does_everything(self):
        pool = self.gunicorn("-w", "2", "-k", "gthread", "--threads", "4",
                             sets=("cgroup.use=no", *QUICK)).wait_ready(2)
        pool.wait("pool", state="degraded")
        self.assertIsNone(pool.cgroup())
        pids = until(lambda: len(pool.workers()) == 2 and pool.workers(), "both serve")
        fat = pool.get("/fragment?mb=100").json
        done = json.loads(pool.ctl("--json", "trim", fat["worker"]).stdout)
        self.assertGreater(done["before_bytes"], 100 << 20)
        self.assertLess(done["after_bytes"], done["before_bytes"] / 2)
        with Load(pool.address) as load:
            pool.ctl("recycle", "1")
        self.assertEqual(load.failures, [])
        self.assertEqual(pool.workers()[2], pids[2])
        os.kill(pids[2], signal.SIGKILL)
        end = pool.wait("exit", pid=pids[2])
        self.assertEqual((end["TRIMTAB_CAUSE"], end["TRIMTAB_STATUS"]), ("signal", "9"))
        pool.wait_ready(4)
        self.assertEqual(pool.stop(), 0)
        self.assert_left_nothing(pool)


class Trim(Case):
    def test_a_bloated_worker(self):
        """Freed heap that malloc keeps goes back: less than half is left, the same process."""
        pool = self.gunicorn("-w", "1", "-k", "gthread", "--threads", "1").wait_ready()
        pid = pool.workers()[1]
        until(lambda: pool.status()["workers"][0]["can_trim"], "the library's hello")
        self.assertEqual(pool.get("/fragment?mb=200").json["pid"], pid)
        before = pool.status()["workers"][0]["usage_bytes"]
        self.assertGreater(before, 150 << 20)
        reply = json.loads(pool.ctl("--json", "trim", "1").stdout)
        self.assertLess(reply["after_bytes"], before / 2)
        self.assertLess(pool.status()["workers"][0]["usage_bytes"], before / 2)
        self.assertEqual(pool.get().json["pid"], pid)
        record = pool.find("trim", worker=1)[0]
        self.assertEqual(record["TRIMTAB_PID"], str(pid))
        self.assertEqual(record["TRIMTAB_BEFORE_BYTES"], str(reply["before_bytes"]))
        self.assertEqual(record["TRIMTAB_AFTER_BYTES"], str(reply["after_bytes"]))
        self.assertEqual(record["TRIMTAB_ALLOCATOR"], "glibc")

    def test_by_itself_at_the_mark(self):
        pool = self.gunicorn("-w", "1", sets=("memory.worker-max=400M", "memory.trim-at=100M",
                                              "memory.spread=0%")).wait_ready()
        pid = pool.workers()[1]
        pool.get("/fragment?mb=200")
        record = pool.wait("trim", worker=1)
        self.assertLess(int(record["TRIMTAB_AFTER_BYTES"]),
                        int(record["TRIMTAB_BEFORE_BYTES"]) / 2)
        self.assertEqual(pool.workers()[1], pid)

    def test_while_it_serves(self):
        pool = self.gunicorn("-w", "2", "-k", "gthread", "--threads", "2").wait_ready(2)
        with Load(pool.address, path="/pid") as load:
            for _ in range(20):
                for number in (1, 2):
                    pool.ctl("trim", number)
        self.assertEqual(load.failures, [])
        self.assertEqual(pool.find("exit"), [])

    def test_by_another_signal_and_by_futex(self):
        for sets in (("trim.signal=SIGRTMIN+3",), ("trim.wake=futex",)):
            with self.subTest(sets):
                pool = self.gunicorn("-w", "1", sets=sets).wait_ready()
                until(lambda p=pool: p.status()["workers"][0]["can_trim"], "the library's hello")
                pool.ctl("trim", 1)
                pool.wait("trim", worker=1)

    def trims_of(self, pool, ready=lambda trim: trim.get("allocator")):
        def answer():
            trim = pool.status()["workers"][0]["trim"]
            return trim if ready(trim) else None
        return until(answer, "what the worker says of its trims")

    def test_what_status_says(self):
        pool = self.gunicorn("-w", "1").wait_ready()
        trim = self.trims_of(pool, lambda t: t.get("pymalloc") == "on")
        self.assertEqual(trim["library"], "live")
        self.assertEqual(trim["allocator"], "glibc")
        self.assertEqual(trim["wake"], "SIGUSR2")
        self.assertEqual((trim["arena_max"], trim["arena_max_from"]), ("2", "trim.arena-max"))
        self.assertEqual(trim["trims"], 0)
        self.assertIsNone(trim["last"])
        self.assertGreater(trim["pymalloc_arena_bytes"], 1 << 20)
        pool.get("/fragment?mb=200")
        pool.ctl("trim", "1")
        trim = self.trims_of(pool)
        self.assertEqual(trim["trims"], 1)
        last = trim["last"]
        self.assertGreater(last["malloc_bytes"], (last["before_bytes"] - last["after_bytes"]) / 2)
        self.assertLessEqual(last["hold_usec"], last["worked_usec"])
        self.assertLessEqual(last["worked_usec"], last["took_usec"])
        self.assertGreaterEqual(trim["longest_hold_usec"], last["hold_usec"])
        shown = pool.ctl("status").stdout
        self.assertRegex(shown, r"1 +live +glibc +SIGUSR2 ")
        self.assertRegex(shown, r"MiB -> .* ago; malloc .* MiB, CPython ")

    def test_what_status_says_of_other_settings(self):
        for sets, environment, expected in (
            (("trim.wake=futex", "trim.pymalloc=off"), {},
             {"wake": "futex", "pymalloc": "off: [trim] pymalloc = off"}),
            (("trim.signal=SIGRTMIN+3", "pool.env=MALLOC_ARENA_MAX=3"), {"MALLOC_ARENA_MAX": "4"},
             {"wake": "SIGRTMIN+3", "arena_max": "3", "arena_max_from": "pool.env"}),
            (("pool.env=PYTHONMALLOC=malloc",), {"MALLOC_ARENA_MAX": "4"},
             {"pymalloc": "off: PYTHONMALLOC names another allocator", "arena_max": "4",
              "arena_max_from": "environment"}),
            (("trim.arena-max=0",), {}, {"arena_max": None, "arena_max_from": None}),
        ):
            with self.subTest(sets):
                pool = self.gunicorn("-w", "1", sets=("pool.preload=none", *sets),
                                     environment=environment).wait_ready()
                self.trims_of(pool, lambda t, e=expected: e.items() <= t.items())

    def test_collection_that_comes_late(self):
        """The main thread sleeps, so it collects after the trim; what that frees goes, and is told."""
        self.write("shop.py", "import gc\n"
                   "gc.set_threshold(0)\n"
                   "class Node:\n"
                   "    def __init__(self):\n"
                   "        self.me, self.load = self, b'x' * 20000\n"
                   "def app(environ, start_response):\n"
                   "    if environ['PATH_INFO'] == '/cycles':\n"
                   "        for _ in range(5000):\n"
                   "            Node()\n"
                   "    start_response('200 OK', [('Content-Length', '0')])\n"
                   "    return []\n")
        pool = self.pool("gunicorn", "-k", "sync", "-b", "127.0.0.1:0", "--timeout", "7200",
                         "shop:app", cwd=self.directory, sets=("trim.gc=yes",)).wait_ready()
        pid = pool.workers()[1]
        self.trims_of(pool)
        worked_usec = 0
        while worked_usec < 1000000:  # less: the main thread was not asleep yet, and collected
            pool.get("/cycles")
            until(lambda: stat_fields(pid)[0] == "S", "it sleeps")
            pool.ctl("trim", "1")
            worked_usec = pool.status()["workers"][0]["trim"]["last"]["worked_usec"]
        self.assertEqual(pool.find("trim", reason="late collection"), [])
        pool.get("/")
        record = pool.wait("trim", reason="late collection")
        self.assertLess(int(record["TRIMTAB_AFTER_BYTES"]), int(record["TRIMTAB_BEFORE_BYTES"]) / 2)

    def test_one_whose_pause_would_be_too_long(self):
        """Left out by itself, told once, counted; the operator's word goes all the same."""
        pool = self.gunicorn("-w", "1", sets=("memory.worker-max=4G", "memory.trim-at=100M",
                                              "memory.spread=0%", "trim.max-pause=5ms",
                                              "trim.interval=200ms", "restart.min-gap=1h"))
        pool.wait_ready()
        pool.get("/fragment?mb=200")
        record = pool.wait("trim", reason="max-pause")
        self.assertGreater(int(record["TRIMTAB_PAUSE_USEC"]), 5000)
        trim = self.trims_of(pool, lambda t: t.get("skipped", 0) >= 3)
        self.assertGreater(trim["expected_pause_usec"], 5000)
        self.assertEqual(len(pool.find("trim")), 1)
        pool.ctl("trim", "1")
        pool.wait("trim", reason="asked for by the operator")

    def test_a_plain_signal(self):
        """`kill -USR2` of a worker asks for a trim, although gunicorn resets that signal."""
        for worker_class in ("sync", "gthread", "gevent", "uvicorn.workers.UvicornWorker"):
            with self.subTest(worker_class):
                asgi = "uvicorn" in worker_class
                pool = self.gunicorn("-w", "1", "-k", worker_class,
                                     app="asgi:app" if asgi else "light:app").wait_ready()
                pid = pool.workers()[1]
                self.trims_of(pool, lambda t: t.get("pymalloc") == "on")
                if not asgi:
                    pool.get("/fragment?mb=200")
                    pool.status()
                os.kill(pid, signal.SIGUSR2)
                record = pool.wait("trim", reason="plain signal")
                if not asgi:
                    self.assertLess(int(record["TRIMTAB_AFTER_BYTES"]),
                                    int(record["TRIMTAB_BEFORE_BYTES"]) / 2)
                self.assertEqual(pool.get().status, 200)
                self.assertEqual(pool.workers()[1], pid)
                self.assertEqual(pool.find("exit"), [])

    def test_one_that_takes_none(self):
        pool = self.echo("ready", sets=("trim.preload-library=off",)).wait_ready()
        self.assertEqual(pool.status()["workers"][0]["trim"]["library"], "off")
        done = pool.ctl("trim", "1", check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("does not take trim requests", done.stderr)

    def test_one_that_is_stopped(self):
        """It cannot answer; whoever asks again is told so, and when it goes on all is well."""
        pool = self.gunicorn("-w", "1", "--timeout", "0").wait_ready()
        until(lambda: pool.status()["workers"][0]["can_trim"], "the library's hello")
        pid = pool.workers()[1]
        os.kill(pid, signal.SIGSTOP)
        try:
            for _ in range(3):
                done = pool.ctl("trim", "1", check=False)
                self.assertEqual(done.returncode, 1)
                self.assertRegex(done.stderr, "did not answer|has not answered")
        finally:
            os.kill(pid, signal.SIGCONT)
        until(lambda: pool.ctl("trim", "1", check=False).returncode == 0, "it is trimmed again")
        self.assertEqual(pool.workers()[1], pid)

    def test_one_that_is_not_heard(self):
        """It may be a user by now who cannot reach the socket: the page has it all."""
        pool = self.echo().wait_ready()
        environment = dict(line.split("=", 1) for line in pool.get("/env").text.splitlines())
        path = environment["NOTIFY_SOCKET"]
        os.rename(path, path + ".away")
        os.kill(pool.workers()[1], signal.SIGKILL)
        pool.wait("ready", count=2)
        try:
            until(lambda: pool.status()["workers"][0]["can_trim"], "it is seen that it can be asked")
            self.assertIn("trimmed", pool.ctl("trim", "1").stdout)
        finally:
            os.rename(path + ".away", path)
        trim = pool.status()["workers"][0]["trim"]
        self.assertEqual((trim["trims"], trim["unanswered"]), (1, 0), trim)

    def check_unharmed(self, pool, pids):
        self.assertEqual(pool.workers(), pids)
        self.assertEqual(pool.find("exit"), [])
        self.assertEqual(pool.find("restart"), [])
        self.assertIn(pool.get("/pid").text.strip(), map(str, pids.values()))

    def test_one_that_is_frozen(self):
        """By the cgroup freezer: asked once, told once, left alone; the others serve."""
        pool = self.gunicorn("-w", "2", "--timeout", "0").wait_ready(2)
        if not pool.cgroup():
            self.skipTest("no cgroup v2 directory for the pool here")
        self.trims_of(pool)
        pids = pool.workers()
        freezer = os.path.join(pool.cgroup(), "worker-1", "cgroup.freeze")
        with open(freezer, "w", encoding="ascii") as file:
            file.write("1")
        try:
            done = pool.ctl("trim", "1", check=False)
            self.assertIn("did not answer", done.stderr)
            self.assertIn("trimmed", pool.ctl("trim", "2").stdout)
            trims = [entry["trim"] for entry in pool.status()["workers"]]
            self.assertEqual([(t["trims"], t["unanswered"]) for t in trims], [(0, 1), (1, 0)])
            self.assertEqual(len(pool.find("trim", reason="no answer")), 1)
        finally:
            with open(freezer, "w", encoding="ascii") as file:
                file.write("0")
        until(lambda: pool.ctl("trim", "1", check=False).returncode == 0, "it is trimmed again")
        self.check_unharmed(pool, pids)

    def test_one_that_dies_over_it(self):
        pool = self.gunicorn("-w", "1", "--timeout", "0").wait_ready()
        until(lambda: pool.status()["workers"][0]["can_trim"], "the library's hello")
        pid = pool.workers()[1]
        os.kill(pid, signal.SIGSTOP)
        with concurrent.futures.ThreadPoolExecutor() as operators:
            asked = [operators.submit(pool.ctl, "trim", "1", check=False) for _ in range(2)]
            concurrent.futures.wait(asked, return_when=concurrent.futures.FIRST_COMPLETED)
            os.kill(pid, signal.SIGKILL)
            said = sorted(future.result().stderr for future in asked)
        self.assertIn("is trimming just now", said[0])
        self.assertIn("the worker ended", said[1])
        pool.wait("ready", count=2)

    def test_pressure_is_passed_on(self):
        """A worker without the library that listens by systemd's protocol is rung instead."""
        pool = self.echo("ready", sets=("trim.preload-library=off",)).wait_ready()
        environment = dict(line.split("=", 1) for line in pool.get("/env").text.splitlines())
        with socket.socket(socket.AF_UNIX) as listener:
            listener.settimeout(60)
            listener.connect(environment["MEMORY_PRESSURE_WATCH"])
            until(lambda: pool.status()["workers"][0]["can_trim"], "it is heard")
            with concurrent.futures.ThreadPoolExecutor() as operators:
                asked = operators.submit(pool.ctl, "trim", "1")
                self.assertEqual(len(listener.recv(10)), 1)
                self.assertIn("trimmed", asked.result().stdout)


class Growth(Case):
    def test_a_worker_that_leaks_is_replaced_before_its_limit(self):
        """Degraded mode too: by the forecast, from figures of /proc, without a lost request."""
        pool = self.gunicorn("-w", "2", "-k", "gthread", "--threads", "2",
                             sets=(*QUICK, "memory.worker-max=200M", "memory.spread=0%",
                                   "trim.mode=off")).wait_ready(2)
        with Load(pool.address, path="/leak?mb=2") as load:
            pool.wait("exit", count=3)
        self.assertEqual(load.failures, [])
        for record in pool.find("exit"):
            self.assertEqual(record["TRIMTAB_CAUSE"], "asked")
        restarts = pool.find("restart")
        self.assertGreaterEqual(len(restarts), 3)
        for record in restarts:
            self.assertIn("limit", record["TRIMTAB_REASON"])


if __name__ == "__main__":
    unittest.main()
