"""Flask, for gunicorn-sync.ini and gunicorn-gevent.ini."""
import work
from flask import Flask

app = Flask(__name__)


@app.get("/")
def index():
    return work.work(), {"Content-Type": "text/plain"}
