#!/bin/bash
# build.sh OUTDIR: makes the manual pages out of the Markdown beside it. The same tree gives the same bytes.
#
# lowdown writes them. What it leaves that mandoc's lint does not take, tidy() mends: a paragraph macro right
# after a heading, a font \fC that terminals do not have, and definition lists made of negative space. (pandoc
# 2.17 has the first two faults as well, and is 170 MB.)
set -euo pipefail
export LC_ALL=C.UTF-8
umask 022
fail() { echo "man: $*" >&2; exit 1; }
[ $# -eq 1 ] || fail 'usage: packaging/man/build.sh OUTDIR'
out=$(realpath -m "$1")
cd "$(dirname "$0")/../.."

command -v lowdown >/dev/null || packaging/debian.sh man lowdown ||
  fail 'lowdown 1.0.0 or later is missing: it makes the manual pages'

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
# Never the day of the build. A tarball has no git: then the date of the newest thing in it.
if [ -z "${SOURCE_DATE_EPOCH:-}" ]; then
  SOURCE_DATE_EPOCH=$({ [ -e .git ] && git log -1 --format=%ct; } 2>/dev/null || stat -c %Y CHANGELOG.md)
fi
date=$(date -u -d "@$SOURCE_DATE_EPOCH" +%F)

# The rows of README's table whose head begins with the word $1, as a definition list.
rows() {
  awk -v head="| $1 " '
    index($0, head) == 1 { on = 1; next }
    on && /^\|-/ { next }
    on && /^\| / {
      gsub(/\\\|/, "\001")   # a bar in a cell, which ends none
      n = split(substr($0, 3, length($0) - 4), cell, / \| /)
      if (n != 2) { print "man: not two cells: " $0 >"/dev/stderr"; exit 1 }
      text = cell[1] "\n\n:   " cell[2] "\n"
      gsub(/\001/, "|", text)
      print text
      next
    }
    { on = 0 }' README.md
}

# README says what is waited out, by groups.
groups() {
  awk '
    /^This is waited out/ { on = 1 }
    /^<!-- end -->/ { on = 0 }
    on && /^- / { at = index($0, ": "); print "**" substr($0, 3, at - 3) "**\n\n:   " substr($0, at + 2) "\n" }' README.md
}

# A page, with the parts that README has in the places where it asks for them.
whole() {
  local line part
  while IFS= read -r line; do
    case $line in
      '<!-- README: log lines -->') part=$(rows 'the log says') ;;
      '<!-- README: waited out -->') part=$(groups) ;;
      '<!-- README: symptoms -->') part=$(rows 'symptom') ;;
      *) printf '%s\n' "$line"; continue ;;
    esac
    # An empty part would be a page that says nothing where README says it.
    [ -n "$part" ] || fail "nothing in README.md for $line"
    printf '%s\n' "$part"
  done <"$1"
}

tidy() {
  awk '
    { line[NR] = $0 }
    function paragraph(i) { return line[i] ~ /^\.[LP]P$/ }
    function term(i) { return paragraph(i) && line[i + 2] ~ /^\.if n/ && line[i + 6] ~ /^\.IP/ }
    # A dash as it is typed: what is copied from a page must work, and "efs-agent" is not broken at its dash.
    function text(of) { gsub(/\\fC/, "\\fB", of); gsub(/-/, "\\-", of); return of }
    END {
      for (i = 1; i <= NR; i++) {
        now = line[i]
        if (now ~ /^\.TH /) {
          # Neither words broken at line ends nor blanks stretched: log lines are searched for.
          print now "\n.nh\n.ad l"
        } else if (now ~ /^\.S[HS]$/) {
          print now " " text(line[++i])
          if (paragraph(i + 1) && !term(i + 1)) i++
        } else if (term(i)) {
          print ".TP\n" text(line[i + 1])
          i += 6
        } else if (now == ".EX") {
          print ".RS 4\n.EX"
          example = 1
        } else if (now == ".EE") {
          print ".EE\n.nh\n.RE"   # .EE turns it on again
          example = 0
        } else if (now ~ /^\./) {
          print now
        } else {
          if (example) gsub(/\047/, "\\(aq", now)   # straight, as a shell wants it
          print text(now)
        }
      }
    }'
}

mkdir -p "$out"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for source in packaging/man/*.[1-9].md; do
  page=$(basename "$source" .md)
  title=${page%.*}
  whole "$source" >"$work/source"
  lowdown -s -tman --out-no-smarty --parse-no-intraemph --parse-no-autolink --parse-no-metadata \
    -M "title=${title^^}" -M "section=${page##*.}" -M "date=$date" -M "source=efs-agent $version" \
    -M 'volume=efs-agent' "$work/source" | tidy >"$work/$page"
  mv "$work/$page" "$out/$page"
done
