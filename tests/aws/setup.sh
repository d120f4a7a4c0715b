#!/bin/bash
# setup.sh: what tests/aws.rs needs: openssl, and a Python environment with moto, which stands for AWS there, outside of
# the tree; made once. Says where its Python is.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
moto=5.2.5
place=${XDG_CACHE_HOME:-$HOME/.cache}/efs-agent-aws/moto-$moto
exec 3>&1 1>&2
mkdir -p "${place%/*}"
exec 9>"${place%/*}/lock"
flock 9
"$here/../../packaging/debian.sh" test openssl
if [ ! -e "$place/made" ]; then
  "$here/../../packaging/debian.sh" test python3-venv
  rm -rf "$place"
  # Not whatever Python is first: the one that the package is for.
  python=/usr/bin/python3
  [ -x $python ] || python=python3
  "$python" -m venv "$place"
  echo "test: installing moto $moto" >&2
  "$place/bin/pip" install --quiet --disable-pip-version-check "moto[server]==$moto"
  touch "$place/made"
fi
echo "$place/bin/python" >&3
