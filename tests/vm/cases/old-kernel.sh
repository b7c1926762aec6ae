#!/usr/bin/env bash
# A kernel without FUSE passthrough: BPF LSM serves the default policy; without that too it is refused in one sentence.
# vm: --kernel 6.1 --nvdimm label --ivshmem --nvme-pmr
. "$MAPCAP_VM/guest/lib.sh"

mapcapd=$(built broker/mapcapd)
mapcap=$(built client/cli/mapcap)
work=/run/old-kernel
mkdir -m 755 "$work"

"$mapcap" --socket "$work/socket" doctor --state "$work/state" > "$work/doctor" || { cat "$work/doctor"; fail "doctor says that mapcapd cannot serve"; }
grep -q 'FUSE passthrough.*missing' "$work/doctor" || { cat "$work/doctor"; fail "doctor sees passthrough in Linux 6.1"; }
grep -q 'BPF LSM.*ok' "$work/doctor" || { cat "$work/doctor"; fail "doctor does not see that the kernel takes LSM programs"; }

umount /sys/fs/bpf
trap 'mount -t bpf bpf /sys/fs/bpf' EXIT
if timeout 60 "$mapcapd" --state "$work/state" --socket "$work/socket" 2> "$work/log"; then fail "mapcapd ran to an end"; fi
cat "$work/log"
[ "$(wc -l < "$work/log")" = 1 ] || fail "the refusal is not one sentence"
grep -q 'mmap-only' "$work/log" || fail "the refusal does not name the promise that cannot be kept"
grep -q '6\.9' "$work/log" || fail "the refusal does not say what kernel would do"
[ ! -e "$work/socket" ] || fail "the socket was left behind"

if "$mapcap" --socket "$work/socket" doctor --state "$work/state" > "$work/doctor"; then fail "doctor says that mapcapd can serve"; fi
grep -q 'FUSE passthrough.*needs it' "$work/doctor" || { cat "$work/doctor"; fail "doctor does not say that clones are needed"; }
grep -q 'mount -t bpf' "$work/doctor" || { cat "$work/doctor"; fail "doctor does not say how LSM programs would do"; }
