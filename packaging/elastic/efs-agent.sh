#!/bin/sh
# Starts efs-agent on an Elastic fleet, where a zip of session scripts is unpacked and run bits may be lost:
# config.json has /bin/sh read this file, so it needs none itself, and gives the program what it lacks.
here=/opt/appstream/SessionScripts
program=$here/efs-agent
[ -x "$program" ] || chmod 0755 "$program" 2>/dev/null
if [ ! -x "$program" ]; then
  # A folder that cannot be written: a copy, where root alone can write.
  umask 077
  mkdir -p /run/efs-agent && cp "$program" "/run/efs-agent/new.$$" && chmod 0700 "/run/efs-agent/new.$$" &&
    mv -f "/run/efs-agent/new.$$" /run/efs-agent/efs-agent || {
    echo "$(date -u +%FT%TZ) error   $program cannot be made executable, nor copied to /run/efs-agent (exit 70)"
    exit 70
  }
  program=/run/efs-agent/efs-agent
fi
exec "$program" "$@" --config "$here/efs-agent.toml"
