#!/bin/bash
# dist.sh OUTDIR: makes OUTDIR/efs-agent-VERSION.tar.gz, a source tarball that builds with no network: what git
# tracks, as it is in the work tree now; every crate of Cargo.lock in vendor/, just as it was published; and the built
# man pages in packaging/man/built, for machines without the tool that makes them. The same tree, cargo and gzip make
# the same bytes.
set -euo pipefail
umask 022
fail() { echo "dist: $*" >&2; exit 1; }
[ $# -eq 1 ] || fail 'usage: packaging/dist.sh OUTDIR'
out=$(realpath -m "$1")
cd "$(dirname "$0")/.."
[ -e .git ] || fail 'this is an unpacked tarball: a new one is made from the git checkout'
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
grep -qE "^## \[?${version//./\\.}\]?( |$)" CHANGELOG.md || fail "CHANGELOG.md has no section for $version, the version in Cargo.toml"
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH

name=efs-agent-$version
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tree=$work/$name
mkdir "$tree"
others=$(git ls-files --others --exclude-standard)
[ -z "$others" ] || echo "dist: left out, as git does not track it: ${others//$'\n'/ }" >&2
# A file that is deleted in the work tree, but not yet in git, is not there.
git ls-files -z | while IFS= read -rd '' file; do
  if [ -e "$file" ] || [ -L "$file" ]; then printf '%s\0' "$file"; fi
done | xargs -0 cp -P --parents -t "$tree"

echo 'dist: fetching the crates'
# Complete and unchanged, those for Windows too (a quarter of the tarball): cargo wants every crate of Cargo.lock,
# and so anybody can compare vendor/ with what was published.
(cd "$tree" && mkdir -p .cargo && cargo vendor --locked --versioned-dirs vendor 2>"$work/log" >>.cargo/config.toml) ||
  { cat "$work/log" >&2; fail 'cargo vendor failed (see above)'; }
if [ -e packaging/man/build.sh ]; then
  echo 'dist: building the man pages'
  packaging/man/build.sh "$tree/packaging/man/built"
fi

mkdir -p "$out"
tarball=$out/$name.tar.gz
# Format gnu, since pax would note when a file was read.
tar -C "$work" --format=gnu --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" \
  --mode=u=rwX,go=rX,a-s -cf - "$name" | gzip -9n >"$tarball.new"
mv "$tarball.new" "$tarball"
echo "dist: $tarball, $(stat -c %s "$tarball") bytes"
