#!/bin/sh
# Creates a virtual host and least-privileged users for provisiond in RabbitMQ. You can run it again.
#
#     VHOST=provisiond PREFIX=provisioning deploy/rabbitmq/users.sh
#
# RABBITMQCTL replaces the command rabbitmqctl. New users get a random password that nobody knows: set one with
# `rabbitmqctl change_password provisiond`. tests/it/deploy.rs runs this script, and provisiond with these users.
#
#   provisiond           worker, recorder, console and the command line. All rights under the prefix, and no others:
#                        every role declares the whole topology. To declare a queue with a dead-letter exchange, or an
#                        exchange with an alternate exchange, RabbitMQ requires `read` on the first and `write` on the
#                        second, in addition to `configure`.
#   provisiond-worker    the same, but cannot read the results of other workers. Its `write` on the default exchange is
#                        for replies (reply_to); remove it if no platform asks for replies. It lets a worker write into
#                        any queue of this virtual host, so use the virtual host for provisiond only.
#   platform             publishes events, and nothing else. With ASKS=yes it may also ask for replies (reply_to).
#
# A user has rights in this virtual host only, even if queues of other virtual hosts have matching names.
set -eu

VHOST=${VHOST:-provisiond}
PREFIX=${PREFIX:-provisioning}
SUFFIX=${SUFFIX:-}

ctl() {
  # shellcheck disable=SC2086  # a command and its first arguments
  ${RABBITMQCTL:-rabbitmqctl} "$@"
}

user() {
  if ! ctl --quiet list_users --no-table-headers | cut -f 1 | grep -qxF "$1"; then
    ctl --quiet add_user "$1" "$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')"
  fi
}

# A prefix contains letters, digits, _ . - : and only the dot has a meaning in a regular expression.
P="^$(printf '%s' "$PREFIX" | sed 's/[.]/\\./g')\\."
OURS="events(\\..+)?|results|dead-letters|unrouted|delay\\.v1\\..+|watch\\..+"
ALL="$P($OURS|execution-log)\$"

ctl --quiet list_vhosts --no-table-headers | grep -qxF "$VHOST" || ctl --quiet add_vhost "$VHOST"
for name in provisiond provisiond-worker platform; do user "$name$SUFFIX"; done

#                                                          configure  write  read
ctl --quiet set_permissions -p "$VHOST" "provisiond$SUFFIX" "$ALL" "$ALL" "$ALL"
ctl --quiet set_permissions -p "$VHOST" "provisiond-worker$SUFFIX" "$ALL" "$ALL|^amq\\.default\$" "$P($OURS)\$"
if [ "${ASKS:-no}" = yes ]; then
  # The broker chooses the name of its reply queue.
  ctl --quiet set_permissions -p "$VHOST" "platform$SUFFIX" '^amq\.gen-.*$' "${P}events\$" '^amq\.gen-.*$'
else
  ctl --quiet set_permissions -p "$VHOST" "platform$SUFFIX" '^$' "${P}events\$" '^$'
fi
# To limit a platform to its own events:
#   rabbitmqctl set_topic_permissions -p provisiond platform provisioning.events '^clients\.' '^$'
