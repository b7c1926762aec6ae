#!/usr/bin/env bash
# The attack table finds no hole in grants of memory and of DAX files, rw and ro, and many in what is not confined.
# vm: --kernel 6.12 --nvdimm label --ivshmem --nvme-pmr
# vm: --kernel 6.1 --nvdimm label --ivshmem --nvme-pmr
# vm-timeout: 900
. "$MAPCAP_VM/guest/lib.sh"
. "$MAPCAP_VM/guest/broker.sh"

# Promises 1, 2 and 3. Where there are clones they are tried, elsewhere BPF LSM on the DAX file itself; for
# memory confined by BPF LSM see confine-lsm.sh, for devices dax-device.sh and pci-bar.sh.
attack=$(built client/cli/attack/mapcap-attack)
confinement=clone
"$probe" passthrough 2> /dev/null || confinement=lsm
need_fsdax ext4
mkdir -p -m 0700 /mnt/ext4/attacked
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
try() { # NAME RIGHTS
    mc doctor --attack "$1" --rights "$2" > "/run/table-$(basename "$1")" 2>&1 &
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
fi
for i in "${!pids[@]}"; do
    table=/run/table-$(basename "${titles[i]}")
    wait "${pids[i]}" || { cat "$table" && fail "a $confinement grant of ${titles[i]} has holes"; }
    echo "${titles[i]} ($confinement): $(tail -n 1 "$table")"
done

stop_broker
