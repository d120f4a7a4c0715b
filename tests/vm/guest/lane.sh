#!/bin/bash
# lane.sh NUMBER beside|alone: the first process of a lane, which has network, mounts, processes and
# host name of its own already. It gives the lane a root file system of its own, over the VM's, and runs
# in it what is wanted. Being bash, it reaps what is orphaned in the lane, as a PID 1 must.
set -e
home=/lanes/$1
mkdir -p "$home"
mount -t tmpfs -o mode=0755 tmpfs "$home"
mkdir "$home"/{upper,work,root}
mount -t overlay -o "lowerdir=/,upperdir=$home/upper,workdir=$home/work" overlay "$home/root"
cd "$home/root"
mount -t proc proc proc
mount --rbind /sys sys
mount --rbind /dev dev
mount --bind /lib/modules lib/modules
mount --bind /rig rig
for dir in run tmp; do mount -t tmpfs -o mode=1777 tmpfs $dir; done
chmod 0755 run
mkdir run/lock run/old
pivot_root . run/old
cd /
umount -l run/old
rmdir run/old
# The file systems of this network name space, not the VM's.
mount -t sysfs sys sys
ip link set lo up
hostname "rig$1"
cd /rig
python3 -u run.py "$2"
exit
