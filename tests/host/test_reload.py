"""What a reload reads again, and what it leaves in peace: gunicorn's own settings, the pool's file,
addresses that come and go, and all that goes wrong with them. The loop never waits for any of it."""
import http.client
import os
import signal
import socket
import unittest

from pools import DEADLINE_SEC, ECHO, Case, Load, children, get, until

QUICK = ("restart.min-gap=10ms", "restart.min-gap-floor=10ms", "restart.surge=always")
PRELOADS = ("none", "server", "app")


class Reload(Case):
    def conf(self, text):
        return self.write("conf.py", text)

    def configured(self, *words, sets=(), **options):
        """light:app under conf.py, which says where it listens."""
        return self.pool("gunicorn", "-c", self.path("conf.py"), *words, "light:app",
                         sets=(*QUICK, *sets), **options)

    def reload(self, pool):
        mark = pool.mark()
        pool.send(signal.SIGHUP)
        pool.wait("pool", state="reloading", since=mark)
        return mark

    def wait_refused(self, pool, *says):
        mark = pool.mark()
        pool.send(signal.SIGHUP)
        record = pool.wait("config", accepted=0, since=mark)
        for text in says:
            self.assertIn(text, record["MESSAGE"])
        return record

    def wait_workers(self, pool, count, without=()):
        """Until so many serve, none of them among these pids."""
        def there():
            workers = pool.workers()
            return len(workers) == count and not set(workers.values()) & set(without) and workers
        return until(there, f"{count} workers")


class Gunicorn(Reload):
    def test_worker_count_of_its_file(self):
        for preload in PRELOADS:
            with self.subTest(preload):
                self.conf("bind = '127.0.0.1:0'\nworkers = 1\n")
                pool = self.configured(sets=(f"pool.preload={preload}",)).wait_ready(1)
                old = pool.workers().values()
                self.conf("bind = '127.0.0.1:0'\nworkers = 3\n")
                with Load(pool.address, path="/pid") as load:
                    self.reload(pool)
                    new = self.wait_workers(pool, 3, old)
                    load.wait_answered(10)
                    pool.send(signal.SIGTTIN)  # forgotten by the next reload, as gunicorn does
                    self.wait_workers(pool, 4)
                    self.conf("bind = '127.0.0.1:0'\nworkers = 2\n")
                    self.reload(pool)
                    self.wait_workers(pool, 2, new.values())
                    load.wait_answered(10)
                self.assertEqual(load.failures, [])
                self.assertEqual(pool.stop(), 0)
                self.assert_left_nothing(pool)

    def test_no_worker_at_all(self):
        """As cpu_count() // 2 has it on one processor: it would take all of them away."""
        self.conf("bind = '127.0.0.1:0'\nworkers = 1\n")
        pool = self.configured().wait_ready(1)
        old = pool.workers()
        self.conf("bind = '127.0.0.1:0'\nworkers = 1 // 2\n")
        pool.ctl("reload")
        self.assertIn("workers is 0", pool.wait("config", accepted=0)["MESSAGE"])
        self.assertEqual(pool.workers(), old)
        self.assertEqual(pool.stop(), 0)

    def test_a_file_that_leaves_a_process_behind(self):
        """It has the output that gunicorn's settings are read from, and keeps nobody waiting."""
        self.conf("import os, signal\nbind = '127.0.0.1:0'\n"
                  f"if not os.path.exists({self.path('pid')!r}):\n"
                  "    if (pid := os.fork()) == 0:\n        signal.pause()\n"
                  f"    with open({self.path('pid')!r}, 'w') as file:\n"
                  "        file.write(str(pid))\n")
        pool = self.configured(sets=("restart.boot-timeout=10s",))
        with open(until(lambda: os.path.exists(self.path("pid")) and self.path("pid"),
                        "it is left behind"), encoding="ascii") as file:
            left = self.watch(until(file.read, "its pid"))
        pool.wait_ready(1)
        left.kill()  # our log is its too
        self.assertEqual(pool.stop(), 0)

    def test_while_it_starts(self):
        """READY=1 is for the first worker that is, not for a reload that is through before."""
        fifo = self.path("fifo")
        os.mkfifo(fifo)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(self.path("manager"))
            manager.settimeout(DEADLINE_SEC)
            pool = self.echo("ready", f"hold={fifo}",
                             environment={"NOTIFY_SOCKET": self.path("manager")},
                             sets=("restart.ready-after=30m", "restart.boot-timeout=1h"))
            pool.wait("start")
            pool.ctl("reload")
            pool.wait("pool", state="reloading")
            with open(fifo, "w", encoding="ascii"):
                pool.wait("pool", state="ready")
            self.assertEqual(pool.stop(signal.SIGINT), 0)
            words = []
            while "STOPPING=1" not in words:
                words += manager.recv(4096).decode().split("\n")
        self.assertEqual([word for word in words if word in ("READY=1", "RELOADING=1")], ["READY=1"])

    def test_worker_count_of_the_environment(self):
        ini = "[pool]\ngunicorn = %s light:app\nbind = 127.0.0.1:0\nenv = %s\n" \
              "[restart]\nmin-gap = 10ms\n"
        self.write("shop.ini", ini % ("", "WEB_CONCURRENCY=2"))
        pool = self.pool("-c", self.path("shop.ini"), name="shop").wait_ready(2)
        for words, env, count in (("", "GUNICORN_CMD_ARGS=-w 3", 3), ("-w 1", "A=b", 1),
                                  ("", "WEB_CONCURRENCY=2", 2)):
            old = pool.workers().values()
            self.write("shop.ini", ini % (words, env))
            self.reload(pool)
            self.wait_workers(pool, count, old)

    def test_settings_of_the_worker(self):
        self.conf("bind = '127.0.0.1:0'\ntimeout = 30\n")
        pool = self.configured("-w", "1").wait_ready()
        old = pool.workers().values()
        self.assertEqual(get_env(pool)["WATCHDOG_USEC"], "30000000")
        self.conf("bind = '127.0.0.1:0'\ntimeout = 45\nraw_env = ['COLOUR=green']\n")
        self.reload(pool)
        self.wait_workers(pool, 1, old)
        env = get_env(pool)
        self.assertEqual(env["WATCHDOG_USEC"], "45000000")

    def test_a_file_that_fails_changes_nothing(self):
        self.conf("bind = '127.0.0.1:0'\nworkers = 2\n")
        pool = self.configured().wait_ready(2)
        before = pool.workers()
        self.conf("raise RuntimeError('out of ink')\n")
        with Load(pool.address) as load:
            self.wait_refused(pool, "gunicorn refuses its configuration")
            load.wait_answered(10)
        self.assertIn("out of ink", pool.log())
        self.assertEqual(load.failures, [])
        self.assertEqual(pool.workers(), before)
        self.conf("bind = '127.0.0.1:0'\nworkers = 1\n")
        self.reload(pool)
        self.wait_workers(pool, 1, before.values())

    def test_a_broken_application_takes_no_setting_along(self):
        good = "def app(e, s):\n    s('200 OK', [])\n    return [b'%s']\n"
        path = self.path("new.sock")
        self.write("shop.py", good % "old")
        self.conf("bind = '127.0.0.1:0'\nworkers = 2\npreload_app = True\n")
        pool = self.pool("gunicorn", "-c", self.path("conf.py"), "shop:app", cwd=self.directory,
                         sets=QUICK).wait_ready(2)
        before = pool.workers()
        self.write("shop.py", "raise RuntimeError('out of paper')\n")
        self.conf(f"bind = ['127.0.0.1:0', 'unix:{path}']\nworkers = 3\npreload_app = True\n")
        self.wait_refused(pool, "the new template does not load")
        self.assertEqual(pool.workers(), before)
        self.assertEqual(pool.status()["pool"]["workers"], 2)
        self.assertEqual(len(pool.status()["sockets"]), 1)
        self.assertFalse(os.path.exists(path), "bound for nothing")
        self.write("shop.py", good % "new")
        self.reload(pool)
        self.wait_workers(pool, 3, before.values())
        self.assertEqual(get(path).text, "new")

    def test_preload_comes_and_goes(self):
        self.conf("bind = '127.0.0.1:0'\nworkers = 2\n")
        ini = f"[pool]\ngunicorn = -c {self.path('conf.py')} light:app\npreload = %s\n" \
              "[restart]\nmin-gap = 10ms\nsurge = always\n"
        self.write("shop.ini", ini % "none")
        pool = self.pool("-c", self.path("shop.ini"), name="shop").wait_ready(2)
        with Load(pool.address, path="/pid") as load:
            for preload in ("server", "app", "none", "server", "none"):
                old = pool.workers().values()
                self.write("shop.ini", ini % preload)
                mark = self.reload(pool)
                self.wait_workers(pool, 2, old)
                self.assertEqual(bool(pool.find("pool", since=mark, state="template")),
                                 preload != "none")
        self.assertEqual(load.failures, [])
        # The last template is gone: nobody but workers is our child.
        until(lambda: children(pool.pid) == set(pool.workers().values()), "no template is left")
        self.assertEqual(pool.stop(), 0)
        self.assert_left_nothing(pool)

    def test_the_loop_goes_on_while_a_file_takes_its_time(self):
        fifo = self.path("fifo")
        os.mkfifo(fifo)
        self.conf("bind = '127.0.0.1:0'\nworkers = 2\n")
        pool = self.configured(sets=("restart.boot-timeout=1h",)).wait_ready(2)
        old = pool.workers()
        self.conf(f"open({fifo!r}).close()\nbind = '127.0.0.1:0'\nworkers = 3\n")
        mark = pool.mark()
        pool.send(signal.SIGHUP)
        describing = until(lambda: reader_of(pool.pid, "--describe"), "it is asked")
        # Answers, trims nothing, replaces what dies: all while gunicorn's file hangs.
        self.assertEqual(pool.workers(), old)
        os.kill(old[1], signal.SIGKILL)
        pool.wait("ready", worker=1, since=mark)
        self.assertEqual(pool.find("pool", since=mark, state="reloading"), [])
        # A second reload gives the first up, and its process.
        watched = self.watch(describing)
        pool.send(signal.SIGHUP)
        watched.wait_gone()
        until(lambda: reader_of(pool.pid, "--describe"), "it is asked again")
        self.conf("bind = '127.0.0.1:0'\nworkers = 3\n")
        pool.send(signal.SIGHUP)
        self.wait_workers(pool, 3, old.values())

    def test_a_stop_does_not_wait_for_a_file(self):
        fifo = self.path("fifo")
        os.mkfifo(fifo)
        self.conf("bind = '127.0.0.1:0'\n")
        pool = self.configured(sets=("restart.boot-timeout=1h",)).wait_ready()
        self.conf(f"open({fifo!r}).close()\nbind = '127.0.0.1:0'\n")
        pool.send(signal.SIGHUP)
        watched = self.watch(until(lambda: reader_of(pool.pid, "--describe"), "it is asked"))
        self.assertEqual(pool.stop(), 0)
        watched.wait_gone()
        self.assert_left_nothing(pool)


def get_env(pool):
    """The environment of a worker."""
    pid = next(iter(pool.workers().values()))
    with open(f"/proc/{pid}/environ", "rb") as file:
        entries = file.read().split(b"\0")
    return dict(entry.decode().split("=", 1) for entry in entries if b"=" in entry)


def reader_of(pid, word):
    """The child that has this word in its arguments."""
    for child in children(pid):
        try:
            with open(f"/proc/{child}/cmdline", "rb") as file:
                if word.encode() in file.read().split(b"\0"):
                    return child
        except OSError:
            continue
    return None


class Addresses(Reload):
    def addresses(self, pool):
        return [entry["address"] for entry in pool.status()["sockets"]]

    def check_added_and_removed(self, preload, *words):
        path = self.path("new.sock")
        kept = "bind = ['127.0.0.1:0']\nworkers = 2\n"
        both = f"bind = ['unix:{path}', '127.0.0.1:0']\nworkers = 2\n"
        self.conf(kept)
        pool = self.configured(*words, sets=(f"pool.preload={preload}",)).wait_ready(2)
        address = pool.address
        with Load(address, path="/pid") as load:
            load.wait_answered(20)
            old = pool.workers().values()
            self.conf(both)
            self.reload(pool)
            new = self.wait_workers(pool, 2, old)
            load.wait_answered(20)
            self.assertEqual(self.addresses(pool), [f"unix:{path}", "%s:%d" % address])
            self.assertIn(int(get(path, "/pid").text), new.values())
            with Load(path, path="/pid", n_clients=1) as leaving:
                leaving.wait_answered(20)
                self.conf(kept)
                self.reload(pool)
                self.wait_workers(pool, 2, new.values())
                pool.wait("pool", state="closed")
                load.wait_answered(20)
            self.assertEqual(self.addresses(pool), ["%s:%d" % address])
            self.assertFalse(os.path.exists(path))
        self.assertEqual(load.failures, [], "of the address that stays")
        # Who came too late was not let in. Who was let in was answered.
        odd = [f for f in leaving.failures if not f.startswith("refused")]
        self.assertEqual(odd, [], "of the address that went")
        self.assertEqual(pool.stop(), 0)
        self.assert_left_nothing(pool)

    def test_with_a_template(self):
        self.check_added_and_removed("server", "-k", "gthread", "--threads", "2")

    def test_with_a_template_of_the_application(self):
        self.check_added_and_removed("app", "-k", "gthread", "--threads", "2")

    def test_executed(self):
        self.check_added_and_removed("none", "-k", "sync")

    def test_of_any_program(self):
        path = self.path("new.sock")
        ini = f"[pool]\ncommand = {ECHO} ready\nbind = 127.0.0.1:0\n%s\n" \
              "[restart]\nmin-gap = 10ms\nsurge = always\n"
        self.write("shop.ini", ini % "")
        pool = self.pool("-c", self.path("shop.ini"), name="shop").wait_ready()
        with Load(pool.address) as load:
            for binds in (f"bind = unix:{path}", ""):
                old = pool.workers().values()
                self.write("shop.ini", ini % binds)
                self.reload(pool)
                self.wait_workers(pool, 1, old)
                load.wait_answered(10)
                self.assertEqual(len(self.addresses(pool)), 2 if binds else 1)
        self.assertEqual(load.failures, [])

    def test_one_that_is_taken(self):
        with socket.create_server(("127.0.0.1", 0)) as other:
            taken = "127.0.0.1:%d" % other.getsockname()[1]
            path = self.path("new.sock")
            self.conf("bind = '127.0.0.1:0'\n")
            pool = self.configured().wait_ready()
            before = pool.workers(), self.addresses(pool)
            self.conf(f"bind = ['127.0.0.1:0', 'unix:{path}', {taken!r}]\n")
            self.wait_refused(pool, f"cannot listen on {taken}: Address already in use")
            self.assertEqual((pool.workers(), self.addresses(pool)), before)
            self.assertFalse(os.path.exists(path), "the one before it was given up")

    def test_one_that_is_none(self):
        self.conf("bind = '127.0.0.1:0'\n")
        pool = self.configured().wait_ready()
        for bind, says in (("fd://7", "cannot listen on fd://7"),
                           ("x" * 64 + ":80", "the name does not resolve")):
            self.conf(f"bind = ['127.0.0.1:0', {bind!r}]\n")
            self.wait_refused(pool, says)
        self.conf("bind = ['127.0.0.1:0', '127.0.0.1:0']\n")
        self.wait_refused(pool, "127.0.0.1:0 is named twice")
        self.assertEqual(len(self.addresses(pool)), 1)

    def test_one_that_comes_back_before_it_is_gone(self):
        """A request holds the last worker that has it, and it lets nobody in any more."""
        port = free_port()
        kept, both = "bind = ['127.0.0.1:0']\n", f"bind = ['127.0.0.1:0', '127.0.0.1:{port}']\n"
        self.conf(both)
        pool = self.configured("-w", "1", "-k", "gthread", "--threads", "2",
                               "--graceful-timeout", "3600").wait_ready()
        old = pool.workers()[1]
        held = http.client.HTTPConnection("127.0.0.1", port)
        held.request("GET", "/sleep?s=3600")
        self.conf(kept)
        self.reload(pool)
        self.wait_workers(pool, 1, [old])
        pool.wait("pool", state="leaving")
        self.assertEqual(pool.find("pool", state="closed"), [])
        self.conf(both)
        self.reload(pool)
        pool.wait("pool", state="listening", MESSAGE=lambda m: "again" in m)
        pids = set()
        until(lambda: pids.add(get(("127.0.0.1", port), "/pid").text.strip()) or
              pids & {str(pool.workers().get(1))}, "the new one answers there")
        held.close()
        os.kill(old, signal.SIGKILL)

    def test_sockets_of_a_service_manager_stay(self):
        """Given ones are kept whatever the configuration says."""
        self.conf("bind = '127.0.0.1:9'\n")
        with socket.create_server(("127.0.0.1", 0)) as given:
            address = given.getsockname()
            pool = self.configured(launcher=("/bin/sh", "-c",
                                             f'exec env LISTEN_PID=$$ LISTEN_FDS=1 "$@" '
                                             f'3<&{given.fileno()}', "sh"),
                                   pass_fds=(given.fileno(),)).wait_ready()
            old = pool.workers().values()
            self.conf("bind = '127.0.0.1:10'\n")
            self.reload(pool)
            self.wait_workers(pool, 1, old)
            self.assertEqual(self.addresses(pool), ["%s:%d" % address])
            self.assertEqual(get(address).status, 200)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


class File(Reload):
    INI = "[pool]\ncommand = %(command)s\nbind = 127.0.0.1:0\n%(pool)s\n" \
          "[restart]\nmin-gap = 10ms\n%(restart)s\n%(more)s\n"

    def ini(self, command=f"{ECHO} ready", pool="", restart="", more=""):
        return self.write("shop.ini", self.INI % locals())

    def start(self, **options):
        self.ini(**options)
        return self.pool("-c", self.path("shop.ini"), name="shop").wait_ready()

    def test_another_program(self):
        pool = self.start()
        old = pool.workers().values()
        self.ini(command=f"{ECHO} ready status=other")
        self.reload(pool)
        self.wait_workers(pool, 1, old)
        self.assertEqual(pool.status()["workers"][0]["status"], "other")
        self.ini(command="/no/such/program")
        self.wait_refused(pool, "there is no executable program of that name")

    def test_directory_and_environment(self):
        pool = self.start(pool="env = A=old\nchdir = /")
        old = pool.workers().values()
        self.ini(pool=f"env = A=new\nchdir = {self.directory}")
        self.reload(pool)
        new = self.wait_workers(pool, 1, old)
        self.assertIn("A=new", pool.get("/env").text.splitlines())
        self.assertEqual(os.readlink(f"/proc/{new[1]}/cwd"), self.directory)

    def test_watchdog_of_new_workers_alone(self):
        """An old one beats as it was told to: the new patience is not for it."""
        pool = self.start(command=f"{ECHO} ready beat", pool="workers = 2",
                          restart="watchdog = 1h")
        pool.wait_ready(2)
        old = pool.workers().values()
        self.ini(command=f"{ECHO} ready beat", pool="workers = 2", restart="watchdog = 2h")
        self.reload(pool)
        new = self.wait_workers(pool, 2, old)
        for pid in new.values():
            with open(f"/proc/{pid}/environ", "rb") as file:
                self.assertIn(b"WATCHDOG_USEC=7200000000", file.read().split(b"\0"))

    def test_log_level(self):
        pool = self.start()
        self.assertEqual(pool.find("decision"), [])
        self.ini(more="[log]\nlevel = debug")
        mark = self.reload(pool)
        pool.wait("decision", since=mark)

    def test_backlog_of_a_socket_that_stays(self):
        pool = self.start(pool="backlog = 7")
        self.assertEqual(backlog_of(pool.address[1]), 7)
        self.ini(pool="backlog = 9")
        self.reload(pool)
        self.assertEqual(backlog_of(pool.address[1]), 9)

    def test_what_takes_a_restart_is_named(self):
        pool = self.start()
        self.ini(pool="socket-mode = 0600", more=f"[control]\nsocket = {self.path('other.sock')}\n"
                                                 "[cgroup]\nuse = no")
        mark = self.reload(pool)
        record = pool.wait("problem", since=mark, MESSAGE=lambda m: "restart of trimtab" in m)
        for name in ("control.socket", "cgroup.use", "pool.socket-mode"):
            self.assertIn(name, record["MESSAGE"])
        self.assertNotIn("log.target", record["MESSAGE"])
        self.write("shop.ini", "[pool]\ngunicorn = light:app\nbind = 127.0.0.1:0\n")
        self.wait_refused(pool, "shop.ini:2: [pool] gunicorn = light:app: a change from one to the "
                                "other takes a restart of trimtab")

    def test_too_many_workers_for_the_room_there_is(self):
        pool = self.start()
        self.ini(pool="workers = 65")
        self.wait_refused(pool, "shop.ini:4: [pool] workers = 65: there is room for 64")
        self.assertEqual(pool.status()["pool"]["workers"], 1)

    def test_a_limit_below_the_footprint_is_refused(self):
        ini = "[pool]\ngunicorn = light:app\nbind = 127.0.0.1:0\npreload = none\n" \
              "[memory]\nworker-max = %s\ntrim-at = 50%%\n[restart]\nmin-gap = 10ms\n"
        self.write("shop.ini", ini % "512M")
        pool = self.pool("-c", self.path("shop.ini"), name="shop").wait_ready()
        before = pool.workers()
        self.write("shop.ini", ini % "4M")
        self.wait_refused(pool, "shop.ini:6: [memory] worker-max = 4M: a fresh worker uses ",
                          "would do")
        self.assertEqual(pool.workers(), before)
        self.assertEqual(pool.status()["pool"]["worker_max_bytes"], 512 << 20)
        self.write("shop.ini", ini % "256M")
        self.reload(pool)
        self.wait_workers(pool, 1, before.values())


def backlog_of(port):
    """Send-Q of a listening socket is its backlog; ss(8), sock_diag(7)."""
    import subprocess
    text = subprocess.run(["ss", "-Hltn", f"sport = :{port}"], capture_output=True, text=True,
                          check=True).stdout
    return int(text.split()[2])


if __name__ == "__main__":
    unittest.main()
