#!/usr/bin/env bash
# A power cut keeps what was made durable on the NVDIMM and loses what was not, and boots again.
# vm: host
# vm-timeout: 1200
set -euo pipefail
disk=$(mktemp "$MAPCAP_VM_CACHE/power-cut.XXXXXX")
trap 'rm -f "$disk"' EXIT
truncate -s 512M "$disk"

status=0
"$MAPCAP_VM/run.sh" --nvdimm label --keep-disk "$disk" --kill-on "now or never" --timeout 400 -- bash -c '
    . "$MAPCAP_VM/guest/lib.sh"
    "$guest/labels.sh"
    "$guest/fsdax.sh" ext4 192M
    device=$("$guest/devdax.sh" kept 32M)
    "$probe" store "$device" device
    fallocate -l 4M /mnt/pmem/synced
    "$probe" store /mnt/pmem/synced synced fsync
    sync
    echo late > /mnt/pmem/never-synced
    echo "now or never"
    sleep 300
    echo "the power was not cut"
' || status=$?
[ "$status" = 77 ] && exit 77
[ "$status" = 137 ] || { echo "fail: the first boot ended with $status, not with a power cut"; exit 1; }

"$MAPCAP_VM/run.sh" --nvdimm label --keep-disk "$disk" --timeout 400 -- bash -c '
    . "$MAPCAP_VM/guest/lib.sh"
    "$guest/fsdax.sh" again ext4
    "$probe" expect /mnt/pmem/synced synced || fail "what was synced before the power cut is gone"
    "$probe" expect "/dev/$(ndctl list -N -m devdax | json chardev)" device || fail "what a devdax namespace held is gone"
    [ ! -e /mnt/pmem/never-synced ] || fail "what was never synced is there: the power was not really cut"
'
