#!/usr/bin/env bash
# Device-DAX namespaces that the policy lists are granted whole, kept, taken back, and zero for the next tenant.
# vm: --kernel 6.12 --nvdimm label --ivshmem --nvme-pmr
# vm: --kernel 6.1 --nvdimm label --ivshmem --nvme-pmr
# vm-timeout: 900
. "$MAPCAP_VM/guest/lib.sh"
. "$MAPCAP_VM/guest/broker.sh"

need_labels
first=$("$guest/devdax.sh" listed-one 32M)
second=$("$guest/devdax.sh" listed-two 32M 4K)
"$probe" store "$first" "left by somebody else"
start_broker /run/dax-device < <(printf '[pool.nv]\nbacking = "dax-device"\ndevices = ["%s", "%s"]\n' "$first" "$second")
is_zero() { # NAME
    mc dump "$1" /run/dumped > /dev/null
    cmp -s -n "$(stat -c %s /run/dumped)" /run/dumped /dev/zero
}

# Promise 10: told as they are. Promise 6: zero, whatever the device held.
mc create nv/kept --pool nv --size 1M --lifetime persistent > /dev/null
mc create nv/taken --pool nv --size 1M --lifetime persistent > /dev/null
refused mc create nv/third --pool nv --size 1M || fail "two devices make three regions"
mc create nv/third --pool nv --size 1M --revocable > /run/refused.log 2>&1 && fail "a revocable region of a device"
grep -q 'makes no revocable regions, only irrevocable' /run/refused.log || { cat /run/refused.log; fail "the refusal does not say why"; }
for name in nv/kept nv/taken; do
    [ "$(shown $name revoke) $(shown $name seal)" = "quarantines irrevocable" ] || fail "$name is told to be $(shown $name seal)"
    [ "$(shown $name confinement)" = native ] || fail "a devdax grant is not confined natively"
    [ "$(shown $name granularity)" = cache-line ] || fail "stores are not told to need a cache line flush"
    [ "$(shown $name domain)" = memory-controller ] || fail "the persistence domain is wrong"
    is_zero $name || fail "a new region is not zero"
done

# Promise 1 to 3: the whole table, side by side.
table() { mc doctor --attack "$1" --rights "$2" > "/run/table-$2" 2>&1; }
table nv/kept rw & rw=$!
table nv/taken ro & ro=$!
wait $rw || { cat /run/table-rw; fail "a rw grant of a devdax has holes"; }
wait $ro || { cat /run/table-ro; fail "a ro grant of a devdax has holes"; }
grep -q ' [1-9][0-9][0-9] refused.* 0 holes, 0 broken' /run/table-rw /run/table-ro || fail "the table was not tried"

# What was stored and persisted outlives the broker; so does what somebody holds.
head -c 1M /dev/urandom > /run/contents
mc fill nv/kept /run/contents > /dev/null
mc fill nv/taken /run/contents > /dev/null
mc run nv/taken:rw -- bash -c 'touch /run/holds; until [ -e /run/let-go ]; do sleep 0.1; done' & holder=$!
within 20 test -e /run/holds || fail "the holder did not start"
kill_broker
start_broker /run/dax-device
mc dump nv/kept /run/dumped > /dev/null
cmp -n 1M /run/contents /run/dumped || fail "contents did not outlive the broker"
[ "$(shown nv/kept seal)" = irrevocable ] || fail "after a restart a device is told to be $(shown nv/kept seal)"

# Promise 5 and 7: while somebody holds it, it is neither called revoked nor given to the next.
mc revoke nv/taken > /run/revoke.log 2>&1 && fail "a device that somebody holds is called revoked"
state_is nv/taken quarantined || fail "a held device is $(shown nv/taken state)"
refused mc create nv/next --pool nv --size 1M || fail "a held device was given to somebody else"
kill_broker
start_broker /run/dax-device
state_is nv/taken quarantined || fail "after a restart a held device is $(shown nv/taken state)"
touch /run/let-go
wait $holder
within 20 is_gone nv/taken || fail "the device does not come back when its holder ends"
mc create nv/next --pool nv --size 1M --lifetime persistent > /dev/null
is_zero nv/next || fail "the next tenant reads what the last one left"

# A page that somebody pinned before it unmapped and closed the device would show what the next tenant stores.
mc run nv/next:rw -- "$probe" pin 3 /run/pins /run/unpin & pinner=$!
within 20 test -e /run/pins || fail "nobody pins"
mc revoke nv/next > /run/revoke.log 2>&1 && fail "a device of which a page is pinned is called revoked"
refused mc create nv/again --pool nv --size 1M || fail "a device of which a page is pinned was given to somebody else"
# Each device by itself: nobody holds this one.
mc revoke nv/kept > /dev/null || fail "a device that nobody holds cannot be revoked while another is held"
within 20 is_gone nv/kept || fail "a device that nobody holds does not come back"
state_is nv/next quarantined || fail "a pinned device is $(shown nv/next state)"
touch /run/unpin
wait $pinner
within 20 is_gone nv/next || fail "the device does not come back when its pin ends"
stop_broker
destroy_namespace name listed-one
destroy_namespace name listed-two
