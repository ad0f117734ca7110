#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A bare-bones foreign metadata server over HTTP, as Mooncake's engines know it.

    http_store.py --port N [--variant go|python]

GET, PUT and DELETE of any path with ?key=...; a dictionary in memory. The variants differ where the real ones do:

    go      PUT always replaces; DELETE always answers 200
    python  PUT of a key with "rpc_meta" in it that exists is answered 400 "Duplicate rpc_meta key not allowed";
            DELETE of a missing key 404; an empty key 400

PUT /behave?mode=MODE[&key=KEY] makes every later answer (about that key) misbehave: good (the default), silent
(accepts the request, never answers), trickle (one byte of an endless answer every 100 ms), garbage (no HTTP at all),
huge (an endless body), endless_headers, early (closes in the middle of the body), hangup (closes without an answer),
error (500), unauthorized (401), redirect (302 to a file, without a body). GET /requests gives a JSON list of the
requests for keys so far, as [method, path, key].
"""

import argparse
import contextlib
import json
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # header and body in one segment

    def log_message(self, *_):
        pass

    def answer(self, status, body, kind="text/plain; charset=utf-8"):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def handle_any(self):
        url = urllib.parse.urlsplit(self.path)
        query = urllib.parse.parse_qs(url.query, keep_blank_values=True)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        server = self.server
        if url.path == "/behave":
            server.mode, server.mode_key = query["mode"][0], query.get("key", [None])[0]
            self.answer(200, b"ok")
        elif url.path == "/requests":
            with server.lock:
                text = json.dumps(server.requests)
            self.answer(200, text.encode(), "application/json")
        else:
            key = query.get("key", [""])[0]
            with server.lock:
                server.requests.append([self.command, url.path, key])
            misbehave = getattr(self, "mode_" + server.mode, None)
            if misbehave and server.mode_key in (None, key):
                self.close_connection = True
                with contextlib.suppress(OSError):
                    misbehave()
            else:
                self.serve_key(key, body)

    do_GET = do_PUT = do_DELETE = handle_any

    def serve_key(self, key, body):
        values, python = self.server.values, self.server.variant == "python"
        with self.server.lock:
            present = key in values
            if python and not key:
                answer = 400, b"metadata key is required"
            elif self.command == "GET":
                answer = (200, values[key]) if present else (404, b"metadata not found")
            elif self.command == "PUT" and python and present and "rpc_meta" in key:
                answer = 400, b"Duplicate rpc_meta key not allowed"
            elif self.command == "PUT":
                values[key] = body
                answer = 200, b"metadata updated"
            else:
                values.pop(key, None)
                answer = (404, b"metadata not found") if python and not present else (200, b"metadata deleted")
        self.answer(*answer, kind="application/json; charset=utf-8" if answer[0] == 200 else "text/plain")

    def mode_silent(self):
        self.rfile.read(1)  # returns when the client is gone

    def mode_trickle(self):
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while not self.server.stopping.wait(0.1):
            self.wfile.write(b"x")
            self.wfile.flush()

    def mode_garbage(self):
        self.wfile.write(bytes(range(256)) * 16)

    def mode_huge(self):
        self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            self.wfile.write(b"x" * (1 << 20))

    def mode_endless_headers(self):
        self.wfile.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            self.wfile.write(b"X-Header: value\r\n" * 1000)

    def mode_early(self):
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")

    def mode_hangup(self):
        pass

    def mode_error(self):
        self.answer(500, b"out of order")

    def mode_unauthorized(self):
        self.answer(401, b"who are you?")

    def mode_redirect(self):
        self.wfile.write(b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n")


class Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 256

    def __init__(self, port, variant):
        super().__init__(("127.0.0.1", port), Handler)
        self.variant, self.mode, self.mode_key = variant, "good", None
        self.values, self.requests = {}, []
        self.lock, self.stopping = threading.Lock(), threading.Event()

    def handle_error(self, request, client_address):
        pass


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--variant", choices=["go", "python"], default="go")
    options = parser.parse_args()
    Server(options.port, options.variant).serve_forever()


if __name__ == "__main__":
    main()
