#!/bin/bash
# dist.sh: proves what packaging/dist.sh promises of the source tarball, all of it in a folder of its own: two of them
# are the same bytes, and one that is unpacked builds with no network and no crate but its own. About two minutes.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
passed=0
say() { echo "dist test: $*"; }
ok() { passed=$((passed + 1)); say "$*: ok"; }
fail() { say "FAILED: $*" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
unset SOURCE_DATE_EPOCH
version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$root/Cargo.toml" | head -n 1)
name=efs-agent-$version

say 'making the tarball twice'
mkdir "$work/tmp"
"$root/packaging/dist.sh" "$work/1"
# The second time with what a machine may have in another way, and the tarball must not show.
(cd / && umask 077 && TMPDIR=$work/tmp TZ=Asia/Kolkata LC_ALL=C "$root/packaging/dist.sh" "$work/2") >"$work/log" 2>&1 ||
  { cat "$work/log" >&2; fail 'no second tarball (see above)'; }
if ! cmp "$work/1/$name.tar.gz" "$work/2/$name.tar.gz"; then
  for i in 1 2; do tar -xzf "$work/$i/$name.tar.gz" -C "$work/$i"; done
  diff -rq "$work/1/$name" "$work/2/$name" >&2 || true
  fail 'two tarballs of one tree differ (unless somebody is at work in the tree)'
fi
ok "two tarballs are the same bytes, $(sha256sum <"$work/1/$name.tar.gz" | cut -c1-16)..."

tar -C "$work" -xzf "$work/1/$name.tar.gz"
tree=$work/$name
# Without its place in a checkout, and then with a version that the change log does not know.
install -D "$root/packaging/dist.sh" "$work/bare/packaging/dist.sh"
told=$("$work/bare/packaging/dist.sh" "$work/3" 2>&1) && fail 'a tarball was made without git'
[[ $told == *'git checkout'* && $told != *$'\n'* ]] || fail "without git it said: $told"
touch "$work/bare/.git"
cp "$tree/CHANGELOG.md" "$work/bare"
sed 's/^version = .*/version = "99.0.0"/' "$tree/Cargo.toml" >"$work/bare/Cargo.toml"
told=$("$work/bare/packaging/dist.sh" "$work/3" 2>&1) && fail 'a tarball was made of a version that CHANGELOG.md does not know'
[[ $told == *CHANGELOG.md*99.0.0* && $told != *$'\n'* ]] || fail "with a version of no section it said: $told"
[ ! -e "$work/3" ] || fail 'a refused tarball left something'
ok 'none is made without git, nor of a version that CHANGELOG.md does not know'

# No setting of the caller: neither make's, nor cargo's, nor a registry that was filled before.
clean=(env -i "PATH=$PATH" "HOME=$work/home" "CARGO_HOME=$work/cargo" CARGO_NET_OFFLINE=true
  "RUSTUP_HOME=${RUSTUP_HOME:-$HOME/.rustup}" ${RUSTUP_TOOLCHAIN:+"RUSTUP_TOOLCHAIN=$RUSTUP_TOOLCHAIN"})
mkdir "$work/home" "$work/cargo"
if unshare -rn true 2>/dev/null; then
  clean=(unshare -rn "${clean[@]}")
  say 'building what was unpacked, with no network interface and an empty CARGO_HOME (a minute or two)'
else
  say 'building what was unpacked, with cargo offline and an empty CARGO_HOME (a minute or two)'
fi
"${clean[@]}" make --no-print-directory -C "$tree" build >"$work/log" 2>&1 &
pid=$!
trap 'kill "$pid" 2>/dev/null || true; rm -rf "$work"' EXIT
while kill -0 "$pid" 2>/dev/null; do
  [ $((SECONDS % 15)) != 0 ] || say "... $(grep -c Compiling "$work/log" || true) crates"
  sleep 1
done
wait "$pid" || { cat "$work/log" >&2; fail 'make build (see above)'; }
trap 'rm -rf "$work"' EXIT
tail -n 1 "$work/log"
binary=$tree/target/release-static/efs-agent
"$tree/tests/static.sh" "$binary" >/dev/null || fail 'it is not the static binary'
grep -qF "$version" <<<"$("$binary" --version)" || fail "it says of itself: $("$binary" --version)"
[ ! -e "$work/cargo/registry" ] || fail 'cargo went to a registry'
ok 'the unpacked tarball builds offline'

if [ -e "$root/packaging/man/build.sh" ]; then
  "${clean[@]}" make --no-print-directory -C "$tree" man >"$work/log" 2>&1 || { cat "$work/log" >&2; fail 'make man (see above)'; }
  [[ -s $tree/packaging/man/built/efs-agent.8 && -s $tree/target/man/efs-agent.8 ]] || fail 'the man pages are not in it'
  ok 'it carries the man pages'
fi
"${clean[@]}" make --no-print-directory -C "$tree" rpm >"$work/log" 2>&1 || { cat "$work/log" >&2; fail 'make rpm (see above)'; }
[ -s "$tree/target/rpm/$name-1.x86_64.rpm" ] || fail 'make rpm left no RPM'
ok 'the RPM can be built of it'
# As libtest says it, for tests/all.sh to count.
echo "test result: ok. $passed passed; 0 failed; 0 ignored"
