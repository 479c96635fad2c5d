"""What hostile people leave behind: handlers, executions and dead letters of which everything that can be text is hostile."""

import os
import time

from browser import provisiond

APP = os.environ["APP"]
HOSTILE = '<script>window.hacked = 1</script>'
# It would turn what stands behind it round: "open" into "nepo".
TURNED = f"{HOSTILE}\u202eevil"


def arrange():
    """Leaves it, and tells an execution and a dead letter of it."""
    provisiond("handlers", "create", "--name", f"Bad {HOSTILE}", "--event", "clients.create", "--http", f"{APP}/hostile",
               "--header", "x-secret: hunter2-is-secret")
    provisiond("handlers", "create", "--name", "x" * 200, "--event", "clients.update", "--http", f"{APP}/echo?{'y' * 500}")
    data = '{"name": "%s", "long": "%s"}' % (HOSTILE, "z" * 3000)
    # This waits until the workers know both handlers.
    provisiond("publish", "clients.update", "--object-id", "1", "--data", "@big.json", "--wait")
    provisiond("publish", "clients.create", "--object-id", TURNED, "--data", data)
    execution = rows("executions", "--event", "clients.create", "--status", "fail")[0]["id"]
    return execution, rows("dead-letters")[0]["id"]


def rows(command, *arguments):
    """Waits until there are some."""
    for _ in range(200):
        found = provisiond(command, "list", *arguments)
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"there are no {command} {arguments}")


def pages(execution, dead_letter):
    return [
        "/", "/?period=day", "/handlers", "/handlers?status=archived", "/handlers/1", "/handlers/2",
        "/executions", "/executions?data=window.hacked", f"/executions?object_id={TURNED}", f"/executions/{execution}",
        "/dead-letters", "/dead-letters?state=any&text=nothing", f"/dead-letters/{dead_letter}", "/events", "/replays",
    ]


def forms(dead_letter):
    return [
        "/handlers/new", "/handlers/1/edit", "/handlers/1/delete", "/handlers/1/test", "/handlers/1/secret",
        "/events/new", "/events/publish", "/events/clients.archive/remove", "/dead-letters/replay",
        f"/dead-letters/discard?id={dead_letter}", f"/dead-letters/{dead_letter}/edit", "/executions/replay?status=fail",
    ]
