#!/bin/bash
# bundle.sh BINARY ZIP: the flat zip of session scripts that an Elastic fleet takes. The same bytes each time.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
binary=$1 zip=$(realpath -m "$2")
command -v zip >/dev/null || "$here/../debian.sh" elastic-bundle zip
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
install -m 0755 "$binary" "$work/efs-agent"
install -m 0755 "$here/efs-agent.sh" "$work/efs-agent.sh"
install -m 0644 "$here/config.json" "$work/config.json"
install -m 0644 "$here/../../config.example.toml" "$work/efs-agent.toml"
touch -d '2020-01-01T00:00:00Z' "$work"/*
rm -f "$zip"
(cd "$work" && TZ=UTC zip -q -X -9 "$zip" config.json efs-agent efs-agent.sh efs-agent.toml)
size=$(stat -c %s "$zip")
[ "$size" -lt 5242880 ] || { echo "elastic-bundle: $zip has $size bytes, and may have 5 MB" >&2; exit 1; }
echo "elastic-bundle: $zip, $size bytes"
