"""Worker 1 says of trims what MODE says, and has left the library behind; others are honest.

    away    nothing: it has executed this program, and the library was left behind
    frozen  its thread is there and never answers
    lying   everything is done at once, and the figures are absurd
    noise   whatever falls into the page, all the time, and every message there is
    flood   nothing; at SIGUSR1 it sends what the notification socket takes, STATUS=1, STATUS=2 and so
            on, and writes to the file FIFO how many that were"""
import mmap
import os
import random
import signal
import socket
import struct
import sys
import time

# Of include/trimtab/preload.h.
REQUEST, DONE, STATE, HELPER_TID, FIGURES = 64, 128, 132, 136, 140
READY, BUSY = 1, 2
MESSAGES = (b"X_TRIMTAB=hello", b"X_TRIMTAB=done", b"X_TRIMTAB=late", b"X_TRIMTAB=plain",
            b"X_TRIMTAB=", b"X_TRIMTAB=\xff\0\n\n=")


class Page:
    def __init__(self):
        fd = int(os.environ["TRIMTAB_PAGE"].split(":")[0])
        self.map = mmap.mmap(fd, 4096)

    def get(self, at):
        return struct.unpack_from("I", self.map, at)[0]

    def put(self, at, value):
        struct.pack_into("I", self.map, at, value)


def say(message):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as there:
        try:
            there.sendto(message, os.environ["NOTIFY_SOCKET"])
        except BlockingIOError:
            pass


def frozen(page):
    page.put(HELPER_TID, os.getpid())
    page.put(STATE, READY)
    say(b"X_TRIMTAB=hello")
    say(b"READY=1")
    while True:
        signal.pause()


def lying(page):
    page.put(HELPER_TID, os.getpid())
    page.map[FIGURES:4096] = b"\xff" * (4096 - FIGURES)
    page.put(STATE, BUSY)
    say(b"X_TRIMTAB=hello")
    say(b"READY=1")
    while True:
        page.put(DONE, page.get(REQUEST))
        for message in MESSAGES:
            say(message)
        time.sleep(0.001)


def noise(page):
    say(b"READY=1")
    while True:
        page.map[:] = random.randbytes(4096)
        # Never another thread than this one would be hit; this one does not mind.
        if random.random() < 0.5:
            page.put(HELPER_TID, os.getpid())
            page.put(STATE, READY)
        for message in MESSAGES:
            say(message)
        time.sleep(0.001)


def flood(fifo):
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    say(b"READY=1")
    signal.sigwait([signal.SIGUSR1])
    sent = 0
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as there:
        there.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        there.connect(os.environ["NOTIFY_SOCKET"])
        try:
            while True:
                there.send(b"STATUS=%d" % (sent + 1))
                sent += 1
        except BlockingIOError:
            pass
    with open(fifo, "w", encoding="ascii") as file:
        file.write(str(sent))
    signal.pause()


def main():
    mode = sys.argv[1] if os.environ["TRIMTAB_WORKER"] == "1" else "honest"
    if mode != "honest" and os.environ.pop("LD_PRELOAD", None):
        os.execv(sys.executable, [sys.executable, "-B", *sys.argv])
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
    if mode in ("away", "honest"):
        say(b"READY=1")
        while True:
            time.sleep(3600)
    if mode == "flood":
        flood(sys.argv[2])
    {"frozen": frozen, "lying": lying, "noise": noise}[mode](Page())


main()
