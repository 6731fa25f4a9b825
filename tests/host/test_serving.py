"""Pools that serve: worker classes, sockets of every kind, what workers are given."""
import os
import socket
import stat
import sys
import unittest

from pools import ECHO, EXAMPLE, Case, get, until

# Puts its first two arguments on 3 and 4 and becomes the rest.
LIKE_SYSTEMD = """
import os, sys
for target, given in enumerate(sys.argv[1:3], 3):
    os.dup2(int(given), target)
os.environ.update(LISTEN_FDS="2", LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES="a:b")
os.execv(sys.argv[3], sys.argv[3:])
"""


class Gunicorn(Case):
    def check_serves(self, *words, **options):
        pool = self.gunicorn("-w", "2", *words, **options).wait_ready(2)
        workers = pool.workers()
        self.assertEqual(sorted(workers), [1, 2])
        seen = set()
        until(lambda: seen.add(pool.get().json["pid"]) or seen == set(workers.values()),
              "both workers answer")
        self.assertEqual(pool.stop(), 0, pool.log())
        self.assert_left_nothing(pool)
        return pool

    def test_sync(self):
        self.check_serves("-k", "sync")

    def test_gthread(self):
        self.check_serves("-k", "gthread", "--threads", "4")

    def test_workers_log_under_their_names(self):
        pool = self.check_serves("--access-logfile", "-")
        lines = [record for record in pool.records if "TRIMTAB_EVENT" not in record]
        self.assertLessEqual({"1", "2"}, {line["TRIMTAB_WORKER"] for line in lines})
        self.assertTrue(any("GET / HTTP" in line["MESSAGE"] for line in lines))

    def test_records_of_a_whole_life(self):
        pool = self.check_serves()
        events = [record["TRIMTAB_EVENT"] for record in pool.records if "TRIMTAB_EVENT" in record]
        self.assertEqual(events.count("start"), 2)
        self.assertEqual(events.count("ready"), 2)
        self.assertEqual(events.count("exit"), 2)
        self.assertEqual([record["TRIMTAB_STATE"] for record in pool.find("pool")][-4:],
                         ["ready", "signal", "stopping", "stopped"])
        for record in pool.find("exit"):
            self.assertEqual(record["TRIMTAB_CAUSE"], "asked")
        ready = pool.find("ready", worker=1)[0]
        self.assertGreater(int(ready["TRIMTAB_USAGE_BYTES"]), 1 << 20)

    def test_settings_of_gunicorn(self):
        self.write("gunicorn.conf.py", "import os\nworkers = 3\nraw_env = ['FROM_FILE=yes']\n")
        pool = self.pool("gunicorn", "-b", "127.0.0.1:0", "-c", self.path("gunicorn.conf.py"),
                         "light:app").wait_ready(3)
        self.assertEqual(len(pool.workers()), 3)

    def test_version_is_gunicorns(self):
        done = self.run_trimtab("gunicorn", "--version")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("gunicorn", done.stdout)

    def test_daemon_is_refused(self):
        done = self.run_trimtab("gunicorn", "--daemon", "light:app")
        self.assertEqual(done.returncode, 2)
        self.assertIn("--daemon", done.stderr)


class Sockets(Case):
    def test_unix_with_its_mode(self):
        path = self.path("pool.sock")
        pool = self.pool("exec", "-b", f"unix:{path}", "--", ECHO, "ready",
                         sets=("pool.socket-mode=0620",)).wait_ready()
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o620)
        self.assertEqual(pool.get().text.strip(), str(pool.workers()[1]))
        self.assertEqual(pool.stop(), 0)
        self.assertFalse(os.path.exists(path))

    def test_unix_of_gunicorn(self):
        path = self.path("pool.sock")
        pool = self.pool("gunicorn", "-b", f"unix:{path}", "light:app").wait_ready()
        self.assertEqual(pool.get().status, 200)
        self.assertEqual(pool.stop(), 0)
        self.assertFalse(os.path.exists(path))

    def test_unix_owner(self):
        if os.geteuid() != 0:
            self.skipTest("only root can give a file away")
        path = self.path("pool.sock")
        self.pool("exec", "-b", f"unix:{path}", "--", ECHO, "ready",
                  sets=("pool.socket-user=65534", "pool.socket-group=nogroup")).wait_ready()
        self.assertEqual((os.stat(path).st_uid, os.stat(path).st_gid), (65534, 65534))

    def test_unix_path_left_by_the_dead(self):
        path = self.path("pool.sock")
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(path)
        pool = self.pool("exec", "-b", f"unix:{path}", "--", ECHO, "ready").wait_ready()
        self.assertEqual(pool.get().status, 200)

    def test_unix_path_of_a_file(self):
        path = self.write("pool.sock", "precious")
        pool = self.pool("exec", "-b", f"unix:{path}", "--", ECHO, "ready")
        self.assertEqual(pool.wait_exit(), 1)
        self.assertIn(f"Cannot listen on unix:{path}: File exists", pool.messages("problem"))
        with open(path, encoding="utf-8") as file:
            self.assertEqual(file.read(), "precious")

    def test_ipv6(self):
        try:
            with socket.socket(socket.AF_INET6) as probe:
                probe.bind(("::1", 0))
        except OSError as error:
            self.skipTest(f"no IPv6 here: {error}")
        pool = self.pool("gunicorn", "-b", "[::1]:0", "light:app").wait_ready()
        self.assertEqual(pool.address[0], "::1")
        self.assertEqual(pool.get().status, 200)

    def test_several(self):
        path = self.path("pool.sock")
        pool = self.pool("exec", "-w", "2", "-b", "127.0.0.1:0", "-b", f"unix:{path}", "-b",
                         "127.0.0.1:0", "--", ECHO, "ready").wait_ready(2)
        shown = pool.status()["sockets"]
        self.assertEqual(len(shown), 3)
        for record in pool.find("pool", state="listening"):
            text = record["MESSAGE"].removeprefix("Listening on ")
            address = text[5:] if text.startswith("unix:") else ("127.0.0.1",
                                                                 int(text.rpartition(":")[2]))
            self.assertEqual(get(address).status, 200, text)
        names = [line for line in pool.get("/env").text.splitlines()
                 if line.startswith("LISTEN_FDNAMES=")]
        self.assertEqual(names[0].count(":"), 2, names)

    def test_a_descriptor_by_number(self):
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            address = listener.getsockname()
            pool = self.pool("exec", "-b", f"fd://{listener.fileno()}", "--", ECHO, "ready",
                             pass_fds=[listener.fileno()]).wait_ready()
            self.assertEqual(get(address).status, 200)
            self.assertEqual(pool.address, address)
            self.assertEqual(pool.stop(), 0)

    def test_a_descriptor_that_is_no_socket(self):
        with open("/dev/null", encoding="ascii") as file:
            pool = self.pool("exec", "-b", f"fd://{file.fileno()}", "--", ECHO, "ready",
                             pass_fds=[file.fileno()])
            self.assertEqual(pool.wait_exit(), 1)
            self.assertIn("Cannot listen on fd://", pool.messages("problem")[-1])

    def test_inherited_from_a_service_manager(self):
        with socket.socket() as first, socket.socket() as second:
            for listener in (first, second):
                listener.bind(("127.0.0.1", 0))
                listener.listen()
            given = [first.fileno(), second.fileno()]
            pool = self.pool("exec", "-b", "127.0.0.1:1", "--", ECHO, "ready", pass_fds=given,
                             launcher=(sys.executable, "-c", LIKE_SYSTEMD, *map(str, given)))
            pool.wait_ready()
            self.assertEqual(get(first.getsockname()).status, 200)
            self.assertEqual(get(second.getsockname()).status, 200)
            self.assertEqual(len(pool.status()["sockets"]), 2)
            environment = get(first.getsockname(), "/env").text.splitlines()
            self.assertIn("LISTEN_FDS=2", environment)
            self.assertIn(f"LISTEN_PID={pool.workers()[1]}", environment)
            self.assertEqual(pool.stop(), 0)
            # They are the manager's: a connection waits for whoever comes next.
            with socket.create_connection(first.getsockname()):
                pass

    def test_sockets_meant_for_another_process(self):
        pool = self.echo("ready", environment={"LISTEN_FDS": "1", "LISTEN_PID": "1"})
        pool.wait_ready()
        self.assertEqual(pool.get().status, 200)

    def test_port_in_use(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            address = "%s:%d" % taken.getsockname()
            pool = self.pool("exec", "-b", address, "--", ECHO, "ready")
            self.assertEqual(pool.wait_exit(), 1)
            self.assertEqual(pool.messages("problem")[-1],
                             f"Cannot listen on {address}: Address already in use")
            self.assertEqual(pool.find("start"), [])
            self.assert_left_nothing(pool)

    def test_port_that_becomes_free(self):
        with socket.socket() as taken:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            pool = self.pool("exec", "-b", "%s:%d" % taken.getsockname(), "--", ECHO, "ready")
            pool.wait("problem")
        pool.wait_ready()
        self.assertEqual(pool.get().status, 200)


class WhatWorkersAreGiven(Case):
    def test_descriptors(self):
        # One that a careless parent left open in us.
        with open("/dev/null", encoding="ascii") as stray:
            pool = self.echo("ready", workers=2, pass_fds=[stray.fileno()]).wait_ready(2)
            for _ in range(4):
                lines = pool.get("/fds").text.splitlines()
                found = {int(line.split()[0]): line.split(" ", 1)[1] for line in lines}
                found = {fd: target for fd, target in found.items()
                         if not (fd > 4 and target.startswith("socket:"))}  # this request's own
                self.assertEqual(sorted(found), [0, 1, 2, 3, 4], lines)
                self.assertEqual(found[0], "/dev/null")
                self.assertEqual(found[1], found[2])
                self.assertTrue(found[3].startswith("socket:"))
                self.assertIn("trimtab-page", found[4])

    def test_environment(self):
        pool = self.echo("ready", sets=("pool.env=COLOUR=red", "pool.env=PATH=/only"),
                         environment={"NOTIFY_SOCKET": "/nonexistent", "WATCHDOG_USEC": "1",
                                      "MEMORY_PRESSURE_WATCH": "/sys/stale", "KEPT": "1"})
        environment = dict(line.split("=", 1) for line in
                           pool.wait_ready().get("/env").text.splitlines())
        pid = str(pool.workers()[1])
        self.assertEqual(environment["COLOUR"], "red")
        self.assertEqual(environment["PATH"], "/only")
        self.assertEqual(environment["KEPT"], "1")
        self.assertEqual(environment["TRIMTAB_POOL"], pool.name)
        self.assertEqual(environment["TRIMTAB_WORKER"], "1")
        self.assertEqual(environment["TRIMTAB_SUPERVISOR_PID"], str(pool.pid))
        self.assertEqual(environment["LISTEN_PID"], pid)
        self.assertEqual(environment["TRIMTAB_PAGE"].split(":")[1], pid)
        self.assertEqual(environment["MALLOC_ARENA_MAX"], "2")
        self.assertTrue(environment["NOTIFY_SOCKET"].startswith(pool.runtime))
        self.assertTrue(environment["MEMORY_PRESSURE_WATCH"].startswith(pool.runtime))
        self.assertNotIn("WATCHDOG_USEC", environment)

    def test_a_leaf_of_its_own(self):
        pool = self.echo("ready", workers=2).wait_ready(2)
        if not pool.cgroup():
            self.skipTest("no cgroup can be made here")
        for number, pid in pool.workers().items():
            with open(f"/proc/{pid}/cgroup", encoding="ascii") as file:
                lines = [line.strip() for line in file if line.startswith("0::")]
            self.assertTrue(lines[0].endswith(f"trimtab-{pool.name}/worker-{number}"), lines)

    def test_directory(self):
        pool = self.pool("gunicorn", "-b", "127.0.0.1:0", "light:app", cwd="/",
                         sets=(f"pool.chdir={EXAMPLE}",)).wait_ready()
        self.assertEqual(pool.get().status, 200)


if __name__ == "__main__":
    unittest.main()
