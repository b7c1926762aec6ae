#!/usr/bin/env bash
# A memory pool confined by BPF LSM lets nothing through but mmap, with and without a broker.
# vm: --kernel 6.12 --nvdimm label --ivshmem --nvme-pmr
# vm: --kernel 6.1 --nvdimm label --ivshmem --nvme-pmr
# vm-timeout: 1500
. "$MAPCAP_VM/guest/lib.sh"

# Promises 1 and 2, for confinement = "lsm".
mapcapd=$(built broker/mapcapd)
mapcap=$(built client/cli/mapcap)
attack=$(built client/attack/mapcap-attack)
work=/run/confine-lsm
mkdir -m 755 "$work"
export MAPCAP_SOCKET=$work/socket
cat > "$work/policy.toml" << END
[pool.dram]
backing = "memory"
capacity = "64M"
confinement = "lsm"
seals = ["sealed", "revocable"]
[[rule]]
user = 0
END

broker=
start() {
    "$mapcapd" --policy "$work/policy.toml" --state "$work/state" 2> "$work/log" &
    broker=$!
    local tick
    for tick in $(seq 100); do
        ! "$mapcap" pools > "$work/pools" 2> /dev/null || return 0
        kill -0 $broker 2> /dev/null || break
        sleep 0.1
    done
    cat "$work/log"
    grep -q 'not built in' "$work/log" && skip "mapcapd has no lsm confinement built in"
    fail "the broker does not serve: $(tail -n 1 "$work/log")"
}
stop() { # SIGNAL
    kill "-$1" $broker
    wait $broker 2> /dev/null || true
}
trap 'kill -9 $broker 2> /dev/null || true' EXIT
# The whole attack table, which takes minutes here; several run side by side.
attack() { # NAME RIGHTS
    "$mapcap" doctor --attack "$1" --rights "$2" > "$work/table-$2" 2>&1
}
judge() { # PID NAME RIGHTS
    wait "$1" || {
        cat "$work/table-$3" "$work/log"
        fail "an $3 grant of $2 has holes"
    }
    tail -n 1 "$work/table-$3"
}

start
"$mapcap" create root/sealed --size 1M --sealed
"$mapcap" create root/revocable --size 1M --revocable
"$mapcap" show root/sealed --json | grep -q '"confinement": *"lsm"' || fail "the region does not say that lsm confines it"
head -c 1000000 "$mapcapd" > "$work/contents"
"$mapcap" fill root/sealed "$work/contents"
"$mapcap" dump root/sealed "$work/dumped"
cmp -n 1000000 "$work/contents" "$work/dumped" || fail "what was stored through one mapping is not read through another"
# The same table must be able to find holes, or the lines below say nothing.
"$attack" --memfd 1048576 --only read/ > "$work/table" || true
grep -q '^HOLE' "$work/table" || fail "the attack table finds no hole in a plain memfd"

# A holder that outlives its broker is confined all the same, by programs that nobody holds open.
"$mapcap" run root/sealed:rw -- bash -c "
    touch $work/holds
    until [ -e $work/alone ]; do sleep 0.1; done
    ! cat /proc/self/fd/3 2> /dev/null && ! truncate -s 0 /proc/self/fd/3 2> /dev/null && ! read -r -u 3 2> /dev/null ||
        touch $work/holes
    touch $work/tried
    until [ -e $work/over ]; do sleep 0.1; done
    ! read -r -u 3 2> /dev/null || touch $work/holes
" &
holder=$!
for tick in $(seq 600); do [ ! -e "$work/holds" ] || break; sleep 0.1; done
stop KILL
touch "$work/alone"
for tick in $(seq 600); do [ ! -e "$work/tried" ] || break; sleep 0.1; done
[ -e "$work/tried" ] || fail "the holder did not get so far"
[ ! -e "$work/holes" ] || fail "a grant can be read while no broker runs"

# The next broker finds the programs, and may do what holders may not.
attached=$(ls -di /sys/fs/bpf/mapcap/links-*)
start
[ "$attached" = "$(ls -di /sys/fs/bpf/mapcap/links-*)" ] || fail "the programs were attached again"

# Somebody has removed the pins: what is out is confined again as soon as a broker runs.
stop KILL
rm -r /sys/fs/bpf/mapcap
start
touch "$work/over"
wait $holder || true
[ ! -e "$work/holes" ] || fail "after the programs were attached afresh, an old grant can be read"
echo "confined with and without a broker; now the tables"

attack root/sealed rw &
sealed=$!
attack root/revocable ro &
revocable=$!
judge $sealed root/sealed rw
judge $revocable root/revocable ro

# What holders may not, the broker still may: a revoke truncates.
"$mapcap" revoke root/revocable
refused "$mapcap" show root/revocable || fail "a revoked region is still there"
stop TERM
