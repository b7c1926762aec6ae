#!/usr/bin/env bash
# Memory that BPF LSM confines is published once nobody can write it, although nobody tells when its grants end.
# vm: --kernel 6.12 --nvdimm label --ivshmem --nvme-pmr
# vm-timeout: 900
. "$MAPCAP_VM/guest/lib.sh"
. "$MAPCAP_VM/guest/broker.sh"

fail() {
    ! grep -q 'not built in' /run/publish-lsm/log || skip "mapcapd has no lsm confinement built in"
    echo "fail: $1" >&2
    exit 1
}
start_broker /run/publish-lsm < <(printf '[pool.dram]\nbacking = "memory"\ncapacity = "64M"\nconfinement = "lsm"\nseals = ["sealed", "revocable"]\n')

head -c 1000000 "$mapcapd" > /run/contents
contents_are() { # NAME
    mc dump "$1" /run/dumped > /dev/null && cmp -n 1000000 /run/contents /run/dumped
}
# Promise 15: holders have the memory itself here, so it is the memory that says whether somebody can write.
for name in root/sealed root/revocable; do
    mc create $name --size 1M --lifetime persistent "--${name#root/}" > /dev/null
    [ "$(shown $name confinement)" = lsm ] || fail "$name is confined by $(shown $name confinement)"
    mc fill $name /run/contents > /dev/null
    rm -f /run/holds /run/let-go
    mc run $name:rw -- bash -c 'touch /run/holds; until [ -e /run/let-go ]; do sleep 0.1; done' & holder=$!
    within 60 test -e /run/holds || fail "the holder did not start"
    mc publish $name > /run/publish.log 2>&1 && fail "$name is published while somebody can write it"
    grep -q 'can still be written' /run/publish.log || { cat /run/publish.log; fail "the refusal does not say why"; }
    touch /run/let-go
    wait $holder
    mc publish $name --within 1m > /dev/null || fail "$name cannot be published"
    [ "$(shown $name published_unix_ns)" -gt 0 ] || fail "$name does not say that it is published"
    refused mc run $name:rw -- true || fail "somebody got a writable grant of $name"
    contents_are $name || fail "$name is not what it was"
done

# Its mark outlives the broker, and so does what it forbids.
kill_broker
start_broker /run/publish-lsm
for name in root/sealed root/revocable; do
    [ "$(shown $name published_unix_ns)" -gt 0 ] || fail "after a restart $name is not published"
    refused mc run $name:rw -- true || fail "after a restart somebody got a writable grant of $name"
    contents_are $name || fail "after a restart $name is not what it was"
    mc revoke $name > /dev/null || fail "$name cannot be revoked"
    within 60 is_gone $name || fail "$name is still $(shown $name state)"
done
stop_broker
