#!/usr/bin/env bash
# The power is cut at each step of a create and of a revoke, and again while brokers recover: nothing is lost, half done or leaked.
# vm: host
# vm-timeout: 1500
#
# Promises 4 and 6 to 8, of files on ext4 (the ledger is on one of the filesystems), of namespaces that the broker makes
# and of devices that the policy lists. One request comes to each step and no further (tests/faults/step.h); when all have,
# the power is cut. Each pool of files has a filesystem of its own, which commits nothing by itself: what is lost is what
# would have been lost at once. So three boots show every step:
#
#   first   a request comes to each step, beside tenants with regions of every lifetime; cut
#   second  brokers recover up to another step; cut
#   third   what is listed is right, and all else that the NVDIMM has is handed out and is zero
#
# The same file is the host's part and, with the name of a boot, the guest's.
set -euo pipefail

# POOL:STEP, by broker. Where a step is a worker's or a scrubber's that thread waits, and a broker has 8 and 2 of them;
# where it is within libndctl, nothing else can be made or unmade in that pool.
file=(file-filling:filling file-carved:carved file-recorded:recorded file-issued:issued file-revoking:revoking file-cut:cut
    file-draining:draining file-scrubbing:scrubbing file-freed:freed file-erased:erased
    dev:filling dev:carved dev:recorded dev:issued dev:revoking dev:cut dev:draining dev:scrubbing dev:erased dev:freed)
space=(space:filling space:carved space:recorded space:issued space:revoking space:cut space:draining space:scrubbing
    space:erased space:freed space:disabled)
enabled=(enabled:enabled)
deleted=(deleted:deleted)
claimed=(claimed:claimed) # A half-made namespace stays the kernel's next to make: the last in its boot.
sized=(sized:sized)       # So is this, therefore in the second.

# What the recoveries come to, next behind those steps. Of one pool it does not matter which region comes to which.
file_again=(file-revoking:cut file-cut:draining file-draining:scrubbing file-scrubbing:freed file-freed:erased
    dev:cut dev:draining dev:scrubbing dev:erased)
space_again=(space:cut space:draining space:scrubbing space:freed space:erased)
claimed_again=(claimed:swept) # This broker does not even start.

files_mib=272 file_mib=20 # The namespace of the filesystems, with what it costs itself, and each of them.
device_mib=16 usable_mib=14
devices_in_pool() { # What lives on, one for each step, and one for the tenants before; at last also what first() destroys.
    case $1 in dev) echo 12 ;; space) echo 14 ;; *) echo 2 ;; esac
}
pools_of_devices=(dev space enabled deleted claimed sized)

# --- In the guest ---------------------------------------------------------------------------------------------

mount_all() { # a partition for each pool of files, and one for the other brokers' ledgers
    find_devices
    local disk=${device_of[cut-files]} number=1 start=$((2 << 11)) name image=/run/image
    if [ "$boot" = first ]; then
        truncate -s ${file_mib}M $image # A filesystem is copied faster than made.
        mkfs.ext4 -q -F -b 4096 -E lazy_itable_init=1,nodiscard -m 0 $image
    fi
    for name in $(pools_in "${file[@]}" | grep file-) ledgers; do
        addpart "$disk" $number $start $((file_mib << 11))
        [ "$boot" != first ] || dd if=$image of="${disk}p$number" bs=64k conv=sparse,fsync,notrunc 2> /dev/null
        echo "${disk}p$number /mnt/$name ext4 dax=always,commit=3600 0 0"
        start=$((start + (file_mib << 11))) number=$((number + 1))
    done > /run/fstab
    # shellcheck disable=SC2046
    mkdir $(cut -d' ' -f2 /run/fstab)
    mount -a -T /run/fstab
    ! ls /mnt/*/never-synced 2> /dev/null || fail "what was never synced is there: the power was not really cut"
}
pools_in() { printf '%s\n' "${@%:*}" | uniq; } # POOL:STEP...
declare -A device_of # the name of a namespace -> the device that it is, for files or for mappings
find_devices() {
    local each space name
    for each in /sys/bus/nd/devices/{pfn,dax}*/{block/pmem,dax}[0-9]*; do
        [ -e "$each" ] || continue
        case $each in */block/*) space=${each%/block/*} ;; *) space=${each%/*} ;; esac
        read -r space < "$space/namespace"
        read -r name < "/sys/bus/nd/devices/$space/alt_name" || continue
        device_of[$name]=/dev/${each##*/}
    done
}
make_device() { # NAME: as ndctl create-namespace does, ten times as fast
    local nd=/sys/bus/nd/devices space dax uuid
    read -r uuid < $nd/ndbus0/wait_probe # Until the next seeds are there.
    read -r space < "$nd/$region/namespace_seed"
    read -r dax < "$nd/$region/dax_seed"
    echo "$1" > "$nd/$space/alt_name"
    read -r uuid < /proc/sys/kernel/random/uuid
    echo "$uuid" > "$nd/$space/uuid"
    echo $((device_mib << 20)) > "$nd/$space/size"
    read -r uuid < /proc/sys/kernel/random/uuid
    echo "$uuid" > "$nd/$dax/uuid"
    echo pmem > "$nd/$dax/mode"
    echo "$space" > "$nd/$dax/namespace"
    echo "$dax" > /sys/bus/nd/drivers/dax_pmem/bind
}
policy_of() { # GRACE POOL...
    printf '[[rule]]\nany = true\n[broker]\ngrace = "%s"\n' "$1"
    shift
    local pool name devices
    for pool in "$@"; do
        echo "[pool.$pool]"
        case $pool in
        file-*) printf 'backing = "dax-file"\npath = "/mnt/%s/pool"\ncapacity = "12M"\n' "$pool" ;;
        dev)
            devices=
            for name in "${!device_of[@]}"; do
                case $name in dev-*) devices+="\"${device_of[$name]}\", " ;; esac
            done
            printf 'backing = "dax-device"\ndevices = [%s]\n' "${devices%, }"
            ;;
        *)
            printf 'backing = "dax-device"\nregion = "%s"\ncapacity = "%dM"\n' "$region" \
                $(($(devices_in_pool "$pool") * usable_mib))
            ;;
        esac
    done
}
# A client that leaves while the power lasts is not missed before it is cut; afterwards it soon is.
serve() { # PROGRAM BROKER GRACE POOL:STEP...: starts it, as $process
    at=/run/$2 state=/mnt/ledgers/$2
    [ "$2" != file ] || state=/mnt/${file[0]%:*}/state
    mkdir -p "$at"
    truncate -s 4096 "$at/page"
    local program=$1 grace=$3
    shift 3
    # shellcheck disable=SC2046  # one word a pool
    policy_of "$grace" $(pools_in "$@") > "$at/policy.toml"
    export MAPCAP_SOCKET=$at/socket MAPCAP_STEP_PAGE=$at/page
    "$program" --policy "$at/policy.toml" --state "$state" --socket "$at/socket" > "$at/log" 2>&1 &
    process=$!
}
wrong() { # BROKER SENTENCE
    sed "s/^/$1: /" "/run/$1/log" >&2
    fail "$1: $2"
}
never_sync() { # POOL:STEP...
    local pool
    for pool in $(pools_in "$@"); do [ ! -d "/mnt/$pool" ] || : > "/mnt/$pool/never-synced"; done
}

come_to() { # BROKER POOL:STEP...
    local broker=$1 pool
    shift
    for pool in $(pools_in "$@"); do [ ! -d "/mnt/$pool" ] || mkdir -m 0700 "/mnt/$pool/pool"; done
    [ "$broker" = file ] && mkdir -m 0700 "/mnt/${file[0]%:*}/state" || mkdir -m 0700 "/mnt/ledgers/$broker"
    serve "$faults" "$broker" 1h "$@"
    "$tenant" before "$at/page" stop "$@" || wrong "$broker" "see above"
    never_sync "$@"
}
come_to_again() { # BROKER POOL:STEP... -- POOL:STEP...: its pools, and what it comes to
    local broker=$1 pools=() one
    shift
    while [ "$1" != -- ]; do pools+=("$1") && shift; done
    shift
    mkdir -p "/run/$broker"
    for one in "$@"; do echo "stop ${one%:*} ${one#*:}"; done > "/run/$broker/page"
    serve "$faults" "$broker" 1h "${pools[@]}"
    "$tenant" wait "$at/page" || wrong "$broker" "see above: $(tr -d '\0' < "$at/page" | grep stop)"
    never_sync "${pools[@]}"
}
look() { # SAID BROKER POOL:STEP...
    local said=$1 broker=$2
    shift
    serve "$mapcapd" "$broker" 1s "${@:2}"
    "$tenant" after "$said" || wrong "$broker" "see above"
    kill "$process"
    wait "$process" || wrong "$broker" "the broker does not end well"
    "$mapcapd" --check-ledger --state "$state" > /dev/null || wrong "$broker" "the ledger is unsound"
}
both() { # PID PID: ends with the first that fails
    wait -n && wait -n && return
    kill "$@" 2> /dev/null
    fail "see above"
}

first() {
    "$guest/labels.sh"
    region=$(nd_region)
    ndctl create-namespace -r "$region" -m fsdax -s ${files_mib}M -n cut-files > /dev/null
    # Made first, and destroyed before the cut: the kernel gives the others other names at the next boot.
    local number count first_of_all
    first_of_all=$(cat "/sys/bus/nd/devices/$region/namespace_seed")
    make_device first-of-all
    count=$(devices_in_pool dev)
    for ((number = 0; number < count; number++)); do make_device "dev-$number"; done
    mount_all
    come_to file "${file[@]}" & local files=$!
    (
        come_to space "${space[@]}"
        come_to enabled "${enabled[@]}"
        come_to deleted "${deleted[@]}"
        ndctl destroy-namespace -f "$first_of_all" > /dev/null 2>&1
        come_to claimed "${claimed[@]}"
    ) & both $files $!
}
second() {
    region=$(nd_region)
    mount_all
    come_to_again file "${file[@]}" -- "${file_again[@]}" & local files=$!
    (
        come_to_again claimed "${claimed[@]}" -- "${claimed_again[@]}"
        come_to_again space "${space[@]}" -- "${space_again[@]}"
        come_to sized "${sized[@]}"
    ) & both $files $!
}
third() { # SAID: what the first and the second boot said
    region=$(nd_region)
    mount_all
    look "$1" file "${file[@]}" & local files=$!
    (
        look "$1" claimed "${claimed[@]}"
        look "$1" space "${space[@]}"
        look "$1" enabled "${enabled[@]}"
        look "$1" deleted "${deleted[@]}"
        look "$1" sized "${sized[@]}"
    ) & both $files $!
    # All pools are full, of zeros: the NVDIMM has nothing that nobody has looked at.
    [ "$(cat "/sys/bus/nd/devices/$region/available_size")" -lt $((device_mib << 20)) ] || fail "the NVDIMM has room that no pool could have"
}

if [ $# -gt 0 ]; then
    . "$MAPCAP_VM/guest/lib.sh"
    faults=$(built tests/faults/mapcapd_faults)
    tenant=$(built tests/vm/mapcap_tenant)
    mapcapd=$(built broker/mapcapd)
    boot=$1
    "$@"
    [ "$boot" = third ] && exit
    echo "now: cut"
    sleep 300
    exit 1
fi

# --- On the host ----------------------------------------------------------------------------------------------

work=$(mktemp -d "$MAPCAP_VM_CACHE/power-cut.XXXXXX")
trap 'rm -rf "$work"' EXIT
size=$((files_mib + device_mib)) # Of the last the labels take a part.
for pool in "${pools_of_devices[@]}"; do size=$((size + $(devices_in_pool "$pool") * device_mib)); done
boot() { # OPTIONS of run.sh -- NAME OF A BOOT...
    local options=()
    while [ "$1" != -- ]; do options+=("$1") && shift; done
    shift
    "$MAPCAP_VM/run.sh" --nvdimm label --nvdimm-size ${size}M --keep-disk "$work/disk" --timeout 450 "${options[@]}" -- bash "$0" "$@"
}
for name in first second; do
    status=0
    boot --kill-on "now: cut" -- $name >> "$work/said" || status=$?
    [ $status != 77 ] || { tail -n 1 "$work/said" && exit 77; }
    cat "$work/said"
    [ $status = 137 ] || { echo "fail: the $name boot ended with $status, not with a power cut"; exit 1; }
done
boot -- third "$work/said"
