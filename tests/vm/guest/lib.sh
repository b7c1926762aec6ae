# Sourced by the guest's helper scripts and by the cases. Needs bash, as root, in the guest.

set -euo pipefail
case $PATH in
*"$MAPCAP_VM_CACHE/tools"*) ;;
*) PATH=$PATH:$MAPCAP_VM_CACHE/tools/sbin:$MAPCAP_VM_CACHE/tools/usr/sbin ;;
esac
guest=$MAPCAP_VM/guest
probe=$MAPCAP_VM_CACHE/probe

skip() { # REASON: ends the case as skipped
    echo "skip: $1"
    exit 77
}
fail() { # SENTENCE: ends the case as failed
    echo "fail: $1" >&2
    exit 1
}
# The value of a key in the JSON that ndctl and daxctl print, one line a match.
json() { # KEY
    sed -n 's/.*"'"$1"'":"\{0,1\}\([^",]*\).*/\1/p' | sed 's/\\//g'
}
# A program of this project, from the build directory that the caller named.
built() { # PATH below $MAPCAP_BUILD
    [ -n "${MAPCAP_BUILD:-}" ] || skip "MAPCAP_BUILD names no build directory"
    [ -x "$MAPCAP_BUILD/$1" ] || skip "$1 is not built in $MAPCAP_BUILD"
    echo "$MAPCAP_BUILD/$1"
}
# The NVDIMM's region, e.g. region0; the number depends on what else was found at boot.
nd_region() {
    local device
    for device in /sys/bus/nd/devices/region[0-9]*; do
        [ -e "$device" ] && basename "$device" && return
    done
    skip "no NVDIMM (run.sh --nvdimm label, eadr or raw)"
}
# Whether a region is divided by labels: nstype is 4 for one label-less namespace, 5 for labelled ones.
has_labels() { [ "$(cat "/sys/bus/nd/devices/$1/nstype")" = 5 ]; }

# --- Fixtures: what several cases of one boot share, made by the first that needs it --------------

need_labels() { has_labels "$(nd_region)" || "$guest/labels.sh"; }
# Mounts a DAX filesystem at /mnt/ext4 (192 MiB) or /mnt/xfs (320 MiB) unless it is there already.
need_fsdax() { # ext4|xfs
    mountpoint -q "/mnt/$1" && return
    need_labels
    case $1 in
    ext4) "$guest/fsdax.sh" ext4 192M /mnt/ext4 > /dev/null ;;
    xfs) "$guest/fsdax.sh" xfs 320M /mnt/xfs > /dev/null ;;
    esac
}
# The namespace of which ndctl's KEY is VALUE, e.g. name cached; nothing where there is none.
namespace_with() { # KEY VALUE
    ndctl list -N | tr -d '\n' | grep -o '{[^}]*"'"$1"'":"'"$2"'"[^}]*' | json dev
}
# For a case's end: those that follow have the NVDIMM's space.
destroy_namespace() { # KEY VALUE
    ndctl destroy-namespace -f "$(namespace_with "$1" "$2")" > /dev/null 2>&1 ||
        fail "the namespace with $1 $2 cannot be destroyed"
}
# Succeeds when the command fails; for lines that test a refusal, since ! escapes set -e.
refused() { if "$@" > /dev/null 2>&1; then return 1; fi; }
