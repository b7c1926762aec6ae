#!/usr/bin/env bash
# Bad blocks, known to the drivers themselves, are told, harm who touches them and nobody else, and are not granted afresh.
# vm: --kernel 6.12 --nvdimm label --ivshmem --nvme-pmr
# vm: --kernel 6.1 --nvdimm label --ivshmem --nvme-pmr
# vm-timeout: 600
. "$MAPCAP_VM/guest/lib.sh"
. "$MAPCAP_VM/guest/broker.sh"

# The last case of a boot: what a machine check has reported stays on the NVDIMM bus's list until the next boot.
need_labels
modprobe mce-inject || skip "this kernel has no mce-inject"
# The processor reports that memory cannot be read; the NFIT driver puts it on its lists. The status says valid,
# uncorrected, enabled, with an address; bank 4 and extended code 8 are a memory error on an AMD processor.
machine_check() { # PHYSICAL ADDRESS
    local inject=/sys/kernel/debug/mce-inject
    echo sw > $inject/flags
    printf '0x%x\n' $(($1)) > $inject/addr
    echo 0xb400000000080000 > $inject/status
    echo 0 > $inject/cpu
    echo 4 > $inject/bank
}
disk=$(basename "$("$guest/fsdax.sh" ext4 64M /mnt/worn)")
blocks=/sys/block/$disk/badblocks
data=$(cat "/sys/block/$disk/device/resource") # where the disk's first sector is
mkdir -m 0700 /mnt/worn/pool /mnt/worn/state
state=/mnt/worn/state
listed=$("$guest/devdax.sh" worn-one 16M)
sound=$("$guest/devdax.sh" worn-two 16M)
start_broker /run/worn << END
[pool.file]
backing = "dax-file"
path = "/mnt/worn/pool"
capacity = "48M"

[pool.nv]
backing = "dax-device"
region = "$(nd_region)"
capacity = "64M"

END
newest() { find /mnt/worn/pool -name 'region-*' -printf '%T@ %p\n' | sort -n | tail -n 1 | cut -d ' ' -f 2; }
# FIRST SECTOR and SECTORS of each of its extents on the disk.
extents() { filefrag -v -b512 "$1" | sed -n 's/^ *[0-9]*: *[0-9]*\.\. *[0-9]*: *\([0-9]*\)\.\. *[0-9]*: *\([0-9]*\):.*/\1 \2/p'; }
sector() { extents "$1" | head -n 1 | cut -d ' ' -f 1; }
tells() { [ "$(shown "$1" bad_blocks)" = "$2" ]; } # NAME SECTORS

mc create file/other --pool file --size 1M > /dev/null
mc create file/read --pool file --size 1M > /dev/null
echo "$(($(sector "$(newest)") + 32)) 8" > "$blocks"
mc create file/held --pool file --size 1M > /dev/null
held=$(sector "$(newest)") # Before anybody has it: a file that LSM confines is opened by the broker alone.
(mc run file/held:rw -- "$probe" hold 3 /run/worn/ready /run/worn/until) 2> /run/worn/holder & holder=$!
within 20 test -e /run/worn/ready || { cat /run/worn/holder; fail "the holder did not start"; }
machine_check $((data + held * 512 + 16384))

# Promise 10: told, as many as there are.
within 10 tells file/read 8 || fail "bad blocks are not told: $(shown file/read bad_blocks)"
within 10 tells file/held 1 || fail "what a machine check reported is not told: $(shown file/held bad_blocks)"
mc list file/read --json | grep -q '"bad_blocks": *8' || fail "the list does not tell bad blocks"
mc show file/read | grep -q '^bad blocks *8 sectors' || fail "show does not tell bad blocks"

# Who touches them faults, and only who does.
status=0
(mc run file/read:ro -- "$probe" fd-zero 3) 2> /dev/null || status=$?
[ $status = 135 ] || fail "reading a bad block ends with $status, not SIGBUS"
mc dump file/read /run/worn/dumped 2> /run/worn/refused && fail "a region with bad blocks can be dumped as a whole"
grep -q 'damaged at byte 16384.* 8 bad sectors' /run/worn/refused || { cat /run/worn/refused; fail "dump does not say where"; }
[ ! -e /run/worn/dumped ] || fail "a dump that failed left a file behind"
mc dump file/read - > /run/worn/dumped 2> /dev/null && fail "a region with bad blocks can be dumped as a whole"
[ "$(stat -c %s /run/worn/dumped)" = 16384 ] || fail "what precedes the bad block was not dumped"
head -c 1M /dev/urandom > /run/worn/contents
mc fill file/read /run/worn/contents 2> /run/worn/refused && fail "a region with bad blocks can be filled as a whole"
grep -q 'damaged at byte 16384' /run/worn/refused || { cat /run/worn/refused; fail "fill does not say where"; }
mc fill file/other /run/worn/contents > /dev/null

# Promise 9: neither a restart nor a revoke trips over them. Promise 6: they reach nobody again.
kill_broker
start_broker /run/worn
within 10 tells file/read 8 || fail "after a restart bad blocks are not told"
mc dump file/other /run/worn/dumped > /dev/null
cmp /run/worn/contents /run/worn/dumped || fail "a sound region beside a damaged one was lost"
mc revoke file/read > /dev/null || fail "a region with bad blocks cannot be revoked"
mc revoke file/held > /dev/null || fail "a region with bad blocks cannot be revoked while it is mapped"
touch /run/worn/until
wait $holder && fail "a revoked mapping can still be written"
for name in file/read file/held; do within 10 is_gone $name || fail "$name is still $(shown $name state)"; done

# Here and there, so that several places must be tried, each of which may be bad.
mc create file/scattered --pool file --size 4M > /dev/null
scattered=$(sector "$(newest)")
for at in $(seq 0 512 8191); do echo "$((scattered + at)) 1" > "$blocks"; done
mc revoke file/scattered > /dev/null
within 10 is_gone file/scattered
for number in 1 2 3 4 5 6 7 8; do
    mc create file/small-$number --pool file --size 500K > /run/worn/refused 2>&1 ||
        { cat /run/worn/refused; fail "no region between the bad blocks"; }
    mc run file/small-$number:ro -- "$probe" fd-zero 3 || fail "bad blocks were granted afresh"
done
for number in 1 2 3 4 5 6 7 8; do mc revoke file/small-$number > /dev/null; done

# All of it: what is left is too little, and nothing else happens.
mc create file/big --pool file --size 30M > /dev/null
extents "$(newest)" | while read -r first count; do echo "$first $count" > "$blocks"; done
mc revoke file/big > /dev/null
within 10 is_gone file/big || fail "a region of nothing but bad blocks does not go"
mc create file/big --pool file --size 30M > /run/worn/refused 2>&1 && fail "30M were found beside 30M of bad blocks"
grep -q 'no room left for the region; bad blocks of its device are kept back' /run/worn/refused ||
    { cat /run/worn/refused; fail "the refusal does not say why"; }
mc create file/small --pool file --size 4M > /dev/null || fail "no region beside the bad blocks"
mc run file/small:ro -- "$probe" fd-zero 3 || fail "bad blocks were granted afresh"
kept=$(find /mnt/worn/pool -name 'damaged-*' | wc -l)
[ "$kept" -ge 4 ] || fail "$kept files keep bad blocks back"

# Device-DAX asks its region's list, which only a machine check (or firmware) can fill.
mc create nv/a --pool nv --size 1M > /dev/null
place=$(cat "/sys/bus/dax/devices/$(basename "$(ls -t /dev/dax* | head -n 1)")/resource")
machine_check $((place + (1 << 20)))
within 10 tells nv/a 1 || fail "bad blocks of a namespace are not told: $(shown nv/a bad_blocks)"
mc revoke nv/a > /dev/null
within 20 is_gone nv/a || fail "a namespace with bad blocks does not go"
mc create nv/a --pool nv --size 1M > /dev/null || fail "no namespace beside the bad blocks"
tells nv/a 0 || fail "a namespace with bad blocks was granted afresh"
[ "$(cat "/sys/bus/dax/devices/$(basename "$(ls -t /dev/dax* | head -n 1)")/resource")" != "$place" ] ||
    fail "the namespace lies where it did"
[ "$(ndctl list -N | grep -c '"name":"mapcap-nv-')" = 1 ] || fail "damaged namespaces are left over"
mc revoke nv/a > /dev/null
within 20 is_gone nv/a || fail "a namespace does not go"

# Cleared blocks serve again. (A new start of the driver forgets what was written to its list.)
stop_broker
namespace=$(namespace_with blockdev "$disk")
again() { within 10 umount /mnt/worn && ndctl disable-namespace "$namespace" && ndctl enable-namespace "$namespace" && mount -o dax=always "/dev/$disk" /mnt/worn; }
again > /run/worn/again 2>&1 || { cat /run/worn/again; fail "the filesystem cannot be mounted again"; }
# And the devices of a list: the damaged one is left out while another will do, and named when none will.
machine_check $(($(cat "/sys/bus/dax/devices/$(basename "$listed")/resource") + 8192))
sed -i '/^region = /s|.*|devices = ["'"$listed"'", "'"$sound"'"]|; /^capacity = "64M"/d' /run/worn/policy.toml
start_broker /run/worn
[ "$(find /mnt/worn/pool -name 'damaged-*' | wc -l)" -lt "$kept" ] || fail "blocks that are sound again are kept back"
mc create file/big --pool file --size 30M > /dev/null || fail "blocks that are sound again are not used"
mc run file/big:ro -- "$probe" fd-zero 3 || fail "bad blocks were granted afresh"
mc create nv/a --pool nv --size 1M > /dev/null || fail "no device beside the damaged one"
tells nv/a 0 || fail "a device with bad blocks was granted"
mc create nv/b --pool nv --size 1M > /run/worn/refused 2>&1 && fail "a device with bad blocks was granted"
grep -q "$listed has bad blocks, the first at byte 8192" /run/worn/refused || { cat /run/worn/refused; fail "the refusal does not say which"; }
stop_broker

# The ledger's own: refused in a sentence, not by a signal.
echo "$(sector "$(find /mnt/worn/state -name '*ledger*' -size +0 | head -n 1)") 8" > "$blocks"
status=0
"$mapcapd" --policy /run/worn/policy.toml --state $state --socket /run/worn/socket > /run/worn/refused 2>&1 || status=$?
[ $status = 1 ] && grep -q 'cannot read the ledger' /run/worn/refused || { cat /run/worn/refused; fail "a damaged ledger ends the broker with $status"; }
umount /mnt/worn
