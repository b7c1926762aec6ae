#!/usr/bin/env bash
# hmem.sh [SIZE...]: splits the dynamic dax region (run.sh --dax-hmem) into devices of the given sizes,
# multiples of 2M (default: 2M 4M), and prints them. Its first device, which owned all, is left empty.
. "$MAPCAP_VM/guest/lib.sh"

# The region's number depends on what else was found at boot, so the device's path tells it.
seed=
for device in /sys/bus/dax/devices/dax*.0; do
    case $(readlink -f "$device") in */hmem*) seed=$(basename "$device") ;; esac
done
[ -n "$seed" ] || skip "no dynamic dax region (run.sh --dax-hmem)"
region=${seed#dax}
region=${region%.0}
if [ "$(cat "/sys/bus/dax/devices/$seed/size")" != 0 ]; then
    daxctl disable-device "$seed" > /dev/null 2>&1 || true
    echo 0 > "/sys/bus/dax/devices/$seed/size"
fi
[ $# -gt 0 ] || set -- 2M 4M
for size in "$@"; do
    created=$(daxctl create-device -r "$region" -s "$size" 2> /dev/null | json chardev)
    [ -n "$created" ] || fail "hmem.sh: no device of $size could be made"
    echo "/dev/$created"
done
