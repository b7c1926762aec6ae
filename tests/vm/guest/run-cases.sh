#!/usr/bin/env bash
# The guest's half of suite.sh: runs the named cases one after the other and reports in lines
# "::begin NAME", "::end NAME STATUS REASON" and, for a failed case, its output as "::log LINE".
log=/run/rig/case.log # on the host's side, so that it survives the guest
trace=/run/case.trace
for name in "$@"; do
    echo "::begin $name"
    limit=$(sed -n 's/^# vm-timeout: *//p' "$MAPCAP_VM/cases/$name.sh")
    began=$SECONDS
    BASH_XTRACEFD=7 timeout --kill-after=10 "${limit:-300}" bash -x "$MAPCAP_VM/cases/$name.sh" \
        > "$log" 2>&1 7> "$trace"
    status=$?
    # A case that hangs has said nothing about where.
    [ "$status" != 124 ] || tail -n 5 "$trace" >> "$log"
    reason=$(grep -a -E '^(skip|fail): ' "$log" | tail -n 1)
    [ "$status" != 124 ] || reason="fail: still running after ${limit:-300} s"
    echo "::end $name $status ${reason:-exit status $status} (after $((SECONDS - began)) s)"
    [ "$status" = 0 ] || [ "$status" = 77 ] || sed 's/^/::log /' "$log"
done
