"""A worker whose heap does what tests/bench/allocators.py asks it to: regime.py SOCKET PROFILE THREADS

Each request builds rows or buffers, or both, drops nearly all of them, and puts a few into a cache
with random eviction, so that what stays lies scattered between what is free. PROFILE:

    small   rows of dicts, lists, numbers and short strings: at most 512 bytes each, all pymalloc's
    mixed   a quarter of those rows, and buffers of 0.6 to 60 KB
    large   buffers of 20 to 120 KB
    huge    buffers of 0.3 to 4 MB, which malloc maps and unmaps

Obeys lines from SOCKET, each answered with a line of JSON:

    burst             requests without a pause, each many times as big
    steady SECONDS    requests with pauses; latencies, faults, CPU in all and in threads that serve
                      no request
    live              bytes that the cache holds
"""
import ctypes
import json
import os
import random
import resource
import socket
import sys
import threading
import time

BURST_REQUESTS = 24
BURST_SIZE = {"small": 100, "mixed": 60, "large": 40, "huge": 8}
ROWS = {"small": 300, "mixed": 75, "large": 0, "huge": 0}
BUFFERS = {"small": (0, 0, 0), "mixed": (16, 600, 60_000), "large": (12, 20_000, 120_000),
           "huge": (1, 300_000, 4_000_000)}
CACHE = {"small": 1000, "mixed": 300, "large": 60, "huge": 4}
PAUSE = 0.005


class Heap:
    """What the requests of all threads share."""

    def __init__(self, profile):
        self.profile, self.cache, self.lock = profile, [], threading.Lock()

    def keep(self, rng, item):
        with self.lock:
            self.cache.append(item)
            if len(self.cache) > CACHE[self.profile]:
                k = rng.randrange(len(self.cache))
                self.cache[k] = self.cache[-1]
                self.cache.pop()

    def request(self, rng, size=1):
        size *= min(rng.paretovariate(2.5), 4)
        n, low, high = BUFFERS[self.profile]
        rows = [{"id": i, "name": f"name {i}", "tags": [str(i), i * 1.5], "sub": {"n": i + 1000}}
                for i in range(int(ROWS[self.profile] * size))]
        buffers = [b"x" * rng.randrange(low, high) for _ in range(int(n * size))]
        for item in rows[::40] + buffers[::25]:
            self.keep(rng, item)

    def live_bytes(self):
        with self.lock:
            return sum(map(size_of, self.cache))


def size_of(item):
    size = sys.getsizeof(item)
    if isinstance(item, dict):
        return size + sum(size_of(k) + size_of(v) for k, v in item.items())
    return size + sum(map(size_of, item)) if isinstance(item, list) else size


class Crew:
    """The threads. Each has numbers of its own, the same in every run."""

    def __init__(self, heap, n_threads):
        self.heap = heap
        self.rngs = [random.Random(i) for i in range(n_threads)]

    def run(self, work):
        results = [None] * len(self.rngs)

        def body(k):
            results[k] = work(self.rngs[k])

        threads = [threading.Thread(target=body, args=(k,)) for k in range(len(self.rngs))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return results

    def burst(self):
        def work(rng):
            for _ in range(BURST_REQUESTS // len(self.rngs)):
                self.heap.request(rng, BURST_SIZE[self.heap.profile])
        self.run(work)
        return {}

    def steady(self, seconds):
        end = time.monotonic() + seconds

        def work(rng):
            times = []
            while time.monotonic() < end:
                began = time.perf_counter()
                self.heap.request(rng)
                times.append(time.perf_counter() - began)
                time.sleep(PAUSE * len(self.rngs))
            return times, time.thread_time()

        faults, cpu, own = n_faults(), time.process_time(), time.thread_time()
        parts = self.run(work)
        own = time.thread_time() - own + sum(thread_cpu for _, thread_cpu in parts)
        cpu = time.process_time() - cpu
        return {"times": [t for times, _ in parts for t in times], "faults": n_faults() - faults,
                "cpu": cpu, "other_cpu": cpu - own}


def n_faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def trim_loop(low, high):
    """What one puts into an application by hand."""
    malloc_trim = ctypes.CDLL(None).malloc_trim
    while True:
        time.sleep(random.uniform(low, high))
        malloc_trim(0)


def main():
    path, profile, n_threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
    if "BENCH_LOOP" in os.environ:
        bounds = map(float, os.environ["BENCH_LOOP"].split(".."))
        threading.Thread(target=trim_loop, args=bounds, daemon=True).start()
    heap = Heap(profile)
    crew = Crew(heap, n_threads)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        lines = connection.makefile("rw")
        lines.write(json.dumps({"pid": os.getpid()}) + "\n")
        lines.flush()
        for line in lines:
            word, _, rest = line.strip().partition(" ")
            answer = {"burst": crew.burst, "steady": lambda: crew.steady(float(rest)),
                      "live": lambda: {"live": heap.live_bytes()}}[word]()
            lines.write(json.dumps(answer) + "\n")
            lines.flush()


main()
