#!/usr/bin/env bash
# The broker dies at each step of making and of unmaking a dynamic dax device: nothing is lost, half done or leaked.
# vm: --kernel 6.12 --nvdimm eadr --dax-hmem
# vm-timeout: 900
. "$MAPCAP_VM/guest/lib.sh"

# Promises 6 and 7. These devices do not outlive a boot, so there is no power to cut: see power-cut-steps for those that do.
faults=$(built tests/faults/mapcapd_faults)
tenant=$(built tests/vm/mapcap_tenant)
at=/run/dynamic-steps
mkdir "$at"

seed=
for device in /sys/bus/dax/devices/dax*.0; do
    case $(readlink -f "$device") in */hmem*) seed=$(basename "$device") ;; esac
done
[ -n "$seed" ] || skip "no dynamic dax region (run.sh --dax-hmem)"
id=${seed#dax}
id=${id%.0}
devices() { # with memory
    local device size count=0
    for device in /sys/bus/dax/devices/dax"$id".*; do
        read -r size < "$device/size"
        [ "$size" = 0 ] || count=$((count + 1))
    done
    echo $count
}
# What is kept, and one region more of three devices' size: a device that is left over is missed.
printf '[[rule]]\nany = true\n[pool.soft]\nbacking = "dax-device"\nregion = "%s"\ncapacity = "8M"\n' "$id" > "$at/policy.toml"
export MAPCAP_SOCKET=$at/socket MAPCAP_STEP_PAGE=$at/page
serve() { # PROGRAM
    rm -f "$at/page"
    truncate -s 4096 "$at/page"
    "$1" --policy "$at/policy.toml" --state "$at/state" --socket "$at/socket" > "$at/log" 2>&1 &
    broker=$!
}
look() {
    [ -e "$at/said" ] || return 0
    "$tenant" after "$at/said" clear || { cat "$at/log" && fail "see above"; }
    [ "$(devices)" = 1 ] || fail "$(cat "$at/said"): one region has $(devices) devices"
}

mkdir -m 0700 "$at/state"
# $MAPCAP_VM_STEPS=all: also those that are the same for every kind of pool.
steps=(seeded sized enabled filling disabled emptied deleted freed)
[ "${MAPCAP_VM_STEPS:-}" != all ] || steps+=(carved recorded issued revoking cut draining scrubbing erased)
for step in "${steps[@]}"; do
    serve "$faults"
    look
    "$tenant" before "$at/page" die "soft:$step" > "$at/said" || { cat "$at/log" && fail "see above"; }
    wait $broker || true
done
serve "$(built broker/mapcapd)"
look
kill $broker
wait $broker
