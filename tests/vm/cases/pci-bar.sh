#!/usr/bin/env bash
# PCI memory is granted uncached and write-combining, to one region at a time, and told to be irrevocable.
# vm: --kernel 6.12 --nvdimm label --ivshmem --nvme-pmr
# vm: --kernel 6.1 --nvdimm label --ivshmem --nvme-pmr
# vm-timeout: 900
. "$MAPCAP_VM/guest/lib.sh"
. "$MAPCAP_VM/guest/broker.sh"

ivshmem=$("$guest/bar.sh" ivshmem)
pmr=$("$guest/bar.sh" pmr)
policy=$(printf '[pool.bar]\nbacking = "pci-bar"\nresources = ["%s", "%s"]\n' "$ivshmem" "$pmr")
# How the kernel knows the mappings of a BAR.
memtype() { # RESOURCE
    local start
    start=$(sed -n "$((${1##*resource} + 1))s/ .*//p" "$(dirname "$1")/resource")
    sed -n "s/^PAT: \[mem $start-.*\] //p" /sys/kernel/debug/x86/pat_memtype_list
}

# Somebody who has the BAR mapped already decides how it is cached: then it is not served.
"$probe" store "$ivshmem" x
bash -c 'exec 3<>"$0"; exec "$1" hold 3 /run/mapped /run/unmap' "$ivshmem" "$probe" & other=$!
within 20 test -e /run/mapped || fail "nobody maps the BAR"
if (start_broker /run/pci-bar-refused <<< "$policy") > /run/refused.log 2>&1; then
    fail "a BAR is served that somebody else has mapped"
fi
grep -q 'mapped by somebody else' /run/refused.log || { cat /run/refused.log; fail "the refusal does not say why"; }
touch /run/unmap
wait $other

rm -r /run/pci-bar-refused && start_broker /run/pci-bar <<< "$policy"
if (start_broker /run/pci-bar-second <<< "$policy") > /run/refused.log 2>&1; then
    fail "two brokers serve one BAR"
fi
grep -q 'another mapcapd serves' /run/refused.log || { cat /run/refused.log; fail "the refusal does not say why"; }
export MAPCAP_SOCKET=/run/pci-bar/socket

# Promise 10: requested, effective, read back.
mc create bar/uc --pool bar --size 1M --cache uc --lifetime persistent > /dev/null
mc create bar/wc --pool bar --size 1M --cache wc --lifetime persistent > /dev/null
refused mc create bar/third --pool bar --size 1M --cache uc || fail "two BARs make three regions"
mc create bar/third --pool bar --size 1M --cache wb > /run/refused.log 2>&1 && fail "a BAR is cached write-back"
grep -q 'uc, wc' /run/refused.log || fail "the refusal does not list the modes that can be had"
for mode in uc wc; do
    [ "$(shown bar/$mode effective)" = $mode ] || fail "bar/$mode has $(shown bar/$mode effective)"
    [ "$(shown bar/$mode verified)" = true ] || fail "the cache mode of bar/$mode is not verified"
    [ "$(shown bar/$mode revoke) $(shown bar/$mode seal)" = "quarantines irrevocable" ] || fail "bar/$mode is told to be $(shown bar/$mode seal)"
    [ "$(shown bar/$mode confinement)" = native ] || fail "bar/$mode is not confined natively"
    mc run bar/$mode:rw -- "$probe" hold 3 /run/holds-$mode /run/let-go-$mode &
    within 20 test -e /run/holds-$mode || fail "nobody maps bar/$mode"
done
[ "$(memtype "$ivshmem") $(memtype "$pmr")" = "uncached-minus write-combining" ] ||
    [ "$(memtype "$ivshmem") $(memtype "$pmr")" = "write-combining uncached-minus" ] ||
    fail "the BARs are mapped $(memtype "$ivshmem") and $(memtype "$pmr")"

# What is stored through one mapping is read through another.
head -c 1M /dev/urandom > /run/contents
for mode in uc wc; do
    mc fill bar/$mode /run/contents > /dev/null
    mc dump bar/$mode /run/dumped > /dev/null
    cmp -n 1M /run/contents /run/dumped || fail "bar/$mode does not keep what is stored"
done

# Promise 5: no holder, no promise broken; a holder, and it is not called revoked. Nor by the next broker.
kill_broker
start_broker /run/pci-bar
mc revoke bar/uc > /run/revoke.log 2>&1 && fail "a BAR that somebody has mapped is called revoked"
grep -q 'cannot be taken' /run/revoke.log || fail "the refusal does not say why"
state_is bar/uc quarantined || fail "a held BAR is $(shown bar/uc state)"
refused mc create bar/next --pool bar --size 1M --cache uc || fail "a held BAR was given to somebody else"
touch /run/let-go-uc /run/let-go-wc
within 20 is_gone bar/uc || fail "a BAR does not come back when its holder ends"
mc create bar/next --pool bar --size 1M --cache wc > /dev/null || fail "a BAR cannot change its cache mode with its tenant"
mc run bar/next:ro -- "$probe" fd-zero 3 || fail "the next tenant reads what the last one left"
stop_broker
