#!/bin/bash
# debian.sh WHO PACKAGE...: installs those of these Debian packages that are missing, for WHO, whom the messages name.
# One line on standard error says so; what apt says is shown only where it fails.
set -euo pipefail
who=$1; shift
# One at a time: beside another, apt does not wait for the lists.
if [ "$(id -u)" = 0 ]; then exec 8> /run/lock/efs-agent-debian; flock 8; fi
missing=()
for package in "$@"; do
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
  echo "$who: missing: ${missing[*]} (Debian: sudo apt-get install ${missing[*]})" >&2
  exit 1
fi
echo "$who: installing ${missing[*]}" >&2
log=$(mktemp)
trap 'rm -f "$log"' EXIT
export DEBIAN_FRONTEND=noninteractive
apt() { apt-get -o DPkg::Lock::Timeout=300 -qq -y "$@" >>"$log" 2>&1; }
# The list of packages may be there and new enough.
install() { apt install --no-install-recommends "${missing[@]}"; }
install || { apt update && install; } || { cat "$log" >&2; exit 1; }
