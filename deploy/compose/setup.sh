#!/bin/sh
# Creates the sample handler, unless that event has a handler with this name. `docker compose up` runs it each time.
set -eu
NAME=Sample EVENT=clients.create URL=http://handler:5000/api

if provisiond handlers list --event "$EVENT" --text "$NAME" --output json | grep -q '"id"'; then
  echo "the handler $NAME is there already"
else
  provisiond handlers create --name "$NAME" --event "$EVENT" --http "$URL" --priority 1
fi
echo
echo "The console: http://127.0.0.1:8080  (operator, password: provisiond)"
echo "An event:    docker compose exec recorder provisiond publish $EVENT --object-id 12 --data '{\"name\":\"Ann\"}' --wait"
