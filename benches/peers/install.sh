#!/usr/bin/env bash
# install.sh DIR: installs what the peers need into DIR. It skips what is installed already. If it cannot
# install something, it prints a line that says so, and run.sh then refuses that peer.
set -euo pipefail

[ $# = 1 ] || { echo "usage: install.sh DIR" >&2; exit 64; }
HERE=$(cd -P "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
mkdir -p "$1"
DIR=$(cd -P "$1" && pwd -P)
LOG=$DIR/install.log

have() { command -v "$1" >/dev/null 2>&1; }
skip() { printf 'skipped %s: %s\n' "$1" "$2"; }

# quietly COMMAND…: runs it with its output in the log.
quietly() { "$@" >>"$LOG" 2>&1 </dev/null; }

# A copy of the list of packages is written last. It shows that all of them are installed.
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
  # Node looks for modules from the directory of the program, so run.sh starts it by this link.
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
  # In a fresh image the package lists are missing or old.
  quietly apt-get install -y amqp-tools || { quietly apt-get update && quietly apt-get install -y amqp-tools; } ||
    skip amqp-consume "apt-get failed ($LOG)"
}

install_python
install_node
install_amqp_tools
