#!/usr/bin/env python3
"""An example of an HTTP handler, with nothing but Python's standard library.

    python3 examples/handler.py --port 5000
    provisiond handlers create --name CRM --event clients.create --http 127.0.0.1:5000/api

It answers every event with the same JSON, which means: processed; and, for an intercept handler: allowed, unchanged.
"""

import argparse
import json
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MAX_BODY_BYTES = 2 * 1024 * 1024


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # connections are kept alive, as provisiond does
    timeout = 60
    wbufsize = -1  # head and body in one packet: sent apart, the second waits 40 ms for an acknowledgement

    def do_POST(self):
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > MAX_BODY_BYTES:
            self.close_connection = True  # the body was not read, so nothing can follow it
            return self.answer(413 if length.isdigit() else 411, {"error": "send a body of known length, at most 2 MiB"})
        body = self.rfile.read(int(length))
        if self.path != "/api":
            return self.answer(404, {"error": f"nothing at {self.path}, events go to /api"})
        try:
            event = json.loads(body)
        except ValueError as error:
            return self.answer(400, {"error": f"not JSON: {error}"})
        # webhook-id is the same on every attempt: what was done under this id must not be done twice.
        print(f"event {self.headers.get('x-provisioning-event')} id {self.headers.get('webhook-id')}"
              f" attempt {self.headers.get('x-provisioning-attempt')}", flush=True)
        return self.answer(200, event)

    def answer(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *args):
        pass  # do_POST prints a line of its own


def main():
    parser = argparse.ArgumentParser(description="An example HTTP handler: echoes the events it gets on /api.")
    parser.add_argument("--port", type=int, default=5000, help="port on 127.0.0.1; 0 takes a free one (default: 5000)")
    server = ThreadingHTTPServer(("127.0.0.1", parser.parse_args().port), Handler)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print(f"listening on http://127.0.0.1:{server.server_address[1]}/api", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
