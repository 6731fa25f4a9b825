"""The application of the scenarios about growth. Unlike the example application's, its memory is
mapped and unmapped piece by piece: nothing of it comes from malloc, so no trim gives it back and
a figure says what the scenario asked for.

    /hold?s=S                   sleeps; says when it began and ended
    /grow?mib=M&rate=R&at=T     maps M MiB at R MiB a second from the moment T (monotonic) on, and
                                keeps them; only the first such request counts in a process
    /churn?mib=M&rate=R&swing=S grows so, and from then on maps and unmaps S MiB without end;
                                `swings` in any later answer counts how often
"""
import json
import mmap
import os
import threading
import time
from urllib.parse import parse_qsl

MIB = 1 << 20
PIECE = MIB // 4
FILL = b"x" * PIECE

_kept = []
_busy = threading.Lock()
_swings = 0


def piece():
    """Filled while the interpreter's lock is held, as Python's own objects are: what slows this
    down slows the whole worker."""
    area = mmap.mmap(-1, PIECE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    area.write(FILL)
    return area


def grow(mib, rate, at):
    time.sleep(max(0.0, at - time.monotonic()))
    began = time.monotonic()
    for n in range(1, mib * MIB // PIECE + 1):
        _kept.append(piece())
        time.sleep(max(0.0, began + n * PIECE / MIB / rate - time.monotonic()))


def churn(mib, rate, swing):
    global _swings
    grow(mib, rate, 0)
    while True:
        swung = [piece() for _ in range(swing * MIB // PIECE)]
        for area in swung:
            area.close()
        _swings += 1
        time.sleep(0.05)


def begin(task, *args):
    """Whether it begins because of this request, and not of an earlier one."""
    if not _busy.acquire(blocking=False):
        return False
    threading.Thread(target=task, args=args, daemon=True).start()
    return True


def answer(path, query):
    began = time.monotonic()
    reply = {}
    if path == "/grow":
        reply["begun"] = begin(grow, int(query["mib"]), float(query["rate"]),
                               float(query.get("at", 0)))
    elif path == "/churn":
        reply["begun"] = begin(churn, int(query["mib"]), float(query["rate"]),
                               int(query["swing"]))
    time.sleep(float(query.get("s", 0)))
    worker = os.environ.get("TRIMTAB_WORKER", "")
    return reply | {"pid": os.getpid(), "worker": int(worker) if worker.isdigit() else None,
                    "swings": _swings, "began": began, "ended": time.monotonic()}


def app(environ, start_response):
    body = json.dumps(answer(environ["PATH_INFO"],
                             dict(parse_qsl(environ["QUERY_STRING"])))).encode()
    start_response("200 OK", [("Content-Type", "application/json"),
                              ("Content-Length", str(len(body)))])
    return [body]
