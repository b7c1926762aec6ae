#!/usr/bin/env bash
# A device that is granted natively is published once nobody has it: who only reads it cannot be told from who writes.
# vm: --kernel 6.12 --nvdimm label --ivshmem --nvme-pmr
# vm-timeout: 900
. "$MAPCAP_VM/guest/lib.sh"
. "$MAPCAP_VM/guest/broker.sh"

need_labels
device=$("$guest/devdax.sh" published 32M)
start_broker /run/publish-device < <(printf '[pool.nv]\nbacking = "dax-device"\ndevices = ["%s"]\n' "$device")
mc create nv/model --pool nv --size 1M --lifetime persistent > /dev/null
head -c 1M /dev/urandom > /run/contents
mc fill nv/model /run/contents > /dev/null

holding() { # RIGHTS
    rm -f /run/holds /run/let-go
    mc run "nv/model:$1" -- bash -c 'touch /run/holds; until [ -e /run/let-go ]; do sleep 0.1; done' & holder=$!
    within 60 test -e /run/holds || fail "the holder did not start"
}
let_go() {
    touch /run/let-go
    wait $holder
}
# Promise 15
for rights in rw ro; do
    holding $rights
    mc publish nv/model > /run/publish.log 2>&1 && fail "published while somebody has the device $rights"
    grep -q 'nobody can tell whether for writing' /run/publish.log || { cat /run/publish.log; fail "the refusal does not say why"; }
    let_go
done
mc publish nv/model --within 1m > /dev/null || fail "a device that nobody has cannot be published"
refused mc run nv/model:rw -- true || fail "somebody got a writable grant"
holding ro
kill_broker
start_broker /run/publish-device
[ "$(shown nv/model published_unix_ns)" -gt 0 ] || fail "after a restart it is not published"
refused mc run nv/model:rw -- true || fail "after a restart somebody got a writable grant"
let_go
mc dump nv/model /run/dumped > /dev/null
cmp -n 1M /run/contents /run/dumped || fail "it is not what it was"
mc revoke nv/model > /dev/null || fail "it cannot be revoked"
within 60 is_gone nv/model || fail "it is still $(shown nv/model state)"
stop_broker
destroy_namespace name published
