#!/usr/bin/env bash
# Runs the cases in tests/vm/cases, as many as possible in one boot, and says what became of each:
#
#   tests/vm/suite.sh [--list] [CASE...]       CASE: a name or glob (default: all)
#
#   ok NAME | FAIL NAME REASON | skip NAME REASON     one line a case, a failed one's output below it
#   N passed, N failed, N skipped                     the last line
#
# Exit status 1 when any failed. $MAPCAP_BUILD names the build directory whose programs are tested.
# $MAPCAP_VM_KERNELS, e.g. "6.12", limits the suite to those kernels.
#
# A case is a bash script whose head says where it runs:
#   # vm: OPTIONS          options of run.sh; a case with several such lines runs once in each guest
#   # vm: host             it runs on the host, and calls run.sh itself (tests of power cuts)
#   # vm-timeout: SECONDS  default 300, since a busy host makes a guest ten times slower
# Exit status 0 passes, 77 skips (last line "skip: REASON"), anything else fails. Cases with the same
# options share a boot, in the order of their names: see guest/lib.sh for what they may rely on.

set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export MAPCAP_VM=$here MAPCAP_VM_CACHE=${MAPCAP_VM_CACHE:-$(cd "$here/../.." && pwd)/build/vm}

list=
if [ "${1:-}" = --list ]; then
    list=1
    shift
fi
[ $# -gt 0 ] || set -- '*'

declare -A cases_of title_of # boot options -> cases; "options case" -> the name to print
boots=()
found=0
for file in "$here"/cases/*.sh; do
    name=$(basename "$file" .sh)
    wanted=
    for pattern in "$@"; do
        # shellcheck disable=SC2053  # a glob is meant
        [[ $name == $pattern ]] && wanted=1
    done
    [ -n "$wanted" ] || continue
    found=1
    mapfile -t options < <(sed -n 's/^# vm: *//p' "$file")
    [ ${#options[@]} -gt 0 ] || { echo "suite.sh: $file has no '# vm:' line" >&2; exit 2; }
    for option in "${options[@]}"; do
        kernel=6.12
        case $option in *"--kernel 6.1 "* | *"--kernel 6.1") kernel=6.1 ;; esac
        case " ${MAPCAP_VM_KERNELS:-6.12 6.1} " in *" $kernel "*) ;; *) continue ;; esac
        [ -n "${cases_of[$option]:-}" ] || boots+=("$option")
        cases_of[$option]+="$name "
        title_of["$option $name"]=$name
        [ ${#options[@]} -eq 1 ] || title_of["$option $name"]="$name [$kernel${option#*--kernel "$kernel"}]"
    done
done
[ "$found" = 1 ] || { echo "suite.sh: no case is called $*" >&2; exit 2; }
if [ -n "$list" ]; then
    for option in "${boots[@]}"; do echo "$option: ${cases_of[$option]}"; done
    exit 0
fi

passed=0 failed=0 skipped=0
report() { # STATUS TITLE REASON
    case $1 in
    0) echo "ok $2" && passed=$((passed + 1)) ;;
    77) echo "skip $2 ${3#skip: }" && skipped=$((skipped + 1)) ;;
    *) echo "FAIL $2 ${3#fail: }" && failed=$((failed + 1)) ;;
    esac
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

run_on_host() { # CASE
    local status=0 limit
    limit=$(sed -n 's/^# vm-timeout: *//p' "$here/cases/$1.sh")
    timeout --kill-after=10 "${limit:-300}" bash "$here/cases/$1.sh" > "$work/log" 2>&1 || status=$?
    report "$status" "$1" "$(grep -a -E '^(skip|fail): ' "$work/log" | tail -n 1 || echo "exit status $status")"
    [ "$status" = 0 ] || [ "$status" = 77 ] || sed 's/^/  | /' "$work/log"
}

# One boot for these cases; those that a dying guest left over are printed into $work/left.
run_in_guest() { # OPTIONS CASE...
    local options=$1 total=0 limit name boot verb reason status=0 running=
    shift
    local left=" $* "
    for name in "$@"; do
        limit=$(sed -n 's/^# vm-timeout: *//p' "$here/cases/$name.sh")
        total=$((total + ${limit:-300} + 10))
    done
    read -ra boot <<< "$options"
    rm -rf "$work/results"
    while IFS=' ' read -r verb name status reason; do
        case $verb in
        ::begin) running=$name ;;
        ::end)
            running=
            left=${left/ $name / }
            report "$status" "${title_of["$options $name"]}" "$reason"
            ;;
        ::log) echo "  | $name $status $reason" ;;
        esac
    done < <(
        "$here/run.sh" "${boot[@]}" --timeout "$total" --results "$work/results" -- \
            bash "$here/guest/run-cases.sh" "$@" 2> "$work/stderr"
        echo "::exit $?"
    )
    if [ -n "$running" ]; then
        left=${left/ $running / }
        report 125 "${title_of["$options $running"]}" "the guest died or hung while it ran"
        tail -n 25 "$work/stderr" | sed 's/^/  | /'
        tail -n 25 "$work/results/case.log" 2> /dev/null | sed 's/^/  | /'
    elif [ "$left" = " $* " ]; then
        # Nothing began: either this machine cannot run such a guest, or the rig is broken.
        reason=$(grep '^skip: ' "$work/stderr" | tail -n 1 || true)
        for name in "$@"; do
            report "$([ -n "$reason" ] && echo 77 || echo 125)" "${title_of["$options $name"]}" "${reason:-the guest did not start}"
        done
        [ -n "$reason" ] || sed 's/^/  | /' "$work/stderr"
        left=
    fi
    echo "$left" > "$work/left"
}

for option in "${boots[@]}"; do
    read -ra cases <<< "${cases_of[$option]}"
    if [ "$option" = host ]; then
        for name in "${cases[@]}"; do run_on_host "$name"; done
        continue
    fi
    while [ ${#cases[@]} -gt 0 ]; do
        run_in_guest "$option" "${cases[@]}"
        read -ra cases < "$work/left"
    done
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
