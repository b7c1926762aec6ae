#!/usr/bin/env bash
# The memory of an ivshmem device and of an NVMe PMR is mapped uncached, and write-combining by _wc.
# vm: --kernel 6.12 --nvdimm label --ivshmem --nvme-pmr
# vm: --kernel 6.1 --nvdimm label --ivshmem --nvme-pmr
. "$MAPCAP_VM/guest/lib.sh"

for kind in ivshmem pmr; do
    bar=$("$guest/bar.sh" "$kind")
    [ "$(stat -c %s "$bar")" = $((16 << 20)) ] || fail "$bar is not 16 MiB in size"
    "$probe" bar "$bar" uncached-minus || fail "$kind: not mapped uncached"
    [ -e "${bar}_wc" ] || fail "$kind: the BAR is not prefetchable, so it has no _wc file"
    "$probe" bar "${bar}_wc" write-combining || fail "$kind: not mapped write-combining"
done
