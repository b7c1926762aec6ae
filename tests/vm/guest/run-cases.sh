#!/usr/bin/env bash
# The guest's half of suite.sh: runs the named cases one after the other and reports in lines
# "::begin NAME", "::end NAME STATUS REASON" and, for a failed case, its output as "::log LINE".
log=/run/rig/case.log # on the host's side, so that it survives the guest
for name in "$@"; do
    echo "::begin $name"
    limit=$(sed -n 's/^# vm-timeout: *//p' "$MAPCAP_VM/cases/$name.sh")
    began=$SECONDS
    timeout --kill-after=10 "${limit:-120}" bash "$MAPCAP_VM/cases/$name.sh" > "$log" 2>&1
    status=$?
    reason=$(grep -a -E '^(skip|fail): ' "$log" | tail -n 1)
    [ "$status" != 124 ] || reason="fail: still running after ${limit:-120} s"
    echo "::end $name $status ${reason:-exit status $status} (after $((SECONDS - began)) s)"
    [ "$status" = 0 ] || [ "$status" = 77 ] || sed 's/^/::log /' "$log"
done
