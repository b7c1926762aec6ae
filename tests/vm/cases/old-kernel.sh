#!/usr/bin/env bash
# A kernel without FUSE passthrough: the daemon refuses its default policy in one sentence, and doctor says so before.
# vm: --kernel 6.1 --nvdimm label --ivshmem --nvme-pmr
. "$MAPCAP_VM/guest/lib.sh"

mapcapd=$(built broker/mapcapd)
mapcap=$(built client/cli/mapcap)
work=/run/old-kernel
mkdir -m 755 "$work"

if timeout 60 "$mapcapd" --state "$work/state" --socket "$work/socket" 2> "$work/log"; then fail "mapcapd ran to an end"; fi
cat "$work/log"
[ "$(wc -l < "$work/log")" = 1 ] || fail "the refusal is not one sentence"
grep -q 'mmap-only' "$work/log" || fail "the refusal does not name the promise that cannot be kept"
grep -q '6\.9' "$work/log" || fail "the refusal does not say what kernel would do"
[ ! -e "$work/socket" ] || fail "the socket was left behind"

refused "$mapcap" --socket "$work/socket" doctor --state "$work/state" > "$work/doctor" || fail "doctor says that mapcapd can serve"
grep -q 'FUSE passthrough.*missing' "$work/doctor" || { cat "$work/doctor"; fail "doctor does not name FUSE passthrough"; }
