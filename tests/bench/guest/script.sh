#!/bin/bash
# The way that efs-agent replaces, in our own words: make the folder, open it to all, mount, tell.
EFS_ENDPOINT=$1
MOUNT_DIRECTORY=/mnt/efs_share
MOUNT_OPTIONS=nfsvers=4.1,rsize=1048576,wsize=1048576,hard,timeo=600,retrans=2,noresvport
if [ ! -d "$MOUNT_DIRECTORY" ]; then
  mkdir -p "$MOUNT_DIRECTORY"
  chmod 1777 "$MOUNT_DIRECTORY"
fi
mount -t nfs4 -o "$MOUNT_OPTIONS" "$EFS_ENDPOINT:/" "$MOUNT_DIRECTORY"
if mountpoint -q "$MOUNT_DIRECTORY"; then
  echo "$(date): mounted $EFS_ENDPOINT on $MOUNT_DIRECTORY"
else
  echo "$(date): could not mount $EFS_ENDPOINT on $MOUNT_DIRECTORY"
fi
