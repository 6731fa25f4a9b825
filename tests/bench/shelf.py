"""An application with much to share: Flask, numpy, an array of 16 MiB, a graph of 60 000 records.

Each request leaves 300 cycles of garbage, so that the garbage collector runs as often as in an
application of some weight. In 400 requests it comes to one full collection, and that writes to
every object that it has not been told to leave alone.
"""
import os

import flask
import numpy

MATRIX = numpy.ones((2048, 1024))
RECORDS = {str(n): {"id": n, "name": "record %d" % n, "tags": ["a", "b"], "links": []}
           for n in range(60_000)}

app = flask.Flask(__name__)


@app.route("/pid")
def pid():
    own = os.getpid()
    record = RECORDS[str(own % len(RECORDS))]
    for _ in range(300):
        garbage = {"record": record}
        garbage["itself"] = garbage
    MATRIX[own % len(MATRIX)].sum()
    return str(own)
