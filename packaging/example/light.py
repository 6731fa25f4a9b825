"""The example application again, as bare WSGI on the standard library alone: it starts ten times
faster than app.py, for slow machines and for tests. The same endpoints; see app.py."""
import json
import time
from urllib.parse import parse_qsl

import appetite


def identity(_query):
    return appetite.identity()


def allocate(query):
    mb = max(0, int(query.get("mb", 16)))
    block = b"x" * (mb * appetite.MIB)
    return appetite.identity() | {"sum": len(block)}


def fragment(query):
    appetite.fragment(max(0, int(query.get("mb", 16))))
    return appetite.identity()


def leak(query):
    began = appetite.leak(max(0, int(query.get("mb", 16))), float(query.get("rate", 0)),
                          query.get("once") == "1")
    return appetite.identity() | {"began": began}


def sleep(query):
    time.sleep(max(0.0, float(query.get("s", 1))))
    return appetite.identity()


ENDPOINTS = {"/": identity, "/allocate": allocate, "/fragment": fragment, "/leak": leak,
             "/sleep": sleep}


def app(environ, start_response):
    path = environ["PATH_INFO"]
    status, kind = "200 OK", "application/json"
    if path == "/pid":
        body, kind = f"{appetite.identity()['pid']}\n", "text/plain"
    elif path in ENDPOINTS:
        try:
            body = json.dumps(ENDPOINTS[path](dict(parse_qsl(environ["QUERY_STRING"])))) + "\n"
        except ValueError as error:
            status, kind, body = "400 Bad Request", "text/plain", f"{error}\n"
    else:
        status, kind, body = "404 Not Found", "text/plain", f"no {path} here\n"
    data = body.encode()
    start_response(status, [("Content-Type", kind), ("Content-Length", str(len(data)))])
    return [data]
