"""The README's Flask app; it refuses one name, so that a test can repair it. No requests are logged: nobody reads them."""

import json
import logging
import sys

from flask import Flask, request

app = Flask(__name__)
logging.getLogger("werkzeug").setLevel(logging.ERROR)


@app.route("/api", methods=["GET", "POST"])
def api():
    event = json.loads(request.data)
    if event["data"].get("name") == "Bob":
        return json.dumps({"error": "Bob is not known here"}), 400
    return json.dumps(event)


@app.route("/hostile", methods=["POST"])
def hostile():
    return '<script>window.hacked = "answer"</script><img src=x onerror="window.hacked = 1">', 400


@app.route("/echo", methods=["POST"])
def echo():
    return "fine"


app.run(port=int(sys.argv[1]))
