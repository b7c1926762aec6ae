#!/usr/bin/env bash
# Runs one command as root in a QEMU/TCG guest whose root is this machine's, with NVDIMMs and PCI
# memory that this machine lacks. Standard output and error are streamed; the exit status is the
# command's. See README.md beside this file for the guest, and --help for the options.

set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${MAPCAP_VM_CACHE:-$(cd "$here/../.." && pwd)/build/vm}

usage() {
    cat << END
Usage: tests/vm/run.sh [OPTIONS] [-- COMMAND ARGS...]     without COMMAND: an interactive root shell

  --kernel 6.12|6.1          the guest's kernel (default 6.12; 6.1 has no FUSE passthrough)
  --nvdimm KIND              label: region0 can be split into namespaces; eadr: the same, and CPU caches
                             are persistent; raw: no labels, one namespace; none (default)
  --nvdimm-size SIZE         its size (default 1G)
  --keep-disk FILE           the NVDIMM's contents live in FILE, made when missing; boot again to go on
  --ivshmem                  a PCI device with 16 MiB of memory in BAR 2; may be repeated
  --nvme-pmr                 an NVMe controller with 16 MiB of persistent memory (PMR) in BAR 4
  --dax-hmem                 a dynamic dax region of 512 MiB (soft reserved DRAM)
  --memory SIZE              the guest's memory in MiB (default 1024; 1536 with --dax-hmem)
  --append WORDS             more words for the kernel line
  --timeout SECONDS          end the guest so long after the command began (default 600)
  --kill-after SECONDS       power cut: kill -9 QEMU so long after the command began
  --kill-on MARKER           power cut as soon as MARKER shows on the command's standard output
  --results DIR              keep stdout, stderr, status, console.log and what the command
                             left in /run/rig/*.log in DIR

Exit status: the command's, or 137 after a power cut that was asked for, 124 on timeout, 125 when the
guest died by itself, 77 with one "skip:" line when QEMU or a kernel cannot be had, 2 on wrong usage.
Variables MAPCAP_*, and LANG, TZ, *SAN_OPTIONS and GTEST_* go with the command, as does the directory.
END
}

wrong_usage() {
    echo "run.sh: $1 (see --help)" >&2
    exit 2
}
note() { echo "vm: $*" >&2; }
skip() {
    echo "skip: $1: $2" >&2
    exit 77
}

kernel=6.12 nvdimm=none nvdimm_size=1G disk= ivshmem=0 pmr=0 hmem=0 memory= append= timeout=600
cut_after= cut_on= results= command=()
boot_deadline=300 boot_tries=3 # Seconds: a boot takes 7 to 15 on an idle machine, 80 on a busy one.

while [ $# -gt 0 ]; do
    case $1 in
    --kernel | --nvdimm | --nvdimm-size | --keep-disk | --memory | --append | --timeout | --kill-after | \
        --kill-on | --results)
        [ $# -ge 2 ] || wrong_usage "$1 needs a value"
        ;;
    esac
    case $1 in
    --kernel) kernel=$2 && shift ;;
    --nvdimm) nvdimm=$2 && shift ;;
    --nvdimm-size) nvdimm_size=$2 && shift ;;
    --keep-disk) disk=$2 && shift ;;
    --ivshmem) ivshmem=$((ivshmem + 1)) ;;
    --nvme-pmr) pmr=1 ;;
    --dax-hmem) hmem=1 ;;
    --memory) memory=$2 && shift ;;
    --append) append=$2 && shift ;;
    --timeout) timeout=$2 && shift ;;
    --kill-after) cut_after=$2 && shift ;;
    --kill-on) cut_on=$2 && shift ;;
    --results) results=$2 && shift ;;
    --help) usage && exit 0 ;;
    --)
        shift
        command=("$@")
        [ $# -gt 0 ] || wrong_usage "-- needs a command after it"
        break
        ;;
    *) wrong_usage "unknown option '$1'" ;;
    esac
    shift
done
case $kernel in 6.12 | 6.1) ;; *) wrong_usage "--kernel $kernel: use 6.12 or 6.1" ;; esac
case $nvdimm in label | eadr | raw | none) ;; *) wrong_usage "--nvdimm $nvdimm: use label, eadr, raw or none" ;; esac
[ -z "$disk" ] || [ "$nvdimm" != none ] || wrong_usage "--keep-disk needs --nvdimm label, eadr or raw"
for seconds in "$timeout" "${cut_after:-0}"; do
    case $seconds in '' | *[!0-9.]*) wrong_usage "'$seconds' is not a number of seconds" ;; esac
done
[ ${#command[@]} -gt 0 ] || [ -z "$cut_on$cut_after" ] || wrong_usage "a power cut needs a command"

command -v qemu-system-x86_64 > /dev/null || skip qemu "qemu-system-x86_64 is not installed"
command -v cpio > /dev/null || skip cpio "cpio is not installed"

# --- The kernel and the first root --------------------------------------------------------------

"$here/fetch-kernels.sh" "$kernel" || exit $?
initramfs=$cache/initramfs-$kernel.cpio
exec 9> "$cache/lock"
flock 9
if [ ! -e "$initramfs" ] || [ "$here/init" -nt "$initramfs" ] || [ "$here/mkinitramfs.sh" -nt "$initramfs" ] ||
    [ "$cache/kernel-$kernel/release" -nt "$initramfs" ]; then
    "$here/mkinitramfs.sh" "$cache/kernel-$kernel" "$initramfs" || exit $?
fi
# What the guest's helper scripts need beyond standard tools; without a compiler only cases suffer.
if [ "$here/probe.cpp" -nt "$cache/probe" ] && command -v g++ > /dev/null; then
    g++ -std=c++20 -O1 -static "$here/probe.cpp" -o "$cache/probe.part"
    mv "$cache/probe.part" "$cache/probe"
fi
if [ "$here/cases/bpf-lsm.c" -nt "$cache/bpf-lsm.o" ] && command -v clang > /dev/null; then
    clang -target bpf -O2 -g -c "$here/cases/bpf-lsm.c" -o "$cache/bpf-lsm.o.part"
    mv "$cache/bpf-lsm.o.part" "$cache/bpf-lsm.o"
fi
flock -u 9
exec 9>&-

# --- The run directory: what the guest reads and writes through the second 9p share --------------

qemu= printers=()
work=$(mktemp -d "$cache/run.XXXXXX")
clean_up() {
    local pid
    for pid in $qemu "${printers[@]}"; do kill -9 "$pid" 2> /dev/null || true; done
    if [ -n "$results" ]; then
        mkdir -p "$results"
        cp "$work"/rig/{stdout,stderr,status} "$work"/rig/*.log "$work/console.log" "$results/" 2> /dev/null || true
    fi
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT TERM
rig=$work/rig
mkdir "$rig"

pwd > "$rig/cwd"
{
    # The system's directories first: a look-up that fails goes to the host and back.
    echo "export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:$PATH"
    echo "export MAPCAP_VM=$here MAPCAP_VM_CACHE=$cache"
    for name in $(compgen -e); do
        case $name in
        MAPCAP_VM | MAPCAP_VM_CACHE) ;;
        MAPCAP_* | LANG | TZ | ?SAN_OPTIONS | UBSAN_OPTIONS | GTEST_*) printf 'export %s=%q\n' "$name" "${!name}" ;;
        esac
    done
    if [ ${#command[@]} -eq 0 ]; then
        echo "TERM=${TERM:-linux} LINES=$(tput lines 2> /dev/null || echo 24) COLUMNS=$(tput cols 2> /dev/null || echo 80)"
    fi
} > "$rig/env"
[ ${#command[@]} -eq 0 ] || { printf 'exec'; printf ' %q' "${command[@]}"; echo; } > "$rig/command"

# --- The machine ---------------------------------------------------------------------------------

[ -n "$memory" ] || memory=$((hmem ? 1536 : 1024))
machine=q35 sets=base
# maxcpus=1: under TCG a processor may execute an instruction that another one is patching, which
# killed a few boots in a hundred; /init switches the second processor on when patching is over.
# no_timer_check: on a busy host the timer seems dead to the I/O APIC's test, which panics.
words="console=ttyS0 maxcpus=1 no_timer_check panic=-1 quiet mitigations=off audit=0 nowatchdog tsc=reliable $append"
devices=()
backing() { # ID FILE SIZE: an -object of shared, file-backed memory
    [ -e "$2" ] || truncate -s "$3" "$2"
    devices+=(-object "memory-backend-file,id=$1,share=on,mem-path=$2,size=$3")
}
if [ "$nvdimm" != none ]; then
    case $nvdimm in
    eadr) machine+=,nvdimm=on,nvdimm-persistence=cpu ;;
    *) machine+=,nvdimm=on,nvdimm-persistence=mem-ctrl ;;
    esac
    disk=${disk:-$work/nvdimm}
    if [ -e "$disk" ]; then nvdimm_size=$(stat -c %s "$disk"); fi
    backing nvdimm0 "$disk" "$nvdimm_size"
    case $nvdimm in
    raw) devices+=(-device nvdimm,id=nv0,memdev=nvdimm0) ;;
    *) devices+=(-device nvdimm,id=nv0,memdev=nvdimm0,label-size=256K) ;;
    esac
    sets+=,nvdimm
fi
for ((i = 0; i < ivshmem; i++)); do
    backing "ivshmem$i" "$work/ivshmem$i" 16M
    devices+=(-device "ivshmem-plain,memdev=ivshmem$i")
done
if [ "$pmr" = 1 ]; then
    backing pmr0 "$work/pmr0" 16M
    devices+=(-device nvme,serial=mapcap,pmrdev=pmr0)
fi
if [ "$hmem" = 1 ]; then
    # The RAM from 512 MiB to 1 GiB changes its type to soft reserved, which dax_hmem takes up.
    words+=" memmap=512M%0x20000000-1+0xefffffff"
    sets+=,hmem
fi
words+=" mapcap.sets=$sets mapcap.cache=$cache mapcap.kernel=$kernel"

start_qemu() {
    local serial=(-serial "file:$work/console.log" -monitor none)
    [ ${#command[@]} -gt 0 ] || serial=(-serial mon:stdio)
    # multidevs=remap: the host's root may span several filesystems, whose inode numbers collide.
    set -- qemu-system-x86_64 -accel tcg,thread=multi -cpu max -machine "$machine" \
        -m "$memory,slots=4,maxmem=16G" -smp 2 \
        -nodefaults -display none -no-reboot "${serial[@]}" "${devices[@]}" \
        -virtfs local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap \
        -virtfs "local,path=$rig,mount_tag=rig,security_model=none,multidevs=remap" \
        -kernel "$cache/kernel-$kernel/vmlinuz" -initrd "$initramfs" -append "$words"
    if [ ${#command[@]} -gt 0 ]; then
        "$@" < /dev/null > "$work/qemu.log" 2>&1 &
        qemu=$!
    else
        "$@"
    fi
}

now() { date +%s%N; }
alive() { kill -0 "$qemu" 2> /dev/null; }
# Kills the guest as a power cut would: whatever it has not stored is lost.
cut_power() { # REASON
    # First the reason: who waits for QEMU reads it at once.
    echo "$1" > "$work/cut"
    kill -9 "$qemu" 2> /dev/null || true
}
complain() {
    note "$1"
    sed 's/^/vm: qemu: /' "$work/qemu.log" >&2 || true
    tail -n 15 "$work/console.log" 2> /dev/null | tr -d '\r' | sed 's/^/vm: console: /' >&2 || true
}

if [ ${#command[@]} -eq 0 ]; then
    start_qemu
    exit 0
fi

for ((try = 1; ; try++)); do
    rm -f "$rig"/{started,status,stdout,stderr} "$work/console.log" "$work/cut"
    : > "$rig/stdout"
    : > "$rig/stderr"
    booted_at=$(now)
    start_qemu
    while alive && [ ! -e "$rig/started" ] && [ $(($(now) - booted_at)) -lt "${boot_deadline}000000000" ]; do
        sleep 0.1
    done
    [ ! -e "$rig/started" ] || break
    kill -9 "$qemu" 2> /dev/null || true
    wait "$qemu" 2> /dev/null || true
    qemu=
    # Boots fail now and then under TCG (see maxcpus above); nothing has run yet, so try again.
    if [ "$try" -ge "$boot_tries" ]; then
        complain "the guest died before the command began, $boot_tries times"
        exit 125
    fi
    complain "the guest died before the command began; booting again"
done
[ -z "${MAPCAP_VM_VERBOSE:-}" ] || note "booted in $((($(now) - booted_at) / 1000000)) ms"

# --- While the command runs ----------------------------------------------------------------------

began_at=$(now)
tail --pid="$qemu" -s 0.1 -c +1 -f "$rig/stdout" &
printers+=($!)
tail --pid="$qemu" -s 0.1 -c +1 -f "$rig/stderr" >&2 &
printers+=($!)
if [ -n "$cut_on" ]; then
    # No pipeline: it would last until tail's next write, long after grep has found the marker.
    (
        grep -q -a -F -m 1 -e "$cut_on" < <(tail --pid="$qemu" -s 0.1 -c +1 -f "$rig/stdout") &&
            cut_power marker
    ) &
    printers+=($!)
fi
(
    while alive; do
        sleep 0.1
        elapsed=$((($(now) - began_at) / 1000000))
        if [ -n "$cut_after" ] && [ "$elapsed" -ge "$(awk "BEGIN { printf \"%d\", $cut_after * 1000 }")" ]; then
            cut_power time
        elif [ "$elapsed" -ge "$(awk "BEGIN { printf \"%d\", $timeout * 1000 }")" ]; then
            cut_power timeout
        fi
    done
) 2> /dev/null &
watch=$!

wait "$qemu" 2> /dev/null || true
qemu=
kill "$watch" 2> /dev/null || true
wait "${printers[@]}" 2> /dev/null || true
printers=()

if [ -e "$rig/status" ]; then
    [ -z "$cut_on$cut_after" ] || note "the command ended before the power cut"
    exit "$(cat "$rig/status")"
fi
case $(cat "$work/cut" 2> /dev/null) in
marker | time) exit 137 ;;
timeout)
    complain "the command was still running after $timeout s"
    exit 124
    ;;
esac
complain "the guest died while the command ran"
exit 125
