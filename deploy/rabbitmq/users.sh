#!/bin/sh
# A virtual host and least-privileged users for provisiond in RabbitMQ. It may be run again.
#
#     VHOST=provisiond PREFIX=provisioning deploy/rabbitmq/users.sh
#
# RABBITMQCTL is what is run in place of rabbitmqctl. New users get a random password that nobody knows: set one with
# `rabbitmqctl change_password provisiond`. tests/it/deploy.rs runs this, and the program with these users.
#
#   provisiond           worker, recorder, console and the command line. Everything under the prefix and nothing else: all
#                        roles declare the whole topology, and to declare a queue with a dead-letter exchange or an exchange with an alternate
#                        one, RabbitMQ asks for `read` on the first and `write` on the second beside `configure`.
#   provisiond-worker    the same, but cannot read what is recorded of other workers' events. Its `write` on the default
#                        exchange is for replies (reply_to); leave it out where no platform asks. It lets a worker write into any
#                        queue of this virtual host, so keep the virtual host for provisiond.
#   platform             publishes events, and can do nothing else. With ASKS=yes it may also ask (reply_to).
#
# A user is bound to its virtual host: queues of others are out of reach even where their names would match.
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

# A prefix holds letters, digits, _ . - : of these only the dot means something in an expression.
P="^$(printf '%s' "$PREFIX" | sed 's/[.]/\\./g')\\."
OURS="events(\\..+)?|results|dead-letters|unrouted|delay\\.v1\\..+|watch\\..+"
ALL="$P($OURS|execution-log)\$"

ctl --quiet list_vhosts --no-table-headers | grep -qxF "$VHOST" || ctl --quiet add_vhost "$VHOST"
for name in provisiond provisiond-worker platform; do user "$name$SUFFIX"; done

#                                                          configure  write  read
ctl --quiet set_permissions -p "$VHOST" "provisiond$SUFFIX" "$ALL" "$ALL" "$ALL"
ctl --quiet set_permissions -p "$VHOST" "provisiond-worker$SUFFIX" "$ALL" "$ALL|^amq\\.default\$" "$P($OURS)\$"
if [ "${ASKS:-no}" = yes ]; then
  # Its reply queue has a name that the broker gives.
  ctl --quiet set_permissions -p "$VHOST" "platform$SUFFIX" '^amq\.gen-.*$' "${P}events\$" '^amq\.gen-.*$'
else
  ctl --quiet set_permissions -p "$VHOST" "platform$SUFFIX" '^$' "${P}events\$" '^$'
fi
# To hold a platform to its own events:
#   rabbitmqctl set_topic_permissions -p provisiond platform provisioning.events '^clients\.' '^$'
