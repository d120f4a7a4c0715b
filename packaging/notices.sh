#!/bin/bash
# notices.sh OUTFILE: the licences of what is linked into the binary, each text once, with the crates that have it: those
# of `cargo tree` for the musl target (not those that only run while it is compiled), and what packaging/notices has of
# the libraries below them. Asks nobody: the crates are those that have just been compiled, from vendor/ or from cargo's
# own folder. The same tree gives the same bytes, wherever it lies. Fails if a crate brings no text.
set -euo pipefail
fail() { echo "notices: $*" >&2; exit 1; }
[ $# -eq 1 ] || fail 'usage: packaging/notices.sh OUTFILE'
out=$(realpath -m "$1")
cd "$(dirname "$0")/.."
export LC_ALL=C
# Where cargo keeps what it has fetched; without HOME it asks the accounts.
cargo_home=${CARGO_HOME:-${HOME:-$(getent passwd "$(id -u)" | cut -d: -f6)}/.cargo}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cargo tree --locked --offline -e normal,no-proc-macro --target x86_64-unknown-linux-musl --prefix none --format '{p}|{l}' |
  sed -E 's/ \(\*\)$//' | grep -v '^efs-agent v' | sed -E 's/^([^ ]+) v([^ |]+)[^|]*\|/\1-\2|/' | sort -u >"$work/crates"
[ -s "$work/crates" ] || fail 'cargo tree names no crate'

mkdir "$work/texts"
while IFS='|' read -r crate licence; do
  folder=
  for place in "vendor/$crate" "vendor/${crate%%-[0-9]*}" "$cargo_home"/registry/src/*/"$crate"; do
    if [ -d "$place" ]; then folder=$place; break; fi
  done
  [ -n "$folder" ] || fail "the sources of $crate are neither in vendor/ nor in cargo's folder: run \`make build\`"
  found=
  while IFS= read -r file; do
    found=1
    sum=$(sha256sum <"$folder/$file"); sum=${sum%% *}
    cp "$folder/$file" "$work/texts/$sum"
    printf '%s|%s\n' "$sum" "$crate ($licence)" >>"$work/of"
  done < <(cd "$folder" && find -L . -type f \( -iname 'license*' -o -iname 'licence*' -o -iname 'copying*' -o -iname 'notice*' \
    -o -iname 'copyright*' \) -not -path './tests/*' | sort)
  [ -n "$found" ] || fail "$crate brings no licence text"
done <"$work/crates"

rule='================================================================================'
{
  echo 'efs-agent itself is under the Apache License 2.0: see the file LICENSE. These works of others are linked into it;'
  echo 'where one may be had under several licences, it is taken under Apache-2.0, if that is among them.'
  for file in packaging/notices/*.txt; do printf '\n%s\n' "$rule"; cat "$file"; done
  # In the order of the first crate that has it.
  sort -t'|' -k2,2 -k1,1 "$work/of" | awk -F'|' '!seen[$1]++ { print $1 }' | while IFS= read -r sum; do
    printf '\n%s\n' "$rule"
    awk -F'|' -v sum="$sum" '$1 == sum && !seen[$2]++ { print $2 }' "$work/of"
    echo
    sed 's/\r$//' "$work/texts/$sum"
  done
} >"$work/out"
mkdir -p "$(dirname "$out")"
cp "$work/out" "$out.new" && chmod 0644 "$out.new" && mv "$out.new" "$out"
