#!/usr/bin/env bash
# Packs the guest's first root: static busybox, tests/vm/init, and decompressed kernel modules.
#
#   tests/vm/mkinitramfs.sh KERNEL-DIR OUTPUT.cpio
#
# Modules are grouped in sets, each a file /modules/SET.list in load order with its dependencies
# resolved; /init loads the sets that the kernel line names in mapcap.sets=. Every other module of
# the kernel can be had later by modprobe, since the guest sees the cache through the host's root.
# The archive is not compressed: reading it is far cheaper than inflating it under TCG.

set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
kernel=$1
output=$2
release=$(cat "$kernel/release")

declare -A sets=(
    [base]="virtio_pci 9pnet_virtio 9p overlay fuse"
    # crc32c_generic is what ext4 and XFS ask the crypto layer for by name, so no dependency says it.
    [nvdimm]="nfit nd_pmem dax_pmem device_dax crc32c_generic ext4 xfs"
    # kmem is left out on purpose: it would give a dax region away as ordinary memory.
    [hmem]="device_dax dax_hmem"
)

busybox=$(command -v busybox) || { echo "skip: busybox: busybox-static is not installed" >&2; exit 77; }
if ldd "$busybox" > /dev/null 2>&1; then
    echo "skip: busybox: $busybox is not static; install busybox-static" >&2
    exit 77
fi

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mkdir -p "$root"/{bin,dev,proc,sys,modules,lower,upper,new}
cp "$busybox" "$root/bin/busybox"
install -m 0755 "$here/init" "$root/init"

for set in "${!sets[@]}"; do
    for module in ${sets[$set]}; do
        # -C: the host's modprobe.d would put its own install commands in the place of modules.
        modprobe -C /dev/null -d "$kernel" -S "$release" --show-depends "$module" | while read -r verb file _; do
            [ "$verb" = insmod ] || continue
            name=$(basename "$file")
            name=${name%.xz}
            if [ ! -e "$root/modules/$name" ]; then
                case $file in
                *.xz) xz -dc "$file" > "$root/modules/$name" ;;
                *) cp "$file" "$root/modules/$name" ;;
                esac
            fi
            echo "$name" >> "$root/modules/$set.list"
        done
    done
done

(cd "$root" && find . | LC_ALL=C sort | cpio --quiet -o -H newc --owner 0:0) > "$output.part"
mv "$output.part" "$output"
