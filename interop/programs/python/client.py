"""Python's standard http.client and urllib as clients.

client.py URL[,BYTES] ...   one JSON verdict a line for each base URL
"""

import http.client
import json
import sys
import urllib.parse
import urllib.request

DEFAULT_BYTES = 65536
PERIOD = 251


def request(connection, method, path, body=None):
    connection.request(method, path, body=body, headers={"Content-Type": "text/plain"} if body else {})
    reply = connection.getresponse()
    text = reply.read()
    if reply.status != 200:
        raise RuntimeError(f"{path}: {reply.status}")
    return text


def stream(url):
    pattern = bytes(range(PERIOD)) * 300
    total = 0
    with urllib.request.urlopen(url, timeout=60) as reply:
        patterned = reply.headers.get("X-Pattern") == f"mod{PERIOD}"
        while piece := reply.read(65536):
            if patterned and piece != pattern[total % PERIOD :][: len(piece)]:
                raise RuntimeError(f"bytes after {total} are others")
            total += len(piece)
    return total


def run(base, size):
    verdict = {"client": "python", "base": base, "get": False, "post": False, "keep_alive": False, "stream_bytes": 0, "ok": False}
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(base).netloc, timeout=60)
    try:
        verdict["get"] = b"word" in request(connection, "GET", "/get?word=caf%C3%A9")
        verdict["post"] = b"posted by python" in request(connection, "POST", "/post", "posted by python")
        ports = set()
        for _ in range(10):
            request(connection, "GET", "/get")
            ports.add(connection.sock.getsockname()[1] if connection.sock else 0)
        verdict["keep_alive"] = len(ports) == 1 and 0 not in ports
        verdict["stream_bytes"] = stream(f"{base}/stream-bytes/{size}")
        verdict["ok"] = verdict["get"] and verdict["post"] and verdict["keep_alive"] and verdict["stream_bytes"] == size
    except (OSError, RuntimeError, http.client.HTTPException) as problem:
        verdict["error"] = repr(problem)
    finally:
        connection.close()
    return verdict


def main():
    passed = True
    for argument in sys.argv[1:]:
        base, _, size = argument.partition(",")
        verdict = run(base, int(size or DEFAULT_BYTES))
        passed = passed and verdict["ok"]
        print(json.dumps(verdict), flush=True)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
