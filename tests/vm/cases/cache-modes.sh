#!/usr/bin/env bash
# A grant's mapping has in the page table the cache mode that the grant declares, on every kind of pool.
# vm: --kernel 6.12 --nvdimm label --ivshmem --nvme-pmr
. "$MAPCAP_VM/guest/lib.sh"
. "$MAPCAP_VM/guest/broker.sh"

# Promise 10.
read_back=$(built tests/vm/mapcap_cache_mode)
need_fsdax ext4
mkdir -p -m 0700 /mnt/ext4/cached
device=$("$guest/devdax.sh" cached 32M)
bar=$("$guest/bar.sh" ivshmem)
pmr=$("$guest/bar.sh" pmr)
start_broker /run/cache-modes << END
[pool.dram]
backing = "memory"
capacity = "8M"

[pool.file]
backing = "dax-file"
path = "/mnt/ext4/cached"
capacity = "8M"

[pool.device]
backing = "dax-device"
devices = ["$device"]

[pool.bar]
backing = "pci-bar"
resources = ["$bar", "$pmr"]

END

declared() { # POOL MODE: a region of that pool says so, a mapping is so, and it is told as read back
    local name=$1/$2 rights seen
    mc create "$name" --pool "$1" --size 1M --cache "$2" > /dev/null || fail "no $2 region in pool $1"
    [ "$(shown "$name" effective)" = "$2" ] || fail "$name has $(shown "$name" effective)"
    for rights in rw ro; do
        seen=$(mc run "$name:$rights" -- "$read_back" 3) || fail "the page table of $name cannot be read"
        [ "$seen" = "$2" ] || fail "a $rights mapping of $name is $seen in the page table"
    done
    [ "$(shown "$name" verified)" = true ] || fail "the mode of $name is not called verified"
    mc show "$name" | grep -q "$2.*, verified" || fail "show does not call $name verified"
}
declared dram wb
declared file wb
declared device wb
declared bar uc
declared bar wc
mc doctor > /run/doctor || true
grep -q 'cache modes .*ok .*verified: .*dram wb' /run/doctor || { cat /run/doctor; fail "doctor does not tell what was verified"; }

# Never a silent write-back.
for mode in wt wc uc; do
    mc create dram/$mode --pool dram --size 1M --cache $mode > /run/refused 2>&1 && fail "memory is $mode"
    grep -q "cannot give cache mode $mode; it can give wb" /run/refused ||
        { cat /run/refused; fail "the refusal of $mode does not say what can be had"; }
done
mc create dram/preferred --pool dram --size 1M --prefer-cache wt > /run/preferred
grep -q 'wb (effective; wt was preferred)' /run/preferred || fail "a preference that was not met is not told: $(cat /run/preferred)"

for name in dram/wb file/wb device/wb dram/preferred; do mc revoke $name > /dev/null; done
# The kernel cannot take a BAR away: it comes back when nobody has it any more, which is soon.
for name in bar/uc bar/wc; do mc revoke $name > /dev/null 2>&1 || true; done
for name in device/wb bar/uc bar/wc; do within 30 is_gone $name || fail "$name is still $(shown $name state)"; done
stop_broker
destroy_namespace name cached
