"""Workers forked from a template: preload = server and app."""
import json
import os
import signal
import unittest

from pools import Case, Load, until

BROKEN = "import no_such_module_anywhere\n"
GOOD = """
import json, os
LOADED_BY = os.getpid()
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({"pid": os.getpid(), "loaded_by": LOADED_BY}).encode()]
"""
MULTIPROCESSING = """
import multiprocessing
def app(environ, start_response):
    child = multiprocessing.get_context(environ["PATH_INFO"][1:]).Process(target=print)
    child.start()
    child.join()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(child.exitcode).encode()]
"""
HAZARDOUS = GOOD + """
import asyncio, socket, threading
never = threading.Event()
threading.Thread(target=never.wait, name="the\\x1bpoller", daemon=True).start()
peer, other = socket.socketpair(), socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(other.getsockname())
loop = asyncio.new_event_loop()
closed = asyncio.new_event_loop()
closed.close()
"""


def private_kib(pids):
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
            total += sum(int(line.split()[1]) for line in file if line.startswith("Private_"))
    return total


class Template(Case):
    """An application of the test's own, which it can break."""

    def setUp(self):
        super().setUp()
        self.write("app.py", GOOD)

    def start(self, *words, sets=(), **options):
        return self.pool("gunicorn", "-b", "127.0.0.1:0", "--chdir", self.directory, *words,
                         "app:app", sets=("restart.min-gap=0s", *sets), **options)

    def serving(self, pool, n_workers):
        """{worker: pid} as soon as so many serve."""
        pool.wait_ready()
        return until(lambda: len(pool.workers()) == n_workers and pool.workers(),
                     f"{n_workers} workers serve")

    def test_server_does_not_load_the_application(self):
        pool = self.start("-w", "2", sets=["pool.preload=server"])
        pids = self.serving(pool, 2).values()
        answer = pool.get().json
        self.assertIn(answer["pid"], pids)
        self.assertEqual(answer["loaded_by"], answer["pid"])
        self.assertEqual(pool.stop(), 0)
        self.assert_left_nothing(pool)

    def check_loaded_once(self, pool):
        pids = self.serving(pool, 2).values()
        answer = pool.get().json
        self.assertIn(answer["pid"], pids)
        self.assertNotIn(answer["loaded_by"], pids)

    def test_app_is_loaded_once_and_shared(self):
        self.check_loaded_once(self.start("-w", "2", sets=["pool.preload=app"]))

    def test_gunicorns_preload_app_means_app(self):
        self.check_loaded_once(self.start("-w", "2", "--preload"))

    def test_a_killed_worker_is_replaced_and_a_killed_template_too(self):
        pool = self.start("-w", "2", sets=["pool.preload=server"])
        pids = self.serving(pool, 2)
        os.kill(pids[1], signal.SIGKILL)
        self.assertEqual(pool.wait("exit", pid=pids[1])["TRIMTAB_CAUSE"], "signal")
        pool.wait_ready(3)
        message = pool.wait("pool", state="template")["MESSAGE"]
        with Load(pool.address) as load:
            os.kill(int(message.split("pid ")[1].split(")")[0]), signal.SIGKILL)
            pool.wait("problem")
            # Meanwhile a worker is executed, and then there is a template again.
            pool.ctl("recycle", "2")
            pool.wait("pool", count=2, state="template")
            pool.ctl("recycle", "1")
        self.assertEqual(load.failures, [])
        self.assertEqual(pool.stop(), 0)

    def hang_template(self, pool):
        message = pool.wait("pool", state="template")["MESSAGE"]
        pid = int(message.split("pid ")[1].split(")")[0])
        os.kill(pid, signal.SIGSTOP)
        return self.watch(pid)

    def test_one_that_hangs_is_ended(self):
        """Whoever waits for a worker from it would wait for ever."""
        pool = self.start("-w", "2", sets=["pool.preload=server", "restart.boot-timeout=3s",
                                           "restart.abort-grace=100ms"])
        pids = self.serving(pool, 2)
        template, since = self.hang_template(pool), pool.mark()
        os.kill(pids[1], signal.SIGKILL)
        template.wait_gone()
        pool.wait("ready", since=since, worker=1)
        pool.wait("pool", since=since, state="template")
        self.assertEqual(pool.stop(), 0)
        self.assert_left_nothing(pool)

    def test_one_that_hangs_delays_no_stop(self):
        """Spared for the hooks of gunicorn's master, which wait for the last worker's end."""
        self.write("conf.py", "def child_exit(server, worker): pass\n")
        pool = self.start("-w", "2", "-c", self.path("conf.py"), "--graceful-timeout", "1",
                          sets=["pool.preload=server", "restart.abort-grace=100ms"])
        pids = self.serving(pool, 2)
        self.hang_template(pool)
        os.kill(pids[1], signal.SIGKILL)
        until(lambda: pool.status()["workers"][0]["state"] == "booting", "it is asked for one")
        self.assertEqual(pool.stop(), 0)
        self.assert_left_nothing(pool)

    def test_an_application_that_does_not_load_ends_the_first_start(self):
        self.write("app.py", BROKEN)
        pool = self.start("-w", "2", sets=["pool.preload=app"])
        self.assertEqual(pool.wait_exit(), 3, pool.log())
        self.assertIn("no_such_module_anywhere", pool.log())

    def test_a_reload_that_does_not_load_changes_nothing(self):
        pool = self.start("-w", "2", sets=["pool.preload=app"])
        pids = self.serving(pool, 2)
        with Load(pool.address) as load:
            self.write("app.py", BROKEN)
            pool.ctl("reload")
            pool.wait("config", accepted=0)
            self.assertEqual(pool.workers(), pids)
            self.write("app.py", GOOD)
            pool.ctl("reload")
            pool.wait_ready(4)
        self.assertEqual(load.failures, [])
        self.assertFalse(set(self.serving(pool, 2).values()) & set(pids.values()))

    def test_what_it_prints_while_loading_is_printed_once(self):
        self.write("app.py", GOOD + "print('loaded')\n")
        pool = self.start("-w", "2", sets=["pool.preload=app"],
                          environment={"PYTHONUNBUFFERED": ""})
        pool.wait_ready(2)
        self.assertEqual(pool.stop(), 0)
        said = [record["TRIMTAB_WORKER"] for record in pool.find(MESSAGE="loaded")]
        self.assertEqual(said, ["0"], pool.log())

    def test_captured_output_goes_to_the_log_of_errors(self):
        self.write("app.py", GOOD + "print('said by', LOADED_BY, flush=True)\n")
        pool = self.start("-w", "1", "--capture-output", "--error-logfile", self.path("errors"),
                          sets=["pool.preload=server"])
        pid = self.serving(pool, 1)[1]
        with open(self.path("errors"), encoding="utf-8") as errors:
            self.assertIn(f"said by {pid}", errors.read())
        self.assertEqual(pool.stop(), 0)
        self.assertNotIn("said by", pool.log(999))

    def test_a_log_that_was_rotated_is_followed_by_workers_to_come(self):
        self.write("app.py", GOOD)
        log = self.path("access.log")
        pool = self.start("-w", "1", "--access-logfile", log, sets=["pool.preload=server"])
        old = self.serving(pool, 1)[1]
        os.rename(log, log + ".1")
        pool.send(signal.SIGUSR1)
        until(lambda: os.path.exists(log), "the worker opens it anew")
        pool.ctl("recycle", "1")
        pool.wait("exit", pid=old)
        self.assertEqual(pool.get("/after").status, 200)
        self.assertEqual(pool.stop(), 0)
        with open(log, encoding="utf-8") as file:
            self.assertIn("/after", file.read())

    def test_multiprocessing_starts_processes_anew(self):
        self.write("app.py", MULTIPROCESSING)
        pool = self.start("-w", "1", sets=["pool.preload=server"])
        self.serving(pool, 1)
        for method in ("spawn", "forkserver"):
            self.assertEqual(pool.get("/" + method).text, "0", pool.log())

    def test_workers_share_what_the_template_loaded(self):
        used = {}
        for preload in ("app", "none"):
            pool = self.gunicorn("-w", "4", sets=[f"pool.preload={preload}"])
            used[preload] = private_kib(self.serving(pool, 4).values())
        self.assertLess(used["app"] * 2, used["none"])

    def test_trims_reach_forked_workers(self):
        pool = self.gunicorn("-w", "2", "-k", "gthread", "--threads", "2",
                             sets=["pool.preload=app"])
        pids = self.serving(pool, 2)
        fat = pool.get("/fragment?mb=100").json
        done = json.loads(pool.ctl("--json", "trim", fat["worker"]).stdout)
        self.assertLess(done["after_bytes"] * 2, done["before_bytes"])
        self.assertEqual(pool.workers(), pids)

    def hazards(self, pool):
        return {record["TRIMTAB_STATE"]: record for record in pool.find("hazard")}

    def test_what_no_fork_survives_is_named_once_for_each_template(self):
        self.write("app.py", HAZARDOUS)
        pool = self.start("-w", "2", "--preload")
        self.serving(pool, 2)
        pool.wait("hazard", count=3)
        found = self.hazards(pool)
        self.assertEqual(sorted(found), ["connections", "event-loops", "threads"])
        self.assertEqual(found["threads"]["TRIMTAB_NAMES"], "the?poller")
        self.assertIn("127.0.0.1", found["connections"]["TRIMTAB_NAMES"])
        self.assertEqual(found["event-loops"]["TRIMTAB_NAMES"].count(","), 0)
        self.assertIn("EventLoop", found["event-loops"]["TRIMTAB_NAMES"])
        template = found["threads"]["TRIMTAB_PID"]
        self.assertNotIn(int(template), pool.workers().values())
        mark = pool.mark()
        pool.send(signal.SIGHUP)
        pool.wait("hazard", count=3, since=mark)
        pool.wait("exit", count=2, since=mark)
        self.assertEqual(len(pool.find("hazard")), 6)
        self.assertNotEqual(self.hazards(pool)["threads"]["TRIMTAB_PID"], template)

    def test_hazards_are_told_of_once_however_often_they_are_said(self):
        self.write("app.py", GOOD + """
import socket
supervisor = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
supervisor.connect(os.environ["NOTIFY_SOCKET"])
for _ in range(50):
    supervisor.send(b"X_TRIMTAB_HAZARD=threads\\nSTATUS=" + b"x" * 3000)
    supervisor.send(b"X_TRIMTAB_HAZARD=nonsense\\nSTATUS=x")
    supervisor.send(b"X_TRIMTAB_HAZARD=threads")
    supervisor.send(b"READY=1\\nX_TRIMTAB=done")
supervisor.close()
""")
        pool = self.start("-w", "1", "--preload")
        self.serving(pool, 1)
        record, = pool.find("hazard")
        self.assertEqual(record["TRIMTAB_NAMES"], "x" * 255)

    def test_a_worker_cannot_speak_of_hazards(self):
        self.write("app.py", """
import os, socket
def app(environ, start_response):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        supervisor.connect(os.environ["NOTIFY_SOCKET"])
        supervisor.send(b"X_TRIMTAB_HAZARD=threads\\nSTATUS=mine")
    start_response("200 OK", [])
    return [b"said"]
""")
        pool = self.start("-w", "1", "--preload")
        self.serving(pool, 1)
        self.assertEqual(pool.get().text, "said")
        until(lambda: pool.status()["workers"][0]["status"] == "mine", "it is heard")
        self.assertEqual(pool.find("hazard"), [])


if __name__ == "__main__":
    unittest.main()
