#!/usr/bin/env bash
# run.sh NAME DIR: executes the peer NAME (node, aio-pika, celery or amqp-consume) with what install.sh put
# into DIR.
#   Exit code 127 if it is not installed. README.md lists the environment variables that it needs.
# run.sh --installed NAME DIR: only checks whether it is installed; the exit code says so.
set -euo pipefail

ONLY_ASK=no
[ "${1-}" != --installed ] || { ONLY_ASK=yes; shift; }
[ $# = 2 ] || { echo "usage: run.sh [--installed] node|aio-pika|celery|amqp-consume DIR" >&2; exit 64; }
HERE=$(cd -P "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
NAME=$1 DIR=$2

# needs PATH-OR-COMMAND…: exits if one is missing, or if only that was to be checked (--installed).
needs() {
  local one
  for one in "$@"; do
    command -v "$one" >/dev/null 2>&1 || [ -f "$one" ] || { echo "$NAME is not installed in $DIR: run install.sh" >&2; exit 127; }
  done
  [ "$ONLY_ASK" = no ] || exit 0
}

export PYTHONDONTWRITEBYTECODE=1  # write no bytecode beside the sources

case $NAME in
  node)
    needs node "$DIR/node_modules/package.json"
    # The link into DIR is not resolved, because the modules are in DIR.
    exec node --preserve-symlinks-main "$DIR/consumer.mjs"
    ;;
  aio-pika)
    needs "$DIR/venv/requirements.txt"
    exec "$DIR/venv/bin/python" "$HERE/python/aio_pika_consumer.py"
    ;;
  celery)
    needs "$DIR/venv/requirements.txt"
    export PYTHONPATH=$HERE/python
    # A node name of its own, so that several can run on a host.
    exec "$DIR/venv/bin/celery" --quiet -A celery_app worker -P gevent -c "$CONCURRENCY" -l WARNING -n "peer-$$@%h" \
      --without-gossip --without-mingle --without-heartbeat
    ;;
  amqp-consume)
    needs amqp-consume
    exec "$HERE/amqp-consume.sh"
    ;;
  *)
    echo "no peer is called $NAME: node, aio-pika, celery, amqp-consume" >&2
    exit 64
    ;;
esac
