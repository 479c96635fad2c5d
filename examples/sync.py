#!/usr/bin/env python3
"""An example of a script handler: the event on stdin, what it is about in PROVISIONING_* variables.

    provisiond handlers create --name Sync --event clients.create --script sync.py

Exit codes: 0 done; 75 try again later; 65 the event can never be processed (see sysexits.h). What is printed is kept
in the Execution Logs.
"""

import json
import os
import sys

EX_DATAERR = 65


def main() -> int:
    try:
        message = json.load(sys.stdin)
        event, data = message["event"], message["data"]
    except (ValueError, KeyError, TypeError) as error:
        print(f"not an event: {error!r}", file=sys.stderr)
        return EX_DATAERR
    print(
        f"{os.environ.get('PROVISIONING_EVENT', event['events_id'])}"
        f" of object {os.environ.get('PROVISIONING_OBJECT_ID', event['object_id'])}"
        f" (attempt {os.environ.get('PROVISIONING_ATTEMPT', '?')},"
        f" delivery {os.environ.get('PROVISIONING_DELIVERY_ID', '?')}):"
        f" {len(data)} fields to synchronise"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
