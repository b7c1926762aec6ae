#!/usr/bin/env bash
# After power cuts the ledger, itself on a DAX filesystem, has every acknowledged change, and nothing is half done.
# vm: host
# vm-timeout: 1200
set -euo pipefail

# Promises 6, 7 and 8. The same file is the host's part and, with the name of a boot, the guest's.
contents() { seq 1 165000; } # about 1 MB
serve() {
    # The namespace's number may be another one after a boot.
    local device
    device=/dev/$(ndctl list -N -m devdax | json chardev)
    state=/mnt/pmem/state start_broker /run/power-cut << END
[pool.ext]
backing = "dax-file"
path = "/mnt/pmem/pool"
capacity = "200M"

[pool.dev]
backing = "dax-device"
devices = ["$device"]

END
}
# Every file of the pool belongs to a region, and a region of most of what is free reads as zeros.
nothing_is_left() {
    local files regions
    files=$(find /mnt/pmem/pool -name 'region-*' | wc -l)
    regions=$(mc list 'ext/*' --json | grep -o '"name":' | wc -l)
    [ "$files" = "$regions" ] || fail "$regions regions have $files files"
    mc create ext/whole --pool ext --size "$1" > /dev/null || fail "the space of what was cut short is not back"
    mc run ext/whole:ro -- "$probe" fd-zero 3 || fail "a new region holds what an earlier one left"
    mc revoke ext/whole > /dev/null
}

first() {
    "$guest/labels.sh"
    "$guest/fsdax.sh" ext4 256M > /dev/null
    "$guest/devdax.sh" kept 32M > /dev/null
    mkdir -m 0700 /mnt/pmem/pool
    serve
    contents > /run/contents
    mc create dev/kept --pool dev --size 1M > /dev/null
    mc fill dev/kept /run/contents
    mc create ext/timed --pool ext --size 1M --lifetime ttl:1h > /dev/null
    mc quota set --user 4711 --bytes 5M --regions 3
    local name
    for name in kept pinned held waiting; do
        mc create ext/$name --pool ext --size 4M > /dev/null
        mc fill ext/$name /run/contents
    done
    # One region in each state on the way out.
    for name in pinned waiting; do
        mc run ext/$name:rw -- "$probe" pin 3 /run/ready-$name /run/never &
        within 20 test -e /run/ready-$name || fail "nobody pins"
    done
    mc run ext/held:rw -- "$probe" hold 3 /run/ready-held /run/never &
    within 20 test -e /run/ready-held || fail "nobody holds"
    refused mc revoke ext/pinned || fail "a pinned region was revoked"
    mc revoke ext/held > /dev/null
    mc revoke ext/waiting > /dev/null 2>&1 &
    within 4 state_is ext/waiting revoking || fail "ext/waiting is $(shown ext/waiting state)"
    [ "$(shown ext/pinned state) $(shown ext/held state)" = "quarantined revoked" ] ||
        fail "ext/pinned is $(shown ext/pinned state), ext/held is $(shown ext/held state)"
    # And one on its way in, whose zeros take a while.
    local before
    before=$(find /mnt/pmem/pool -name 'region-*' | wc -l)
    mc create ext/half --pool ext --size 150M > /dev/null && echo "half is whole" &
    until [ "$(find /mnt/pmem/pool -name 'region-*' | wc -l)" -gt "$before" ]; do :; done
    echo "now: cut"
    sleep 300
}

second() {
    "$guest/fsdax.sh" again ext4 > /dev/null
    "$mapcapd" --check-ledger --state /mnt/pmem/state || fail "the ledger is unsound after the first cut"
    serve
    contents > /run/contents
    local name
    for name in ext/kept dev/kept; do
        [ "$(shown $name lifetime)" = persistent ] || fail "$name did not outlive the cut"
        mc dump $name /run/dumped > /dev/null
        cmp -n "$(contents | wc -c)" /run/contents /run/dumped || fail "what was persisted in $name is gone"
    done
    [ "$(shown ext/timed state)" = live ] || fail "ext/timed is $(shown ext/timed state)"
    mc show ext/timed | grep -q 'ttl:\|left' || { mc show ext/timed; fail "the ttl is gone"; }
    mc quota --json | tr -d ' \n' | grep -q '4711.*5242880' || fail "the quota is gone"
    for name in pinned held waiting; do
        within 30 is_gone ext/$name || fail "ext/$name is still $(shown ext/$name state) although nobody holds it"
    done
    is_gone ext/half || [ "$(shown ext/half state)" = live ] || fail "ext/half is $(shown ext/half state)"
    mc revoke ext/half > /dev/null 2>&1 || true
    nothing_is_left 180M

    # Busy until the second cut; each line says what has been acknowledged.
    write() { # WRITER
        local i name
        for i in $(seq 1000); do
            name=ext/$1-$i
            mc create "$name" --pool ext --size 1M > /dev/null
            echo "made $name"
            echo "I am $name" | mc fill "$name" - > /dev/null
            echo "filled $name"
            [ $((i % 3)) = 0 ] || continue
            echo "revoking $name"
            mc revoke "$name" > /dev/null
            echo "revoked $name"
        done
    }
    write one &
    write two &
    wait
}

third() { # WHAT THE SECOND SAID
    "$guest/fsdax.sh" again ext4 > /dev/null
    "$mapcapd" --check-ledger --state /mnt/pmem/state || fail "the ledger is unsound after the second cut"
    serve
    # A region whose revoke had begun is live no more soon after the start, one that was half made never shows.
    no_longer_on_its_way() { mc list 'ext/*' > /run/list && ! awk 'NR > 1 && $(NF - 1) != "live"' /run/list | grep -q .; }
    within 30 no_longer_on_its_way || { cat /run/list && fail "something is still half taken"; }
    is_live() { awk '{ print $1 }' /run/list | grep -q -x "$1"; }
    local verb name count=0
    while read -r verb name; do
        count=$((count + 1))
        case $verb in
        revoked) ! is_live "$name" || fail "$name, which was revoked, is live" ;;
        made | filled)
            ! grep -q -a -x "revoking $name" "$1" || continue
            is_live "$name" || fail "$name, which was acknowledged, is gone"
            [ $verb = filled ] || continue
            mc dump "$name" /run/dumped > /dev/null
            [ "$(head -n 1 /run/dumped)" = "I am $name" ] || fail "what was persisted in $name is gone"
            ;;
        esac
    done < <(grep -a -E '^(made|filled|revoked) ' "$1")
    [ "$count" -ge 12 ] || fail "only $count changes were acknowledged before the cut"
    echo "$count acknowledged changes are there"
    nothing_is_left 100M
}

if [ $# -gt 0 ]; then
    . "$MAPCAP_VM/guest/lib.sh"
    . "$MAPCAP_VM/guest/broker.sh"
    "$@"
    exit
fi

work=$(mktemp -d "$MAPCAP_VM_CACHE/power-cut.XXXXXX")
trap 'rm -rf "$work"' EXIT
boot() { # OPTIONS of run.sh -- NAME OF A BOOT...
    local options=()
    while [ "$1" != -- ]; do options+=("$1") && shift; done
    shift
    "$MAPCAP_VM/run.sh" --nvdimm label --keep-disk "$work/disk" --timeout 400 "${options[@]}" -- bash "$0" "$@"
}
cut_short() { # WHICH STATUS
    [ "$2" != 77 ] || exit 77
    [ "$2" = 137 ] || { echo "fail: the $1 boot ended with $2, not with a power cut"; exit 1; }
}

status=0
boot --kill-on "now: cut" -- first > "$work/first" || status=$?
cat "$work/first"
cut_short first $status
status=0
boot --kill-on "made ext/one-8" -- second > "$work/second" || status=$?
tail -n 5 "$work/second"
cut_short second $status
boot -- third "$work/second"
