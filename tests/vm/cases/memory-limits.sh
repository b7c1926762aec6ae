#!/usr/bin/env bash
# Memory cgroups around holder, broker and keeper, and no huge page free: refused by that name, and nobody else ends.
# vm: --kernel 6.12 --nvdimm label --ivshmem --nvme-pmr
. "$MAPCAP_VM/guest/lib.sh"
. "$MAPCAP_VM/guest/broker.sh"

cgroups=/sys/fs/cgroup
[ -e $cgroups/cgroup.controllers ] || cgroups=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)
grep -q memory "$cgroups/cgroup.controllers" || skip "there is no memory controller"
echo +memory > "$cgroups/cgroup.subtree_control"
mkdir -p "$cgroups/mapcap-broker" "$cgroups/mapcap-holder"
start_broker /run/limits << END
[pool.sparse]
backing = "memory"
capacity = "256M"

[pool.full]
backing = "memory"
capacity = "256M"
populate = true

[pool.huge]
backing = "memory"
capacity = "128M"
populate = true
huge = "always"

END
shared=/sys/kernel/mm/transparent_hugepage/shmem_enabled
before=$(sed 's/.*\[\(.*\)\].*/\1/' $shared)
trap 'echo "$before" > $shared; kill_both 2> /dev/null || true
      rmdir "$cgroups/mapcap-broker" "$cgroups/mapcap-holder" 2> /dev/null || true' EXIT
all_live() { kill -0 "$broker" && kill -0 "$keeper"; }
keeper=$(cat "/proc/$broker/task/$broker/children")
keeper=${keeper%% *}
echo "$broker" > "$cgroups/mapcap-broker/cgroup.procs"
echo "$keeper" > "$cgroups/mapcap-broker/cgroup.procs"

mc create limits/kept --pool sparse --size 4M --lifetime persistent > /dev/null
mc run limits/kept:rw -- "$probe" fd-store 3 "kept over all limits"

# The broker pays for what it populates: what does not fit is refused before the kernel ends anybody.
echo 96M > "$cgroups/mapcap-broker/memory.max"
if mc create limits/much --pool full --size 128M > /run/limits/out 2>&1; then fail "more than the cgroup's limit was populated"; fi
grep -q 'memory cgroup' /run/limits/out || { cat /run/limits/out; fail "the refusal does not name the memory cgroup"; }
all_live || fail "broker or keeper were ended"
mc create limits/little --pool full --size 16M > /dev/null || fail "what fits was refused"
[ "$(awk '$1 == "oom_kill" { print $2 }' "$cgroups/mapcap-broker/memory.events")" = 0 ] || fail "the kernel killed somebody"
echo max > "$cgroups/mapcap-broker/memory.max"

# A holder pays for what it touches, and ends alone.
mc create limits/sparse --pool sparse --size 64M --lifetime persistent > /dev/null
echo 24M > "$cgroups/mapcap-holder/memory.max"
if (echo $BASHPID > "$cgroups/mapcap-holder/cgroup.procs" && exec "$mapcap" run limits/sparse:rw -- "$probe" fd-touch 3) 2> /dev/null; then
    fail "a holder touched more than its cgroup may have"
fi
all_live || fail "broker or keeper ended with the holder"
mc run limits/sparse:rw -- "$probe" fd-touch 3 || fail "another holder cannot touch the region"

# No huge page to be had is told of, not made up for with small ones.
mc create limits/huge --pool huge --size 4M > /dev/null || fail "a region of huge pages was refused while there are some"
echo deny > $shared
if mc create limits/small --pool huge --size 4M > /run/limits/out 2>&1; then fail "small pages passed for huge ones"; fi
grep -q 'huge page' /run/limits/out || { cat /run/limits/out; fail "the refusal does not name huge pages"; }
echo "$before" > $shared

mc run limits/kept:ro -- "$probe" fd-expect 3 "kept over all limits" || fail "contents were lost"
all_live || fail "broker or keeper were ended"
