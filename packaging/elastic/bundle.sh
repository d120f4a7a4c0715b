#!/bin/bash
# bundle.sh BINARY NOTICES ZIP: the flat zip of session scripts that an Elastic fleet takes, with the licences of what is
# in the binary. The same bytes each time.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
binary=$1 notices=$2 zip=$(realpath -m "$3")
command -v zip >/dev/null || "$here/../debian.sh" elastic-bundle zip
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
install -m 0755 "$binary" "$work/efs-agent"
install -m 0755 "$here/efs-agent.sh" "$work/efs-agent.sh"
install -m 0644 "$here/config.json" "$work/config.json"
install -m 0644 "$here/../../config.example.toml" "$work/efs-agent.toml"
install -m 0644 "$here/../../LICENSE" "$work/LICENSE"
install -m 0644 "$notices" "$work/THIRD-PARTY"
touch -d '2020-01-01T00:00:00Z' "$work"/*
rm -f "$zip"
(cd "$work" && TZ=UTC zip -q -X -9 "$zip" config.json efs-agent efs-agent.sh efs-agent.toml LICENSE THIRD-PARTY)
size=$(stat -c %s "$zip")
[ "$size" -lt 5242880 ] || { echo "elastic-bundle: $zip has $size bytes, and may have 5 MB" >&2; exit 1; }
echo "elastic-bundle: $zip, $size bytes"
