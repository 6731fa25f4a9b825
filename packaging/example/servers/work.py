"""What each request of the Python examples does: a burst of small and of middle-sized objects, of
which a few survive, so that the heap has holes; and a look at an older survivor, which must still
be what it was."""
import json
import os
import random
import threading

ROWS = 400
SURVIVORS = 50

_kept = []
_lock = threading.Lock()


def _rows():
    first = random.randrange(1_000_000)
    return [{"id": first + i, "name": f"name {first + i}", "tags": [str(i), i * 1.5, None]}
            for i in range(ROWS)]


def work():
    """Returns the pid as text; raises where memory is not what was written to it."""
    rows = _rows()
    if json.loads(json.dumps(rows)) != rows:
        raise RuntimeError("rows changed on the way")
    buffers = [bytes([i]) * random.randrange(600, 60_000) for i in range(100)]
    with _lock:
        _kept.append((rows[0], buffers[random.randrange(100)]))
        if len(_kept) > SURVIVORS:
            row, buffer = _kept.pop(random.randrange(SURVIVORS))
            if row["name"] != f"name {row['id']}" or buffer.strip(buffer[:1]):
                raise RuntimeError(f"a survivor changed: {row} {buffer[:20]}")
    return f"{os.getpid()}\n"
