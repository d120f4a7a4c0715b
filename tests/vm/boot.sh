#!/bin/bash
# boot.sh IMAGES KERNEL FOLDER [SECONDS]: boots a throw-away VM, copies FOLDER to /rig in it and runs
# /rig/main there as root under bash. Its output is ours as it comes; our exit code is its own
# (125: the VM died or took longer than SECONDS).
# DISK=FILE boots that disk, which is written to, instead of a throw-away system; NET= holds what QEMU
# is to know of a network. COUNT=1: each instruction takes 2 ns of the VM's time, so that its clock counts them; where it
# waits for a timer, that time passes at once.
# QEMU's software emulation always: a /dev/kvm that can be opened may still not boot these kernels. The kernel "uml" is
# user-mode Linux instead: a process of ours, whose programs run at the processor's own speed. It is given files to read
# alone, and nothing else of this machine's.
# In braces, so that bash has read it to its end before it begins: who edits it meanwhile changes nothing.
{
set -u
images=$1 kernel=$2 folder=$3 limit=${4:-900}
work=$(mktemp -d) || exit 125
trap 'rm -rf "$work"' EXIT
tar cf "$work/in.tar" -C "$folder" . && truncate -s %512 "$work/in.tar" || exit 125
limited() { setpriv --pdeathsig TERM timeout "$limit" "$@" < /dev/null 2> "$work/machine.err"; }
disk() { printf -- '-drive if=none,id=%s,format=%s,file=%s,readonly=%s -device virtio-blk-pci,drive=%s ' "$1" "$3" "$2" "$4" "$1"; }
qemu() {
  local initrd=$kernel accel="-accel tcg,thread=multi" disks
  if [ -n "${DISK:-}" ]; then
    initrd=disk disks="$(disk d0 "$DISK" raw off) $(disk d1 "$work/in.tar" raw on)"
  else
    disks="$(disk d0 "$images/rootfs.sqfs" raw on) $(disk d1 "$images/$kernel.mods.sqfs" raw on) $(disk d2 "$work/in.tar" raw on)"
  fi
  [ -z "${COUNT:-}" ] || accel="-accel tcg,thread=single -icount shift=1,sleep=off"
  # shellcheck disable=SC2086
  limited qemu-system-x86_64 -M q35 $accel -cpu max -smp 1 -m 1024 \
    -nodefaults -no-user-config -nographic -no-reboot -monitor none \
    -kernel "$images/$kernel.vmlinuz" -initrd "$images/$initrd.initrd" \
    -append "console=ttyS0 quiet loglevel=4 panic=-1 mitigations=off tsc=reliable no_timer_check rcupdate.rcu_expedited=1" \
    $disks ${NET:-} \
    -serial "file:$work/console" -serial stdio
}
uml() {
  [ -z "${DISK:-}${NET:-}${COUNT:-}" ] || { echo "user-mode Linux has no DISK=, NET= and COUNT= here" > "$work/console"; return 1; }
  limited "$images/uml.vmlinuz" mem=1024M "uml_dir=$work/" umid=machine initrd="$images/uml.initrd" \
    "ubd0r=$images/rootfs.sqfs" "ubd1r=$images/uml.mods.sqfs" "ubd2r=$work/in.tar" \
    con=null ssl=null ssl0=null,fd:3 ssl1=null,fd:4 console=ttyS0 quiet loglevel=4 panic=-1 rcupdate.rcu_expedited=1 \
    3> "$work/console" 4>&1 > "$work/uml.out"
}
if [ "$kernel" = uml ]; then uml; else qemu; fi |
  stdbuf -oL tr -d '\r' | stdbuf -oL sed "w $work/out" | stdbuf -oL grep -v '^@@exit '
code=$(sed -n 's/^@@exit //p' "$work/out" | tail -n 1)
if [ -z "$code" ]; then
  echo "the VM ($kernel) died or took over $limit s; its console ends with:"
  tail -n 30 "$work/console"; cat "$work/machine.err"
  exit 125
fi
exit "$code"
}
