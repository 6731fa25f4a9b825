"""A worker kept for a debugger: out of service as in any restart, alive until its time is over."""
import concurrent.futures
import contextlib
import json
import os
import signal
import socket
import unittest

from clients import Connection
from pools import Case, Load, children, descriptors, until

QUICK = ("restart.min-gap=10ms", "restart.min-gap-floor=10ms")

# /hold stops at a gate; "broken" in the directory keeps the application from loading.
APPLICATION = """
import os, signal
HERE = os.path.dirname(os.path.realpath(__file__))
if os.path.exists(HERE + "/broken"):
    raise RuntimeError("it is broken")

def app(environ, start_response):
    if environ["PATH_INFO"] == "/hold":
        with open(HERE + "/in", "w") as arrived:
            arrived.write("x")
        with open(HERE + "/out") as leave:
            leave.read(1)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"%d" % os.getpid()]
"""


class Quarantined(Case):
    """Ways to have a worker kept, and to know that it is."""

    def keep(self, pool, *words):
        """Has one kept, with all records up to that one: the reply, and its process."""
        reply = json.loads(pool.ctl("--json", "quarantine", *words).stdout)
        pool.wait("quarantine", pid=reply["pid"])
        return reply, self.watch(reply["pid"])

    def gates(self):
        """The application with gates: descriptors to see it arrive and to let it go on."""
        self.write("gated.py", APPLICATION)
        for name in ("in", "out"):
            os.mkfifo(self.path(name))
        ends = (os.open(self.path("in"), os.O_RDWR), os.open(self.path("out"), os.O_RDWR))
        for fd in ends:
            self.addCleanup(os.close, fd)
        return ends

    def gated(self, *words, **options):
        return self.gunicorn(*words, app="gated:app", cwd=self.directory, **options)

    def hold(self, pool, arrived):
        """A request that a worker is in; the connection."""
        connection = Connection(pool.address)
        self.addCleanup(connection.close)
        connection.request("GET", "/hold")
        os.read(arrived, 1)
        return connection

    def answer(self, connection):
        response = connection.getresponse()
        self.assertEqual(response.status, 200)
        return int(response.read())

    def listens(self, pool, pid):
        """Whether the process holds the first socket of the pool."""
        ours = {path for path in descriptors(pool.pid).values() if path.startswith("socket:")}
        return bool(ours & set(descriptors(pid).values()) & self.listening())

    @staticmethod
    def listening():
        """Names of all sockets of the host that listen, as descriptors() has them."""
        found = set()
        for table in ("/proc/net/tcp", "/proc/net/tcp6"):
            with contextlib.suppress(OSError), open(table, encoding="ascii") as file:
                found |= {f"socket:[{fields[9]}]" for fields in map(str.split, file)
                          if fields[3] == "0A"}
        return found


class Kept(Quarantined):
    def check(self, *words, sets=(), app="light:app"):
        pool = self.gunicorn("-w", "2", *words, app=app, sets=(*QUICK, *sets)).wait_ready(2)
        before = pool.workers()
        with Load(pool.address, path="/pid", keep=True) as load:
            load.wait_answered(20)
            self.assertTrue(self.listens(pool, before[1]))
            reply, kept = self.keep(pool, "1", "30")
            mark = pool.mark()
            load.wait_answered(20)
            self.assertEqual(pool.find("exit"), [])
        self.assertEqual(load.failures, [])
        self.assertEqual(reply["pid"], before[1])
        self.assertEqual(reply["for_usec"], 30 * 60 * 1_000_000)
        self.assertTrue(reply["drained"])
        self.assertEqual(pool.workers(), {1: reply["replacement_pid"], 2: before[2]})
        self.assertFalse(self.listens(pool, kept.pid))
        begun = pool.wait("quarantine")
        self.assertEqual((begun["TRIMTAB_STATE"], begun["TRIMTAB_PID"], begun["TRIMTAB_DRAINED"]),
                         ("begun", str(kept.pid), "1"))
        shown = pool.status()["quarantine"]
        self.assertEqual((shown["worker"], shown["pid"], shown["state"]), (1, kept.pid, "kept"))
        self.assertIn(f"gdb -p {kept.pid}", pool.ctl("status").stdout)
        self.assertIn(f"gdb -p {kept.pid}", pool.ctl("explain", "1").stdout)
        with open(f"/proc/{kept.pid}/oom_score_adj", encoding="ascii") as file:
            self.assertEqual(file.read(), "1000\n")
        self.assertFalse(kept.is_gone())
        self.assertIn("is over", pool.ctl("release", "1").stdout)
        kept.wait_gone()
        end = pool.wait("exit", pid=kept.pid)
        self.assertEqual((end["TRIMTAB_CAUSE"], end["TRIMTAB_STATUS"]), ("asked", "0"))
        self.assertEqual(pool.wait("black-box", since=mark)["TRIMTAB_STATE"], "quarantine")
        self.assertEqual(pool.wait("quarantine", state="ended")["TRIMTAB_REASON"],
                         "asked for by the operator")
        self.assertIsNone(pool.status()["quarantine"])
        self.assertEqual(pool.find("start", since=mark), [])
        self.assertEqual(pool.stop(), 0)
        self.assert_left_nothing(pool)

    def test_sync(self):
        self.check()

    def test_gthread(self):
        self.check("-k", "gthread", "--threads", "4")

    def test_gevent(self):
        self.check("-k", "gevent")

    def test_uvicorn(self):
        self.check("-k", "uvicorn.workers.UvicornWorker", app="asgi:app")

    def test_executed(self):
        self.check(sets=("pool.preload=none",))

    def test_application_preloaded(self):
        self.check(sets=("pool.preload=app",))

    def test_the_old_one_first(self):
        pool = self.gunicorn(sets=(*QUICK, "restart.surge=never")).wait_ready()
        reply, kept = self.keep(pool, "1")
        self.assertIsNone(reply["replacement_pid"])
        self.assertEqual(reply["for_usec"], 10 * 60 * 1_000_000)
        pool.wait("ready", count=2)
        self.assertNotEqual(pool.workers()[1], kept.pid)
        pool.get()
        self.assertFalse(kept.is_gone())
        self.assertEqual(pool.stop(), 0)
        self.assert_left_nothing(pool)


class Requests(Quarantined):
    def test_one_in_flight_is_answered_first(self):
        arrived, leave = self.gates()
        pool = self.gated(sets=(*QUICK, "restart.graceful-timeout=1h")).wait_ready()
        held = self.hold(pool, arrived)
        pid = pool.workers()[1]
        with concurrent.futures.ThreadPoolExecutor() as clients:
            asked = clients.submit(self.keep, pool, "1")
            pool.wait("ready", count=2)
            until(lambda: pool.status()["quarantine"]["state"] == "draining", "it drains")
            self.assertIn(f"pid {pid} finishes its requests", pool.ctl("explain", "1").stdout)
            self.assertEqual(pool.find("quarantine"), [])
            os.write(leave, b"x")
            self.assertEqual(self.answer(held), pid)
            reply, kept = asked.result()
        self.assertEqual((reply["pid"], reply["drained"]), (pid, True))
        self.assertFalse(kept.is_gone())

    def test_one_that_hangs_is_what_a_debugger_is_for(self):
        arrived, leave = self.gates()
        for words in ((), ("-k", "gthread", "--threads", "2")):
            with self.subTest(words):
                pool = self.gated(*words, sets=(*QUICK, "restart.graceful-timeout=300ms",
                                                "restart.watchdog=1h")).wait_ready()
                held = self.hold(pool, arrived)
                reply, kept = self.keep(pool, "1")
                self.assertFalse(kept.is_gone())
                if not words:  # gthread itself gives up waiting then
                    self.assertFalse(reply["drained"])
                    begun = pool.wait("quarantine")
                    self.assertIn("has not finished", begun["MESSAGE"])
                    self.assertIn("has not finished", pool.ctl("status").stdout)
                # The request may yet come to its end, and the worker is kept all the same.
                os.write(leave, b"x")
                self.assertEqual(self.answer(held), kept.pid)
                self.assertFalse(kept.is_gone())
                pool.ctl("release", "1")
                kept.wait_gone()
                self.assertEqual(pool.wait("exit", pid=kept.pid)["TRIMTAB_CAUSE"], "asked")
                self.assertEqual(pool.stop(), 0)

    def test_one_that_goes_on_hanging_is_killed_in_the_end(self):
        arrived, _ = self.gates()
        pool = self.gated(sets=(*QUICK, "restart.graceful-timeout=300ms", "restart.quarantine=1s",
                                "restart.watchdog=1h")).wait_ready()
        self.hold(pool, arrived)
        _, kept = self.keep(pool, "1")
        kept.wait_gone()
        end = pool.wait("exit", pid=kept.pid)
        self.assertEqual((end["TRIMTAB_CAUSE"], end["TRIMTAB_STATUS"]), ("asked", "9"))
        self.assertEqual(pool.wait("quarantine", state="ended")["TRIMTAB_REASON"],
                         "its time is over")
        self.assertEqual(len(pool.workers()), 1)


class Ends(Quarantined):
    def pool_with_kept(self, *words, n_workers=2, **options):
        sets = (*QUICK, *options.pop("sets", ()))
        pool = self.gunicorn("-w", str(n_workers), *words, sets=sets, **options)
        pool.wait_ready(n_workers)
        return pool, self.keep(pool, "1")[1]

    def test_when_its_time_is_over(self):
        pool, kept = self.pool_with_kept(sets=("restart.quarantine=200ms",))
        kept.wait_gone()
        self.assertEqual(pool.wait("exit", pid=kept.pid)["TRIMTAB_CAUSE"], "asked")
        self.assertEqual(pool.wait("quarantine", state="ended")["TRIMTAB_REASON"],
                         "its time is over")
        # Another one may follow.
        self.keep(pool, "2")[1].wait_gone()

    def test_with_the_pool(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            pool, kept = self.pool_with_kept()
            self.assertEqual(pool.stop(number), 0)
            kept.wait_gone()
            self.assertEqual(pool.wait("quarantine", state="ended")["TRIMTAB_REASON"],
                             "the pool stops")
            self.assert_left_nothing(pool)

    def test_with_the_pool_although_a_debugger_has_it_stopped(self):
        pool, kept = self.pool_with_kept(sets=("restart.graceful-timeout=300ms",))
        kept.kill(signal.SIGSTOP)
        until(lambda: self.state_of(kept.pid) == "T", "it has stopped")
        self.assertEqual(pool.stop(), 0)
        kept.wait_gone()
        self.assert_left_nothing(pool)

    def test_at_once_with_a_pool_that_has_no_more_patience(self):
        pool, kept = self.pool_with_kept(sets=("restart.graceful-timeout=1h",))
        kept.kill(signal.SIGSTOP)
        until(lambda: self.state_of(kept.pid) == "T", "it has stopped")
        pool.send(signal.SIGTERM)
        pool.wait("quarantine", state="ended")
        self.assertEqual(pool.stop(signal.SIGINT), 0)
        kept.wait_gone()

    @staticmethod
    def state_of(pid):
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0]

    def test_with_a_supervisor_that_is_killed(self):
        pool, kept = self.pool_with_kept()
        pool.process.kill()
        kept.wait_gone()

    @staticmethod
    def replacement_takes(pool):
        return json.loads(pool.ctl("--json", "explain").stdout)["pool"]["replacement_takes_usec"]

    def test_by_itself(self):
        pool, kept = self.pool_with_kept()
        before, mark, takes = pool.workers(), pool.mark(), self.replacement_takes(pool)
        kept.kill(signal.SIGSEGV)
        end = pool.wait("exit", pid=kept.pid)
        # Its drain took as long as it took: what came then is no part of a replacement.
        self.assertEqual(self.replacement_takes(pool), takes)
        self.assertEqual(end["TRIMTAB_CAUSE"], "signal")
        self.assertEqual(pool.wait("quarantine", state="ended")["TRIMTAB_REASON"],
                         "it ended by itself")
        box = pool.wait("black-box", since=mark)
        self.assertEqual((box["TRIMTAB_STATE"], box["TRIMTAB_PID"]), ("death", str(kept.pid)))
        # Nobody is started for it, and it is no crash of its slot.
        pool.ctl("recycle", "2")
        pool.wait("ready", worker=2, since=mark)
        self.assertEqual(len(pool.find("start", since=mark)), 1)
        self.assertEqual(pool.workers()[1], before[1])

    def test_not_by_its_silence(self):
        pool, kept = self.pool_with_kept("--timeout", "1")
        # Another one that is silent from now on is ended before this one would not be.
        os.kill(pool.workers()[2], signal.SIGSTOP)
        pool.wait("exit", worker=2, cause="watchdog")
        self.assertFalse(kept.is_gone())
        self.assertEqual(pool.status()["quarantine"]["state"], "kept")

    def test_early_when_a_replacement_needs_its_room(self):
        sets = ("cgroup.use=no", "memory.worker-max=100%", "trim.mode=off")  # nothing else counts
        pool = self.gunicorn(sets=(*QUICK, "cgroup.use=no")).wait_ready()
        usage = until(lambda: pool.status()["workers"][0]["usage_bytes"], "it is known")
        self.assertEqual(pool.stop(), 0)
        # Room for two and a half: the one in quarantine is the third.
        pool, kept = self.pool_with_kept(
            n_workers=1, sets=(*sets, f"memory.budget={usage * 5 // 2 >> 10}K"))
        pid = pool.workers()[1]
        pool.ctl("recycle", "1")
        kept.wait_gone()
        ended = pool.wait("quarantine", state="ended")
        self.assertEqual(ended["TRIMTAB_REASON"], "another worker needs its memory")
        self.assertEqual(pool.wait("exit", pid=kept.pid)["TRIMTAB_CAUSE"], "asked")
        restart = pool.wait("restart", count=2)
        self.assertEqual((restart["TRIMTAB_PID"], restart["TRIMTAB_HOW"]), (str(pid), "surge"))
        self.assertLess(pool.records.index(ended), pool.records.index(restart))

    def test_before_it_begins_where_there_is_no_room_for_two(self):
        for surge in ("auto", "always", "never"):
            with self.subTest(surge):
                pool = self.gunicorn(sets=(*QUICK, "cgroup.use=no", "memory.budget=20M",
                                           "memory.worker-max=100%", "trim.mode=off",
                                           f"restart.surge={surge}"))
                pool.wait_ready()
                pid = pool.workers()[1]
                refused = pool.ctl("quarantine", "1", check=False)
                self.assertIn("no memory for it", refused.stderr)
                pool.wait("quarantine", state="refused")
                self.assertEqual(pool.workers()[1], pid)
                self.assertIsNone(pool.status()["workers"][0]["replacement_pid"])
                self.assertEqual(pool.find("restart"), [])
                self.assertEqual(pool.stop(), 0)


class Bystanders(Quarantined):
    """What goes on as if there were no such worker."""

    def test_reload_scaling_and_recycling(self):
        conf = self.write("gunicorn.conf.py", 'bind = ["127.0.0.1:0", "127.0.0.1:0"]\n')
        pool = self.pool("gunicorn", "-w", "2", "-c", conf, "light:app", sets=QUICK).wait_ready(2)
        leaving = pool.find("pool", state="listening")[-1]["MESSAGE"]
        _, kept = self.keep(pool, "1")
        pool.send(signal.SIGTTIN)
        until(lambda: len(pool.workers()) == 3, "one more")
        pool.send(signal.SIGTTOU)
        until(lambda: len(pool.workers()) == 2, "one less")
        before = pool.workers()
        self.write("gunicorn.conf.py", 'bind = ["127.0.0.1:0"]\n')
        pool.send(signal.SIGHUP)
        until(lambda: len(pool.workers()) == 2 and
              not set(pool.workers().values()) & set(before.values()), "all are new")
        pool.wait("pool", state="closed")
        self.assertIn("Listening on", leaving)
        pool.ctl("recycle", "1")
        self.assertFalse(kept.is_gone())
        self.assertEqual(pool.status()["quarantine"]["pid"], kept.pid)
        self.assertEqual(pool.status()["pool"]["workers"], 2)
        self.assertEqual(pool.stop(), 0)
        self.assert_left_nothing(pool)

    def test_an_upgrade_takes_it_along(self):
        pool = self.gunicorn("-w", "2", sets=QUICK).wait_ready(2)
        _, kept = self.keep(pool, "1", "30")
        pool.ctl("upgrade")
        shown = pool.status()["quarantine"]
        self.assertEqual((shown["pid"], shown["state"], shown["drained"]), (kept.pid, "kept", True))
        self.assertLess(shown["ends_in_usec"], 30 * 60 * 1_000_000)
        self.assertGreater(shown["ends_in_usec"], 20 * 60 * 1_000_000)
        pool.ctl("release", "1")
        kept.wait_gone()
        self.assertEqual(pool.wait("exit", pid=kept.pid)["TRIMTAB_CAUSE"], "asked")
        until(lambda: children(pool.pid) >= set(pool.workers().values()), "all are there")
        self.assertEqual(pool.stop(), 0)
        self.assert_left_nothing(pool)

    def test_an_upgrade_while_it_drains(self):
        arrived, leave = self.gates()
        pool = self.gated(sets=(*QUICK, "restart.graceful-timeout=1h")).wait_ready()
        held = self.hold(pool, arrived)
        pid = pool.workers()[1]
        with concurrent.futures.ThreadPoolExecutor() as clients:
            asked = clients.submit(pool.ctl, "quarantine", "1", check=False)
            until(lambda: (pool.status()["quarantine"] or {}).get("state") == "draining",
                  "it drains")
            pool.ctl("upgrade")
            asked.result()
        os.write(leave, b"x")
        self.assertEqual(self.answer(held), pid)
        self.assertEqual(pool.wait("quarantine")["TRIMTAB_STATE"], "begun")
        self.assertEqual(pool.status()["quarantine"]["state"], "kept")

    def test_on_recycle_sees_it_first(self):
        script = self.write("look", f'#!/bin/sh\necho $TRIMTAB_PID > {self.directory}/seen\n')
        os.chmod(script, 0o755)
        pool = self.gunicorn(sets=(*QUICK, f"restart.on-recycle={script}")).wait_ready()
        _, kept = self.keep(pool, "1")
        with open(self.path("seen"), encoding="ascii") as file:
            self.assertEqual(file.read(), f"{kept.pid}\n")

    def test_a_client_that_hangs_up_changes_nothing(self):
        arrived, leave = self.gates()
        pool = self.gated(sets=(*QUICK, "restart.graceful-timeout=1h")).wait_ready()
        held = self.hold(pool, arrived)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(os.path.join(pool.runtime, pool.name + ".sock"))
            client.sendall(b"quarantine 1\n")
            until(lambda: (pool.status()["quarantine"] or {}).get("state") == "draining",
                  "it drains")
        pool.ctl("status")
        os.write(leave, b"x")
        self.answer(held)
        pool.wait("quarantine", state="begun")

    def test_somebody_elses_sigwinch(self):
        pool = self.gunicorn(sets=QUICK).wait_ready()
        pid = pool.workers()[1]
        os.kill(pid, signal.SIGWINCH)
        pool.ctl("recycle", "1")
        end = pool.wait("exit", pid=pid)
        self.assertEqual((end["TRIMTAB_CAUSE"], end["TRIMTAB_STATUS"]), ("asked", "0"))
        self.assertEqual(pool.find("quarantine"), [])


class Refusals(Quarantined):
    def refused(self, pool, *words):
        done = pool.ctl("quarantine", *words, check=False)
        self.assertEqual(done.returncode, 1, done.stdout)
        return done.stderr

    def test_what_cannot_be(self):
        pool = self.gunicorn("-w", "2", sets=QUICK).wait_ready(2)
        self.assertIn("no worker 3", self.refused(pool, "3"))
        for minutes in ("0", "1441", "ten"):
            self.assertIn("minutes are", self.refused(pool, "1", minutes))
        _, kept = self.keep(pool, "1")
        self.assertIn(f"worker 1 (pid {kept.pid}) is in quarantine", self.refused(pool, "2"))
        self.assertIn("one at a time", self.refused(pool, "1"))
        self.assertIn("not in quarantine", pool.ctl("release", "2", check=False).stderr)
        self.assertEqual(pool.ctl("quarantine", "1", "2", "3", check=False).returncode, 2)

    def test_another_program(self):
        pool = self.echo("ready", sets=QUICK).wait_ready()
        self.assertIn("only gunicorn's workers", self.refused(pool, "1"))

    def test_an_application_that_has_the_signal(self):
        self.write("own.py", APPLICATION)
        conf = self.write("conf.py", "import signal\ndef post_worker_init(worker):\n"
                          "    signal.signal(signal.SIGWINCH, lambda *_: None)\n")
        pool = self.gunicorn("-c", conf, app="own:app", cwd=self.directory,
                             sets=QUICK).wait_ready()
        self.assertIn("SIGWINCH", self.refused(pool, "1"))

    def test_a_replacement_that_does_not_come_up(self):
        self.write("gated.py", APPLICATION)
        pool = self.gated(sets=(*QUICK, "restart.backoff-max=100ms")).wait_ready()
        pid = pool.workers()[1]
        self.write("broken", "")
        self.assertIn("did not become ready", self.refused(pool, "1"))
        self.assertEqual(pool.wait("quarantine")["TRIMTAB_STATE"], "refused")
        os.unlink(self.path("broken"))
        self.assertIsNone(pool.status()["quarantine"])
        # The wish went with it: once it could be tried again, it is not.
        def explained():
            return json.loads(pool.ctl("--json", "explain", "1").stdout)["workers"][0]

        until(lambda: explained()["waits_for"] != "backoff", "the backoff is over")
        self.assertIn("nothing is planned", explained()["sentence"])
        self.assertEqual(pool.workers(), {1: pid})
        self.assertEqual(self.keep(pool, "1")[1].pid, pid)

    def test_called_off_while_it_drains(self):
        arrived, leave = self.gates()
        pool = self.gated(sets=(*QUICK, "restart.graceful-timeout=1h")).wait_ready()
        held = self.hold(pool, arrived)
        pid = pool.workers()[1]
        with concurrent.futures.ThreadPoolExecutor() as clients:
            asked = clients.submit(pool.ctl, "quarantine", "1", check=False)
            until(lambda: (pool.status()["quarantine"] or {}).get("state") == "draining",
                  "it drains")
            pool.ctl("release", "1")
            self.assertIn("released", asked.result().stderr)
        os.write(leave, b"x")
        self.assertEqual(self.answer(held), pid)
        end = pool.wait("exit", pid=pid)
        self.assertEqual((end["TRIMTAB_CAUSE"], end["TRIMTAB_STATUS"]), ("asked", "0"))

    def test_a_worker_that_dies_before(self):
        arrived, _ = self.gates()
        pool = self.gated(sets=(*QUICK, "restart.graceful-timeout=1h")).wait_ready()
        self.hold(pool, arrived)
        pid = pool.workers()[1]
        with concurrent.futures.ThreadPoolExecutor() as clients:
            asked = clients.submit(pool.ctl, "quarantine", "1", check=False)
            until(lambda: (pool.status()["quarantine"] or {}).get("state") == "draining",
                  "it drains")
            os.kill(pid, signal.SIGKILL)
            self.assertIn("it ended before", asked.result().stderr)
        self.assertIsNone(pool.status()["quarantine"])

    def test_a_stop_calls_it_off(self):
        arrived, leave = self.gates()
        pool = self.gated(sets=(*QUICK, "restart.graceful-timeout=1h")).wait_ready()
        held = self.hold(pool, arrived)
        with concurrent.futures.ThreadPoolExecutor() as clients:
            asked = clients.submit(pool.ctl, "quarantine", "1", check=False)
            until(lambda: (pool.status()["quarantine"] or {}).get("state") == "draining",
                  "it drains")
            pool.send(signal.SIGTERM)
            pool.wait("quarantine", state="refused")
            self.assertIn("the pool stops", asked.result().stderr)
        os.write(leave, b"x")
        self.answer(held)
        self.assertEqual(pool.wait_exit(), 0)
        self.assert_left_nothing(pool)


if __name__ == "__main__":
    unittest.main()
