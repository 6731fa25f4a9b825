"""What the library's threads meet in CPython: threads that make and drop cyclic garbage and whole
arenas, forked children, and an end while it is asked for more. Runs for SECONDS."""
import os
import sys
import threading
import time


def churn(until):
    kept = []
    while time.monotonic() < until:
        batch = []
        for number in range(2000):
            item = {"number": number, "text": "x" * (number % 100)}
            item["self"] = item
            batch.append(item)
        kept = batch if len(kept) > 3 else kept + batch[::7]


def fork(until):
    while time.monotonic() < until:
        pid = os.fork()
        if pid == 0:
            [dict(number=number) for number in range(500)]
            os._exit(0)
        if os.waitpid(pid, 0)[1] != 0:
            os._exit(1)


def main():
    until = time.monotonic() + float(sys.argv[1])
    threads = [threading.Thread(target=work, args=(until,)) for work in (churn, churn, fork)]
    for thread in threads:
        thread.start()
    while time.monotonic() < until:
        sum(range(1000))  # pending calls are made between two bytecodes of this thread
    for thread in threads:
        thread.join()


main()
