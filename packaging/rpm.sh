#!/bin/bash
# rpm.sh FOLDER [SPEC]: builds the RPM around what `make build man` left, and puts it into FOLDER.
# Prints its path. The same tree gives the same bytes.
set -euo pipefail
folder=$1
cd "$(dirname "$0")/.."
spec=${2:-packaging/efs-agent.spec}
fail() { echo "rpm: $*" >&2; exit 1; }

if ! command -v rpmbuild >/dev/null; then
  command -v apt-get >/dev/null || fail 'rpmbuild is missing: sudo dnf install rpm-build'
  packaging/debian.sh rpm rpm
fi
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
grep -qx "Version: *$version" "$spec" || fail "the version in $spec is not $version, as in Cargo.toml"
# A tarball has no git (and may lie in somebody else's): then its own date.
: "${SOURCE_DATE_EPOCH:=$(if [ -e .git ]; then git log -1 --format=%ct; else stat -c %Y CHANGELOG.md; fi)}"
export SOURCE_DATE_EPOCH

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
rpmbuild -bb --quiet --define "_topdir $work" --define "efs_tree $PWD" "$spec" >"$work/log" 2>&1 ||
  { cat "$work/log" >&2; fail 'rpmbuild failed (see above)'; }
mkdir -p "$folder"
for package in "$work"/RPMS/x86_64/*.rpm; do
  # A new file in the place of the old one: whoever reads that keeps it whole.
  cp "$package" "$folder/.new" && mv "$folder/.new" "$folder/$(basename "$package")"
  echo "$folder/$(basename "$package")"
done
