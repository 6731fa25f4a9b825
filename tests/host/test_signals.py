"""The signals of gunicorn's master, sent to the supervisor."""
import concurrent.futures
import os
import signal
import unittest

from pools import ECHO, Case, Load, get, until


class Stop(Case):
    def test_term_serves_what_is_queued(self):
        """40 clients, 4 workers that take 0.5 s each: most wait in the queue when TERM comes."""
        pool = self.gunicorn("-k", "sync", "-w", "4").wait_ready(4)
        address = pool.address
        with concurrent.futures.ThreadPoolExecutor(40) as clients:
            answers = [clients.submit(get, address, "/sleep?s=0.5") for _ in range(40)]
            until(lambda: sum(s["queued"] for s in pool.status()["sockets"]) > 20, "a queue")
            pool.send(signal.SIGTERM)
            failures = []
            for answer in answers:
                try:
                    self.assertEqual(answer.result().status, 200)
                except OSError as error:
                    failures.append(repr(error))
        self.assertEqual(failures, [])
        self.assertEqual(pool.wait_exit(), 0)
        self.assertEqual({record["TRIMTAB_CAUSE"] for record in pool.find("exit")}, {"asked"})
        self.assert_left_nothing(pool)

    def test_term_lets_a_request_finish(self):
        for words in (("-k", "sync"), ("-k", "gthread", "--threads", "2")):
            with self.subTest(words):
                pool = self.gunicorn(*words).wait_ready()
                with concurrent.futures.ThreadPoolExecutor() as clients:
                    answer = clients.submit(pool.get, "/sleep?s=1")
                    # It is being served once its connection is out of the queue and established.
                    until(lambda p=pool: connections_of(p) or answer.done(), "it is served")
                    self.assertEqual(pool.stop(), 0)
                    self.assertEqual(answer.result().status, 200)

    def test_int_and_quit_end_at_once(self):
        for number in (signal.SIGINT, signal.SIGQUIT):
            with self.subTest(number):
                pool = self.gunicorn("-w", "2").wait_ready(2)
                self.assertEqual(pool.stop(number), 0)
                self.assertIn("at once", pool.messages("pool", state="stopping")[0])
                self.assertEqual([r["TRIMTAB_CAUSE"] for r in pool.find("exit")], ["asked"] * 2)
                self.assert_left_nothing(pool)

    def test_int_does_not_wait_for_a_request(self):
        pool = self.gunicorn("-k", "sync", "--graceful-timeout", "3600").wait_ready()
        with concurrent.futures.ThreadPoolExecutor() as clients:
            answer = clients.submit(pool.get, "/sleep?s=3600")
            until(lambda: connections_of(pool), "it is served")
            self.assertEqual(pool.stop(signal.SIGINT), 0)
            with self.assertRaises(Exception):
                answer.result()

    def test_int_cuts_a_graceful_stop_short(self):
        pool = self.echo("ready", "deaf", sets=("restart.graceful-timeout=1h",)).wait_ready()
        pool.send(signal.SIGTERM)
        until(lambda: pool.status()["workers"][0]["state"] == "draining", "it was asked")
        pool.send(signal.SIGINT)
        self.assertEqual(pool.wait_exit(), 0)
        self.assert_left_nothing(pool)

    def test_term_again_and_again(self):
        pool = self.gunicorn("-w", "2").wait_ready(2)
        for _ in range(20):
            pool.send(signal.SIGTERM)
        self.assertEqual(pool.wait_exit(), 0)
        self.assertEqual(len(pool.find("pool", state="stopping")), 1)

    def test_term_while_workers_boot(self):
        fifo = self.path("fifo")
        os.mkfifo(fifo)
        pool = self.echo("ready", f"hold={fifo}", workers=2,
                         sets=("restart.ready-after=30m", "restart.boot-timeout=1h"))
        pool.wait("start", count=2)
        self.assertEqual(pool.stop(), 0)
        self.assert_left_nothing(pool)

    def test_term_while_a_crashed_worker_waits_to_start(self):
        pool = self.echo("exit=1", sets=("restart.ready-after=30m", "restart.boot-timeout=1h",
                                         "restart.backoff-max=1h"))
        pool.wait("exit", count=2)
        self.assertEqual(pool.stop(), 0)
        self.assert_left_nothing(pool)

    def test_a_deaf_worker_is_killed_with_its_children(self):
        pool = self.echo("ready", "deaf", "fork",
                         sets=("restart.graceful-timeout=100ms",)).wait_ready()
        child = self.watch(pool.get("/fork").text)
        session = self.watch(pool.get("/fork?session").text) if pool.cgroup() else child
        self.assertEqual(pool.stop(), 0)
        self.assertEqual(pool.find("exit")[0]["TRIMTAB_CAUSE"], "drain-timeout")
        child.wait_gone()
        session.wait_gone()
        self.assert_left_nothing(pool)


def connections_of(pool):
    """How many TCP connections the pool's workers have accepted."""
    port = "%04X" % pool.address[1]
    with open("/proc/net/tcp", encoding="ascii") as file:
        accepted = [line.split()[9] for line in file
                    if line.split()[1].endswith(":" + port) and line.split()[3] == "01"]
    return len([inode for inode in accepted if inode != "0"])


class Reload(Case):
    def check_rolling(self, pool, n_workers, do_reload):
        """One at a time, the others accepting, under clients that open a connection a request."""
        before = pool.workers()
        with Load(pool.address, path="/pid") as load:
            load.wait_answered(20)
            mark = pool.mark()
            do_reload()
            pool.wait("ready", count=n_workers, since=mark)
            pool.wait("exit", count=n_workers, since=mark)
            load.wait_answered(20)
        self.assertEqual(load.failures, [])
        after = pool.workers()
        self.assertEqual(sorted(after), sorted(before))
        self.assertEqual(set(after.values()) & set(before.values()), set())
        self.assertEqual({r["TRIMTAB_CAUSE"] for r in pool.find("exit", since=mark)}, {"asked"})
        return [record for record in pool.records[mark:] if "TRIMTAB_EVENT" in record]

    def check_never_two_away(self, events, n_workers):
        """From the order of the records: a surge's old worker goes after the new one is ready; a
        drain's successor is ready before the next one is asked."""
        accepting = n_workers
        for record in events:
            event, how = record["TRIMTAB_EVENT"], record.get("TRIMTAB_HOW")
            if event == "restart" and how == "drain":
                accepting -= 1
            elif event == "ready":
                accepting += 1
            elif event == "exit" and accepting > n_workers:
                accepting -= 1
            self.assertGreaterEqual(accepting, n_workers - 1, record)

    def check(self, surge, *words):
        pool = self.gunicorn("-w", "3", *words, sets=("restart.min-gap=10ms",
                                                      "restart.min-gap-floor=10ms",
                                                      f"restart.surge={surge}")).wait_ready(3)
        events = self.check_rolling(pool, 3, lambda: pool.send(signal.SIGHUP))
        self.check_never_two_away(events, 3)
        restarts = [record for record in events if record["TRIMTAB_EVENT"] == "restart"]
        self.assertEqual(sorted(record["TRIMTAB_WORKER"] for record in restarts), ["1", "2", "3"])
        hows = {record["TRIMTAB_HOW"] for record in restarts}
        self.assertEqual(hows, {"surge" if surge == "always" else "drain"})
        self.assertEqual(pool.stop(), 0)
        self.assert_left_nothing(pool)

    def test_new_before_old(self):
        self.check("always", "-k", "gthread", "--threads", "2")

    def test_old_before_new(self):
        self.check("never", "-k", "gthread", "--threads", "2")

    def test_sync_workers(self):
        self.check("always", "-k", "sync")

    def test_sync_workers_old_before_new(self):
        self.check("never", "-k", "sync")

    def test_by_trimtabctl(self):
        pool = self.echo("ready", workers=2, sets=("restart.min-gap=10ms",
                                                   "restart.min-gap-floor=10ms"))
        pool.wait_ready(2)
        self.check_rolling(pool, 2, lambda: pool.ctl("reload"))

    def test_twice_in_a_row(self):
        pool = self.echo("ready", workers=2, sets=("restart.min-gap=10ms",
                                                   "restart.min-gap-floor=10ms")).wait_ready(2)
        before = pool.workers()
        for _ in range(5):
            pool.send(signal.SIGHUP)
        until(lambda: len(pool.workers()) == 2 and
              not set(pool.workers().values()) & set(before.values()), "both are new")
        self.assertEqual(pool.stop(), 0)
        self.assert_left_nothing(pool)

    def test_takes_a_new_configuration(self):
        ini = "[pool]\ncommand = %s ready\nbind = 127.0.0.1:0\nworkers = %d\nenv = A=%s\n" \
              "[restart]\nmin-gap = 10ms\nmin-gap-floor = 10ms\n"
        self.write("shop.ini", ini % (ECHO, 1, "old"))
        pool = self.pool("-c", self.path("shop.ini"), name="shop").wait_ready()
        self.assertIn("A=old", pool.get("/env").text.splitlines())
        self.write("shop.ini", ini % (ECHO, 2, "new"))
        pool.send(signal.SIGHUP)
        pool.wait("exit")
        pool.wait("ready", count=3)
        self.assertEqual(len(pool.workers()), 2)
        self.assertIn("A=new", pool.get("/env").text.splitlines())

    def test_takes_a_new_graceful_timeout(self):
        ini = "[pool]\ncommand = %s ready deaf\nbind = 127.0.0.1:0\n" \
              "[restart]\ngraceful-timeout = %s\nmin-gap = 10ms\nmin-gap-floor = 10ms\n"
        self.write("shop.ini", ini % (ECHO, "1h"))
        pool = self.pool("-c", self.path("shop.ini"), name="shop").wait_ready()
        self.write("shop.ini", ini % (ECHO, "100ms"))
        pool.send(signal.SIGHUP)
        self.assertEqual(pool.wait("exit")["TRIMTAB_CAUSE"], "drain-timeout")

    def test_refuses_a_bad_configuration(self):
        self.write("shop.ini", f"[pool]\ncommand = {ECHO} ready\nbind = 127.0.0.1:0\n")
        pool = self.pool("-c", self.path("shop.ini"), name="shop").wait_ready()
        before = pool.workers()
        for text, says in (("[pool]\ncommand = true\nworkers = x\n", "shop.ini:3:"),
                           ("[pool]\ncommand = /other\nbind = 127.0.0.1:0\n", "no executable program"),
                           ("nonsense", "shop.ini:1:")):
            self.write("shop.ini", text)
            mark = pool.mark()
            pool.send(signal.SIGHUP)
            record = pool.wait("config", accepted=0, since=mark)
            self.assertIn(says, record["MESSAGE"])
        self.assertEqual(pool.workers(), before)
        self.assertEqual(pool.find("restart"), [])

    def test_a_broken_application_keeps_the_old_workers(self):
        good = "def app(e, s):\n    s('200 OK', [])\n    return [b'%s']\n"
        for preload in ("none", "server", "app"):
            with self.subTest(preload):
                self.write("shop.py", good % "old")
                pool = self.pool("gunicorn", "-w", "2", "-b", "127.0.0.1:0", "shop:app",
                                 cwd=self.directory,
                                 sets=("restart.min-gap=10ms", "restart.min-gap-floor=10ms",
                                       f"pool.preload={preload}", "restart.surge=always"))
                pool.wait_ready(2)
                before = pool.workers()
                self.write("shop.py", "raise RuntimeError('out of paper')\n")
                with Load(pool.address) as load:
                    mark = pool.mark()
                    pool.send(signal.SIGHUP)
                    if preload == "app":
                        pool.wait("config", accepted=0, since=mark)
                    else:
                        pool.wait("exit", cause="boot-failed", since=mark)
                    load.wait_answered(10)
                self.assertEqual(load.failures, [])
                self.assertEqual(pool.workers(), before)
                self.assertIn("out of paper", pool.log())
                # Mended, it goes through.
                self.write("shop.py", good % "new")
                pool.send(signal.SIGHUP)
                until(lambda p=pool: p.get().text == "new" and
                      not set(p.workers().values()) & set(before.values()), "the new one serves")
                self.assertEqual(pool.stop(), 0)


class Scale(Case):
    def test_ttin_and_ttou(self):
        pool = self.gunicorn("-w", "1").wait_ready()
        pool.send(signal.SIGTTIN)
        pool.wait("ready", worker=2)
        pool.send(signal.SIGTTIN)
        pool.wait("ready", worker=3)
        self.assertEqual(sorted(pool.workers()), [1, 2, 3])
        pool.send(signal.SIGTTOU)
        self.assertEqual(pool.wait("exit")["TRIMTAB_CAUSE"], "asked")
        self.assertEqual(sorted(pool.workers()), [1, 2])
        pool.send(signal.SIGTTOU)
        pool.wait("exit", count=2)
        pool.send(signal.SIGTTOU)
        self.assertIn("one is the least", pool.wait("problem", MESSAGE=lambda m: "least" in m)
                      ["MESSAGE"])
        self.assertEqual(list(pool.workers()), [1])
        pool.send(signal.SIGTTIN)
        pool.wait("ready", worker=2, count=2)
        self.assertEqual(pool.stop(), 0)
        self.assert_left_nothing(pool)

    def test_no_request_is_lost(self):
        pool = self.gunicorn("-w", "2", "-k", "gthread", "--threads", "2").wait_ready(2)
        with Load(pool.address, path="/pid") as load:
            for n in range(1, 4):
                pool.send(signal.SIGTTIN)
                pool.wait("ready", count=2 + n)
                load.wait_answered(10)
                pool.send(signal.SIGTTOU)
                pool.wait("exit", count=n)
        self.assertEqual(load.failures, [])


class Others(Case):
    def test_usr1_reaches_only_workers_that_catch_it(self):
        pool = self.echo("ready", workers=2).wait_ready(2)
        caught = pool.get("/catch-usr1").text.strip()
        pool.send(signal.SIGUSR1)
        # To whom it is fatal it does not go: both live, one has counted it.
        until(lambda: answer_of(pool, caught, "/usr1") == "1", "it is caught")
        self.assertIn(int(caught), pool.workers().values())
        self.assertEqual(len(pool.workers()), 2)
        self.assertEqual(pool.find("exit"), [])

    def test_usr1_reopens_gunicorns_logs(self):
        log = self.path("access.log")
        pool = self.gunicorn("-w", "1", "--access-logfile", log).wait_ready()
        pool.get()
        os.rename(log, log + ".1")
        pool.send(signal.SIGUSR1)
        until(lambda: pool.get() and os.path.exists(log) and os.path.getsize(log),
              "a new log file")

    def test_winch_and_pipe_are_ignored(self):
        pool = self.echo("ready").wait_ready()
        pool.send(signal.SIGWINCH)
        pool.send(signal.SIGPIPE)
        self.assertEqual(pool.get().status, 200)
        self.assertEqual(pool.stop(), 0)


def answer_of(pool, pid, path):
    """What the worker of this pid answers, however many others answer before."""
    def ask():
        answer = pool.get(path).text.strip()
        return answer if pool.get("/").text.strip() == pid else None
    # Each connection goes to whoever is free: ask until it was this one twice in a row.
    return ask()


if __name__ == "__main__":
    unittest.main()
