#!/bin/bash
# lint.sh: what `make lint` runs beyond rustfmt and clippy. The shell scripts by shellcheck; of the crates, by cargo-deny
# (deny.toml), licences, versions and kinds, sources and advisories. Goes through all of it before it fails.
set -euo pipefail
cd "$(dirname "$0")/.."
failed=()
say() { echo "lint: $*"; }
command -v shellcheck >/dev/null || packaging/debian.sh lint shellcheck
if ! cargo deny --version >/dev/null 2>&1; then
  say 'installing cargo-deny, which takes minutes'
  cargo install --quiet --locked cargo-deny@0.20.2
fi

# By what they say in their first line, as some have no .sh. The inputs of the fuzz targets are not ours.
mapfile -t scripts < <(find . \( -path ./target -o -path ./vendor -o -path ./.git -o -path ./tests/fuzz/corpus \) -prune \
  -o -type f -exec awk 'FNR == 1 && /^#!.*\/(ba)?sh/ { print FILENAME } { nextfile }' {} + | LC_ALL=C sort)
say "shellcheck: ${#scripts[@]} scripts"
shellcheck --severity=warning "${scripts[@]}" || failed+=(shellcheck)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
checks=(licenses bans sources)
deny() { # NAME FOLDER OPTION...: what cargo-deny says of the crates that the folder's Cargo.lock names
  local name=$1 folder=$2; shift 2
  say "cargo-deny: ${checks[*]} of $name"
  cargo deny --locked --config packaging/deny.toml --manifest-path "$folder/Cargo.toml" "$@" check --hide-inclusion-graph \
    --allow unused-wrapper "${checks[@]}" || failed+=("cargo-deny of $name")
}
# Cargo notices these by itself when it packs, where the advisories are not to be had too.
say 'versions that their authors have withdrawn'
if ! CARGO_TARGET_DIR=$work/package cargo package --locked --no-verify --allow-dirty 2>"$work/log"; then
  cat "$work/log" >&2
  failed+=('cargo package, which tells of withdrawn versions')
elif grep 'is yanked' "$work/log" >&2; then
  failed+=('withdrawn versions')
fi
# The advisories are a git repository, and that host may be out of reach.
if GIT_TERMINAL_PROMPT=0 timeout 120 cargo deny --config packaging/deny.toml fetch db >"$work/log" 2>&1; then
  checks+=(advisories)
else
  say "WARNING: ADVISORIES WERE NOT CHECKED: the RustSec database cannot be fetched ($(grep . "$work/log" | tail -n 1))" >&2
fi

deny 'the shipped binary' . --exclude-dev
deny 'the binary and its tests' .
# In a copy, as their lock file is made anew from the program's, and git does not track it.
mkdir "$work/tests"
cp -r Cargo.toml Cargo.lock src "$work"
cp -r tests/fuzz "$work/tests"
cp Cargo.lock "$work/tests/fuzz/Cargo.lock"
cargo metadata --quiet --format-version 1 --manifest-path "$work/tests/fuzz/Cargo.toml" >/dev/null
deny 'the fuzz targets' "$work/tests/fuzz"

[ ${#failed[@]} -eq 0 ] || { printf 'lint: FAILED: %s\n' "${failed[@]}" >&2; exit 1; }
say 'all well'
