#!/bin/bash
# Builds the fuzz targets, runs each RUNS times, two side by side, and ends with their figures.
#   RUNS=10000000   executions of each target        TARGET=dns      this one alone
#   MAX_LEN=4096    longest input, in bytes
# Does its own set-up. What it finds stays in target/fuzz; the corpus that git tracks is only read.
set -euo pipefail
cd "$(dirname "$0")/../.."
runs=${RUNS:-10000000} longest=${MAX_LEN:-4096}
here=tests/fuzz work=target/fuzz
fail() { echo "fuzz: $*" >&2; exit 1; }
case $runs$longest in *[!0-9]*) fail "RUNS and MAX_LEN are numbers" ;; esac

queue=()
for file in "$here"/fuzz_targets/*.rs; do
  name=$(basename "$file" .rs)
  [ -n "${TARGET:-}" ] && [ "$TARGET" != "$name" ] || queue+=("$name")
done
[ ${#queue[@]} -gt 0 ] || fail "there is no target $TARGET: see $here/fuzz_targets"
targets=("${queue[@]}")

command -v c++ >/dev/null || packaging/debian.sh fuzz g++   # libFuzzer is built with it
cargo fuzz --version >/dev/null 2>&1 || cargo install --locked cargo-fuzz
# What is fuzzed is what is shipped: the same versions of the libraries.
[ "$here/Cargo.lock" -nt Cargo.lock ] || cp Cargo.lock "$here/Cargo.lock"
# No sanitizer: they need a nightly toolchain, and the parsers have no unsafe code.
cargo fuzz build --fuzz-dir "$here" --target-dir "$work/build" --sanitizer none
bin=$(echo "$work"/build/*/release)

mkdir -p "$work/found"
declare -A pid=() crashed=()
trap '[ ${#pid[@]} -eq 0 ] || kill "${pid[@]}" 2>/dev/null || true' EXIT
start() { # TARGET
  mkdir -p "$work/corpus/$1"
  "$bin/$1" -runs="$runs" -max_len="$longest" -timeout=60 -report_slow_units=1 -reload=0 -dict="$here/dict/$1.dict" \
    -artifact_prefix="$work/found/$1-" "$work/corpus/$1" "$here/corpus/$1" >"$work/$1.log" 2>&1 &
  pid[$1]=$!
}
told() { # TARGET WORD: the last figure behind the word in libFuzzer's lines
  grep -aE '^#[0-9]+' "$work/$1.log" | tail -n 1 | grep -oE "$2 [^ ]+" | cut -d' ' -f2
}
quick() { # TARGET: no input that took a second takes one again, when the machine does nothing else to us
  local file ms
  for file in "$work/found/$1-slow-unit-"*; do
    [ -e "$file" ] || continue
    ms=$("$bin/$1" "$file" 2>&1 | sed -nE 's/^Executed .* in ([0-9]+) ms$/\1/p')
    if [ "${ms:-1000}" -ge 1000 ]; then
      echo "ERROR: ${ms:-many} ms for one input; Test unit written to $file" >>"$work/$1.log"
      return 1
    fi
    rm "$file"
  done
}
next=10
while [ ${#queue[@]} -gt 0 ] || [ ${#pid[@]} -gt 0 ]; do
  while [ ${#queue[@]} -gt 0 ] && [ ${#pid[@]} -lt 2 ]; do
    start "${queue[0]}"; queue=("${queue[@]:1}")
  done
  sleep 1
  for t in "${!pid[@]}"; do
    if kill -0 "${pid[$t]}" 2>/dev/null; then
      [ "$SECONDS" -lt "$next" ] || echo "$t: $(grep -aoE '^#[0-9]+' "$work/$t.log" | tail -n 1 | tr -d '#') of $runs, cov $(told "$t" cov:)"
    else
      if wait "${pid[$t]}" && quick "$t"; then echo "$t: done"; else crashed[$t]=$?; echo "$t: FAILED"; fi
      unset "pid[$t]"
    fi
  done
  [ "$SECONDS" -lt "$next" ] || next=$((SECONDS + 30))
done

row='%-12s %12s %8s %8s %12s %8s\n'
# shellcheck disable=SC2059
printf "\n$row" target executions seconds each/s cov/ft corpus
for t in "${targets[@]}"; do
  read -r ran seconds < <(sed -nE 's/^Done ([0-9]+) runs in ([0-9]+) second.*/\1 \2/p' "$work/$t.log") || ran='' seconds=''
  # shellcheck disable=SC2059
  printf "$row" "$t" "${ran:-FAILED}" "${seconds:--}" "$((${ran:-0} / (${seconds:-0} > 0 ? seconds : 1)))" \
    "$(told "$t" cov:)/$(told "$t" ft:)" "$(told "$t" corp:)"
done
[ ${#crashed[@]} -eq 0 ] || for t in "${!crashed[@]}"; do
  echo
  echo "fuzz: $t FAILED (exit ${crashed[$t]}):"
  grep -aE -A3 'panicked at|ERROR:' "$work/$t.log" | head -n 8 || tail -n 5 "$work/$t.log"
  found=$(sed -nE 's/.*Test unit written to (.*)/\1/p' "$work/$t.log")
  if [ -n "$found" ]; then echo "fuzz: again: $bin/$t $found"
  else echo "fuzz: it left no input (a stack overflow?): $work/$t.log"; fi
done
[ ${#crashed[@]} -eq 0 ]
