"""Start and sockets, stop: behaviours 1 to 16."""
import os
import pwd
import re
import signal
import socket
import stat
import subprocess
import time

from pools import get, until, zombies_of
from servers import is_cut
from trial import behaviour

# Runs what follows with LISTEN_PID as our own pid, which exec keeps; or as somebody else's.
OWN = ("sh", "-c", 'LISTEN_PID=$$ exec "$@"', "-")
OTHERS = ("sh", "-c", 'LISTEN_PID=1 exec "$@"', "-")


def inherited(trial, listener, number=3):
    """popen options that put the listener at that descriptor of the child."""
    high = os.dup(listener.fileno())
    trial.at_end(lambda: os.close(high))
    return {"preexec_fn": lambda: os.dup2(high, number, inheritable=True), "close_fds": False}


def listen(trial, address, family=socket.AF_INET):
    listener = socket.socket(family, socket.SOCK_STREAM)
    trial.at_end(listener.close)
    listener.bind(address)
    listener.listen(64)
    return listener


def refuses(address):
    """Whether nobody listens there. A SYN that is dropped while the last worker ends is sent again
    by the client's kernel, and refused then."""
    try:
        if isinstance(address, str):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(address)
        else:
            socket.create_connection(address).close()
    except (ConnectionRefusedError, FileNotFoundError):
        return True
    return False


@behaviour(1, "answers after the start, ten in a row; the master stays up")
def answers(t):
    server = t.started(2)
    workers = server.workers()
    for _ in range(10):
        answer = server.get()
        t.equal(answer.status, 200)
        t.check(int(answer.text) in workers, "answered by a stranger")
    t.equal(server.workers(), workers)
    t.check(not server.has_ended(), "it ended")


@behaviour(2, "LISTEN_FDS counts only with our own LISTEN_PID; neither reaches the application")
def listen_fds(t):
    listener = listen(t, ("127.0.0.1", 0))
    server = t.start(launcher=OWN, environment={"LISTEN_FDS": "1"}, **inherited(t, listener))
    seen = get(listener.getsockname(), "/env").json
    t.check(not {"LISTEN_FDS", "LISTEN_PID"} & set(seen), "they reached the application")
    t.equal(server.address, listener.getsockname(), "listens at")
    t.equal(server.stop(), 0)

    server = t.start(launcher=OTHERS, environment={"LISTEN_FDS": "1"}, **inherited(t, listener))
    t.equal(server.get().status, 200)
    t.check(server.address != listener.getsockname(), "it took sockets meant for another")


@behaviour(3, "inherited sockets win over bind; every form of address; a bad one is an error")
def addresses(t):
    listener = listen(t, ("127.0.0.1", 0))
    unused = t.path("unused.sock")
    server = t.start(bind=f"unix:{unused}", launcher=OWN, environment={"LISTEN_FDS": "1"},
                     **inherited(t, listener))
    t.equal(get(listener.getsockname()).status, 200)
    t.check(not os.path.exists(unused), "bind was used although sockets were inherited")
    t.equal(server.stop(), 0)

    # HOST alone is port 8000: an address of 127/8 that is nobody else's.
    alone = "127.%d.%d.%d" % (1 + os.getpid() % 199, os.getpid() >> 8 & 255, 1 + time.time_ns() % 250)
    binds = [f"{alone}", "[::1]:0", "tcp://127.0.0.1:0", f"unix:{t.path('a.sock')}",
             f"unix://{t.path('b.sock')}"]
    words = [word for bind in binds for word in ("-b", bind)]
    server = t.start(*words, bind=None)
    server.wait_workers(1)
    for address in ((alone, 8000), t.path("a.sock"), t.path("b.sock")):
        t.equal(get(address).status, 200, address)
    server.wait_text(r"\[::1\]:\d+")
    t.equal(server.stop(), 0)

    server = t.start(bind="fd://9", **inherited(t, listener, 9))
    t.equal(get(listener.getsockname()).status, 200)
    t.equal(server.stop(), 0)

    for bad in ("127.0.0.1:nan", "fd://x"):
        server = t.start(bind=bad)
        t.check(server.wait_exit() in (1, 2), f"{bad} was taken")
        t.check("not a valid" in server.text(), server.text())


@behaviour(4, "a left-over unix socket is replaced, another file in its place is an error")
def unix_leftover(t):
    path = t.path("http.sock")
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(path)
    server = t.start(bind=f"unix:{path}")
    until(lambda: not refuses(path), "it listens")
    t.equal(get(path).status, 200)
    t.equal(server.stop(), 0)

    t.write("precious", "data")
    server = t.start(bind=f"unix:{t.path('precious')}")
    t.check(server.wait_exit() == 1, "a file was taken for a socket")
    t.equal(t.read("precious"), "data")


@behaviour(5, "unix sockets by path and by abstract name, inherited or not")
def unix_names(t):
    abstract = f"\0conformance-{os.getpid()}-{time.monotonic_ns()}"
    listener = listen(t, abstract, socket.AF_UNIX)
    server = t.start(bind="fd://9", **inherited(t, listener, 9))
    t.equal(get(abstract).status, 200)
    server.stop()  # gunicorn fails over what to unlink, and exits with 1
    server = t.start(bind=f"unix:{t.path('c.sock')}")
    server.wait_workers(1)
    t.equal(get(t.path("c.sock")).status, 200)
    t.equal(server.stop(), 0)
    t.check(not os.path.exists(t.path("c.sock")), "the path is left")


@behaviour(6, "a busy address is tried five times, a second apart, then exit 1")
def busy(t):
    listener = listen(t, ("127.0.0.1", 0))
    began = time.monotonic()
    server = t.start(bind="127.0.0.1:%d" % listener.getsockname()[1])
    t.equal(server.wait_exit(), 1)
    tries = len(re.findall(r"Cannot listen on \S+ trying again|Connection in use", server.text()))
    t.check(4 <= tries <= 5, server.text())
    t.check(time.monotonic() - began >= 4, "it did not wait between the tries")


def not_root():
    return None if os.geteuid() == 0 else "only root can have workers become somebody else"


@behaviour(7, "backlog, umask; the unix path and the workers are the user's and group's",
           needs=not_root)
def backlog_umask_owner(t):
    nobody = pwd.getpwnam("nobody")
    path = t.path("http.sock")
    server = t.start("--backlog", "37", "-m", "0o077", "-u", "nobody", "-g", str(nobody.pw_gid),
                     "-b", "127.0.0.1:0", bind=f"unix:{path}")
    server.wait_workers(1)
    info = os.stat(path)
    t.equal(stat.S_IMODE(info.st_mode) & 0o077, 0, "others may")
    t.equal((info.st_uid, info.st_gid), (nobody.pw_uid, nobody.pw_gid), "owner")
    port = until(lambda: re.search(r"127\.0\.0\.1:(\d+)", server.text()), "its port").group(1)
    t.equal(backlog_of("-t", "sport", "=", f":{port}"), 37, "backlog")
    t.equal(backlog_of("-x", "src", path), 37, "backlog of the unix socket")
    who = get(path, "/who").json
    t.equal((who["uid"], who["gid"]), (nobody.pw_uid, nobody.pw_gid), "the worker is")
    ours = os.umask(0o022)
    os.umask(ours)
    t.equal(who["umask"], ours, "its umask, which -m is not for")


def backlog_of(*which):
    """The Send-Q of a listening socket."""
    line = subprocess.run(["ss", "-Hln", *which], capture_output=True, text=True,
                          check=True).stdout.split()
    return int(line[line.index("LISTEN") + 2])


@behaviour(8, "raw_env is there while the application is preloaded")
def raw_env(t):
    server = t.started(1, "--preload", "-e", "COLOUR=red", "--env", "SHAPE=a=b")
    for path in ("/import", "/env"):
        seen = server.get(path).json
        t.equal((seen.get("COLOUR"), seen.get("SHAPE")), ("red", "a=b"), path)


@behaviour(9, "READY=1 to the service manager", gunicorn=(0,))
def notifies(t):
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    t.at_end(manager.close)
    manager.bind(t.path("notify"))
    manager.settimeout(120)
    server = t.start(environment={"NOTIFY_SOCKET": t.path("notify")})
    said = ""
    while "READY=1" not in said.splitlines():
        said = manager.recv(65536).decode()
        if t.is_trimtab and "READY=1" in said:
            # Better than gunicorn, which says it before there is a worker.
            t.check(server.notes("init"), "READY before any worker was")


# ---- stop

@behaviour(10, "TERM: nothing new is let in, requests are finished, exit 0")
def term(t):
    server = t.started(1, "-k", "gthread", "--threads", "2")
    address = server.address
    answer, let_go, _ = server.hold()
    server.send(signal.SIGTERM)
    server.wait_text("(?i)handling signal: (sig)?term")
    let_go()
    t.equal(answer.result().status, 200)
    t.equal(server.wait_exit(), 0)
    t.check(refuses(address), "somebody still listens")


@behaviour(11, "INT: exit 0")
def interrupt(t):
    server = t.started(2)
    workers = [server.watch(pid) for pid in server.workers()]
    t.equal(server.stop(signal.SIGINT), 0)
    for worker in workers:
        worker.wait_gone()


@behaviour(12, "QUIT: exit 0 without waiting for requests")
def quit_quickly(t):
    server = t.started(1, "--graceful-timeout", "3600", "-k", "gthread", "--threads", "2")
    server.get()
    t.equal(server.stop(signal.SIGQUIT), 0)

    server = t.started(1, "--graceful-timeout", "3600", "-k", "sync")
    answer, _, _ = server.hold()
    t.equal(server.stop(signal.SIGQUIT), 0)
    t.check(is_cut(answer), "the request was finished")


@behaviour(13, "the unix path is unlinked on stop, not when inherited",
           differs="another's socket in its place is left alone, so reuse_port changes nothing")
def unix_unlinked(t):
    path = t.path("http.sock")
    server = t.start(bind=f"unix:{path}")
    server.wait_workers(1)
    t.equal(server.stop(), 0)
    t.check(not os.path.exists(path), "it is left")

    listener = listen(t, t.path("theirs.sock"), socket.AF_UNIX)
    server = t.start(launcher=OWN, environment={"LISTEN_FDS": "1"}, **inherited(t, listener))
    t.equal(get(t.path("theirs.sock")).status, 200)
    t.equal(server.stop(), 0)
    t.check(os.path.exists(t.path("theirs.sock")), "the manager's path is gone")

    if not t.is_trimtab:
        return
    server = t.started(1, "--reuse-port", bind=f"unix:{path}")
    os.unlink(path)
    theirs = listen(t, path, socket.AF_UNIX)
    t.equal(server.stop(), 0)
    t.equal(os.path.exists(path), True, "the path of who came next")
    theirs.close()


@behaviour(14, "who outlives graceful_timeout is killed; nobody is left")
def graceful_timeout(t):
    server = t.started(1, "-k", "sync", "--graceful-timeout", "1")
    answer, _, pid = server.hold()
    worker = server.watch(pid)
    t.equal(server.stop(), 0)
    worker.wait_gone()
    t.check(is_cut(answer), "the request was finished")
    t.equal(zombies_of(os.getpid()), [], "zombies")


@behaviour(15, "INT and QUIT shorten a graceful stop", gunicorn=(24,))
def shortened(t):
    for number in (signal.SIGINT, signal.SIGQUIT):
        # gunicorn that does not has to end all the same; trimtab would be waited for in vain.
        server = t.started(1, "-k", "sync", "--graceful-timeout", "3600" if t.is_trimtab else "20")
        began = time.monotonic()
        answer, _, _ = server.hold()
        server.send(signal.SIGTERM)
        server.wait_text("(?i)handling signal: (sig)?term")
        server.send(number)
        t.equal(server.wait_exit(), 0)
        t.check(is_cut(answer), "the request was finished")
        t.check(t.is_trimtab or time.monotonic() - began < 20, "it took the whole of graceful_timeout")


@behaviour(16, "TERM again and again, TERM and then QUIT: safe")
def again(t):
    server = t.started(2)
    for _ in range(10):
        server.send(signal.SIGTERM)
    t.equal(server.wait_exit(), 0)
    server = t.started(2)
    server.send(signal.SIGTERM)
    server.send(signal.SIGQUIT)
    t.equal(server.wait_exit(), 0)
    # A worker of gunicorn's own prints one when the QUIT finds its interpreter at the end.
    t.check(not t.is_trimtab or "Traceback" not in server.text(), server.text)
