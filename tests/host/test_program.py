"""The command line of trimtab and trimtabctl: what is refused, in which words, with which status."""
import json
import os
import re
import shutil
import socket
import subprocess
import unittest

from pools import BUILD, CTL, ECHO, EXAMPLE, Case, clean_environment, own_cgroup, until


class Refusals(Case):
    """One line on standard error, the right status, and nothing started."""

    def check_refused(self, *arguments, status=2, says=(), **options):
        done = self.run_trimtab(*arguments, **options)
        self.assertEqual(done.returncode, status, done.stderr + done.stdout)
        self.assertEqual(done.stdout, "")
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        for text in says:
            self.assertIn(text, done.stderr)
        self.assertNotIn("/run", os.listdir(self.directory))
        return done.stderr

    def test_nothing_to_run(self):
        self.check_refused(says=["nothing to run", "trimtab gunicorn"])

    def test_unknown_verb(self):
        self.check_refused("uwsgi", says=["unknown verb uwsgi", "gunicorn, exec, check, doctor"])

    def test_unknown_option(self):
        self.check_refused("--frobnicate", says=["--frobnicate", "--help"])

    def test_option_without_value(self):
        self.check_refused("-c", says=["-c needs a file"])
        self.check_refused("--set", says=["--set needs SECTION.KEY=VALUE"])

    def test_exec_without_command(self):
        self.check_refused("exec", says=["no command"])
        self.check_refused("exec", "-w", "2", "--", says=["no command"])
        self.check_refused("exec", "-x", "--", "true", says=["unknown option -x"])
        self.check_refused("exec", "-w", says=["-w needs a value"])

    def test_gunicorn_without_application(self):
        """Its own file might name one, so gunicorn is asked, and says so in its own words."""
        done = self.run_trimtab("gunicorn")
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn("No application module specified", done.stderr)

    def test_file_that_is_not_there(self):
        self.check_refused("-c", "none.ini", says=["none.ini", "No such file"])

    def test_each_kind_of_bad_value(self):
        rows = (
            ("[pool]\ncommand = true\nworkers = many\n", 3, "workers", "many"),
            ("[pool]\ncommand = true\nworkers = 0\n", 3, "workers", "0"),
            ("[pool]\ncommand = true\n[memory]\nbudget = 12Q\n", 4, "budget", "12Q"),
            ("[pool]\ncommand = true\n[memory]\nbudget = -1\n", 4, "budget", "-1"),
            ("[pool]\ncommand = true\n[restart]\nmin-gap = soon\n", 4, "min-gap", "soon"),
            ("[pool]\ncommand = true\n[restart]\nsurge = maybe\n", 4, "surge", "maybe"),
            ("[pool]\ncommand = true\n[trim]\nsignal = SIGKILL\n", 4, "signal", "SIGKILL"),
            ("[pool]\ncommand = true\n[pressure]\nsome = 9s/1s\n", 4, "some", "9s/1s"),
            ("[pool]\ncommand = true\nbind = 1.2.3.4:x\n", 3, "bind", "1.2.3.4:x"),
            ("[pool]\ncommand = true\nname = a/b\n", 3, "name", "a/b"),
        )
        for text, line, key, value in rows:
            with self.subTest(key=key, value=value):
                self.write("shop.ini", text)
                self.check_refused("-c", "shop.ini", says=[f"shop.ini:{line}:", key, value])

    def test_unknown_key_and_section_name_the_nearest(self):
        self.write("shop.ini", "[pool]\ncommand = true\nwrokers = 3\n")
        self.check_refused("-c", "shop.ini", says=["shop.ini:3:", "wrokers", "workers"])
        self.write("shop.ini", "[pool]\ncommand = true\n[memroy]\nbudget = 1G\n")
        self.check_refused("-c", "shop.ini", says=["shop.ini:", "memroy", "memory"])

    def test_both_or_neither_to_run(self):
        self.write("shop.ini", "[pool]\ncommand = true\ngunicorn = app:app\n")
        self.check_refused("-c", "shop.ini", says=["gunicorn", "command"])
        self.write("shop.ini", "[pool]\nworkers = 2\n")
        self.check_refused("-c", "shop.ini", says=["gunicorn", "command"])

    def test_set(self):
        self.check_refused("--set", "pool.workers=x", "exec", "--", "true",
                           says=["--set", "workers", "x"])
        self.check_refused("--set", "pool.wrokers=3", "exec", "--", "true", says=["workers"])
        self.check_refused("--set", "nonsense", "exec", "--", "true", says=["nonsense"])

    def test_program_that_is_not_there(self):
        self.check_refused("exec", "--", "no-such-program", "-x",
                           says=["no-such-program", "no executable program"])
        self.check_refused("exec", "--", "./none", says=["./none"])

    def test_interpreter_that_is_not_there(self):
        self.check_refused("--set", "pool.python=/nonexistent/python", "gunicorn", "app:app",
                           says=["python", "/nonexistent/python"])

    def test_bad_setting_of_gunicorn(self):
        done = self.run_trimtab("gunicorn", "-w", "x", "light:app", cwd=EXAMPLE)
        self.assertEqual(done.returncode, 2)
        self.assertIn("gunicorn", done.stderr)


class Printing(Case):
    def test_help_names_every_key(self):
        done = self.run_trimtab("--help")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        dump = self.run_trimtab("--dump-config", "exec", "--", "true").stdout
        for key in re.findall(r"^;?([a-z-]+) *=", dump, re.M):
            self.assertIn(key, done.stdout)

    def test_version(self):
        done = self.run_trimtab("--version")
        self.assertEqual(done.returncode, 0)
        self.assertRegex(done.stdout, r"^trimtab \d+\.\d+")

    def test_dump_is_a_file_that_means_the_same(self):
        first = self.run_trimtab("--set", "memory.budget=1.5G", "--set", "trim.interval=10s..1m",
                                 "--set", "pool.env=A=b c", "--set", "pool.env=D='\"%",
                                 "--set", "pool.name=shop", "--dump-config", "exec", "-w", "3",
                                 "-b", "127.0.0.1:1", "-b", "unix:/tmp/a b", "--", "echo",
                                 "it's \"quoted\"", "a;b", "#c", "\\", "")
        self.assertEqual(first.returncode, 0, first.stderr)
        self.write("dump.ini", first.stdout)
        second = self.run_trimtab("--dump-config", "-c", "dump.ini")
        self.assertEqual(second.returncode, 0, second.stderr)
        # But for the place that each value comes from.
        self.assertEqual(re.sub(r"\t;.*", "", second.stdout), re.sub(r"\t;.*", "", first.stdout))

    def test_dump_runs_what_was_dumped(self):
        dumped = self.run_trimtab("--set", "pool.name=dumped", "--dump-config", "exec", "-b",
                                  "127.0.0.1:0", "--", ECHO, "ready", "status=a  b;c#d")
        self.write("dump.ini", dumped.stdout)
        pool = self.pool("-c", self.path("dump.ini"), name="dumped").wait_ready()
        self.assertEqual(pool.status()["workers"][0]["status"], "a  b;c#d")

    def test_doctor_says_whether_a_program_can_be_trimmed(self):
        script = self.write("script", "#!/usr/bin/env -S A=b python3\n")
        setgid = self.write("setgid", "")
        shutil.copy("/bin/true", setgid)
        os.chown(setgid, -1, 12345)
        for path, mode in ((script, 0o755), (setgid, 0o2755)):
            os.chmod(path, mode)
        for program, says in ((ECHO, "yes  trims "), (script, "yes  trims "),
                              (os.path.join(BUILD, "tests/preload/preload-guest-static"),
                               "preload-guest-static is linked statically: the library"),
                              (setgid, "setgid is setuid, setgid or has file capabilities")):
            with self.subTest(program):
                done = self.run_trimtab("doctor", "exec", "-b", "127.0.0.1:0", "--", program)
                self.assertIn(says, done.stdout)
                done = self.run_trimtab("check", "exec", "-b", "127.0.0.1:0", "--", program)
                self.assertEqual("warning: " in done.stdout, "yes" not in says)
        pool = self.pool("exec", "-b", "127.0.0.1:0", "--", setgid)
        pool.wait("problem", MESSAGE=lambda m: "the library that trims is not loaded" in m)

    def test_doctor_says_what_the_host_allows(self):
        done = self.run_trimtab("doctor")
        lines = done.stdout.splitlines()
        words = [line.split()[0] for line in lines if line[:1].strip()]
        self.assertGreater(len(words), 5, done.stdout)
        self.assertLessEqual({"yes", "no"} & set(words), {"yes", "no"})
        full = "Full control" in done.stdout
        self.assertEqual(done.returncode, 0 if full else 1)
        self.assertEqual(done.stdout.count("because"), words.count("no"), done.stdout)
        self.assertEqual(done.stdout.count("remedy:"), words.count("no"))
        self.check_no_cgroup("doctor")

    def check_no_cgroup(self, name):
        own = own_cgroup()
        if own:
            self.assertNotIn(f"trimtab-{name}", os.listdir(own))

    def test_check_of_what_would_start(self):
        done = self.run_trimtab("check", "--set", "pool.name=checked", "gunicorn", "-w", "3", "-b",
                                "127.0.0.1:1", "light:app", cwd=EXAMPLE)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("pool checked: gunicorn", done.stdout)
        self.assertIn("listens on 127.0.0.1:1", done.stdout)
        self.assertIn("3 workers of at most", done.stdout)
        self.assertEqual(done.stdout.splitlines()[-1], "ok")
        self.assertEqual(os.listdir(self.directory), [], "something was started")
        self.check_no_cgroup("checked")

    def test_check_of_what_would_not(self):
        self.write("shop.ini", "[pool]\ncommand = true\nworkers = x\n")
        done = self.run_trimtab("check", "-c", "shop.ini")
        self.assertEqual(done.returncode, 2)
        self.assertIn("shop.ini:3:", done.stderr)
        done = self.run_trimtab("check", "exec", "-b", "nonsense:x", "--", "true")
        self.assertEqual(done.returncode, 2)
        self.assertIn("nonsense:x", done.stderr)

    def test_check_of_limits_that_do_not_fit(self):
        done = self.run_trimtab("check", "--set", "memory.budget=100M", "--set",
                                "memory.worker-max=90M", "exec", "-w", "4", "--", "true")
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertIn("not feasible", done.stdout)
        self.assertRegex(done.stdout, r"worker-max = \d+M would do")
        self.assertRegex(done.stdout, r"--set: \[memory\] worker-max = 90M: 4 workers of 90.0 MiB and a "
                                      r"reserve of 10.0 MiB exceed the budget of 100.0 MiB")
        self.assertIn(", or workers = 1\n", done.stdout)
        would_do = re.search(r"worker-max = (\d+M) would do", done.stdout)[1]
        done = self.run_trimtab("check", "--set", "memory.budget=100M", "--set",
                                f"memory.worker-max={would_do}", "exec", "-w", "4", "--", "true")
        self.assertEqual(done.returncode, 0, done.stdout)

    def test_check_of_a_gap_that_a_life_has_no_room_for(self):
        self.write("shop.ini", "[pool]\ncommand = true\nworkers = 4\n[restart]\n"
                               "min-gap = 1h\nmax-lifetime = 2h\n")
        done = self.run_trimtab("check", "-c", "shop.ini")
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertIn("not feasible: shop.ini:5: [restart] min-gap = 1h: 4 workers this far apart "
                      "take 4 h 0 min to replace, and max-lifetime is 2 h 0 min", done.stdout)
        self.assertIn("min-gap = 30m would do, or workers = 2\n", done.stdout)
        done = self.run_trimtab("check", "-c", "shop.ini", "--set", "restart.min-gap=30m")
        self.assertEqual(done.returncode, 0, done.stdout)


class Control(Case):
    def ctl(self, *arguments, **environment):
        return subprocess.run([CTL, *arguments], capture_output=True, text=True, check=False,
                              env=clean_environment(RUNTIME_DIRECTORY=self.directory,
                                                    **environment))

    def check_usage(self, *arguments):
        done = self.ctl(*arguments)
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn("trimtabctl", done.stderr)
        self.assertEqual(done.stdout, "")

    def test_usage(self):
        self.check_usage()
        self.check_usage("--frobnicate", "status")
        self.check_usage("trim", "1", "2")
        self.check_usage("-n")
        done = self.ctl("--help")
        self.assertEqual(done.returncode, 0)
        for verb in ("status", "trim", "recycle", "reload", "stop"):
            self.assertIn(verb, done.stdout)
        self.assertEqual(self.ctl("--version").returncode, 0)

    def test_no_pool(self):
        done = self.ctl("-n", "none", "status")
        self.assertEqual(done.returncode, 1)
        self.assertIn("no pool none runs here", done.stderr)
        done = self.ctl("-s", self.path("none.sock"), "status")
        self.assertEqual(done.returncode, 1)
        self.assertIn("No such file", done.stderr)

    def test_a_pool_that_is_dead(self):
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(self.path("dead.sock"))
        done = self.ctl("-n", "dead", "status")
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, r"\Atrimtabctl: .*dead.*\n\Z")

    def test_what_a_pool_refuses(self):
        pool = self.echo("ready").wait_ready()
        for words, says in ((("trim", "7"), "worker 7"), (("trim", "0"), "number from 1"),
                            (("trim", "x"), "number from 1"), (("trim",), "one worker"),
                            (("status", "1"), "no argument"), (("frobnicate",), "unknown verb"),
                            (("recycle", "9"), "no worker 9")):
            with self.subTest(words):
                done = pool.ctl(*words, check=False)
                self.assertEqual(done.returncode, 1)
                self.assertIn(says, done.stderr)
                self.assertEqual(done.stderr.count("\n"), 1)
                done = pool.ctl("--json", *words, check=False)
                self.assertEqual(done.returncode, 1)
                self.assertFalse(json.loads(done.stdout)["ok"])
                self.assertIn(says, json.loads(done.stdout)["error"])

    def test_status_for_people(self):
        pool = self.echo("ready", "status=all well", workers=2).wait_ready(2)
        shown = pool.ctl("status").stdout
        self.assertIn(f"pool {pool.name}", shown)
        self.assertIn("listens on 127.0.0.1:", shown)
        self.assertIn("2 of 2 workers serve", shown)
        for pid in pool.workers().values():
            self.assertIn(str(pid), shown)

    def test_status_for_programs(self):
        pool = self.echo("ready", "status=all well", workers=2).wait_ready(2)
        # It says READY=1 and STATUS= in two messages.
        until(lambda: all(worker["status"] for worker in pool.status()["workers"]),
              "what the workers say of themselves")
        status = pool.status()
        self.assertTrue(status["ok"])
        self.assertEqual(status["pool"]["name"], pool.name)
        self.assertEqual(status["pool"]["supervisor_pid"], pool.pid)
        self.assertEqual((status["pool"]["workers"], status["pool"]["serving"]), (2, 2))
        self.assertIn(status["pool"]["mode"], ("full", "degraded"))
        for number, worker in enumerate(status["workers"], 1):
            self.assertEqual((worker["worker"], worker["state"]), (number, "serving"))
            self.assertEqual(worker["status"], "all well")
            self.assertGreater(worker["usage_bytes"], 1 << 12)
            self.assertGreater(worker["age_usec"], 0)
            os.kill(worker["pid"], 0)

    def test_the_only_pool_needs_no_name(self):
        pool = self.echo("ready").wait_ready()
        done = subprocess.run([CTL, "status"], env=pool.environment, capture_output=True,
                              text=True, check=False)
        if "several pools" in done.stderr:
            self.skipTest("another pool runs on this machine")
        self.assertIn(f"pool {pool.name}", done.stdout)

    def test_several_pools_are_listed(self):
        runtime = self.directory
        pools = [self.echo("ready", runtime=runtime).wait_ready() for _ in range(2)]
        done = self.ctl("status")
        self.assertEqual(done.returncode, 1)
        for pool in pools:
            self.assertIn(f"{runtime}/{pool.name}.sock", done.stderr)

    def test_stop(self):
        pool = self.echo("ready", workers=2).wait_ready(2)
        self.assertIn("stopped", pool.ctl("stop").stdout)
        self.assertEqual(pool.wait_exit(), 0)
        self.assert_left_nothing(pool)

    def test_by_hand(self):
        pool = self.echo("ready").wait_ready()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(os.path.join(pool.runtime, f"{pool.name}.sock"))
            client.sendall(b"status\n")
            client.shutdown(socket.SHUT_WR)
            with client.makefile("rb") as answer:
                self.assertTrue(json.loads(answer.read())["ok"])


class LongNames(Case):
    """Paths of sockets have 107 characters, of which 20 are for the name in the pool's directory;
    what is cut would be another path."""

    def start(self, length):
        runtime = os.path.join(self.directory, "r" * (length - len(self.directory) - 1))
        os.mkdir(runtime)
        return self.echo("ready", runtime=runtime, name="n" * 20)

    def test_that_fit(self):
        pool = self.start(87 - len("/.d") - 20).wait_ready()
        self.assertEqual(pool.get().status, 200)
        self.assertEqual(len(pool.workers()), 1)
        self.assertEqual(pool.stop(), 0)
        self.assert_left_nothing(pool)

    def test_that_do_not(self):
        pool = self.start(87 - len("/.d") - 19)
        self.assertEqual(pool.wait_exit(), 1)
        self.assertIn("File name too long", pool.messages("problem")[-1])
        self.assert_left_nothing(pool)


class TwoOfOneName(Case):
    def test_the_second_is_refused(self):
        first = self.echo("ready", runtime=self.directory, name="twin").wait_ready()
        second = self.echo("ready", runtime=self.directory, name="twin")
        self.assertEqual(second.wait_exit(), 1)
        self.assertIn("another trimtab serves a pool of this name", second.messages("problem")[-1])
        self.check_unharmed(first)

    def test_the_second_is_refused_without_a_control_socket(self):
        off = ("control.socket=off",)
        first = self.echo("ready", "beat", runtime=self.directory, name="twin", sets=off)
        first.wait_ready()
        before = sorted(os.listdir(self.path("twin.d")))
        second = self.echo("ready", runtime=self.directory, name="twin", sets=off)
        self.assertEqual(second.wait_exit(), 1)
        self.assertEqual(sorted(os.listdir(self.path("twin.d"))), before)
        # Its workers can still be heard.
        os.kill(int(first.find("start")[-1]["TRIMTAB_PID"]), 9)
        first.wait("ready", count=2)

    def check_unharmed(self, pool):
        pid = pool.workers()[1]
        self.assertEqual(pool.get().text.strip(), str(pid))
        os.kill(pid, 9)
        pool.wait("ready", count=2)
        self.assertEqual(pool.get().text.strip(), str(pool.workers()[1]))
        self.assertEqual(pool.stop(), 0)


if __name__ == "__main__":
    unittest.main()
