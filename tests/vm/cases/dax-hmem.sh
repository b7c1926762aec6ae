#!/usr/bin/env bash
# Soft reserved memory shows up as a dynamic dax region that is split into mappable devices.
# vm: --kernel 6.12 --nvdimm eadr --dax-hmem
# vm: --kernel 6.1 --nvdimm eadr --dax-hmem
. "$MAPCAP_VM/guest/lib.sh"

devices=$("$guest/hmem.sh" 2M 4M)
set -- $devices
[ $# = 2 ] || fail "two devices were asked for, $# were made"
"$probe" map-only "$1" || fail "$1 can be read or written other than by mapping"
"$probe" store "$1" one || fail "$1 cannot be mapped"
"$probe" store "$2" two || fail "$2 cannot be mapped"
"$probe" expect "$1" one || fail "$2 overlaps $1"
[ "$(cat "/sys/bus/dax/devices/${2#/dev/}/size")" = $((4 << 20)) ] || fail "$2 is not 4 MiB in size"
