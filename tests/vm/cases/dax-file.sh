#!/usr/bin/env bash
# Files on ext4 and XFS with DAX are reserved, kept over the broker's death, revoked, quarantined and zeroed.
# vm: --kernel 6.12 --nvdimm label --ivshmem --nvme-pmr
# vm: --kernel 6.1 --nvdimm label --ivshmem --nvme-pmr
# vm-timeout: 500
. "$MAPCAP_VM/guest/lib.sh"
. "$MAPCAP_VM/guest/broker.sh"

need_fsdax ext4
need_fsdax xfs
mkdir -p -m 0700 /mnt/ext4/pool /mnt/xfs/pool
strongest=clone
"$probe" passthrough 2> /dev/null || strongest=lsm
start_broker /run/dax-file << END
[pool.ext]
backing = "dax-file"
path = "/mnt/ext4/pool"
capacity = "64M"
confinement = "$strongest"

[pool.xfs]
backing = "dax-file"
path = "/mnt/xfs/pool"
capacity = "64M"
confinement = "lsm"
pin_deadline = "1s"

END

for pool in ext xfs; do
    # Promise 10: told as they are.
    mc create "$pool/kept" --pool "$pool" --size 4M --lifetime persistent > /dev/null
    [ "$(shown "$pool/kept" granularity)" = cache-line ] || fail "$pool: stores are not told to need a cache line flush"
    [ "$(shown "$pool/kept" domain)" = memory-controller ] || fail "$pool: the persistence domain is wrong"
    mc run "$pool/kept:ro" -- "$probe" fd-zero 3 || fail "$pool: a new region is not zero"
    # MAP_SYNC is the file's own, which a clone is not.
    synchronous=true
    [ "$(shown "$pool/kept" confinement)" = lsm ] || synchronous=false
    [ "$(shown "$pool/kept" map_sync)" = $synchronous ] || fail "$pool: MAP_SYNC is told as $(shown "$pool/kept" map_sync)"
    if [ $synchronous = true ]; then
        mc run "$pool/kept:rw" -- "$probe" fd-map-sync 3 || fail "$pool: no MAP_SYNC, although it is told"
    else
        mc run "$pool/kept:rw" -- "$probe" fd-no-map-sync 3 || fail "$pool: MAP_SYNC works, although it is told not to"
        told=$(mc run "$pool/kept:ro" -- "$probe" fd-attribute 3 system.mapcap.durability)
        [ "$told" = "cache-line memory-controller" ] || fail "$pool: the grant itself tells '$told'"
    fi
    mc run "$pool/kept:rw" -- "$probe" fd-store 3 "before the broker died"

    # Promise 5 and 4: a mapping that was there faults, the file is gone, the space is back.
    mc create "$pool/taken" --pool "$pool" --size 8M --lifetime persistent > /dev/null
    ( mc run "$pool/taken:rw" -- "$probe" hold 3 /run/ready-$pool /run/until-$pool ) 2> /dev/null & holder=$!
    within 20 test -e /run/ready-$pool || fail "$pool: the holder did not start"
    mc revoke "$pool/taken" > /dev/null || fail "$pool: revoke failed while somebody holds a mapping"
    touch /run/until-$pool
    wait "$holder" && fail "$pool: a revoked mapping can still be written"
    within 10 is_gone "$pool/taken" || fail "$pool: a region is not freed after its last holder ended"
    # Promise 6
    mc create "$pool/next" --pool "$pool" --size 8M --lifetime persistent > /dev/null
    mc run "$pool/next:ro" -- "$probe" fd-zero 3 || fail "$pool: the next tenant reads what the last one left"
    mc revoke "$pool/next" > /dev/null
done

# A pin that outlasts the deadline: quarantined and charged, everybody else goes on, and back when it ends.
for pool in ext xfs; do
    mc create "$pool/pinned" --pool "$pool" --size 4M --lifetime persistent > /dev/null
    mc run "$pool/pinned:rw" -- "$probe" pin 3 /run/pinned-$pool /run/unpin-$pool &
    within 20 test -e /run/pinned-$pool || fail "$pool: nobody pins"
    began=$SECONDS
    mc revoke "$pool/pinned" > /run/revoke.log 2>&1 && fail "$pool: revoke succeeds although a page is pinned"
    took=$((SECONDS - began))
    [ $took -le 15 ] || fail "$pool: revoke took $took s"
    # The policy gives xfs a shorter deadline than the 5 s of ext.
    [ $pool = xfs ] || [ $took -ge 4 ] || fail "$pool: revoke waited $took s only for a pin"
    echo "$pool: a pin was waited for $took s"
    state_is "$pool/pinned" quarantined || fail "$pool: a pinned region is $(shown "$pool/pinned" state)"
    mc create "$pool/other" --pool "$pool" --size 4M > /dev/null || fail "$pool: others cannot create meanwhile"
done
# When a file leaves memory the kernel forgets which of its pages are pinned; the broker must find out again.
kill_both
for fs in ext4 xfs; do
    device=$(findmnt -n -o SOURCE /mnt/$fs)
    within 60 umount /mnt/$fs || fail "$fs cannot be unmounted although the broker is gone"
    mount -t $fs -o dax=always "$device" /mnt/$fs
done
start_broker /run/dax-file
for pool in ext xfs; do
    mc run "$pool/kept:ro" -- "$probe" fd-expect 3 "before the broker died" || fail "$pool: a region did not outlive the broker"
    state_is "$pool/pinned" quarantined || fail "$pool: the quarantine did not outlive the broker"
    touch /run/unpin-$pool
    within 20 is_gone "$pool/pinned" || fail "$pool: the space does not come back when the pin ends"
done

# Leftovers of a create that was never recorded are removed at start, and nothing else is.
regions=(/mnt/ext4/pool/region-*)
leftover=${regions[0]%????????????????}00000000000000ff
stranger=/mnt/ext4/pool/region-00000000-00000000000000ff
head -c 1M /dev/urandom > "$leftover"
touch "$stranger" /mnt/ext4/pool/notes
kill_broker
start_broker /run/dax-file
[ ! -e "$leftover" ] || fail "a file that no record names is still there"
[ -e /mnt/ext4/pool/notes ] || fail "a file that is none of the broker's was removed"
[ -e "$stranger" ] || fail "a region of another ledger was removed"
grep -q "another ledger.*${stranger##*/}" /run/dax-file/log || fail "nobody is told of another ledger's region"
rm "$stranger" /mnt/ext4/pool/notes

# Bad blocks are told, and never granted afresh.
disk=$(basename "$(findmnt -n -o SOURCE /mnt/ext4)")
mc create ext/victim --pool ext --size 1M --lifetime persistent > /dev/null
newest=$(ls -t /mnt/ext4/pool/region-* | head -n 1)
sector=$(filefrag -v -b512 "$newest" | awk '$1 == "0:" { sub(/\.\..*/, "", $4); print $4 }')
echo "$sector 8" > "/sys/block/$disk/badblocks"
sleep 1.2
[ "$(shown ext/victim bad_blocks)" = 8 ] || fail "bad blocks are not told: $(shown ext/victim bad_blocks)"
mc revoke ext/victim > /dev/null
within 10 is_gone ext/victim
mc create ext/fresh --pool ext --size 32M --lifetime persistent > /dev/null || fail "no region beside the bad blocks"
[ "$(shown ext/fresh bad_blocks)" = 0 ] || fail "bad blocks were granted afresh"
stop_broker
# Later cases get a filesystem without bad blocks.
umount /mnt/ext4
destroy_namespace name mapcap-ext4
