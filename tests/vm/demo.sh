#!/bin/bash
# demo.sh [images | KERNEL]: shows an AppStream session start on a real kernel, in a VM. Exits 0 only if all of it was
# seen. `images` makes what that takes beforehand.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
kernel=${1:-5.10}
if [ "$kernel" = images ]; then exec "$here/image.sh" root 5.10 > /dev/null; fi
say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
[ -f "${EFS_AGENT_BIN:-}" ] || { echo "demo: use 'make demo', which builds efs-agent first" >&2; exit 1; }
say "Getting the VM images (the first time this takes some minutes)"
images=$("$here/image.sh" root "$kernel")
echo "$images"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cp "$here"/guest/{rig,appstream}.py "$here"/demo/main "$here"/demo/demo.py "$EFS_AGENT_BIN" "$folder"/
say "Booting Linux $kernel with an NFS 4.1 server beside it (software emulation)"
code=0
"$here/boot.sh" "$images" "$kernel" "$folder" 300 | tee "$folder/out" || code=$?
# What a person was to see is looked for once more out here.
for words in ' mounted fs-0123456789abcdef0.efs.eu-west-1.amazonaws.com:/ on /mnt/efs_share from 10.0.0.1, NFS 4.1' \
             '/mnt/efs_share' 'written in the first session' 'demo: all of it was seen'; do
  grep -qF -- "$words" "$folder/out" || { echo "demo: FAILED: not seen: $words" >&2; exit 1; }
done
exit $code
