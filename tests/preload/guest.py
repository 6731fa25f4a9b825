"""An application in Python that obeys lines from its standard input and answers each with one.

`guest.py quiet` obeys in the main thread, which sleeps in read(2) between two lines; `guest.py
busy` obeys in another thread while the main thread computes and never waits for anything.
"""
import ctypes
import gc
import json
import mmap
import os
import random
import sys
import threading
import time

finalized = {"main": 0, "elsewhere": 0}
kept = []


class Node:
    """In a cycle with itself, and heavy: a malloc block that pymalloc does not serve."""

    def __init__(self):
        self.self = self
        self.payload = b"x" * 20000

    def __del__(self):
        here = threading.current_thread() is threading.main_thread()
        finalized["main" if here else "elsewhere"] += 1


def cycles():
    for _ in range(5000):
        Node()
    return 0


def small_objects():
    """Dicts and strings that pymalloc serves; one in a hundred survives."""
    rows = [{"id": i, "name": f"name {i}", "tags": [str(i), i * 1.5]} for i in range(250000)]
    kept.extend(random.sample(rows, 2500))
    return len(rows)


def check():
    """Whether what was kept is still what it was, and new objects can be made."""
    good = all(
        row["name"] == f"name {row['id']}" and row["tags"] == [str(row["id"]), row["id"] * 1.5]
        for row in kept
    )
    again = json.loads(json.dumps(kept))
    return int(good and again == kept)


def churn(seconds):
    """Makes and drops objects of every size class for a while, checking them."""
    end = time.monotonic() + seconds
    pool = []
    while time.monotonic() < end:
        n = random.randrange(1, 512)
        pool.append((n, bytes([n & 255]) * n, [n] * (n % 60)))
        if len(pool) > 20000 or (pool and random.random() < 0.5):
            k = random.randrange(len(pool))
            pool[k], pool[-1] = pool[-1], pool[k]
            n, text, numbers = pool.pop()
            if text != bytes([n & 255]) * n or numbers != [n] * (n % 60):
                return 0
    return int(all(text == bytes([n & 255]) * n for n, text, _ in pool))


def forked(function):
    pid = os.fork()
    if pid == 0:
        os._exit(function())
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def adopt():
    """Fork as a template does; the child goes on in our place with the page it is to take."""
    pid = os.fork()
    if pid:
        os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) & 255)
    fd, _, cookie = os.environ["GUEST_PAGE"].split(":")
    take_page = ctypes.CDLL(None).trimtab_preload_adopt
    return take_page(f"{fd}:{os.getpid()}:{cookie}".encode())


HOLDING = ctypes.PyDLL(None)  # its calls keep the GIL


def n_threads():
    answer = (ctypes.c_uint32 * 64)()  # struct statx; a directory has two links more than entries
    HOLDING.statx(-1, b"/proc/self/task", 0, 4, answer)
    return answer[4] - 2


def adopt_while_asked():
    """As adopt(), once the library here has a thread that waits for the GIL; that is still not let
    go until the child has ended. Another line says when it may be asked."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e6)
    HOLDING.write(1, b"0\n", 2)
    while n_threads() < 3:
        pass
    pid = os.fork()
    if pid:
        HOLDING.waitpid(pid, None, 0)
        os._exit(0)
    sys.setswitchinterval(interval)
    fd, _, cookie = os.environ["GUEST_PAGE"].split(":")
    with mmap.mmap(int(fd), 4096) as page:
        page[24:28] = bytes(4)  # worker_pid: it is nobody's again
    return ctypes.CDLL(None).trimtab_preload_adopt(f"{fd}:{os.getpid()}:{cookie}".encode())


def obey(line):
    word, _, rest = line.partition(" ")
    if word == "adopt":
        return adopt()
    if word == "adopt-while-asked":
        return adopt_while_asked()
    if word == "cycles":
        gc.set_threshold(0)
        return cycles()
    if word == "finalized":
        return finalized[rest]
    if word == "small":
        return small_objects()
    if word == "check":
        return check()
    if word == "churn":
        return churn(float(rest))
    if word == "fork-check":
        return forked(check)
    if word == "threads":
        return threading.active_count()
    return -1


def serve():
    for line in sys.stdin:
        print(obey(line.strip()), flush=True)


def main():
    if sys.argv[1] == "quiet":
        serve()
        return
    server = threading.Thread(target=serve, daemon=True)
    server.start()
    n = 0
    while server.is_alive():
        n += 1


main()
