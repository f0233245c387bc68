"""Says in a field which path werkzeug gives a program."""

import base64
import logging
import sys

from werkzeug.serving import run_simple


def read(environ, start_response):
    path = environ["PATH_INFO"].encode("latin-1")
    start_response("200 OK", [("X-Path", base64.b64encode(path).decode())])
    return [b""]


logging.getLogger("werkzeug").setLevel(logging.ERROR)
run_simple("127.0.0.1", int(sys.argv[1]), read)
