#!/usr/bin/env bash
# On XFS with reflink a backup may move blocks under a region: cache lines are not told to be enough there.
# vm: --kernel 6.12 --nvdimm label --ivshmem --nvme-pmr
. "$MAPCAP_VM/guest/lib.sh"
. "$MAPCAP_VM/guest/broker.sh"

# Promise 10; dax-file.sh has XFS without reflink, where cache lines are enough.
need_labels
disk=$(basename "$("$guest/fsdax.sh" xfs-reflink 320M /mnt/reflink)")
mkdir -m 0700 /mnt/reflink/pool
start_broker /run/reflink << END
[pool.clone]
backing = "dax-file"
path = "/mnt/reflink/pool"
capacity = "32M"
confinement = "clone"

END
mc create clone/a --pool clone --size 1M > /dev/null
[ "$(shown clone/a granularity)" = page ] || fail "stores are told to be durable by $(shown clone/a granularity)"
told=$(mc run clone/a:ro -- "$probe" fd-attribute 3 system.mapcap.durability)
case $told in page*) ;; *) fail "the grant itself tells '$told'" ;; esac
mc show clone/a | grep -q '^durability *page' || fail "show tells $(mc show clone/a | grep '^durability')"

# The danger is real: a copy shares the blocks, and the next store goes elsewhere.
stop_broker
file=$(ls /mnt/reflink/pool/region-*)
place() { filefrag -v -b4096 "$file" | sed -n 's/^ *0: *[0-9]*\.\. *[0-9]*: *\([0-9]*\)\.\..*/\1/p'; }
before=$(place)
chattr -a "$file"
cp --reflink=always "$file" /mnt/reflink/backup || fail "this XFS does not share blocks"
"$probe" store "$file" moved
[ "$(place)" != "$before" ] || fail "the store did not move the block: cache lines would have been enough"
umount /mnt/reflink
destroy_namespace blockdev "$disk"
