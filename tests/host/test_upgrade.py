"""trimtab in trimtab's place: the same process executes what is installed now, the workers go on."""
import concurrent.futures
import contextlib
import fcntl
import json
import os
import resource
import shutil
import signal
import unittest
from unittest import mock

import pools
from pools import Case, Load, children, descriptors, until

QUICK = ("restart.min-gap=10ms", "restart.min-gap-floor=10ms")


def kinds(pid):
    """What its descriptors are, without the numbers that name them."""
    return sorted(path.split(":")[0] for path in descriptors(pid).values())


def inheritable(pid):
    """Its descriptors that a program it executes would get."""
    found = {}
    for fd, path in descriptors(pid).items():
        with contextlib.suppress(OSError):
            with open(f"/proc/{pid}/fdinfo/{fd}", encoding="ascii") as file:
                flags = next(int(line.split()[1], 8) for line in file if line.startswith("flags:"))
            if fd > 2 and not flags & os.O_CLOEXEC:
                found[fd] = path
    return found


def settled_kinds(pool):
    """The least of some looks: a client may just be leaving."""
    looks = []
    for _ in range(10):
        pool.status()
        looks.append(kinds(pool.pid))
    return min(looks, key=len)


def template_of(pool):
    texts = [m for m in pool.messages("pool", state="template") if "is ready" in m]
    return int(texts[-1].split("pid ")[1].split(")")[0])


def limit_of_descriptors(pid):
    return resource.prlimit(pid, resource.RLIMIT_NOFILE)


class Upgrade(Case):
    def upgraded(self, pool):
        mark = pool.mark()
        done = pool.ctl("upgrade")
        pool.wait("pool", state="upgraded", since=mark)
        self.assertIn("took the place of", done.stdout)

    def check_goes_on(self, pool, n):
        """It still sees an end, replaces, trims, reloads and stops."""
        pids = pool.workers()
        for number in sorted(pids):
            mark = pool.mark()
            os.kill(pids[number], signal.SIGKILL)
            self.assertEqual(pool.wait("exit", since=mark)["TRIMTAB_CAUSE"], "signal")
            pool.wait("ready", worker=number, since=mark)
        until(lambda: len(pool.workers()) == n, "all serve")
        pids = pool.workers()
        pool.send(signal.SIGHUP)
        until(lambda: len(pool.workers()) == n and
              not set(pool.workers().values()) & set(pids.values()), "all are new")
        self.assertEqual(pool.stop(), 0)
        self.assert_left_nothing(pool)

    def check_under_load(self, pool, n):
        pool.wait_ready(n)
        pids = pool.workers()
        with Load(pool.address, n_clients=4, path="/pid", keep=True) as load:
            load.wait_answered(20)
            for _ in range(4):
                self.upgraded(pool)
                load.wait_answered(20)
        self.assertEqual(load.failures, [])
        self.assertEqual(pool.workers(), pids)
        self.assertEqual(pool.status()["pool"]["supervisor_pid"], pool.pid)
        self.assertEqual(pool.find("exit"), [])
        self.check_goes_on(pool, n)

    def test_sync(self):
        self.check_under_load(self.gunicorn("-k", "sync", "-w", "2", sets=QUICK), 2)

    def test_gthread(self):
        self.check_under_load(self.gunicorn("-k", "gthread", "--threads", "4", "-w", "2",
                                            "--keep-alive", "600", sets=QUICK), 2)

    def test_uvicorn(self):
        self.check_under_load(self.gunicorn("-k", "uvicorn.workers.UvicornWorker", "-w", "2",
                                            "--keep-alive", "600", app="asgi:app", sets=QUICK), 2)

    def test_exec(self):
        pool = self.echo("ready", "beat", workers=3, sets=(*QUICK, "restart.watchdog=1h"))
        pool.wait_ready(3)
        pids = pool.workers()
        with Load(pool.address) as load:
            for _ in range(4):
                self.upgraded(pool)
                load.wait_answered(10)
        self.assertEqual(load.failures, [])
        self.assertEqual(pool.workers(), pids)
        self.check_goes_on(pool, 3)

    def test_by_signal(self):
        pool = self.echo("ready", sets=QUICK).wait_ready()
        pids = pool.workers()
        pool.send(signal.SIGUSR2)
        pool.wait("pool", state="upgraded")
        self.assertEqual(pool.workers(), pids)
        self.assertEqual(pool.stop(), 0)

    def test_without_the_journal_that_is_asked_for(self):
        """Workers then write to our own output: a descriptor less to take along, and no obstacle."""
        pool = self.gunicorn("-w", "2", sets=(*QUICK, "log.target=journal"))
        until(lambda: pool.ctl("status", check=False).returncode == 0 and len(pool.workers()) == 2,
              "both serve")
        pids = pool.workers()
        self.assertTrue(json.loads(pool.ctl("--json", "upgrade").stdout)["ok"])
        self.assertEqual(pool.workers(), pids)
        self.assertEqual(pool.stop(), 0)

    def test_limit_of_descriptors(self):
        """As many as we may have; whom we start has the limit that we were started with."""
        ours, theirs = (4096, 4096), (256, 4096)
        for preload in "none", "server":
            pool = self.gunicorn("-w", "1", launcher=("prlimit", "--nofile=256:4096"),
                                 sets=(*QUICK, f"pool.preload={preload}")).wait_ready()
            for _ in range(2):
                self.assertEqual(limit_of_descriptors(pool.pid), ours)
                self.assertEqual(limit_of_descriptors(pool.workers()[1]), theirs)
                self.upgraded(pool)
                pool.ctl("recycle", "1")
            self.assertEqual(pool.stop(), 0)

    def test_many_leave_no_descriptor_and_no_child(self):
        pool = self.gunicorn("-w", "3", sets=QUICK).wait_ready(3)
        self.upgraded(pool)  # what the first start alone needs is gone
        before, family = settled_kinds(pool), children(pool.pid)
        for _ in range(10):
            self.upgraded(pool)
        self.assertEqual(settled_kinds(pool), before)
        self.assertEqual(inheritable(pool.pid), {})
        self.assertEqual(children(pool.pid), family)
        # None of them reaches a worker.
        mark = pool.mark()
        os.kill(pool.workers()[1], signal.SIGKILL)
        pool.wait("ready", worker=1, since=mark)
        self.assertEqual(len(kinds(pool.workers()[1])), len(kinds(pool.workers()[2])))
        with open(f"/proc/{pool.workers()[1]}/environ", "rb") as file:
            self.assertNotIn(b"TRIMTAB_STATE", file.read())

    def test_the_score_of_workers_stays_theirs(self):
        def score(pid):
            with open(f"/proc/{pid}/oom_score_adj", encoding="ascii") as file:
                return int(file.read())

        for options in ((), ("pool.preload=none",)):
            pool = self.gunicorn(sets=(*QUICK, *options)).wait_ready()
            before = score(pool.workers()[1])
            self.upgraded(pool)
            self.upgraded(pool)
            os.kill(pool.workers()[1], signal.SIGKILL)
            pool.wait("ready", count=2)
            self.assertEqual(score(pool.workers()[1]), before)

    def test_what_was_known_is_known(self):
        pool = self.gunicorn(sets=QUICK).wait_ready()
        until(lambda: pool.status()["workers"][0]["can_trim"], "its library says hello")
        pool.ctl("trim", "1")
        before = pool.status()
        self.upgraded(pool)
        after = pool.status()
        worker, again = before["workers"][0], after["workers"][0]
        self.assertGreater(again["age_usec"], worker["age_usec"])
        for key in ("can_trim", "cgroup", "status", "limit_bytes", "trim_at_bytes"):
            self.assertEqual(again[key], worker[key], key)
        self.assertEqual(before["sockets"], after["sockets"])
        self.assertFalse(pool.find("problem", MESSAGE=lambda m: "learns anew" in m))
        pool.ctl("trim", "1")  # by the page that it mapped again

    def test_the_template_goes_on(self):
        app = "import os\nLOADED_BY = os.getpid()\ndef app(e, s):\n    s('200 OK', [])\n" \
              "    return [str(LOADED_BY).encode()]\n"
        for preload in ("server", "app"):
            with self.subTest(preload):
                self.write("shop.py", app)
                pool = self.pool("gunicorn", "-w", "2", "-b", "127.0.0.1:0", "shop:app",
                                 cwd=self.directory, sets=(*QUICK, f"pool.preload={preload}"))
                pool.wait_ready(2)
                template, loaded_by = template_of(pool), pool.get().text
                self.upgraded(pool)
                self.assertIn(template, children(pool.pid))
                mark = pool.mark()
                os.kill(pool.workers()[1], signal.SIGKILL)
                pool.wait("ready", since=mark)
                if preload == "app":
                    self.assertEqual(pool.get().text, loaded_by)
                # The next one too: its end is seen and it is made again.
                os.kill(template, signal.SIGKILL)
                pool.wait("pool", state="template", since=mark)
                self.assertNotEqual(template_of(pool), template)
                self.check_goes_on(pool, 2)

    def test_what_workers_say_is_not_lost(self):
        self.write("shop.py", "import sys\ndef app(e, s):\n"
                   "    print('said ' + e['QUERY_STRING'], file=sys.stderr, flush=True)\n"
                   "    s('200 OK', [])\n    return [b'ok']\n")
        pool = self.pool("gunicorn", "-w", "2", "-b", "127.0.0.1:0", "shop:app",
                         cwd=self.directory).wait_ready(2)
        with concurrent.futures.ThreadPoolExecutor() as clients:
            asked = clients.submit(lambda: [pool.get(f"/?{i}").status for i in range(300)])
            while not asked.done():
                self.upgraded(pool)
            self.assertEqual(set(asked.result()), {200})
        self.assertEqual(pool.stop(), 0)
        said = [r["MESSAGE"] for r in pool.records if r.get("MESSAGE", "").startswith("said ")]
        self.assertEqual(sorted(said), sorted(f"said {i}" for i in range(300)))


class Meanwhile(Case):
    """What happens while one program goes and the other comes."""

    def test_ends_are_seen(self):
        pool = self.gunicorn("-w", "2", sets=(*QUICK, "restart.backoff-max=1s")).wait_ready(2)
        for n in range(1, 11):
            pids = pool.workers()
            pool.send(signal.SIGUSR2)
            if n % 2:  # while it is tried; else as close to the exec as can be
                pool.wait("pool", state="upgrading", count=n)
            os.kill(pids[1], signal.SIGKILL)
            pool.wait("pool", state="upgraded", count=n)
            pool.wait("exit", pid=pids[1])
            until(lambda p=pids: len(pool.workers()) == 2 and pool.workers()[1] != p[1],
                  "it is replaced")
            self.assertEqual(pools.zombies_of(pool.pid), [])
        self.assertEqual(pool.stop(), 0)
        self.assert_left_nothing(pool)

    def test_signals_are_served(self):
        for _ in range(5):
            pool = self.gunicorn("-w", "2", sets=QUICK).wait_ready(2)
            pool.send(signal.SIGUSR2)
            pool.wait("pool", state="upgrading")
            pool.send(signal.SIGTERM)
            self.assertEqual(pool.wait_exit(), 0)
            self.assert_left_nothing(pool)

    def test_a_stop_ends_the_trial(self):
        pool = self.gunicorn("-w", "2", sets=QUICK).wait_ready(2)
        pool.send(signal.SIGUSR2)
        self.assertEqual(pool.stop(), 0)
        self.assert_left_nothing(pool)

    def test_one_at_a_time(self):
        pool = self.echo("ready").wait_ready()
        with concurrent.futures.ThreadPoolExecutor() as clients:
            asked = [clients.submit(pool.ctl, "upgrade", check=False) for _ in range(4)]
            done = [a.result() for a in asked]
        self.assertTrue(any(d.returncode == 0 for d in done))
        for refused in (d for d in done if d.returncode != 0):
            self.assertIn("under way", refused.stderr)
        self.assertEqual(pool.get().status, 200)

    def test_a_worker_that_drains(self):
        pool = self.gunicorn("-k", "sync", "-w", "1",
                             sets=(*QUICK, "restart.surge=always")).wait_ready()
        old = pool.workers()[1]
        with concurrent.futures.ThreadPoolExecutor() as clients:
            answer = clients.submit(pool.get, "/sleep?s=3")
            until(lambda: pool.status()["sockets"][0]["queued"] == 0 and connected(pool),
                  "it is served")
            pool.ctl("recycle", "1")
            pool.ctl("upgrade")
            self.assertEqual(answer.result().status, 200)
        self.assertEqual(pool.wait("exit", pid=old)["TRIMTAB_CAUSE"], "asked")

    def test_a_worker_that_does_not_go(self):
        pool = self.echo("ready", "deaf", sets=(*QUICK, "restart.surge=always",
                                                "restart.graceful-timeout=2s")).wait_ready()
        old = pool.workers()[1]
        pool.ctl("recycle", "1")
        pool.ctl("upgrade")
        self.assertEqual(pool.wait("exit", pid=old)["TRIMTAB_CAUSE"], "drain-timeout")

    def test_a_worker_that_boots(self):
        fifo = self.path("fifo")
        os.mkfifo(fifo)
        pool = self.echo("ready", workers=1, sets=QUICK).wait_ready()
        self.assertEqual(pool.stop(), 0)
        pool = self.echo("ready", f"hold={fifo}", workers=2,
                         sets=(*QUICK, "restart.ready-after=30m", "restart.boot-timeout=1h"))
        pool.wait("start", count=2)
        refused = pool.ctl("upgrade", check=False)
        self.assertIn("still starting", refused.stderr)
        open(fifo, "w", encoding="ascii").close()
        pool.wait("ready")
        pool.ctl("upgrade")
        until(lambda: write_to(fifo) or len(pool.workers()) == 2, "the other one is let go")
        pool.wait("ready", count=2)
        self.assertEqual(pool.stop(), 0)

    def test_a_reload(self):
        """The successor of the template boots while the program changes."""
        pool = self.gunicorn("-w", "2", sets=(*QUICK, "restart.surge=always")).wait_ready(2)
        for _ in range(3):
            pids = pool.workers()
            mark = pool.mark()
            pool.send(signal.SIGHUP)
            pool.send(signal.SIGUSR2)
            pool.wait("pool", state="upgraded", since=mark)
            until(lambda p=pids: len(pool.workers()) == 2 and
                  not set(pool.workers().values()) & set(p.values()), "both are new")
        self.assertEqual(pool.stop(), 0)
        self.assert_left_nothing(pool)


def connected(pool):
    port = pool.address[1]
    with open("/proc/net/tcp", encoding="ascii") as file:
        return [line for line in file
                if line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "01"]


def write_to(fifo):
    """Lets go whoever holds at it, if there is one."""
    try:
        os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
    except OSError:
        pass


class Programs(Case):
    """Another file in the place of the program."""

    def setUp(self):
        super().setUp()
        source = os.path.dirname(pools.TRIMTAB)
        self.program = self.path("trimtab")
        shutil.copy2(pools.TRIMTAB, self.program)
        for name in ("python", "preload"):
            os.symlink(os.path.join(source, name), self.path(name))
        patch = mock.patch.object(pools, "TRIMTAB", self.program)
        patch.start()
        self.addCleanup(patch.stop)

    def install(self, text, mode=0o755):
        """As a package does: another file, renamed onto the old one."""
        new = self.write("trimtab.new", text)
        os.chmod(new, mode)
        os.rename(new, self.program)

    def reinstall(self):
        shutil.copy2(self.original, self.path("trimtab.new"))
        os.rename(self.path("trimtab.new"), self.program)

    @property
    def original(self):
        return os.path.join(pools.BUILD, "src/trimtab")

    def check_refused(self, pool, says):
        pids = pool.workers()
        done = pool.ctl("upgrade", check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn(says, done.stderr)
        self.assertEqual(pool.workers(), pids)
        self.assertEqual(pools.zombies_of(pool.pid), [])

    def test_that_are_no_trimtab(self):
        pool = self.echo("ready", sets=QUICK).wait_ready()
        before = settled_kinds(pool)
        for text, says in (("#!/bin/sh\nexit 0\n", "status 0"),
                           ("#!/bin/sh\necho trimtab 9.9; exit 0\n", "status 0: trimtab 9.9"),
                           ("#!/bin/sh\necho 'unknown option '$1 >&2; exit 2\n",
                            "status 2: unknown option --check-state"),
                           ("#!/bin/sh\nkill -SEGV $$\n", "signal 11"),
                           ("no program at all", "cannot be tried"),
                           ("#!/bin/sh\nprintf 'a\\033[2Jb\\n'; exit 1\n", "a [2Jb")):
            with self.subTest(text):
                self.install(text)
                self.check_refused(pool, says)
        os.unlink(self.program)
        self.check_refused(pool, "cannot be tried")
        self.install("", mode=0o644)
        self.check_refused(pool, "cannot be tried")
        self.assertEqual(settled_kinds(pool), before)
        self.reinstall()
        pool.ctl("upgrade")
        self.assertEqual(pool.stop(), 0)
        self.assert_left_nothing(pool)

    def test_that_hang(self):
        pool = self.echo("ready", sets=(*QUICK, "restart.boot-timeout=10s")).wait_ready()
        self.install("#!/bin/sh\nexec sleep 1000\n")
        self.check_refused(pool, "signal 9")

    def test_are_tried_again_after_a_reload(self):
        """What it brought might be refused by the new program, when nobody is left to go on."""
        pool = self.echo("ready", sets=QUICK).wait_ready()
        fifo, trials = self.path("fifo"), self.path("trials")
        os.mkfifo(fifo)
        self.install(f"""#!/bin/sh
if [ "$1" = --check-state ]; then
    echo trial >> {trials}
    [ $(wc -l < {trials}) -gt 1 ] || read gone < {fifo}
fi
exec {self.original} "$@"
""")
        with concurrent.futures.ThreadPoolExecutor() as beside:
            done = beside.submit(pool.ctl, "upgrade")
            until(lambda: os.path.exists(trials), "the first trial")
            mark = pool.mark()
            pool.ctl("reload")
            pool.wait("pool", state="reloading", since=mark)
            with open(fifo, "w", encoding="ascii") as file:
                file.write("go\n")
            self.assertEqual(done.result().returncode, 0)
        with open(trials, encoding="ascii") as file:
            self.assertEqual(len(file.readlines()), 2)
        self.assertEqual(pool.stop(), 0)

    def test_of_another_state(self):
        pool = self.echo("ready", sets=QUICK).wait_ready()
        self.install(f"""#!/usr/bin/python3
import os, subprocess, sys
state = os.pread(int(sys.argv[2]), 1 << 20, 0)
later = os.memfd_create("state", 0)
os.write(later, state.replace(b"[pool]\\n", b"[pool]\\nfrom_tomorrow=1\\n"))
os.execv({self.original!r}, [sys.argv[0], sys.argv[1], str(later), *sys.argv[3:]])
""")
        self.check_refused(pool, "a later version's")
        self.assertEqual(pool.stop(), 0)

    def test_that_learned_something_else(self):
        """Another shape of the policy's memory, and rows that an older version did not write: the
        workers go on all the same."""
        pool = self.gunicorn("-w", "2", sets=QUICK).wait_ready(2)
        pids = pool.workers()
        self.install(f"""#!/usr/bin/python3
import fcntl, os, re, sys
if sys.argv[1] != "--check-state":
    fd = int(os.environ["TRIMTAB_STATE"])
    text = os.pread(fd, 1 << 20, 0)
    text = re.sub(rb"policy_layout=.*", b"policy_layout=another", text)
    text = re.sub(rb"n_trims=[0-9]+[^0-9]", b"", text)
    os.close(fd)
    state = os.memfd_create("state", os.MFD_ALLOW_SEALING)
    os.write(state, text)
    fcntl.fcntl(state, fcntl.F_ADD_SEALS, 15)
    os.environ["TRIMTAB_STATE"] = str(state)
    os.set_inheritable(state, True)
os.execv({self.original!r}, sys.argv)
""")
        with Load(pool.address, path="/pid") as load:
            pool.ctl("upgrade")
            load.wait_answered(10)
        self.assertEqual(load.failures, [])
        self.assertTrue(pool.find("problem", MESSAGE=lambda m: "learns anew" in m))
        self.assertEqual(pool.workers(), pids)
        mark = pool.mark()
        os.kill(pids[1], signal.SIGKILL)
        pool.wait("ready", worker=1, since=mark)
        self.assertEqual(pool.workers()[2], pids[2])
        self.assertEqual(pool.stop(), 0)
        self.assert_left_nothing(pool)

    def test_that_change_again(self):
        """Between its trial and its turn: what was tried is not what would run."""
        pool = self.echo("ready", sets=QUICK).wait_ready()
        self.install(f"""#!/bin/sh
{self.original} "$@" || exit
touch {self.path("trimtab")}
""")
        self.check_refused(pool, "was changed while it was tried")

    def test_that_pass_and_cannot_run(self):
        """The last that can fail is the exec itself; then everything is as it was."""
        pool = self.gunicorn("-w", "2", sets=QUICK).wait_ready(2)
        before = settled_kinds(pool)
        shell = self.path("shell")
        for _ in range(2):
            shutil.copy2("/bin/sh", shell)
            self.install(f"#!{shell}\n{self.original} \"$@\" && rm {shell}\n")
            self.check_refused(pool, "cannot execute")
            self.assertEqual(inheritable(pool.pid), {})
        self.assertEqual(settled_kinds(pool), before)
        with Load(pool.address, path="/pid") as load:
            load.wait_answered(10)
        self.assertEqual(load.failures, [])
        self.reinstall()
        pool.ctl("upgrade")
        self.assertEqual(pool.stop(), 0)
        self.assert_left_nothing(pool)

    def test_a_reload_after_a_package_upgrade(self):
        pool = self.gunicorn("-w", "2", sets=(*QUICK, "restart.surge=always")).wait_ready(2)
        pids = pool.workers()
        self.reinstall()
        with Load(pool.address, path="/pid") as load:
            pool.send(signal.SIGHUP)
            pool.wait("pool", state="upgraded")
            pool.wait("pool", state="reloading")
            until(lambda: len(pool.workers()) == 2 and
                  not set(pool.workers().values()) & set(pids.values()), "both are new")
        self.assertEqual(load.failures, [])
        # Once: the next reload finds the program that runs.
        pool.send(signal.SIGHUP)
        pool.wait("pool", state="reloading", count=2)
        self.assertEqual(len(pool.find("pool", state="upgraded")), 1)

    def test_a_reload_with_a_broken_program(self):
        pool = self.gunicorn("-w", "1", sets=(*QUICK, "restart.surge=always")).wait_ready()
        pid = pool.workers()[1]
        self.install("#!/bin/sh\nexit 3\n")
        pool.send(signal.SIGHUP)
        pool.wait("problem", MESSAGE=lambda m: "No upgrade" in m and "status 3" in m)
        until(lambda: pool.workers().get(1, pid) != pid, "it reloads all the same")
        self.assertEqual(pool.stop(), 0)

    def test_found_on_the_path(self):
        with mock.patch.object(pools, "TRIMTAB", "trimtab"):
            pool = self.echo("ready", sets=QUICK,
                             environment={"PATH": self.directory + ":/usr/bin:/bin"},
                             launcher=("env",)).wait_ready()
        self.reinstall()
        pool.ctl("upgrade")
        with open(f"/proc/{pool.pid}/comm", encoding="ascii") as file:
            self.assertEqual(file.read(), "trimtab\n")
        self.assertEqual(os.path.realpath(f"/proc/{pool.pid}/exe"), self.program)


class Configuration(Case):
    def test_is_not_what_an_upgrade_changes(self):
        ini = "[pool]\ncommand = %s ready\nbind = 127.0.0.1:0\nworkers = %d\nenv = A=%s\n" \
              "[restart]\nmin-gap = 10ms\nmin-gap-floor = 10ms\n"
        self.write("shop.ini", ini % (pools.ECHO, 1, "old"))
        pool = self.pool("-c", self.path("shop.ini"), name="shop").wait_ready()
        self.write("shop.ini", ini % (pools.ECHO, 2, "new"))
        pool.ctl("upgrade")
        mark = pool.mark()
        os.kill(pool.workers()[1], signal.SIGKILL)
        pool.wait("ready", since=mark)
        self.assertIn("A=old", pool.get("/env").text.splitlines())
        self.assertEqual(len(pool.workers()), 1)
        pool.send(signal.SIGHUP)
        until(lambda: len(pool.workers()) == 2 and
              "A=new" in pool.get("/env").text.splitlines(), "a reload does")
        self.write("shop.ini", "nonsense")
        pool.ctl("upgrade")  # which does not read it
        self.assertEqual(pool.stop(), 0)

    def test_gunicorns_is_not_asked_again(self):
        self.write("gunicorn.conf.py", "timeout = 77\nworkers = 2\n")
        self.write("shop.py", "def app(e, s):\n    s('200 OK', [])\n    return [b'ok']\n")
        pool = self.pool("gunicorn", "-b", "127.0.0.1:0", "shop:app", cwd=self.directory,
                         sets=QUICK).wait_ready(2)
        self.write("gunicorn.conf.py", "raise SystemExit(5)\n")
        pool.ctl("upgrade")
        self.assertEqual(len(pool.workers()), 2)
        self.assertEqual(pool.get().text, "ok")

    def test_scaled_pools_stay_so(self):
        pool = self.echo("ready", sets=QUICK).wait_ready()
        pool.send(signal.SIGTTIN)
        pool.wait("ready", worker=2)
        pool.ctl("upgrade")
        self.assertEqual(sorted(pool.workers()), [1, 2])
        pool.send(signal.SIGTTOU)
        pool.wait("exit", worker=2)
        pool.ctl("upgrade")
        self.assertEqual(sorted(pool.workers()), [1])
        self.assertEqual(pool.stop(), 0)


class State(Case):
    """What is said to be a state and is none."""

    def test_of_nobody(self):
        done = self.run_trimtab("exec", "--", "true", environment={"TRIMTAB_STATE": "0"})
        self.assertEqual(done.returncode, 1)
        self.assertIn("TRIMTAB_STATE", done.stderr)

    def test_of_another(self):
        fd = os.memfd_create("state", os.MFD_ALLOW_SEALING)
        os.write(fd, b"trimtab state 1\n[pool]\npid=1\ncapacity=1\nn_slots=0\ntarget=1\n[end]\n")
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, 15)
        done = self.run_trimtab("exec", "--", "true", environment={"TRIMTAB_STATE": str(fd)},
                                pass_fds=(fd,))
        os.close(fd)
        self.assertEqual(done.returncode, 1)
        self.assertIn("another process", done.stderr)

    def test_trials(self):
        for text, says in ((b"", "no state"), (b"trimtab state 99\n", "version 99"),
                           (b"trimtab state 1\n[pool]\n", "breaks off")):
            fd = os.memfd_create("state")
            os.write(fd, text)
            done = self.run_trimtab("--check-state", str(fd), "exec", "--", "true", pass_fds=(fd,))
            os.close(fd)
            self.assertEqual(done.returncode, 1)
            self.assertIn(says, done.stderr)
        done = self.run_trimtab("--check-state")
        self.assertEqual(done.returncode, 2)


if __name__ == "__main__":
    unittest.main()
