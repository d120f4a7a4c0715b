#!/bin/bash
# Everything that `make test` runs, each part with its own output, then one line that counts them all.
set -u
cd "$(dirname "$0")/.." || exit 1
passed=0 failed=0
part() { # NAME COMMAND...
  local name=$1 log; shift
  log=$(mktemp)
  echo "== $name"
  if "$@" 2>&1 | tee "$log"; [ "${PIPESTATUS[0]}" -eq 0 ]; then :; else
    grep -q '^test result' "$log" || failed=$((failed + 1))   # it did not even come to a result
  fi
  while read -r p f i; do
    passed=$((passed + p)) failed=$((failed + f))
    # A test that is skipped has not passed.
    [ "$i" = 0 ] || { echo "$name: $i tests were SKIPPED, which counts as failed"; failed=$((failed + i)); }
  done < <(sed -nE 's/^test result: [^.]*\. ([0-9]+) passed; ([0-9]+) failed; ([0-9]+) ignored.*/\1 \2 \3/p' "$log")
  rm -f "$log"
}
part format cargo fmt --check
part clippy cargo clippy --locked --all-targets -- -D warnings
# With 100,000 config.json files: an optimised test program would make them sooner, but takes longer to build.
part "unit tests" env DOCUMENTS=100000 cargo test --locked --lib
part "the program" cargo test --locked --test cli --test readme --test register
part "AWS, as moto has it" cargo test --locked --test aws
part "the tunnel" cargo test --locked --test tunnel --test encrypted
part "the package and the manual" cargo test --locked --test package --test manual
part "the source tarball" tests/dist.sh
part "machines with systemd" cargo test --locked --test image
part "VMs, kernels 5.10 and 6.12" env KERNEL="5.10 6.12" cargo test --locked --test vm
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
