"""What the example applications do to their own memory. Each worker process has its own."""
import os
import threading
import time

MIB = 1 << 20
PIECE = 16 * 1024  # below malloc's mmap threshold, so it comes from the heap

_survivors = []
_leaked = []
_leak_once = threading.Lock()


def rss_bytes():
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def identity():
    """Who answers. trimtab numbers its workers from 1; any other server sets no number."""
    worker = os.environ.get("TRIMTAB_WORKER", "")
    return {
        "pid": os.getpid(),
        "worker": int(worker) if worker.isdigit() else None,
        "rss_bytes": rss_bytes(),
    }


def fragment(mb):
    """Fills the heap with mb MiB of pieces and frees all but one in 64. What is freed lies
    between survivors, so malloc keeps it: the process stays as large as it was at its fattest,
    until malloc_trim(3) gives the free pages back."""
    pieces = [b"x" * PIECE for _ in range(mb * MIB // PIECE)]
    # A survivor at the very end keeps the top of the heap from being given back by free().
    _survivors[:] = pieces[::64] + pieces[-1:]
    del pieces


def leak(mb, mb_per_second=0, once=False):
    """Allocates mb MiB and never frees them; at once, or in the background at a steady rate.
    once: only if this process has not begun to leak yet. Returns whether it leaks now because
    of this call."""
    if once and not _leak_once.acquire(blocking=False):
        return False
    if mb_per_second <= 0:
        _leaked.extend(b"x" * PIECE for _ in range(mb * MIB // PIECE))
    else:
        threading.Thread(target=_leak_slowly, args=(mb, mb_per_second), daemon=True).start()
    return True


def _leak_slowly(mb, mb_per_second):
    started = time.monotonic()
    done = 0
    while done < mb * MIB:
        due = min(mb * MIB, int((time.monotonic() - started) * mb_per_second * MIB))
        while done < due:
            _leaked.append(b"x" * PIECE)
            done += PIECE
        time.sleep(0.02)
