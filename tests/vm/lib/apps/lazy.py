"""The application of the scenario about warm templates: what it needs, it makes at its first request.

    /    60 MiB of objects, once in a life; says in which process that was
"""
import json
import os

MIB = 1 << 20
_kept = {}


def app(environ, start_response):
    if not _kept:
        # Small ones: the interpreter's own arenas, as with modules and caches.
        _kept["objects"] = [bytes(400) for _ in range(60 * MIB // 448)]
        _kept["made_by"] = os.getpid()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({"pid": os.getpid(), "worker": int(os.environ["TRIMTAB_WORKER"]),
                        "made_by": _kept["made_by"]}).encode()]
