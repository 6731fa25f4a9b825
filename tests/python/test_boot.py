"""Workers that never serve: the exit status, the traceback, the word to the supervisor."""
import signal
import unittest

from supervisor import Case, Gate, needed


class Failing(Case):
    def fails(self, status, last_line, *arguments, shown=None, **options):
        worker = self.worker(*arguments, **options)
        self.assertEqual(worker.wait_exit(), status, worker.log())
        self.assertEqual(worker.said("READY"), [])
        self.assertEqual(worker.said("X_TRIMTAB"), ["boot-error"])
        self.assertIn(last_line, worker.said("STATUS")[-1])
        self.assertIn(shown or last_line, worker.log())
        return worker


class Application(Failing):
    def test_module_that_is_not_there(self):
        worker = self.fails(3, "ModuleNotFoundError: No module named 'shop'", "shop:app")
        self.assertIn("Traceback (most recent call last)", worker.log())

    def test_import_that_fails(self):
        self.write("shop.py", "def connect():\n    raise KeyError('DATABASE_URL')\nconnect()\n")
        worker = self.fails(3, "KeyError: 'DATABASE_URL'", "shop:app")
        self.assertIn("in connect", worker.log())

    def test_syntax_error(self):
        self.write("shop.py", "def app(:\n")
        self.fails(3, "SyntaxError", "shop:app")

    def test_object_that_is_not_there(self):
        self.write("shop.py", "")
        self.fails(4, "Failed to find attribute 'app' in 'shop'", "shop:app")

    def test_number_of_the_error_is_told(self):
        self.write("shop.py", "open('/no/such/file')\n")
        worker = self.fails(3, "FileNotFoundError", "shop:app")
        self.assertEqual(worker.said("ERRNO"), ["2"])

    def test_application_that_leaves(self):
        self.write("shop.py", "raise SystemExit(5)\n")
        self.fails(5, "it left with 5", "shop:app", shown="Worker exiting")
        self.write("shop.py", "raise SystemExit\n")
        self.fails(3, "it left with 0", "shop:app", shown="Worker exiting")

    def test_many_lines_are_told_as_one(self):
        self.write("shop.py", "raise ValueError('one\\ntwo\\n' + 'x' * 9999)\n")
        worker = self.fails(3, "ValueError: one", "shop:app")
        self.assertLess(len(worker.said("STATUS")[0]), 600)

    def test_traceback_reaches_the_journal_when_the_log_is_a_file(self):
        worker = self.fails(3, "ModuleNotFoundError", "--error-logfile", "error", "shop:app")
        self.assertIn("Traceback", worker.log())
        self.assertIn("Traceback", self.read("error"))

    def test_gthread(self):
        self.fails(3, "No module named 'app'", *needed("gthread"))

    def test_gevent(self):
        self.fails(3, "No module named 'app'", *needed("gevent"))

    def test_uvicorn(self):
        self.fails(3, "No module named 'app'", *needed("uvicorn"))

    def test_asgi(self):
        self.fails(3, "No module named 'app'", *needed("asgi"))

    def test_reload_serves_a_syntax_error(self):
        self.write("shop.py", "def app(:\n")
        worker = self.worker("--reload", "shop:app").ready()
        self.assertEqual(worker.stop(), 0)


class Lifespan(Failing):
    def setUp(self):
        super().setUp()
        self.application()
        self.write("fail", "")

    def test_uvicorn(self):
        self.fails(3, "it left with 3", *needed("uvicorn"), shown="no database")

    def test_asgi(self):
        self.fails(3, "it ended by itself", "--asgi-lifespan", "on",
                   *needed("asgi"), shown="lifespan startup failed")


class Configuration(Failing):
    def setUp(self):
        super().setUp()
        self.application()

    def test_bad_file(self):
        self.write("gunicorn.conf.py", "raise KeyError('secret')\n")
        self.fails(1, "KeyError: 'secret'", "app:wsgi")

    def test_bad_value(self):
        self.write("gunicorn.conf.py", "backlog = 'long'\n")
        self.fails(1, "invalid literal for int()", "app:wsgi")

    def test_bad_arguments(self):
        self.fails(2, "", "--nonsense", "app:wsgi", shown="unrecognized arguments")

    def test_no_application(self):
        self.fails(1, "No application module specified")

    def test_unknown_class(self):
        self.fails(1, "class uri 'nonesuch' invalid or not found", "-k", "nonesuch", "app:wsgi")

    def test_log_file_out_of_reach(self):
        self.fails(1, "isn't writable", "--error-logfile", "no/such/directory/log", "app:wsgi")

    def test_sockets_for_another_process(self):
        self.fails(1, "no sockets inherited", "app:wsgi", environment={"LISTEN_PID": "1"})

    def test_hooks_that_raise(self):
        for hook in ("post_fork(server, worker)", "post_worker_init(worker)"):
            with self.subTest(hook):
                self.write("gunicorn.conf.py", "def %s: raise OSError(28, 'full')\n" % hook)
                worker = self.fails(3, "OSError: [Errno 28] full", "app:wsgi")
                self.assertEqual(worker.said("ERRNO"), ["28"])


class Otherwise(Case):
    """Ends that are no boot errors."""

    def setUp(self):
        super().setUp()
        self.application()

    def test_stopped_while_it_loads(self):
        gate = Gate(self, "import")
        self.write("slow.py", "from app import *\nfrom app import gate\ngate('import')\n")
        worker = self.worker("slow:wsgi")
        worker.wait_at(gate)
        worker.kill(signal.SIGTERM)
        gate.open()
        self.assertEqual(worker.wait_exit(), 0)
        self.assertEqual(worker.messages, [])

    def test_parent_was_gone_before_it_began(self):
        worker = self.worker("app:wsgi", bound=False,
                             environment={"TRIMTAB_SUPERVISOR_PID": "1"})
        self.assertEqual(worker.wait_exit(), 0)
        self.assertEqual(worker.messages, [])

    def test_failure_after_it_served(self):
        self.write("mine.py", "from gunicorn.workers.sync import SyncWorker\n"
                   "class Mine(SyncWorker):\n"
                   "    def wait(self, timeout):\n"
                   "        raise KeyError('late')\n")
        worker = self.worker("-k", "mine.Mine", "--pythonpath", ".", "app:wsgi")
        self.assertEqual(worker.wait_exit(), 255)
        self.assertEqual(worker.said("READY"), ["1"])
        self.assertEqual(worker.said("X_TRIMTAB"), [])
        self.assertIn("KeyError: 'late'", worker.log())


if __name__ == "__main__":
    unittest.main()
