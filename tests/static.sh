#!/bin/bash
# static.sh BINARY: fails unless it is a stripped static-pie that needs nothing on the image; says its size.
# The session start alone was to be at most 1 MB; with register, check, status and unmount it was 1.2 MB. TLS
# (rustls, aws-lc) and what is AWS's add 2.4 MB; serde and serde_json are 0.1 MB of it. Relocations that an older linker
# or musl does not pack are 150 kB, and static glibc brings some 700 kB of its own.
set -euo pipefail
binary=$1
fail() { echo "build: $binary $*" >&2; exit 1; }
command -v readelf >/dev/null || fail "cannot be looked at: install binutils"
elf=$(readelf -hlSW "$binary")
grep -q 'Type: *DYN' <<< "$elf" || fail "is not position-independent"
! grep -q INTERP <<< "$elf" || fail "asks for a dynamic loader"
! grep -q '\.symtab' <<< "$elf" || fail "is not stripped"
size=$(stat -c %s "$binary") limit=4194304
! grep -q '__libc_freeres_fn\|\.note\.ABI-tag' <<< "$elf" || limit=5347737
[ "$size" -le "$limit" ] || fail "has $size bytes, and may have $limit"
echo "build: $binary: static, $size bytes"
