"""An application that loads at its first request: numpy, a handful of modules, 20 000 records.

What it does at each is as in shelf.py; but a template from before there was a request has next to
nothing to share.
"""
import functools
import os

import flask

app = flask.Flask(__name__)


@functools.lru_cache
def shelf():
    import decimal, email.message, http.server, sqlite3  # noqa
    import unittest.mock, xml.etree.ElementTree  # noqa
    import numpy

    records = {str(n): {"id": n, "name": "record %d" % n} for n in range(20_000)}
    return records, numpy.ones((512, 1024))


@app.route("/pid")
def pid():
    own = os.getpid()
    records, matrix = shelf()
    record = records[str(own % len(records))]
    for _ in range(300):
        garbage = {"record": record}
        garbage["itself"] = garbage
    matrix[own % len(matrix)].sum()
    flask.render_template_string("<p>{{ record.name }}</p>", record=record)
    return str(own)
