#!/bin/bash
# sbom.sh OUTFILE: the bill of materials of the shipped binary, as CycloneDX JSON: each crate that is compiled for it,
# with version, licence and checksum, and no crate of the tests. Fails unless its crates are those of `cargo tree`.
# The same tree gives the same bytes, wherever it lies.
set -euo pipefail
fail() { echo "sbom: $*" >&2; exit 1; }
[ $# -eq 1 ] || fail 'usage: packaging/sbom.sh OUTFILE'
out=$(realpath -m "$1")
cd "$(dirname "$0")/.."
target=x86_64-unknown-linux-musl
command -v jq >/dev/null || packaging/debian.sh sbom jq
if ! cargo cyclonedx --version >/dev/null 2>&1; then
  echo 'sbom: installing cargo-cyclonedx, which takes minutes'
  cargo install --quiet --locked cargo-cyclonedx@0.5.9
fi
# A tarball has no git: then the date of the newest thing in it.
: "${SOURCE_DATE_EPOCH:=$(if [ -e .git ]; then git log -1 --format=%ct; else stat -c %Y CHANGELOG.md; fi)}"
export SOURCE_DATE_EPOCH   # with it the tool makes up no serial number either

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cargo tree --locked -e normal --target "$target" --prefix none --format '{p}' >"$work/tree"
sed -E 's/^([^ ]+) v([^ ]+).*/\1@\2/' "$work/tree" | LC_ALL=C sort -u >"$work/wanted"

# In a copy, as the tool writes beside Cargo.toml; and without dev-dependencies, as it would take in the crates and the
# links that only their features ask for.
cp -r Cargo.lock src "$work"
[ ! -e .cargo ] || ln -s "$PWD/.cargo" "$PWD/vendor" "$work"
awk '/^\[/ { dev = /dev-dependencies/ } !dev' Cargo.toml >"$work/Cargo.toml"
cargo cyclonedx --quiet --manifest-path "$work/Cargo.toml" --format json --spec-version 1.5 --target "$target" \
  --describe binaries --no-build-deps
# It believes `cargo metadata`, which takes an optional crate for used where a feature says "crate?/feature"
# (cargo issue 10801): what `cargo tree` does not know goes. So do the paths of this machine.
jq --rawfile wanted "$work/wanted" '
  ($wanted | split("\n")) as $keep
  | (.components | map(select(.name + "@" + .version | IN($keep[]) | not)["bom-ref"])) as $gone
  | .components |= map(select(.["bom-ref"] | IN($gone[]) | not))
  | .dependencies |= (map(select(.ref | IN($gone[]) | not)) | map(if .dependsOn then .dependsOn -= $gone else . end))
  | walk(if type == "string" then sub("path\\+file://[^#]*#"; "") | sub("\\?download_url=file://[^#]*"; "") else . end)
  ' "$work/efs-agent_bin.cdx.json" >"$work/sbom"

jq -r '.metadata.component, .components[] | .name + "@" + .version' "$work/sbom" | LC_ALL=C sort >"$work/listed"
diff -U0 --label 'cargo tree' --label 'the SBOM' "$work/wanted" "$work/listed" >&2 || fail 'the crates are not those of cargo tree (see above)'
unlicensed=$(jq -r '.metadata.component, .components[] | select(.licenses | length == 0).name' "$work/sbom")
[ -z "$unlicensed" ] || fail "no licence is given for ${unlicensed//$'\n'/ }"
! grep -nF -e file: -e '"/' -e "$work" -e "$PWD/" "$work/sbom" >&2 || fail 'a path of this machine is in it (see above)'
mkdir -p "$(dirname "$out")"
cp "$work/sbom" "$out.new" && mv "$out.new" "$out"
echo "sbom: $out, $(wc -l <"$work/listed") crates, $(stat -c %s "$out") bytes"
