"""Workers forked from a template: preload = server and app."""
import json
import os
import signal
import tempfile
import unittest
from pathlib import Path

from hostpool import HostPool, free_port, wait_gone
from vmtest import Load, ask

BROKEN = "import no_such_module_anywhere\n"
GOOD = """
import os, threading
LOADED_BY = os.getpid()
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/json")])
    return [b'{"pid": %d, "loaded_by": %d}' % (os.getpid(), LOADED_BY)]
"""


class Folder:
    """An application of the test's own, which it can break."""

    def __enter__(self):
        self._folder = tempfile.TemporaryDirectory()
        self.write(GOOD)
        return self

    def __exit__(self, *exception):
        self._folder.cleanup()

    def write(self, text):
        (Path(self._folder.name) / "app.py").write_text(text)

    def pool(self, mode, port, *arguments, **settings):
        return HostPool("gunicorn", "-b", f"127.0.0.1:{port}", "--chdir", self._folder.name,
                        *arguments, "app:app",
                        **{"pool.preload": mode, "restart.min-gap-floor": "0s", **settings})


class Template(unittest.TestCase):
    def test_server_does_not_load_the_application(self):
        port = free_port()
        with Folder() as folder, folder.pool("server", port, "-w", "2") as pool:
            pids = pool.serving(2)
            answer = ask(("127.0.0.1", port), "/")
            self.assertIn(answer["pid"], pids.values())
            self.assertEqual(answer["loaded_by"], answer["pid"])
            self.assertEqual(pool.stop(), 0, pool.text)
            self.assertEqual(wait_gone(pids.values()), [])

    def test_app_is_loaded_once_and_shared(self):
        port = free_port()
        with Folder() as folder, folder.pool("app", port, "-w", "2") as pool:
            pids = pool.serving(2)
            answer = ask(("127.0.0.1", port), "/")
            self.assertIn(answer["pid"], pids.values())
            self.assertNotIn(answer["loaded_by"], pids.values())

    def test_gunicorns_preload_app_means_app(self):
        port = free_port()
        with Folder() as folder:
            with HostPool("gunicorn", "-b", f"127.0.0.1:{port}", "--chdir",
                          folder._folder.name, "--preload", "-w", "1", "app:app") as pool:
                pids = pool.serving(1)
                answer = ask(("127.0.0.1", port), "/")
                self.assertNotEqual(answer["loaded_by"], pids[1])

    def test_a_killed_worker_is_replaced_and_a_killed_template_too(self):
        port = free_port()
        with Folder() as folder, folder.pool("server", port, "-w", "2") as pool:
            pids = pool.serving(2)
            os.kill(pids[1], signal.SIGKILL)
            self.assertEqual(pool.wait("exit", TRIMTAB_PID=pids[1])["TRIMTAB_CAUSE"], "signal")
            pool.wait("ready", count=3)
            template = next(r["MESSAGE"] for r in pool.all("pool", TRIMTAB_STATE="template"))
            template = int(template.split("pid ")[1].split(")")[0])
            with Load(("127.0.0.1", port), pause=0) as load:
                os.kill(template, signal.SIGKILL)
                pool.wait("problem")
                # Meanwhile a worker is executed, and then there is a template again.
                pool.ctl("recycle", "2")
                pool.wait("pool", count=2, TRIMTAB_STATE="template")
                pool.ctl("recycle", "1")
            load.expect_no_failure()
            self.assertEqual(pool.stop(), 0, pool.text)

    def test_an_application_that_does_not_load_ends_the_first_start(self):
        with Folder() as folder:
            folder.write(BROKEN)
            with folder.pool("app", free_port(), "-w", "2") as pool:
                self.assertEqual(pool.ended(), 3, pool.text)
                self.assertIn("no_such_module_anywhere", pool.text)

    def test_a_reload_that_does_not_load_changes_nothing(self):
        port = free_port()
        with Folder() as folder, folder.pool("app", port, "-w", "2") as pool:
            pids = pool.serving(2)
            with Load(("127.0.0.1", port), pause=0) as load:
                folder.write(BROKEN)
                pool.ctl("reload")
                pool.wait("config", TRIMTAB_ACCEPTED=0)
                self.assertEqual(pool.pids(), pids)
                folder.write(GOOD)
                pool.ctl("reload")
                pool.wait("ready", count=4)
            load.expect_no_failure()
            self.assertEqual(set(pool.serving(2).values()) & set(pids.values()), set())

    def test_workers_share_what_the_template_loaded(self):
        with HostPool.gunicorn("-w", "4", port=free_port(), **{"pool.preload": "app"}) as pool:
            shared = private(pool.serving(4).values())
        with HostPool.gunicorn("-w", "4", port=free_port(), **{"pool.preload": "none"}) as pool:
            alone = private(pool.serving(4).values())
        self.assertLess(shared * 2, alone)

    def test_trims_reach_forked_workers(self):
        port = free_port()
        with HostPool.gunicorn("-w", "2", "-k", "gthread", "--threads", "2", port=port,
                               **{"pool.preload": "app"}) as pool:
            pids = pool.serving(2)
            fat = ask(("127.0.0.1", port), "/fragment?mb=100")
            done = json.loads(pool.ctl("--json", "trim", str(fat["worker"])))
            self.assertLess(done["after_bytes"] * 2, done["before_bytes"])
            self.assertEqual(pool.pids(), pids)


def private(pids):
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Private_"):
                total += int(line.split()[1])
    return total



if __name__ == "__main__":
    unittest.main()
