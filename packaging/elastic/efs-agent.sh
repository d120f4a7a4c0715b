#!/bin/sh
# Starts efs-agent on an Elastic fleet, where a zip of session scripts is unpacked and run bits may be lost:
# config.json has /bin/sh read this file, so it needs none itself, and gives the program what it lacks.
here=/opt/appstream/SessionScripts
program=$here/efs-agent
tmpfs=/run/efs-agent/program
umask 077

# copy_to FOLDER: a copy there that can be run; on a file system that is mounted noexec it cannot be.
copy_to() {
  mkdir -p "$1" && cp "$here/efs-agent" "$1/new.$$" && chmod 0700 "$1/new.$$" && mv -f "$1/new.$$" "$1/efs-agent" &&
    [ -x "$1/efs-agent" ] && program=$1/efs-agent && return
  rm -f "$1/new.$$" "$1/efs-agent"
  return 1
}

# tmpfs FOLDER: memory, as small as the program is, where everything else is read-only or noexec.
tmpfs() {
  mkdir -p "$1" && mount -t tmpfs -o mode=0700,nosuid,nodev,size=16m efs-agent "$1"
}

# A folder that cannot be written: a copy, where root alone can write.
if ! { [ -x "$program" ] || { chmod 0755 "$program" && [ -x "$program" ]; } || copy_to /run/efs-agent ||
  copy_to /var/lib/efs-agent || copy_to "$tmpfs" || { tmpfs "$tmpfs" && copy_to "$tmpfs"; }; } 2>/dev/null; then
  echo "$(date -u +%FT%TZ) error   $program cannot be made executable, nor copied to where it can be run: /run/efs-agent, /var/lib/efs-agent and a tmpfs were tried (exit 70)"
  exit 70
fi
exec "$program" "$@" --config "$here/efs-agent.toml"
