#!/bin/sh
# Holds the slot of a bundle while a command works: hold_run.sh RUN BUNDLE COMMAND...
# CONTROL is the address of the control API, TOKEN one of `colorfast token create NAME --role agent`.
set -u
place="$CONTROL/v1/services/${SERVICE:-chat}/runs/$1"
lease="{\"bundle\": \"$2\", \"ttl_seconds\": 60}"
shift 2
ask() { curl --silent --show-error --fail-with-body --header "authorization: Bearer $TOKEN" "$@"; }

ask --request PUT --data "$lease" "$place" || exit 1
(while sleep 20; do ask --request PUT --data "$lease" "$place" > /dev/null; done) &
heartbeat=$!
"$@"
ended=$?
kill "$heartbeat"
ask --request DELETE "$place"
exit "$ended"
