# shellcheck shell=bash
# Functions that the scripts in this directory share: messages, finding and installing tools, processes and ports.
# Source this file; do not run it. It must work with bash 3.2 (macOS): no associative arrays, no mapfile.

ROOT=$(cd -P "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
LOCAL=$ROOT/.local

# A container may start a script without HOME; bash knows the home directory from the user database.
export HOME=${HOME:-$(cd ~ && pwd)}

# rustup's directory comes last: a cargo that is already in PATH was chosen by the user.
PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin:/usr/sbin:/sbin
export PATH

# ---- messages -------------------------------------------------------------------------------------------------------

# Prints progress to stderr, so that the stdout of a script can be piped or evaluated.
say() { printf '%s\n' "$*" >&2; }

# Prints the comment at the head of the calling script as its help, and exits.
help_if_asked() {
  case ${1:-} in
    -h | --help)
      sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"
      exit 0
      ;;
  esac
}

die() {
  say "error: $1"
  shift
  local line
  for line in "$@"; do say "  $line"; done
  exit 1
}

# Prints the end of a log that explains a failure, and the path of the log.
show_log() {
  [ -s "$1" ] || { say "(nothing in $1)"; return 0; }
  say "---- the last lines of $1"
  tail -n "${2:-25}" "$1" >&2
  say "----"
}

have() { command -v "$1" >/dev/null 2>&1; }

is_root() { [ "$(id -u)" = 0 ]; }

# Creates .local. It must belong to the current user: a mix of root and another user would fail later and less clearly.
make_local() {
  mkdir -p "$LOCAL" 2>/dev/null && [ -w "$LOCAL" ] && return 0
  die "$LOCAL cannot be written by $(id -un)" \
    "Another user (root?) ran a script in this clone before. Run as that user, or remove the directory."
}

# ---- processes and ports --------------------------------------------------------------------------------------------

# The command line of a process, or nothing. /proc comes first, because minimal Debian images have no ps.
command_of() {
  if [ -d /proc/self ]; then
    tr '\0' ' ' 2>/dev/null <"/proc/$1/cmdline" || true
  else
    ps -ww -o command= -p "$1" 2>/dev/null || true
  fi
}

# True if process $1 lives and has $2 in its command line. A pid alone proves nothing: after a reboot it belongs to
# another process.
is_process() {
  [ -n "$1" ] || return 1
  case " $(command_of "$1") " in *" $2 "*) return 0 ;; esac
  return 1
}

# Waits until a background process runs its own program. Before that, its command line is ours and its log may not
# exist.
wait_for_exec() {
  while is_process "$1" "$0"; do sleep 0.02; done
}

# The number on the first line of a pid file, or nothing.
read_pid() {
  [ -r "$1" ] || return 0
  head -n 1 "$1" | tr -cd '0-9'
}

# stop_process NAME PID MARK SIGNAL SECONDS: stops a process of ours, and waits until it has ended.
stop_process() {
  local name=$1 pid=$2 mark=$3 signal=$4 left=$(($5 * 10))
  is_process "$pid" "$mark" || return 0
  kill "-$signal" "$pid" 2>/dev/null || true
  while is_process "$pid" "$mark"; do
    if [ "$left" -le 0 ]; then
      say "$name (pid $pid) did not end within $5 s of SIG$signal and is killed"
      kill -KILL "$pid" 2>/dev/null || true
      left=100
    fi
    left=$((left - 1))
    sleep 0.1
  done
}

port_open() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# A free port. It is below the ephemeral range of Linux and macOS, so that no outgoing connection of a busy machine
# takes it between two starts. It can still be taken before it is bound, so callers try again.
free_port() {
  local port
  while :; do
    port=$((20000 + (RANDOM * 32768 + RANDOM) % 10000))
    port_open "$port" || { echo "$port"; return 0; }
  done
}

# A short name for a path; the same path always has the same name.
path_id() { printf '%s' "$1" | cksum | cut -d ' ' -f 1; }

# ---- finding the servers --------------------------------------------------------------------------------------------

# The directory of the newest PostgreSQL server. Debian and Homebrew's versioned formulas do not put it into PATH.
postgres_bin() {
  local dir in_path
  in_path=$(command -v postgres || true)
  for dir in /usr/lib/postgresql/*/bin /usr/pgsql-*/bin /opt/homebrew/opt/postgresql*/bin \
    /usr/local/opt/postgresql*/bin "${in_path%/postgres}"; do
    if [ -x "$dir/postgres" ] && [ -x "$dir/initdb" ] && [ -x "$dir/pg_ctl" ] && [ -x "$dir/pg_isready" ] &&
      [ "$(postgres_major "$dir")" -ge 13 ]; then
      echo "$(postgres_major "$dir") $dir"
    fi
  done | sort -rn | sed -n '1s/^[0-9]* //p'
}

postgres_major() { "$1/postgres" --version | sed 's/^[^0-9]*\([0-9]*\).*/\1/'; }

# The directory of RabbitMQ's own scripts. The wrappers that Debian and Fedora put into /usr/sbin require root or the
# user rabbitmq, and the system's directories.
rabbitmq_bin() {
  local dir in_path
  in_path=$(command -v rabbitmq-server || true)
  for dir in /usr/lib/rabbitmq/bin /usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin /opt/homebrew/opt/rabbitmq/sbin \
    /usr/local/opt/rabbitmq/sbin "${in_path%/rabbitmq-server}"; do
    if [ -x "$dir/rabbitmq-server" ] && [ -x "$dir/rabbitmqctl" ] &&
      ! grep -q 'su rabbitmq\|runuser' "$dir/rabbitmq-server"; then
      echo "$dir"
      return 0
    fi
  done
}

# ---- installing what is missing -------------------------------------------------------------------------------------

have_cc() { have cc && have make && { [ "$(uname -s)" != Darwin ] || xcode-select -p >/dev/null 2>&1; }; }
have_postgres() { [ -n "$(postgres_bin)" ]; }
have_rabbitmq() { [ -n "$(rabbitmq_bin)" ]; }
have_python() { have python3 && python3 -c 'import ensurepip, venv' 2>/dev/null; }
have_curl() { have curl; }
have_chromium() { have chromium; }
have_promtool() { have promtool; }
have_faketime() { have faketime; }
have_pgbouncer() { have pgbouncer; }
have_nginx() { have nginx; }
have_debootstrap() { have debootstrap; }
# Only on Debian: Ubuntu gets its Chromium from another source.
is_debian() { grep -qs '^ID=debian' /etc/os-release; }
# Minimal Debian images have no certificate authorities, and without them cargo cannot fetch a crate.
have_certificates() { [ ! -d /etc/apt ] || [ -s /etc/ssl/certs/ca-certificates.crt ]; }

# need THING…: installs the things that are missing, all in one step. THING is one of: cc certificates postgres rabbitmq
# python curl chromium promtool faketime pgbouncer nginx debootstrap.
need() {
  local thing missing=""
  for thing in "$@"; do "have_$thing" || missing="$missing $thing"; done
  [ -n "$missing" ] || return 0
  # shellcheck disable=SC2086  # a list of words
  install_packages $missing
  for thing in $missing; do
    "have_$thing" || die "$thing is still missing after its packages were installed" \
      "The end of $LOCAL/install.log may say why."
  done
}

# packages_for MANAGER THING…: the packages of these things, for one package manager.
packages_for() {
  local manager=$1 thing
  shift
  for thing in "$@"; do
    case $manager:$thing in
      apt:cc) echo gcc libc6-dev make ;;
      apt:postgres) echo postgresql ;;
      apt:python) echo python3 python3-venv ;;
      apt:promtool) echo prometheus ;;
      *:certificates) echo ca-certificates ;;
      dnf:cc) echo gcc make ;;
      dnf:postgres) echo postgresql-server ;;
      brew:cc) ;;
      brew:postgres) echo postgresql@17 ;;
      brew:rabbitmq) echo rabbitmq ;;
      *:rabbitmq) echo rabbitmq-server ;;
      *:python) echo python3 ;;
      *) echo "$thing" ;;
    esac
  done | tr '\n' ' '
}

install_packages() {
  local manager packages
  for manager in apt-get dnf brew none; do have "$manager" && break; done
  [ "$manager" != apt-get ] || manager=apt
  packages=$(packages_for "$manager" "$@")
  make_local
  case $manager in
    apt) install_with_apt "$packages" ;;
    dnf) install_with_dnf "$packages" ;;
    brew) install_with_brew "$packages" ;;
    *) die "missing on this machine: $*" \
      "Install what is named above with your package manager (C compiler, PostgreSQL 13 or later (server)," \
      "RabbitMQ 3.10 or later, Python 3 with venv, curl). Then run this again." ;;
  esac
}

# logged TITLE COMMAND…: runs a long command, and shows its output only if it fails. The caller then says what to do.
logged() {
  local title=$1 log=$LOCAL/install.log
  shift
  say "$title (log: $log)"
  "$@" >"$log" 2>&1 </dev/null && return 0
  show_log "$log"
  return 1
}

# Call it only after can_be_root succeeded.
as_root() {
  if is_root; then "$@"; else sudo -n "$@"; fi
}

can_be_root() {
  is_root && return 0
  have sudo || return 1
  sudo -n true 2>/dev/null && return 0
  [ -t 0 ] && say "sudo may ask for your password, to install packages" && sudo -v
}

# policy-rc.d stops the packages from starting the system's PostgreSQL, RabbitMQ and Prometheus: the scripts start
# private ones, or none. An existing one (Debian's container images have it) is not changed.
# shellcheck disable=SC2016  # expanded by the inner shell
APT_SCRIPT='
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  trap "rm -f $policy" EXIT
  trap "exit 1" HUP INT TERM
  printf "#!/bin/sh\nexit 101\n" >"$policy"
  chmod 755 "$policy"
fi
apt-get update -q || echo "apt-get update failed: continuing with the existing package lists"
apt-get install -y -q --no-install-recommends -o DPkg::Lock::Timeout=300 "$@"
'

install_with_apt() {
  can_be_root || die "missing packages: $1" "Type this, then run the script again:" \
    "  sudo apt-get install --no-install-recommends $1"
  # shellcheck disable=SC2086  # a list of words
  logged "installing with apt-get, usually within a minute: $1" \
    as_root env DEBIAN_FRONTEND=noninteractive sh -eu -c "$APT_SCRIPT" sh $1 ||
    die "apt-get could not install: $1" "Does this machine reach its Debian mirror? Try: apt-get update" \
      "Or install the packages in another way, then run the script again."
}

install_with_dnf() {
  can_be_root || die "missing packages: $1" "Type this, then run the script again:" "  sudo dnf install $1"
  # shellcheck disable=SC2086  # a list of words
  logged "installing with dnf, usually within two minutes: $1" as_root dnf install -y $1 ||
    die "dnf could not install: $1" "Does this machine reach its mirrors? Try: dnf makecache" \
      "Or install the packages in another way, then run the script again."
}

install_with_brew() {
  have_cc || die "there is no C compiler" "Type this, then run the script again:" "  xcode-select --install"
  is_root && die "Homebrew does not run as root" "Type this as a user:" "  brew install $1"
  # shellcheck disable=SC2086  # a list of words
  logged "installing with Homebrew, usually within three minutes: $1" brew install $1 ||
    die "Homebrew could not install: $1" "Try: brew doctor"
}

# ---- Rust -----------------------------------------------------------------------------------------------------------

# Requires a toolchain that is new enough (rust-version in Cargo.toml). Never replaces an existing one.
need_rust() {
  need cc certificates
  have cargo || install_rust
  local wanted found
  wanted=$(sed -n 's/^rust-version *= *"\([0-9.]*\)".*/\1/p' "$ROOT/Cargo.toml")
  found=$(cd "$ROOT" && rustc --version 2>/dev/null | sed 's/^rustc \([0-9.]*\).*/\1/') || true
  [ -n "$found" ] || die "cargo is installed, but rustc does not work in $ROOT" "Try: rustup default stable"
  if [ "$(version_number "$found")" -lt "$(version_number "$wanted")" ]; then
    have rustup && die "Rust $found is too old: $wanted or later is needed" "Type: rustup update stable"
    die "Rust $found ($(command -v rustc)) is too old: $wanted or later is needed" \
      "This script cannot update the Rust of your package manager. Install rustup, from https://rustup.rs, then run this again."
  fi
}

# Converts a version such as 1.92 or 1.92.1 to a number that can be compared.
version_number() { echo "$1" | awk -F . '{ print $1 * 1000000 + $2 * 1000 + $3 }'; }

install_rust() {
  need curl certificates
  make_local
  say "Rust is not installed on this machine: installing it for $(id -un) with rustup (https://rustup.rs), without changing PATH"
  local by_hand="Install Rust in another way (https://rustup.rs, or your packages), then run this again."
  logged "fetching rustup's installer" \
    curl --proto '=https' --tlsv1.2 -fsSL -o "$LOCAL/rustup-init.sh" https://sh.rustup.rs ||
    die "https://sh.rustup.rs cannot be downloaded" "Behind a proxy, set https_proxy." "$by_hand"
  logged "installing Rust (stable) into ${CARGO_HOME:-$HOME/.cargo}, usually within a minute" \
    sh "$LOCAL/rustup-init.sh" -y --no-modify-path --profile minimal -c rustfmt -c clippy ||
    die "rustup could not install Rust" "$by_hand"
  hash -r
  have cargo || die "cargo is not in ${CARGO_HOME:-$HOME/.cargo}/bin although rustup reported success"
  say "for your own shell: . \"${CARGO_HOME:-$HOME/.cargo}/env\""
}

# need_component SUBCOMMAND COMPONENT: requires a part of the toolchain, such as cargo clippy.
need_component() {
  (cd "$ROOT" && cargo "$1" --version >/dev/null 2>&1) && return 0
  have rustup || die "cargo $1 is missing" "Install the package of your system that contains $2."
  make_local
  (cd "$ROOT" && logged "adding $2 to the Rust toolchain" rustup component add "$2") ||
    die "rustup could not add $2" "Try: rustup component add $2"
}

# need_cargo_tool NAME [ARGUMENTS OF cargo install]: requires cargo-NAME. It is built from crates.io without
# optimisation, which takes a third of the time; the tool mostly waits for other programs anyway. It is built outside
# the clone, whose cargo settings do not apply to it.
need_cargo_tool() {
  local name=$1
  shift
  cargo "$name" --version >/dev/null 2>&1 && return 0
  make_local
  (cd / && logged "building cargo-$name, only once: two to five minutes on two cores" \
    cargo install --debug --locked "cargo-$name" "$@") ||
    die "cargo-$name could not be built" "$DOWNLOAD_HINT" "Or install it in another way: cargo install --locked cargo-$name"
  cargo "$name" --version >/dev/null 2>&1 || die "cargo $name does not work although it was installed" \
    "Is ${CARGO_HOME:-$HOME/.cargo}/bin in PATH?"
}

# ---- building -------------------------------------------------------------------------------------------------------

DOWNLOAD_HINT="cargo needs https://index.crates.io and https://static.crates.io; behind a proxy, set https_proxy."

# fetch_crates: downloads the dependencies before the build, so that a machine without a network gets a clear error.
fetch_crates() {
  local host
  host=$(cd "$ROOT" && rustc -vV | sed -n 's/^host: //p')
  (cd "$ROOT" && cargo fetch --locked --target "$host") || die "the dependencies could not be downloaded" "$DOWNLOAD_HINT"
}

# announce_build FILE TIME…: says how long compiling takes, unless FILE exists from an earlier build.
announce_build() {
  local file=$1
  shift
  [ ! -e "$file" ] || { say "compiling what has changed since the last time"; return 0; }
  say "compiling, $*"
  say "Meanwhile: README.md (a handler in five minutes), docs/concepts.md (the path of an event), examples/"
}
