#!/usr/bin/env bash
# The worker that a team would put together for scripts: amqp-consume of Debian's amqp-tools. It runs $SCRIPT
# for each message of one queue, one after another, with the body on stdin, and acknowledges the message if
# the script exits with 0. There is no result. A message whose script failed stays unacknowledged until the
# process ends. The script must read all of its stdin: a closed pipe ends amqp-consume itself (SIGPIPE).
set -euo pipefail

case $QUEUES in
  *,*) echo "amqp-consume takes one queue: start one for each of $QUEUES" >&2; exit 64 ;;
esac

exec amqp-consume --url="$AMQP_URL" --queue="$QUEUES" --prefetch-count="$CONCURRENCY" "$SCRIPT"
