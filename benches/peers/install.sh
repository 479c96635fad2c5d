#!/usr/bin/env bash
# install.sh DIR: installs what the peers need into DIR. What is there already stays; what cannot be installed is
# skipped with a line that says so, and run.sh refuses it then.
set -euo pipefail

[ $# = 1 ] || { echo "usage: install.sh DIR" >&2; exit 64; }
HERE=$(cd -P "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
mkdir -p "$1"
DIR=$(cd -P "$1" && pwd -P)
LOG=$DIR/install.log

have() { command -v "$1" >/dev/null 2>&1; }
skip() { printf 'skipped %s: %s\n' "$1" "$2"; }

# quietly COMMAND…: what it says goes to the log.
quietly() { "$@" >>"$LOG" 2>&1 </dev/null; }

# A copy of the list that was installed, written last, tells that all of it is there.
install_python() {
  local wanted=$HERE/python/requirements.txt installed=$DIR/venv/requirements.txt
  ! cmp -s "$wanted" "$installed" || return 0
  have python3 || { skip "aio-pika, celery" "install python3 (Debian: python3-venv)"; return 0; }
  quietly python3 -m venv "$DIR/venv" || { skip "aio-pika, celery" "python3 -m venv failed (Debian: install python3-venv; $LOG)"; return 0; }
  quietly "$DIR/venv/bin/pip" install --disable-pip-version-check -r "$wanted" || { skip "aio-pika, celery" "pip failed ($LOG)"; return 0; }
  cp "$wanted" "$installed"
}

install_node() {
  local wanted=$HERE/node/package.json installed=$DIR/node_modules/package.json
  # Node looks for modules from where a program lies: run.sh starts it by this link.
  ln -sfn "$HERE/node/consumer.mjs" "$DIR/consumer.mjs"
  ! cmp -s "$wanted" "$installed" || return 0
  have npm || { skip node "install Node.js 20 or later, with npm"; return 0; }
  cp "$wanted" "$DIR/package.json"
  quietly npm install --no-audit --no-fund --prefix "$DIR" || { skip node "npm failed ($LOG)"; return 0; }
  cp "$wanted" "$installed"
}

install_amqp_tools() {
  ! have amqp-consume || return 0
  if ! have apt-get || [ "$(id -u)" != 0 ]; then
    skip amqp-consume "install amqp-tools (as root: apt-get install amqp-tools)"
    return 0
  fi
  export DEBIAN_FRONTEND=noninteractive
  # The list of packages of a fresh image is empty, or old.
  quietly apt-get install -y amqp-tools || { quietly apt-get update && quietly apt-get install -y amqp-tools; } ||
    skip amqp-consume "apt-get failed ($LOG)"
}

install_python
install_node
install_amqp_tools
