"""What both Python workers share: their settings, and the result of one event."""

import json
import os
import socket
import uuid
from datetime import datetime, timezone

AMQP_URL = os.environ["AMQP_URL"]
QUEUES = os.environ["QUEUES"].split(",")
RESULTS = os.environ["RESULTS"]
TARGET = os.environ["TARGET"]
CONCURRENCY = int(os.environ["CONCURRENCY"])
TIMEOUT = 30  # seconds
HEADERS = {"content-type": "application/json"}

WORKER = f"{socket.gethostname()}:{os.getpid()}"


def now():
    return datetime.now(timezone.utc)


def read_envelope(body):
    """The body as a value. Raises ValueError if it is not an event."""
    envelope = json.loads(body)
    try:
        if isinstance(envelope["event"]["events_id"], str):
            return envelope
    except (KeyError, TypeError):
        pass
    raise ValueError("no event.events_id")


def make_result(envelope, message_id, *, status, body, error, started_at, duration):
    """The routing key and the bytes of the result; without an answer `status` and `body` are None."""
    event = envelope["event"]
    ok = status is not None and 200 <= status < 300
    if not ok and error is None:
        error = f"status {status}"
    outcome = "success" if ok else "fail"
    result = {
        "id": str(uuid.uuid4()),
        "event": {"id": message_id, "name": event["events_id"], "object_id": str(event.get("object_id")), "dt": event.get("dt")},
        "status": outcome,
        "error": error,
        "request": envelope,
        "response": None if status is None else {"status": status, "body": body},
        "started_at": started_at.isoformat(),
        "duration_ms": round(duration * 1000),
        "worker": WORKER,
    }
    return f"{event['events_id']}.{outcome}", json.dumps(result).encode()
