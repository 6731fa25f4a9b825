"""Pidfile, configuration, metrics, control: behaviours 48 to 53."""
import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import threading

from pools import until
from trial import behaviour


@behaviour(48, "the pidfile: made, overwritten when stale, refused when alive, removed only if ours")
def pidfile(t):
    path = t.path("server.pid")
    gone = subprocess.Popen(["true"])
    gone.wait()
    for before in (None, "garbage\n", "", f"{gone.pid}\n"):
        if before is not None:
            t.write("server.pid", before)
        server = t.started(1, "-p", path)
        t.equal(t.read("server.pid").strip(), str(server.pid), f"after {before!r}")
        t.equal(server.stop(), 0)
        t.check(not os.path.exists(path), "it is left")

    for alive in (os.getpid(), 1):  # 1: of another user, where we are not root
        t.write("server.pid", f"{alive}\n")
        server = t.start("-p", path)
        t.equal(server.wait_exit(), 1)
        t.equal(t.read("server.pid"), f"{alive}\n")

    os.unlink(path)
    server = t.started(1, "-p", path)
    t.write("server.pid", f"{os.getpid()}\n")
    t.equal(server.stop(), 0)
    t.equal(t.read("server.pid"), f"{os.getpid()}\n", "somebody else's")


@behaviour(49, "file < GUNICORN_CMD_ARGS < arguments; ./gunicorn.conf.py; chdir; a bad setting ends it",
           differs="a refused configuration exits with 2, which systemd is told not to retry")
def precedence(t):
    t.write("gunicorn.conf.py", "raw_env = ['FILE=1', 'WHO=file']\nworkers = 3\n"
                                "bind = '127.0.0.1:0'\nproc_name = 'file'\n"
                                "def post_worker_init(worker):\n"
                                "    import app\n"
                                "    app.note('init', worker.pid)\n"
                                "    app.note('as', worker.cfg.proc_name, worker.cfg.keepalive)\n")
    server = t.run("-w", "1", "-n", "argument", "app:app",
                   environment={"GUNICORN_CMD_ARGS": "-w 2 -n variable --keep-alive 7"})
    server.wait_workers(1)
    t.equal(server.notes("as"), [["as", "argument", "7"]])
    t.equal(server.get("/env").json["WHO"], "file")
    t.equal(server.stop(), 0)

    for words, text in ((("--backlog", "-1"), "positive"), (("-c", "missing.py"), "doesn't exist"),
                        (("-u", "no.such.user"), "no.such.user")):
        server = t.run("-b", "127.0.0.1:0", *words, "app:app")
        t.equal(server.wait_exit(), 2 if t.is_trimtab else 1, words)
        t.check(text in server.text(), server.text())

    t.write("site/elsewhere.py", "from app import app\n")
    t.write("library/app.py", t.read("app.py"))
    os.unlink(t.path("app.py"))
    t.write("gunicorn.conf.py", "bind = '127.0.0.1:0'\n")
    server = t.run("--chdir", "site", "--pythonpath", t.path("library"), "elsewhere:app")
    who = server.get("/who").json
    t.equal((who["cwd"], who["argv"][1:]), (t.path("site"), ["--chdir", "site", "--pythonpath",
                                                           t.path("library"), "elsewhere:app"]))
    t.equal(server.stop(), 0)
    os.rename(t.path("library/app.py"), t.path("app.py"))

    # The application may be named by the file alone.
    t.write("gunicorn.conf.py", "wsgi_app = 'app:app'\nbind = '127.0.0.1:0'\n")
    t.equal(t.run().get().status, 200)


@behaviour(50, "WEB_CONCURRENCY and PORT change the defaults")
def environment_defaults(t):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = t.start(bind=None, environment={"WEB_CONCURRENCY": "2", "PORT": str(port)})
    server.wait_workers(2)
    t.equal(server.get(address=("127.0.0.1", port)).status, 200)


@behaviour(51, "statsd: workers' requests and the number of workers, with prefix and tags")
def statsd(t):
    daemon = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    t.at_end(daemon.close)
    daemon.bind(("127.0.0.1", 0))
    daemon.settimeout(120)
    server = t.start("-w", "2", "--statsd-host", "127.0.0.1:%d" % daemon.getsockname()[1],
                     "--statsd-prefix", "shop", "--dogstatsd-tags", "tier:web")
    server.wait_workers(2)
    t.equal(server.get().status, 200)
    wanted = {b"shop.gunicorn.workers:2|g|#tier:web", b"shop.gunicorn.requests:1|c|@1.0|#tier:web",
              b"shop.gunicorn.request.status.200:1|c|@1.0|#tier:web"}
    while wanted:
        wanted.discard(daemon.recv(4096))
    server.send(signal.SIGTTIN)
    while daemon.recv(4096) != b"shop.gunicorn.workers:3|g|#tier:web":
        pass

    # Nobody there, and a name that is none: served all the same.
    for nobody in ("127.0.0.1:1", "no.such.host.invalid:8125"):
        t.equal(t.start("--statsd-host", nobody).get().status, 200)


@behaviour(52, "a control socket, private, gone on stop: status, workers, errors named",
           gunicorn=(25, 1), differs="trimtabctl's own protocol and verbs; status, trim, recycle, "
                                     "reload, stop; TTIN and TTOU add and remove")
def control(t):
    if t.is_trimtab:
        server = t.started(2)
        path = os.path.join(server.pool.runtime, server.pool.name + ".sock")
        t.equal(stat.S_IMODE(os.stat(path).st_mode) & 0o007, 0, "others may")
        t.equal(set(server.pool.workers().values()), server.workers())
        for words in (("recycle", "99"), ("recycle", "nobody"), ("frobnicate",)):
            done = server.pool.ctl(*words, check=False)
            t.check(done.returncode != 0 and done.stderr, words)
        before = server.workers()
        server.send(signal.SIGHUP)
        server.wait_workers(2, other_than=before)
        t.equal(set(server.pool.workers().values()), server.workers())
        t.equal(server.stop(), 0)
        t.check(not os.path.exists(path), "it is left")
        path = t.start(sets=("control.socket=off",))
        t.equal(path.get().status, 200)
        return
    path = t.path("run/control")
    server = t.started(2, "--control-socket", path)
    until(lambda: os.path.exists(path), "the control socket")
    t.equal(stat.S_IMODE(os.stat(path).st_mode), 0o600)
    t.equal(ask_control(path, "show workers")["status"], "ok")
    t.equal(ask_control(path, "frobnicate")["status"], "error")
    t.equal(server.stop(), 0)
    t.check(not os.path.exists(path), "it is left")


def ask_control(path, command):
    """gunicorn's: JSON behind its length in four bytes."""
    text = json.dumps({"id": 1, "command": command, "args": []}).encode()
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(60)
        client.connect(path)
        client.sendall(len(text).to_bytes(4, "big") + text)
        with client.makefile("rb") as answer:
            return json.loads(answer.read(int.from_bytes(answer.read(4), "big")))


@behaviour(53, "workers boot while the control socket is asked without pause",
           gunicorn=(25, 1), differs="asked through trimtabctl")
def control_while_booting(t):
    for words in (("-k", "sync"), ("-k", "gthread", "--threads", "2"), ("-k", "gevent")):
        if words[1] == "gevent" and t.version >= (24,):
            continue  # wants a newer gevent than Debian 12 has
        server = t.start("-w", "2", *words, *(() if t.is_trimtab else
                                             ("--control-socket", t.path("control"))))
        over = threading.Event()

        def ask_on():
            while not over.is_set():
                if t.is_trimtab:
                    server.pool.ctl("status", check=False)
                else:
                    with contextlib.suppress(OSError):  # it is closed around each fork
                        ask_control(t.path("control"), "show workers")
        asker = t.executor.submit(ask_on)
        try:
            before = server.wait_workers(2)
            server.send(signal.SIGHUP)
            server.wait_workers(2, other_than=before)
        finally:
            over.set()
        asker.result()
        t.equal(server.stop(), 0)
