#!/usr/bin/env bash
# fsdax.sh ext4|xfs|xfs-reflink [SIZE] [MOUNTPOINT]: a new fsdax namespace of SIZE (default 400M; XFS needs
# 300M) with that filesystem, mounted with dax at MOUNTPOINT (default /mnt/pmem).
# fsdax.sh again ext4|xfs [MOUNTPOINT]: mounts what an earlier boot on the same --keep-disk made.
#
# On a labelled NVDIMM the namespace is named mapcap-FS and shares the region with others. An NVDIMM
# without labels (--nvdimm raw) becomes one filesystem, whatever SIZE says.
. "$MAPCAP_VM/guest/lib.sh"

again=
if [ "${1:-}" = again ]; then
    again=1
    shift
    set -- "$1" - "${2:-}"
fi
fs=$1
size=${2:-400M}
mountpoint=${3:-/mnt/pmem}

case $fs in
ext4)
    # DAX wants blocks of a page; small filesystems would get smaller ones.
    make=(mkfs.ext4 -q -F -b 4096 -E lazy_itable_init=1,nodiscard -m 0)
    ;;
xfs | xfs-reflink)
    # Usually without reflink: a reflinked extent could never be mapped synchronously and in place.
    reflink=0
    [ "$fs" = xfs ] || reflink=1
    fs=xfs
    make=(mkfs.xfs -q -f -K -m reflink=$reflink)
    export LD_LIBRARY_PATH=$MAPCAP_VM_CACHE/tools/lib/x86_64-linux-gnu:$MAPCAP_VM_CACHE/tools/usr/lib/x86_64-linux-gnu
    command -v mkfs.xfs > /dev/null || skip "mkfs.xfs is not installed"
    ;;
*) fail "fsdax.sh: unknown filesystem '$fs': use ext4, xfs or xfs-reflink" ;;
esac

if [ -n "$again" ]; then
    for name in /sys/bus/nd/devices/namespace*/alt_name; do
        [ "$(cat "$name")" = "mapcap-$fs" ] || continue
        namespace=$(basename "$(dirname "$name")")
    done
    [ -n "${namespace:-}" ] || namespace=$(ndctl list -N -m fsdax | json dev | head -n 1)
    [ -n "$namespace" ] || fail "fsdax.sh: no fsdax namespace was left by an earlier boot"
    device=/dev/$(ndctl list -n "$namespace" | json blockdev)
else
    region=$(nd_region)
    if has_labels "$region"; then
        created=$(ndctl create-namespace -r "$region" -m fsdax -s "$size" -n "mapcap-$fs")
    else
        created=$(ndctl create-namespace -f -e "$(ndctl list -N -i | json dev | head -n 1)" -m fsdax)
    fi
    device=/dev/$(json blockdev <<< "$created")
    "${make[@]}" "$device" > /dev/null
fi
mkdir -p "$mountpoint"
mount -t "$fs" -o dax=always "$device" "$mountpoint"
echo "$device"
