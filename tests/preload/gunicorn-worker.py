"""One worker of gunicorn's own classes, without its master: `gunicorn-worker.py sync|gthread`.

Prints the port, then serves. Each request makes what bloats: pieces of many sizes, cycles, and
small objects, of which a few stay.
"""
import json
import os
import random
import sys

import gunicorn.sock
from gunicorn.app.base import BaseApplication

kept = {}


def serve(environ, start_response):
    rows = [{"id": i, "text": "x" * random.randrange(2000)} for i in range(200)]
    cycle = [rows]
    cycle.append(cycle)
    text = json.dumps(rows)
    again = json.loads(text)
    kept[random.randrange(500)] = random.choice(again)
    good = again == rows and all(len(row["text"]) < 2000 for row in kept.values())
    body = b"good\n" if good else b"changed\n"
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


class Application(BaseApplication):
    def load_config(self):
        self.cfg.set("worker_class", sys.argv[1])
        self.cfg.set("threads", 4)
        self.cfg.set("bind", "127.0.0.1:0")
        self.cfg.set("loglevel", "error")

    def load(self):
        return serve


application = Application()
config = application.cfg
log = config.logger_class(config)
sockets = gunicorn.sock.create_sockets(config, log)
print(sockets[0].getsockname()[1], flush=True)
worker = config.worker_class(1, os.getppid(), sockets, application, 30, config, log)
worker.init_process()
