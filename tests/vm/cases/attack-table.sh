#!/usr/bin/env bash
# The attack table finds no hole in grants of memory and of DAX files, rw and ro, and many in what is not confined.
# vm: --kernel 6.12 --nvdimm label --ivshmem --nvme-pmr
# vm: --kernel 6.1 --nvdimm label --ivshmem --nvme-pmr
# vm-timeout: 900
. "$MAPCAP_VM/guest/lib.sh"
. "$MAPCAP_VM/guest/broker.sh"

# Promises 1, 2 and 3, for clones where there are any, and for DAX files that BPF LSM confines; for memory that it
# confines see confine-lsm.sh, for devices dax-device.sh, dax-region.sh, dax-dynamic.sh and pci-table.sh.
attack=$(built client/attack/mapcap-attack)
confinement=clone
"$probe" passthrough 2> /dev/null || confinement=lsm
need_fsdax ext4
mkdir -p -m 0700 /mnt/ext4/attacked /mnt/ext4/attacked-lsm
start_broker /run/attack-table << END
[pool.file]
backing = "dax-file"
path = "/mnt/ext4/attacked"
capacity = "8M"
confinement = "$confinement"

[pool.dram]
backing = "memory"
capacity = "8M"
confinement = "$confinement"
seals = ["sealed", "revocable"]

[pool.lsm]
backing = "dax-file"
path = "/mnt/ext4/attacked-lsm"
capacity = "8M"
confinement = "lsm"

END

# The same table must be able to find holes.
holes() { # OUTPUT OF THE TABLE
    [ "$(grep -c '^HOLE' "$1")" -ge 10 ]
}
fallocate -l 1M /mnt/ext4/raw
chown 65534 /mnt/ext4/raw
"$attack" --fd 3 --rights rw --confinement sealed --only read/ 3<> /mnt/ext4/raw > /run/raw || true
holes /run/raw || fail "the table finds no holes in a raw DAX file: $(tail -n 1 /run/raw)"
"$attack" --memfd 1048576 --only read/ > /run/memfd || true
holes /run/memfd || fail "the table finds no holes in a raw memfd: $(tail -n 1 /run/memfd)"
rm /mnt/ext4/raw

# Side by side, each on a region of its own: they tell by changes of its contents.
pids=() titles=()
try() { # NAME RIGHTS OPTIONS...
    mc doctor --attack "$1" --rights "$2" "${@:3}" > "/run/table-$(basename "$1")" 2>&1 &
    pids+=($!) titles+=("$1")
}
mc create root/file-rw --pool file --size 1M > /dev/null
mc create root/file-ro --pool file --size 1M > /dev/null
try root/file-rw rw
try root/file-ro ro
if [ $confinement = clone ]; then
    mc create root/dram-rw --pool dram --size 1M --sealed > /dev/null
    mc create root/dram-ro --pool dram --size 1M --revocable > /dev/null
    try root/dram-rw rw
    try root/dram-ro ro
    # This kernel's cachestat(2) oopses on any DAX file, granted or not: a policy that wants BPF LSM here is told.
    mc pools --json | grep -q 'cachestat(2) can be used by holders to crash the machine' ||
        fail "the pool does not tell what its holders can do"
    mc create root/lsm-rw --pool lsm --size 1M > /dev/null
    mc create root/lsm-ro --pool lsm --size 1M > /dev/null
    try root/lsm-rw rw --except advice/cachestat
    try root/lsm-ro ro --except advice/cachestat
fi
for i in "${!pids[@]}"; do
    table=/run/table-$(basename "${titles[i]}")
    wait "${pids[i]}" || { cat "$table" && fail "a grant of ${titles[i]} has holes"; }
    case ${titles[i]} in root/lsm-*) grep -q '^left out *advice *cachestat' "$table" || fail "what was left out is not told" ;; esac
    echo "${titles[i]} ($(shown "${titles[i]}" confinement)): $(tail -n 1 "$table")"
done

stop_broker
