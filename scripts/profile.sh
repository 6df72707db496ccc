#!/bin/bash
# Writes cmd/outboxd/default.pgo anew: where outboxd spends its processor time while it drains a backlog, by which go build
# optimizes it (https://go.dev/doc/pgo). It takes some minutes, on a machine that does nothing else.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=$(mktemp -d -t outboxd-profile.XXXX)
trap 'rm -rf "$folder"' EXIT

CGO_ENABLED=0 "${GO:-go}" build -trimpath -pgo=off -o "$folder/outboxd" ./cmd/outboxd
for sink in redis pulsar; do
	for flags in "--on-sent keep" "--on-sent mark" "--on-sent mark --spilled"; do
		# shellcheck disable=SC2086 # the flags are words
		"$folder/outboxd" bench --sink "$sink" --rows 400000 --transaction 10 $flags --profile "$folder/$sink${flags// /_}"
	done
done
"${GO:-go}" tool pprof -proto "$folder"/*/cpu.pprof >"$folder/merged"
mv "$folder/merged" cmd/outboxd/default.pgo
