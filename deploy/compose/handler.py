"""The sample handler of compose.yaml: prints each event and answers with it. It needs only Python's standard library.

Its answer means: processed; and, for an intercept handler: allowed, unchanged. It listens on all addresses of its
container. examples/handler.py is the same for your own machine.
"""

import json
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # keep connections alive, as provisiond does
    timeout = 60
    wbufsize = -1  # head and body in one packet

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        try:
            event = json.loads(body)["event"]
        except (ValueError, KeyError, TypeError):
            return self.answer(400, b'{"error": "no event"}')
        print(event, "delivery", self.headers.get("webhook-id"), flush=True)
        return self.answer(200, body)

    def do_GET(self):
        self.answer(200, b"{}")  # the container's health check

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *args):
        pass  # do_POST prints a line of its own


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    ThreadingHTTPServer(("0.0.0.0", int(sys.argv[1]) if len(sys.argv) > 1 else 5000), Handler).serve_forever()
