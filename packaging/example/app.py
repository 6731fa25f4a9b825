"""The example application: Flask and numpy, with an appetite.

    trimtab gunicorn -w 4 -k gthread --threads 4 -b 127.0.0.1:8000 --chdir packaging/example app:app

    /                     the serving process: pid, worker number, resident memory
    /pid                  the pid alone, as text
    /allocate?mb=N        N MiB allocated, used and freed within the request
    /fragment?mb=N        N MiB freed between survivors: the heap keeps what malloc_trim gives back
    /leak?mb=N            N MiB kept for ever; &rate=M: in the background, M MiB a second;
                          &once=1: only where this process does not leak yet
    /sleep?s=X            answers X seconds later
"""
import time

import appetite
import numpy
from flask import Flask, jsonify, request

app = Flask(__name__)


def wanted_mb():
    return max(0, request.args.get("mb", 16, int))


@app.get("/")
def index():
    return jsonify(appetite.identity())


@app.get("/pid")
def pid():
    return f"{appetite.identity()['pid']}\n", {"Content-Type": "text/plain"}


@app.get("/allocate")
def allocate():
    mb = wanted_mb()
    total = int(numpy.ones((mb, appetite.MIB), dtype=numpy.uint8).sum(dtype=numpy.int64))
    return jsonify(appetite.identity() | {"sum": total})


@app.get("/fragment")
def fragment():
    appetite.fragment(wanted_mb())
    return jsonify(appetite.identity())


@app.get("/leak")
def leak():
    began = appetite.leak(wanted_mb(), request.args.get("rate", 0.0, float),
                          request.args.get("once", 0, int) == 1)
    return jsonify(appetite.identity() | {"began": began})


@app.get("/sleep")
def sleep():
    time.sleep(max(0.0, request.args.get("s", 1.0, float)))
    return jsonify(appetite.identity())
