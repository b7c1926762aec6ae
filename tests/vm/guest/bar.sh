#!/usr/bin/env bash
# bar.sh ivshmem|pmr: makes the memory of such a PCI device mappable and prints the sysfs file of its
# BAR, one line a device; the same path with _wc at its end maps it write-combining.
. "$MAPCAP_VM/guest/lib.sh"

case $1 in
ivshmem) id="0x1af4 0x1110" bar=2 ;; # Red Hat's ivshmem: BAR 2 is the shared memory.
pmr) id="0x1b36 0x0010" bar=4 ;;     # QEMU's NVMe controller: BAR 4 is the PMR.
*) fail "bar.sh: unknown device '$1': use ivshmem or pmr" ;;
esac
found=
for device in /sys/bus/pci/devices/*; do
    [ "$(cat "$device/vendor") $(cat "$device/device")" = "$id" ] && [ -e "$device/resource$bar" ] || continue
    # A bound driver claims the BAR, after which it cannot be mapped from here.
    [ ! -e "$device/driver" ] || basename "$device" > "$device/driver/unbind"
    [ "$(cat "$device/enable")" != 0 ] || echo 1 > "$device/enable"
    [ "$1" != pmr ] || "$probe" pmr-enable "$device/resource0"
    echo "$device/resource$bar"
    found=1
done
[ -n "$found" ] || skip "no $1 device (run.sh --ivshmem or --nvme-pmr)"
