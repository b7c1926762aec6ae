#!/usr/bin/env bash
# run.sh tells apart a command's own exit status, a guest that died, a timeout and a power cut.
# vm: host
# vm-timeout: 1200
set -uo pipefail
run() { "$MAPCAP_VM/run.sh" "$@"; }
expect() { # STATUS WHAT: compares with the last status
    [ "$last" = 77 ] && exit 77
    [ "$last" = "$1" ] || { echo "fail: $2 gave $last, not $1"; exit 1; }
}

both=$(MAPCAP_VM_MARK="a b" run -- bash -c 'echo "out $MAPCAP_VM_MARK $PWD"; echo error >&2; exit 42' 2>&1)
last=$?
expect 42 "a command that exits with 42"
grep -q -x "out a b $PWD" <<< "$both" || { echo "fail: output, environment or directory did not pass"; exit 1; }
grep -q -x error <<< "$both" || { echo "fail: the standard error did not come back"; exit 1; }

run -- bash -c 'echo c > /proc/sysrq-trigger; sleep 60' 2> /dev/null
last=$?
expect 125 "a guest that crashes"

run --timeout 2 -- sleep 60 2> /dev/null
last=$?
expect 124 "a command that runs too long"

run --kill-after 1.5 -- sleep 60
last=$?
expect 137 "a power cut after 1.5 s"

run --nvdimm none --keep-disk /nowhere -- true 2> /dev/null
last=$?
expect 2 "a disk without an NVDIMM"
