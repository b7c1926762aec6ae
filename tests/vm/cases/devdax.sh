#!/usr/bin/env bash
# A labelled NVDIMM is split into devdax namespaces that can only be mapped and do not overlap.
# vm: --kernel 6.12 --nvdimm label --ivshmem --nvme-pmr
# vm: --kernel 6.1 --nvdimm label --ivshmem --nvme-pmr
. "$MAPCAP_VM/guest/lib.sh"

need_labels
first=$("$guest/devdax.sh" first 32M)
second=$("$guest/devdax.sh" second 32M 4K)
[ "$first" != "$second" ] || fail "two namespaces share the device $first"
for device in "$first" "$second"; do
    [ -c "$device" ] || fail "$device is no character device"
    [ "$(stat -c '%a %u' "$device")" = "600 0" ] || fail "$device is open to others than root"
    "$probe" map-only "$device" || fail "$device can be read or written other than by mapping"
    "$probe" map-sync "$device" || fail "$device cannot be mapped with MAP_SYNC"
done
"$probe" store "$first" one
"$probe" store "$second" two
"$probe" expect "$first" one || fail "the second namespace overlaps the first"
for name in first second; do
    destroy_namespace name $name
done
[ ! -e "$first" ] || fail "$first outlives its namespace"
