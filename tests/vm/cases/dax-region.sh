#!/usr/bin/env bash
# The broker divides an NVDIMM's region into namespaces, and leaves nothing of old tenants, whenever it is killed.
# vm: --kernel 6.12 --nvdimm label --ivshmem --nvme-pmr
# vm: --kernel 6.1 --nvdimm label --ivshmem --nvme-pmr
# vm-timeout: 900
. "$MAPCAP_VM/guest/lib.sh"
. "$MAPCAP_VM/guest/broker.sh"

read_back=$(built tests/vm/mapcap_cache_mode)
need_labels
region=$(nd_region)
"$guest/devdax.sh" foreign 32M > /dev/null
start_broker /run/dax-region < <(printf '[pool.nv]\nbacking = "dax-device"\nregion = "%s"\ncapacity = "96M"\n' "$region")
ours() { ndctl list -N | grep -c '"name":"mapcap-nv-' || true; }

# Promise 10, and the sizes of namespaces: 16 MiB less 2 MiB for what the kernel keeps of each page.
mc create nv/a --pool nv --size 1M --lifetime persistent > /dev/null
mc create nv/b --pool nv --size 15M --lifetime persistent > /dev/null
[ "$(shown nv/a size) $(shown nv/b size)" = "$((14 << 20)) $((30 << 20))" ] ||
    fail "the sizes are $(shown nv/a size) and $(shown nv/b size)"
[ "$(shown nv/a granularity)" = cache-line ] || fail "stores are not told to need a cache line flush"
[ "$(shown nv/a confinement)" = native ] || fail "a devdax grant is not confined natively"
[ "$(shown nv/a seal)" = irrevocable ] || fail "a namespace is told to be $(shown nv/a seal)"
[ "$(ours)" = 2 ] || fail "two regions have $(ours) namespaces"
is_verified() { # told as read back, and so it is
    [ "$(shown nv/a verified) $(mc run nv/a:ro -- "$read_back" 3)" = "true wb" ]
}
is_verified || fail "the cache mode is told as verified: $(shown nv/a verified)"
mc pools --json | grep -q '"cache_verified": *true' || fail "the pool does not tell that it was verified"
mc create nv/big --pool nv --size 60M > /run/refused.log 2>&1 && fail "more than the capacity was given"
grep -q capacity /run/refused.log || grep -q 'pool nv' /run/refused.log || fail "the refusal does not say why"

# What was stored and persisted outlives the broker.
head -c 14M /dev/urandom > /run/contents
mc fill nv/a /run/contents > /dev/null
kill_broker
start_broker /run/dax-region
mc dump nv/a /run/dumped > /dev/null
cmp /run/contents /run/dumped || fail "contents did not outlive the broker"
is_verified || fail "after a restart the cache mode is told as verified: $(shown nv/a verified)"

# Promises 1 to 3: the whole table, side by side.
table() { mc doctor --attack "$1" --rights "$2" > "/run/region-$2" 2>&1; }
table nv/a rw & rw=$!
table nv/b ro & ro=$!
wait $rw || { cat /run/region-rw; fail "a rw grant of a namespace has holes"; }
wait $ro || { cat /run/region-ro; fail "a ro grant of a namespace has holes"; }
grep -q ' [1-9][0-9][0-9] refused.* 0 holes, 0 broken' /run/region-rw /run/region-ro || fail "the table was not tried"

# Promise 5: held, it stays; let go, its namespace is destroyed. Promise 6: the next in its place is zero.
mc run nv/a:rw -- "$probe" hold 3 /run/region-held /run/region-let-go & holder=$!
within 20 test -e /run/region-held || fail "the holder did not start"
mc revoke nv/a > /run/revoke.log 2>&1 && fail "a device that somebody has mapped is called revoked"
state_is nv/a quarantined || fail "a held device is $(shown nv/a state)"
[ "$(ours)" = 2 ] || fail "a held device was destroyed"
touch /run/region-let-go
wait $holder || fail "a holder of a quarantined device faults"
within 20 is_gone nv/a || fail "the device does not go when its holder ends"
[ "$(ours)" = 1 ] || fail "the namespace of a freed region is still there"
mc create nv/a --pool nv --size 1M --lifetime persistent > /dev/null
mc run nv/a:ro -- "$probe" fd-zero 3 || fail "the next tenant reads what the last one left"
mc revoke nv/b > /dev/null
within 20 is_gone nv/b || fail "a region that nobody holds does not go"

# The broker is killed while it makes and while it destroys: nothing is left over, nothing is lost, nothing leaks.
before=$(cat "/sys/bus/nd/devices/$region/available_size")
for pause in 0.1 0.4 0.8 1.3; do
    mc fill nv/a /run/contents > /dev/null
    (mc revoke nv/a; mc create nv/a --pool nv --size 1M --lifetime persistent) > /dev/null 2>&1 & both=$!
    sleep $pause
    kill_broker
    wait $both || true
    start_broker /run/dax-region
    if ! state_is nv/a live; then
        within 20 is_gone nv/a || fail "killed after $pause s: the region is $(shown nv/a state)"
        mc create nv/a --pool nv --size 1M --lifetime persistent > /dev/null
    fi
    mc dump nv/a /run/dumped > /dev/null
    cmp -s /run/contents /run/dumped || mc run nv/a:ro -- "$probe" fd-zero 3 ||
        fail "killed after $pause s: a new region is not zero"
    within 20 test "$(ours)" = 1 || fail "killed after $pause s: one region has $(ours) namespaces"
done
[ "$(cat "/sys/bus/nd/devices/$region/available_size")" = "$before" ] || fail "space was lost"

# A namespace that is disabled while a broker starts keeps its bytes, and its region returns with it.
mc fill nv/a /run/contents > /dev/null
stop_broker
namespace=$(namespace_with name 'mapcap-nv-[^"]*')
ndctl disable-namespace "$namespace" > /dev/null 2>&1 || fail "$namespace cannot be disabled"
start_broker /run/dax-region
state_is nv/a lost || fail "without its namespace the region is $(shown nv/a state)"
ndctl list -Ni | grep -q "\"$namespace\"" || fail "a disabled namespace was destroyed"
mc create nv/a --pool nv --size 1M > /run/refused.log 2>&1 && fail "the name of a region that may return was given away"
grep -q 'may only be missing' /run/refused.log || fail "the refusal does not say why: $(cat /run/refused.log)"
stop_broker
ndctl enable-namespace "$namespace" > /dev/null 2>&1 || fail "$namespace cannot be enabled again"
start_broker /run/dax-region
state_is nv/a live || fail "with its namespace back the region is $(shown nv/a state)"
mc dump nv/a /run/dumped > /dev/null
cmp /run/contents /run/dumped || fail "contents did not outlive a start without the namespace"

# A broker with another ledger leaves it alone, and says so.
stop_broker
state=/run/other-ledger start_broker /run/dax-region
grep -q 'such as mapcap-nv-' /run/dax-region/log || fail "another ledger's namespace is not told of"
stop_broker
start_broker /run/dax-region
state_is nv/a live || fail "after a start with another ledger the region is $(shown nv/a state)"

# A record is damaged: its namespace keeps its bytes under another name, start after start.
mc run nv/a:rw -- "$probe" fd-store 3 mine || fail "nothing can be stored"
stop_broker
for place in $(grep -obUa nv/a /run/dax-region/state/ledger | cut -d: -f1); do
    printf X | dd of=/run/dax-region/state/ledger bs=1 seek="$place" conv=notrunc status=none
done
for start in damaged next; do
    start_broker /run/dax-region
    is_gone nv/a || fail "$start start: a region without a record is listed"
    [ "$(ours)" = 0 ] || fail "$start start: a namespace without a record is still taken for the pool's"
    ndctl list -N | grep -q '"name":"disowned-' || fail "$start start: the namespace of a damaged record is gone"
    grep -q 'such as disowned-nv-' /run/dax-region/log || fail "$start start: nothing is said of it"
    stop_broker
done
device=$(ndctl list -N | tr -d '\n' | grep -o '{[^}]*"name":"disowned-[^}]*' | json chardev)
"$probe" expect "/dev/$device" mine || fail "the namespace of a damaged record lost its bytes"
destroy_namespace name 'disowned-[^"]*'
start_broker /run/dax-region
mc create nv/a --pool nv --size 1M --lifetime persistent > /dev/null

ndctl list -N | grep -q '"name":"foreign"' || fail "somebody else's namespace is gone"
mc revoke nv/a > /dev/null
within 20 is_gone nv/a || fail "the last region does not go"
[ "$(ours)" = 0 ] || fail "namespaces are left over"
stop_broker
destroy_namespace name foreign
