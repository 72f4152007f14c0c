#!/bin/sh
# Creates a task by curl and works it. PGQUEUE_URL is the address of the API, as http://localhost:8080/api.
set -eu
url=${PGQUEUE_URL:-http://localhost:8080/api}
call() { curl --silent --show-error --fail-with-body --header 'Content-Type: application/json' "$@"; }

# A second run finds the queue, and a repeated create finds the task by its key.
call "$url/queue" --data '{"queue":"shell-mail","retries":5}' >/dev/null || call "$url/queue/shell-mail" >/dev/null
call "$url/task" --data '{"queue":"shell-mail","payload":{"order":17},"key":"order-17"}' >/dev/null

# A worker waits for a task, works it and reports the outcome. With a limit the answer is a list; without one 404 means no task.
task=$(call --request PUT "$url/task/shell-mail?worker=shell&limit=1&wait=5s")
id=$(echo "$task" | grep -o '"id":[0-9]*' | head -1 | cut -d: -f2)
[ -n "$id" ] || { echo "no task"; exit 0; }
token=$(echo "$task" | grep -o '"token":[0-9]*' | head -1 | cut -d: -f2)
call --request PATCH "$url/task/$id" --data "{\"fail\":false,\"token\":$token,\"result\":{\"sent\":true}}" >/dev/null
call "$url/task/$id/result"
