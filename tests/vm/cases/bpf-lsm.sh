#!/usr/bin/env bash
# The kernel takes BPF LSM programs and does what they say.
# vm: --kernel 6.12 --nvdimm label --ivshmem --nvme-pmr
# vm: --kernel 6.1 --nvdimm label --ivshmem --nvme-pmr
. "$MAPCAP_VM/guest/lib.sh"

grep -q -w bpf /sys/kernel/security/lsm || fail "bpf is not in the list of LSMs: $(cat /sys/kernel/security/lsm)"
[ -r /sys/kernel/btf/vmlinux ] || fail "the kernel has no BTF"
object=$MAPCAP_VM_CACHE/bpf-lsm.o
[ -e "$object" ] || skip "bpf-lsm.c could not be compiled: clang is not installed"
command -v bpftool > /dev/null || skip "bpftool is not installed"

date -s "@$(date +%s)" > /dev/null || fail "the clock cannot be set even without the program"
pin=/sys/fs/bpf/refuse_settime
bpftool prog load "$object" "$pin" || fail "the program was not loaded"
"$probe" attached "$pin" bash -c '! date -s "@$(date +%s)" > /dev/null 2>&1' ||
    fail "the program is attached but refuses nothing"
rm "$pin"
# Programs detach late.
for tick in $(seq 50); do
    ! date -s "@$(date +%s)" > /dev/null 2>&1 || exit 0
    sleep 0.1
done
fail "the program is gone but still refuses"
