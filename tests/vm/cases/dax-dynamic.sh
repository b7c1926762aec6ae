#!/usr/bin/env bash
# The broker divides a dynamic dax region into devices, and takes over what an earlier broker left of it.
# vm: --kernel 6.12 --nvdimm eadr --dax-hmem
# vm: --kernel 6.1 --nvdimm eadr --dax-hmem
# vm-timeout: 600
. "$MAPCAP_VM/guest/lib.sh"
. "$MAPCAP_VM/guest/broker.sh"

read_back=$(built tests/vm/mapcap_cache_mode)
seed=
for device in /sys/bus/dax/devices/dax*.0; do
    case $(readlink -f "$device") in */hmem*) seed=$(basename "$device") ;; esac
done
[ -n "$seed" ] || skip "no dynamic dax region (run.sh --dax-hmem)"
id=${seed#dax}
id=${id%.0}
devices() { # with memory
    local device count=0
    for device in /sys/bus/dax/devices/dax"$id".*; do [ "$(cat "$device/size")" = 0 ] || count=$((count + 1)); done
    echo $count
}
start_broker /run/dax-dynamic < <(printf '[pool.soft]\nbacking = "dax-device"\nregion = "%s"\n' "$id")
[ "$(devices)" = 0 ] || fail "what nobody has a record of still takes the region's memory"

# Promise 10: soft reserved DRAM promises nothing; sizes are multiples of 2 MiB.
mc create soft/a --pool soft --size 1M --lifetime persistent > /dev/null
mc create soft/b --pool soft --size 3M --lifetime persistent > /dev/null
[ "$(shown soft/a size) $(shown soft/b size)" = "$((2 << 20)) $((4 << 20))" ] ||
    fail "the sizes are $(shown soft/a size) and $(shown soft/b size)"
[ "$(shown soft/a domain)" = volatile ] || fail "soft reserved memory is told to be $(shown soft/a domain)"
[ "$(devices)" = 2 ] || fail "two regions have $(devices) devices"
[ "$(shown soft/a seal)" = irrevocable ] || fail "a device is told to be $(shown soft/a seal)"
[ "$(shown soft/a verified) $(mc run soft/a:ro -- "$read_back" 3)" = "true wb" ] ||
    fail "the cache mode is told as verified: $(shown soft/a verified)"

# Promises 1 to 3: the whole table, side by side.
table() { mc doctor --attack "$1" --rights "$2" > "/run/dynamic-$2" 2>&1; }
table soft/a rw & rw=$!
table soft/b ro & ro=$!
wait $rw || { cat /run/dynamic-rw; fail "a rw grant of a dynamic device has holes"; }
wait $ro || { cat /run/dynamic-ro; fail "a ro grant of a dynamic device has holes"; }
grep -q ' [1-9][0-9][0-9] refused.* 0 holes, 0 broken' /run/dynamic-rw /run/dynamic-ro || fail "the table was not tried"

head -c 2M /dev/urandom > /run/contents
mc fill soft/a /run/contents > /dev/null
kill_broker
start_broker /run/dax-dynamic
mc dump soft/a /run/dumped > /dev/null
cmp /run/contents /run/dumped || fail "contents did not outlive the broker"

# Promise 5 to 7: held, it stays; pinned too; let go, its device is destroyed, and the next in its place is zero.
mc run soft/a:rw -- "$probe" pin 3 /run/pins /run/unpin & pinner=$!
within 20 test -e /run/pins || fail "nobody pins"
mc revoke soft/a > /dev/null 2>&1 && fail "a device of which a page is pinned is called revoked"
kill_broker
start_broker /run/dax-dynamic
state_is soft/a quarantined || fail "after a restart a pinned device is $(shown soft/a state)"
[ "$(devices)" = 2 ] || fail "a pinned device was destroyed"
touch /run/unpin
wait $pinner
within 20 is_gone soft/a || fail "the device does not go when its pin ends"
[ "$(devices)" = 1 ] || fail "the device of a freed region is still there"
mc create soft/a --pool soft --size 1M --lifetime persistent > /dev/null
mc run soft/a:ro -- "$probe" fd-zero 3 || fail "the next tenant reads what the last one left"

# A region that was on its way out when its broker died, and a device that nobody recorded.
mc revoke soft/b > /dev/null
daxctl create-device -r "$id" -s 2M > /dev/null 2>&1
kill_broker
start_broker /run/dax-dynamic
within 20 test "$(devices)" = 1 || fail "$(devices) devices are left for one region"
mc revoke soft/a > /dev/null
within 20 is_gone soft/a || fail "a region that nobody holds does not go"
stop_broker
