#!/usr/bin/env bash
# While a device is scrubbed for a new region, its client is told how far that is, and sees it on a terminal.
# vm: --kernel 6.12 --nvdimm label --ivshmem --nvme-pmr
. "$MAPCAP_VM/guest/lib.sh"
. "$MAPCAP_VM/guest/broker.sh"

create=$(built tests/vm/mapcap_create_progress)
need_labels
device=$("$guest/devdax.sh" progress 160M) # Devices are scrubbed 64 MiB at a time.
start_broker /run/dax-progress < <(printf '[pool.nv]\nbacking = "dax-device"\ndevices = ["%s"]\n' "$device")
size=$(cat "/sys/bus/dax/devices/$(basename "$device")/size")
told=$("$create" nv/told nv 1) || fail "no region can be created"
[ "$told" = "$((64 << 20)) $size
$((128 << 20)) $size
$size $size" ] || fail "the client was told: $told"
mc revoke nv/told > /dev/null
within 20 is_gone nv/told || fail "the device does not come back"
script -qec "'$mapcap' create nv/seen --pool nv --size 1M" /run/dax-progress/terminal > /dev/null
grep -aq 'preparing nv/seen  \[#* *\] [0-9]*%  64M of 156M' /run/dax-progress/terminal ||
    { cat -v /run/dax-progress/terminal; fail "a terminal does not show how far the scrub is"; }
mc revoke nv/seen > /dev/null
within 20 is_gone nv/seen || fail "the device does not come back"
stop_broker
destroy_namespace name progress
