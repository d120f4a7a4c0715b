#!/bin/bash
# image.sh [PART...]: builds those parts (all of them) of the VM images in a cache folder named by a hash of this recipe,
# each once, from Debian's package registry alone; prints the folder's path on standard output, progress on standard error.
# What the guest does with them is no business of this file.
#
#   root          rootfs.sqfs: Debian 12 with systemd and no unit but the rig's, the kernel NFS server's tools, another NFS
#                 server, Python and network tools
#   5.10, 6.12    Debian's cloud kernels: PART.vmlinuz, PART.initrd, PART.mods.sqfs
#   uml           Debian's user-mode Linux (6.1), likewise: its vmlinuz is a program
#   disk          systemd.ext4: the disk of a machine of its own: Debian 11 (systemd 247, glibc 2.31, rpm), with the 5.10
#                 kernel's modules and neither nfs-common nor a name for anything of ours; disk.initrd starts it
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
say() { printf 'vm image: %s\n' "$*" >&2; }

recipe=$(cat "$here/image.sh" "$here/init" "$here/disk-init" "$here/rig.service" "$here"/machine/* | sha256sum | cut -c1-16)
cache=${EFS_AGENT_VM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/efs-agent-vm}
done=$cache/$recipe
mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9
[ $# -gt 0 ] || set -- root 5.10 6.12 uml disk
missing=()
for part in "$@"; do [ -e "$done/$part.complete" ] || missing+=("$part"); done
if [ ${#missing[@]} -eq 0 ]; then echo "$done"; exit; fi

[ "$(id -u)" = 0 ] || { say "must be root: packages are installed and a system tree is made"; exit 1; }
export DEBIAN_FRONTEND=noninteractive
packages=(busybox-static cpio squashfs-tools kmod lz4 xz-utils mmdebstrap debian-archive-keyring)
for part in "${missing[@]}"; do
  case $part in
    5.10 | 6.12) packages+=(qemu-system-x86) ;;
    disk) packages+=(qemu-system-x86 e2fsprogs) ;;
  esac
done
"$here/../../packaging/debian.sh" 'vm image' "${packages[@]}"

work=$cache/work
rm -rf "$work"
mkdir -p "$work"/{apt/lists/partial,apt/cache/archives/partial,debs,out}
cd "$work"

# An apt of its own over the mirrors that this machine's apt uses, so that the suites do not depend on it.
mirror() { apt-get indextargets --format '$(REPO_URI)' | sort -u | grep -m1 "$1" || true; }
main=$(mirror '/debian/*$'); security=$(mirror '/debian-security/*$')
[ -n "$main" ] || { apt-get update -qq >&2; main=$(mirror '/debian/*$'); security=$(mirror '/debian-security/*$'); }
[ -n "$main" ] && [ -n "$security" ] || { say "apt on this machine knows no Debian mirror"; exit 1; }
key=/usr/share/keyrings/debian-archive-keyring.gpg
for suite in bullseye bookworm; do
  echo "deb [signed-by=$key] $main $suite main"
  echo "deb [signed-by=$key] $security $suite-security main"
done > apt/sources.list
apt_opts=(-o "Dir::Etc::SourceList=$work/apt/sources.list" -o Dir::Etc::SourceParts=/dev/null
  -o "Dir::State::Lists=$work/apt/lists" -o "Dir::Cache=$work/apt/cache" -o APT::Sandbox::User=root)

# Package names of kernels carry their ABI: take the newest that is there.
newest() { apt-cache "${apt_opts[@]}" pkgnames "linux-image-$1" | grep -E "^linux-image-$1[0-9.+a-z-]*-cloud-amd64\$" | sort -V | tail -n 1; }

tree() { # NAME: unpacks that kernel, once; the folder
  local name=$1 tree=$work/k/$1 package
  if [ ! -e "$tree" ]; then
    say "fetching the kernel $name"
    [ -n "$(ls apt/lists/*_Packages* 2>/dev/null)" ] || apt-get "${apt_opts[@]}" update -qq >&2
    case $name in 5.10) package=$(newest 5.10.0-) ;; 6.12) package=$(newest 6.12.) ;; uml) package=user-mode-linux ;; esac
    [ -n "$package" ] || { say "the kernel $name is not to be found"; return 1; }
    (cd debs && apt-get "${apt_opts[@]}" download -qq "$package" >&2)
    mkdir -p "$tree"; dpkg -x debs/"$package"_*.deb "$tree"
    if [ "$name" = uml ]; then  # a package of a program
      mkdir -p "$tree"/{boot,lib}; mv "$tree/usr/bin/linux.uml" "$tree/boot/vmlinuz-uml"; mv "$tree/usr/lib/uml/modules" "$tree/lib/"
    fi
    depmod -b "$tree" "$(ls "$tree/lib/modules")"
  fi
  echo "$tree"
}

initrd() { # FILE TREE VERSION INIT MODULE...: busybox, the modules with what they need, and INIT
  local file=$1 tree=$2 version=$3 init=$4 initrd=$work/initrd-${1##*/} module base; shift 4
  mkdir -p "$initrd"/{bin,lib,dev,proc,sys,ro,rw,new}
  cp /bin/busybox "$initrd/bin/"
  for tool in sh mount mkdir tar sleep insmod switch_root cat; do ln -s busybox "$initrd/bin/$tool"; done
  : > "$initrd/modules"
  for module in "$@"; do
    modprobe -d "$tree" -S "$version" --show-depends "$module" 2>/dev/null | awk '$1 == "insmod" { print $2 }'
  done | while read -r module; do
    base=$(basename "$module" .xz)
    grep -qx "$base" "$initrd/modules" && continue
    case $module in *.xz) xz -dc "$module" > "$initrd/lib/$base" ;; *) cp "$module" "$initrd/lib/$base" ;; esac
    echo "$base" >> "$initrd/modules"
  done
  install -m 0755 "$init" "$initrd/init"
  (cd "$initrd" && find . | cpio -o -H newc --quiet) | lz4 -l -9 -c > "$file"
}

kernel() { # NAME MODULE...: vmlinuz, modules, and an initrd that finds the disks
  local name=$1 tree version
  tree=$(tree "$name"); version=$(ls "$tree/lib/modules")
  cp "$tree"/boot/vmlinuz-* "out/$name.vmlinuz"
  mksquashfs "$tree/lib/modules" "out/$name.mods.sqfs" -comp lz4 -no-xattrs -noappend -quiet -no-progress \
    -e "$version/kernel/drivers/gpu" "$version/kernel/sound" "$version/kernel/drivers/media" \
    "$version/kernel/drivers/infiniband" "$version/kernel/drivers/net/wireless" >&2
  initrd "out/$name.initrd" "$tree" "$version" "$here/init" "${@:2}" squashfs overlay
}

no_docs=(--dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*')

root() {
  say "making the guest's root file system (about a minute)"
  mmdebstrap --quiet --variant=minbase --skip=check/empty \
    --include=systemd-sysv,nfs-common,nfs-kernel-server,python3,iproute2,nftables,strace,procps,kmod,util-linux,dnsmasq-base,netbase,tcpdump,stunnel4,openssl,libnfs-utils,nfs-ganesha,nfs-ganesha-vfs,e2fsprogs \
    "${no_docs[@]}" \
    --customize-hook='chroot "$1" useradd -m -u 1001 as2-streaming-user' \
    --customize-hook="install -m 0644 \"$here\"/machine/* \"\$1/etc/systemd/system/\"" \
    --customize-hook='rm -rf "$1"/etc/systemd/system/*.wants "$1"/lib/systemd/system/*.wants "$1/lib/systemd/system-generators"' \
    --customize-hook='ln -s rig.target "$1/etc/systemd/system/default.target"; echo rig > "$1/etc/hostname"; echo 5e1f5e1f5e1f5e1f5e1f5e1f5e1f5e1f > "$1/etc/machine-id"' \
    bookworm "$work/rootfs" \
    "deb [signed-by=$key] $main bookworm main" "deb [signed-by=$key] $security bookworm-security main" >&2
  mksquashfs "$work/rootfs" out/rootfs.sqfs -comp lz4 -no-xattrs -noappend -quiet -no-progress -e boot var/cache var/lib/apt >&2
}

disk() {
  local tree
  tree=$(tree 5.10)
  say "making the disk of a machine with systemd (about a minute)"
  mmdebstrap --quiet --variant=minbase --skip=check/empty \
    --include=systemd-sysv,dbus,rsyslog,rpm,python3-minimal,python3,iproute2,procps,kmod,udev \
    "${no_docs[@]}" \
    --customize-hook='chroot "$1" useradd -m -u 1001 as2-streaming-user' \
    --customize-hook="mkdir -p \"\$1/lib/modules\" \"\$1/rig\" && cp -a \"$tree/lib/modules/.\" \"\$1/lib/modules/\"" \
    --customize-hook="install -m 0644 \"$here/rig.service\" \"\$1/etc/systemd/system/\" && chroot \"\$1\" systemctl -q enable rig systemd-networkd systemd-resolved" \
    --customize-hook='printf "[Match]\nName=e*\n[Network]\nDHCP=yes\n" > "$1/etc/systemd/network/wired.network"; ln -sf /run/systemd/resolve/stub-resolv.conf "$1/etc/resolv.conf"; mkdir -p "$1/var/log/journal"; rm -rf "$1"/var/cache/apt/* "$1"/var/lib/apt/lists/*; : > "$1/etc/machine-id"' \
    bullseye "$work/systemd" \
    "deb [signed-by=$key] $main bullseye main" "deb [signed-by=$key] $security bullseye-security main" >&2
  rm -rf "$work"/systemd/lib/modules/*/kernel/{drivers/gpu,sound,drivers/media,drivers/infiniband,drivers/net/wireless}
  depmod -b "$work/systemd" "$(ls "$work/systemd/lib/modules")"
  mke2fs -q -t ext4 -d "$work/systemd" -O ^has_journal out/systemd.ext4 1500M >&2
  initrd out/disk.initrd "$tree" "$(ls "$tree/lib/modules")" "$here/disk-init" virtio_pci virtio_blk ext4
}

mkdir -p "$done"
for part in "${missing[@]}"; do
  case $part in
    root) root ;;
    5.10 | 6.12) kernel "$part" virtio_pci virtio_blk ;;
    uml) kernel uml ;;
    disk) disk ;;
    *) say "there is no part $part"; exit 1 ;;
  esac
  mv out/* "$done"/; touch "$done/$part.complete"
done
cd /; rm -rf "$work"
# One image is kept: an older recipe's is of no use any more.
find "$cache" -mindepth 1 -maxdepth 1 -type d ! -name "$recipe" -exec rm -rf {} +
say "done: $(du -sh "$done" | cut -f1) in $done"
echo "$done"
