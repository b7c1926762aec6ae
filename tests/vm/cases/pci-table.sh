#!/usr/bin/env bash
# Grants of uncached and of write-combining PCI memory can be mapped and nothing else.
# vm: --kernel 6.12 --nvdimm label --ivshmem --nvme-pmr
# vm-timeout: 900
. "$MAPCAP_VM/guest/lib.sh"
. "$MAPCAP_VM/guest/broker.sh"

# Not on 6.1: with BPF among its security modules it lets anybody set security.* attributes of any file, a BAR's too.
# The last of a boot to use the BARs: moving pieces of such a mapping about makes these kernels forget reservations
# of its cache mode, which pat_memtype_list then shows until the next boot.
rm -rf /run/mapcap-bars
start_broker /run/pci-table < <(printf '[pool.bar]\nbacking = "pci-bar"\nresources = ["%s", "%s"]\n' \
    "$("$guest/bar.sh" ivshmem)" "$("$guest/bar.sh" pmr)")
mc create bar/uc --pool bar --size 1M --cache uc > /dev/null
mc create bar/wc --pool bar --size 1M --cache wc > /dev/null
# Promises 1 to 3: both rights on both modes, two at a time.
table() { mc doctor --attack "$1" --rights "$2" > "/run/table-$2" 2>&1; }
judge() { # PID RIGHTS
    wait "$1" || { cat "/run/table-$2"; fail "a $2 grant of a BAR has holes"; }
    grep -q ' [1-9][0-9][0-9] refused.* 0 holes, 0 broken' "/run/table-$2" || fail "the table was not tried"
}
table bar/uc rw & rw=$!
table bar/wc ro & ro=$!
judge $rw rw
judge $ro ro
table bar/wc rw & rw=$!
table bar/uc ro & ro=$!
judge $rw rw
judge $ro ro
stop_broker
