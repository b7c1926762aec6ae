#!/usr/bin/env bash
# Strict overcommit, and somebody else has committed the rest: no region faults its holder, and one too many is refused.
# vm: --kernel 6.12 --nvdimm label --ivshmem --nvme-pmr
# vm: --kernel 6.1 --nvdimm label --ivshmem --nvme-pmr
. "$MAPCAP_VM/guest/lib.sh"
. "$MAPCAP_VM/guest/broker.sh"

field() { awk -v key="$1:" '$1 == key { print $2 }' /proc/meminfo; } # KiB
strongest=clone
"$probe" passthrough 2> /dev/null || strongest=lsm
start_broker /run/strict << END
[pool.dram]
backing = "memory"
capacity = "60%"
confinement = "$strongest"
seals = ["sealed", "revocable"]

END

echo 2 > /proc/sys/vm/overcommit_memory
greedy=
trap 'echo 0 > /proc/sys/vm/overcommit_memory; [ -z "$greedy" ] || kill "$greedy"; kill_both 2> /dev/null || true' EXIT
"$mapcap" doctor > /run/strict/doctor || true
grep -q 'memory accounting.*strict' /run/strict/doctor || { cat /run/strict/doctor; fail "doctor does not tell of strict accounting"; }

# What is left to everybody to run programs with is a fraction of what the regions need.
spare=$((64 << 10))
mc create strict/sealed --size 64M --sealed --lifetime persistent > /dev/null || fail "a region that fits was refused"
mc create strict/revocable --size 32M --revocable --lifetime persistent > /dev/null || fail "a region that fits was refused"
left=$(($(field CommitLimit) - $(field Committed_AS) - spare))
[ "$left" -gt 0 ] || skip "this guest's commit limit of $(field CommitLimit) KiB is too small"
"$probe" commit "$((left << 10))" /run/strict/committed /run/strict/enough & greedy=$!
within 60 test -e /run/strict/committed || fail "the rest could not be committed"

for region in sealed revocable; do
    mc run "strict/$region:rw" -- "$probe" fd-touch 3 || fail "a holder of the $region region died of its touch"
done
# Promise 4 holds over a revoke too: who has the sealed region touches zeros.
mc run strict/sealed:rw -- "$probe" hold-touch 3 /run/strict/held /run/strict/go & holder=$!
within 60 test -e /run/strict/held || fail "the holder did not start"
mc revoke strict/sealed > /dev/null || fail "revoke failed"
touch /run/strict/go
wait "$holder" || fail "a holder of the sealed region died of its touch after the revoke"

if mc create strict/more --size 256M --lifetime persistent > /run/strict/out 2>&1; then
    fail "a region that the commit limit has no room for was created"
fi
grep -q 'commit limit' /run/strict/out || { cat /run/strict/out; fail "the refusal does not name the commit limit"; }
mc create strict/small --size 1M --lifetime persistent > /dev/null || fail "the broker does not go on"
kill -0 "$broker" || fail "the broker ended"
