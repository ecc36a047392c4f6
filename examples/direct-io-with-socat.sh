#!/bin/sh
# A save with mapped-ram, multifd and direct-io, typed by hand: QMP over a socket of `mapram monitor`. In place of `builtin` give the
# QMP socket of a QEMU, also one too old to know these words.
#
#   sh direct-io-with-socat.sh FILE
set -eu
folder=$(mktemp -d)
mapram monitor builtin:size=64M --qmp "$folder/qmp" &
monitor=$!
trap 'kill $monitor; wait $monitor || true; rm -r "$folder"' EXIT
until [ -S "$folder/qmp" ]; do sleep 0.1; done

{
  echo '{"execute": "qmp_capabilities"}'
  echo '{"execute": "migrate-set-capabilities", "arguments": {"capabilities": [
           {"capability": "mapped-ram", "state": true}, {"capability": "multifd", "state": true}]}}'
  echo '{"execute": "migrate-set-parameters", "arguments": {"direct-io": true, "multifd-channels": 4}}'
  echo "{\"execute\": \"migrate\", \"arguments\": {\"uri\": \"file:$1\"}}"
  until [ -s "$folder/done" ]; do
    sleep 0.2
    echo '{"execute": "query-migrate"}'
  done
} | socat - "UNIX-CONNECT:$folder/qmp" | while read -r reply; do
  echo "$reply"
  case $reply in *'"status": "completed"'* | *'"status":"completed"'* | *'"status": "failed"'*) echo > "$folder/done" ;; esac
done
