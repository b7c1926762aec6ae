#!/usr/bin/env bash
# Everything that must hold, on a fresh Debian 12: installs, builds, runs every test, and counts. Safe to repeat.
#
#     tests/check.sh [STAGE...]     lint dev quickstart vm system asan tsan fuzz, or only those named; tidy, bench, programs by name
#
# What each covers, needs and takes: tests/README.md. What a failed test printed comes whole, at the end.
# A test that needs what this machine lacks is skipped by name and reason. Ends with one line:
#     N passed, N failed, N skipped
set -u -o pipefail
cd "$(dirname "$(readlink -f "$0")")/.." || exit 1
. tests/support/packages.sh
become_root "$@"
# shellcheck disable=SC2086
install_packages $build_packages $test_packages

stages=("$@")
[ ${#stages[@]} -eq 0 ] && stages=(lint dev quickstart vm system asan tsan fuzz)
results=$(mktemp -d /tmp/mapcap-check.XXXXXX)
guest=
trap '[ -z "$guest" ] || { kill -- "-$guest" && wait "$guest"; } 2>/dev/null; rm -rf "$results"' EXIT
passed=0 failed=0 skipped=0
began=$SECONDS
took=

# count NAME STATUS [REASON]: one check of this script's own.
count() {
  case $2 in
    0) passed=$((passed + 1)); echo "ok   $1" ;;
    77) skipped=$((skipped + 1)); echo "skip $1: ${3:-}" ;;
    *) failed=$((failed + 1)); echo "FAIL $1" ;;
  esac
}
# count_ctest NAME: adds up what ctest wrote about its tests, and names what failed or was skipped.
count_ctest() {
  local counts
  counts=$(python3 - "$results/$1.xml" "$1" "$results/failures" <<'PY'
import sys, xml.etree.ElementTree as tree
cases = tree.parse(sys.argv[1]).getroot().findall("testcase")
p = f = s = 0
for case in cases:
    status = case.get("status")
    if status == "run": p += 1
    elif status in ("notrun", "disabled", "skipped") or case.find("skipped") is not None:
        s += 1
        text = (case.findtext("system-out") or "")
        at = text.find(": Skipped\n")
        reason = text[at + 10:].strip().splitlines()[0] if at >= 0 else (case.find("skipped").get("message") if case.find("skipped") is not None else status)
        print(f"skip {sys.argv[2]}: {case.get('name')}: {reason}", file=sys.stderr)
    else:
        f += 1
        print(f"FAIL {sys.argv[2]}: {case.get('name')}", file=sys.stderr)
        with open(sys.argv[3], "a") as failures:
            print(f"---- {sys.argv[2]}: {case.get('name')}", case.findtext("system-out") or "", sep="\n", file=failures)
print(p, f, s)
PY
  ) || { count "$1: reading ctest's result" 1; return; }
  # shellcheck disable=SC2086
  set -- $counts
  passed=$((passed + $1)) failed=$((failed + $2)) skipped=$((skipped + $3))
}

launcher=()
command -v ccache >/dev/null && launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
# What one checkout compiled serves all others on this machine: paths in the objects are relative (CMakePresets.json). The
# sloppiness is what ccache wants before it keeps a precompiled header and what was compiled with it.
export CCACHE_BASEDIR=$PWD CCACHE_NOHASHDIR=1
export CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime
# build PRESET [TARGET...]: progress on a terminal, a summary line elsewhere.
build() {
  local preset=$1; shift
  cmake --preset "$preset" "${launcher[@]}" >"$results/$preset.cmake" 2>&1 || { cat "$results/$preset.cmake"; return 1; }
  if [ -t 1 ]; then
    cmake --build --preset "$preset" ${1:+--target "$@"}
  else
    cmake --build --preset "$preset" ${1:+--target "$@"} >"$results/$preset.build" 2>&1 || { grep -vE '^\[' "$results/$preset.build" | tail -n 60; return 1; }
  fi
}
# test_build PRESET: builds and runs every test of a preset.
test_build() {
  say "$1: building"
  build "$1" || { count "$1: build" 1; return; }
  count "$1: build" 0
  say "$1: testing"
  # More tests at once than processors: most of them wait for processes of theirs.
  ctest --test-dir "build/$1" -j "$(($(nproc) + 1))" --no-tests=error --test-output-size-failed 16777216 \
    --output-junit "$results/$1.xml" >"$results/$1.ctest" 2>&1
  count_ctest "$1"
}

# in_a_tree STAGE: runs tests/STAGE/run.sh, and adds up what it counts.
in_a_tree() {
  local counts
  tests/"$1"/run.sh >"$results/$1" 2>&1 </dev/null
  if [ $? -eq 77 ]; then
    count "$1" 77 "$(sed -n 's/^skip: //p' "$results/$1" | head -n 1)"
    return
  fi
  grep -E '^(ok|FAIL)' "$results/$1"
  read -r -a counts < <(grep -E '^[0-9]+ passed, [0-9]+ failed' "$results/$1" | tr -dc '0-9 \n' | tr -s ' ')
  if [ ${#counts[@]} -ge 2 ]; then
    passed=$((passed + counts[0])) failed=$((failed + counts[1]))
    [ "${counts[1]}" -eq 0 ] || sed -n '/^FAIL/,$p' "$results/$1" | head -n 120
  else
    tail -n 60 "$results/$1"
    count "$1" 1
  fi
}

# Emulation keeps one processor busy, and waits for its own disks: it runs beside the stages that follow.
join_guest() {
  [ -n "$guest" ] || return 0
  say "guest: waiting for what is left of it"
  wait "$guest"
  guest=
  grep -E '^(ok|FAIL|skip)' "$results/vm"
  local last
  last=$(grep -E '^[0-9]+ passed, [0-9]+ failed' "$results/vm" | tail -n 1)
  if [ -n "$last" ]; then
    local counts
    read -r -a counts <<<"$(echo "$last" | tr -dc '0-9 ' | tr -s ' ')"
    passed=$((passed + counts[0])) failed=$((failed + counts[1])) skipped=$((skipped + counts[2]))
    [ "${counts[1]}" -eq 0 ] || grep -A 30 '^FAIL' "$results/vm" | head -n 120
  elif grep -q '^skip:' "$results/vm"; then
    count "guest" 77 "$(grep '^skip:' "$results/vm" | head -n 1)"
  else
    tail -n 60 "$results/vm"
    count "guest: suite" 1
  fi
}

for stage in "${stages[@]}"; do
  stage_began=$SECONDS
  case $stage in
    lint)
      say "shellcheck"
      # Sourced files and what they set (SC1091 SC2034 SC2154), lists of words as tests/vm passes them on (SC1007 SC2054
      # SC2128 SC2178 SC2206), modes of one new directory (SC2174).
      status=0
      git ls-files '*.sh' .ci/run | xargs shellcheck -s bash -S warning -e SC1007,SC1091,SC2034,SC2054,SC2128,SC2154,SC2174,SC2178,SC2206 \
        >"$results/lint" 2>&1 || status=1
      [ $status -eq 0 ] || cat "$results/lint"
      count "shellcheck" $status
      ;;
    dev) test_build dev ;;
    asan) test_build asan-ubsan ;;
    tsan) test_build tsan ;;
    quickstart)
      say "quickstart"
      if examples/quickstart.sh >"$results/quickstart" 2>&1 </dev/null; then count "quickstart" 0; else tail -n 40 "$results/quickstart"; count "quickstart" 1; fi
      # Of the same build.
      if examples/readers.sh build/release/broker build/release/client/cli >"$results/readers" 2>&1 </dev/null; then count "readers" 0; else tail -n 40 "$results/readers"; count "readers" 1; fi
      ;;
    fuzz) test_build fuzz ;;
    tidy)
      say "clang-tidy"
      build dev || { count "clang-tidy: build" 1; continue; }
      # What this build compiles; stand-ins for what other machines lack are compiled there.
      git ls-files '*.cpp' | grep -Ff - build/dev/compile_commands.json | sed -n "s|^ *\"file\": \"$PWD/\(.*\.cpp\)\",*$|\1|p" |
        sort -u | xargs -P "$(nproc)" -n 1 clang-tidy -p build/dev --quiet >"$results/tidy" 2>/dev/null
      status=$?
      [ $status -eq 0 ] || grep -E 'error:|warning:' "$results/tidy" | sort -u | head -n 40
      count "clang-tidy" $status
      ;;
    vm)
      say "guest: real NVM, devdax, PCI BARs and BPF LSM (in the background: its results come last)"
      build dev || { count "guest: build" 1; continue; }
      MAPCAP_BUILD=$PWD/build/dev setsid nice -n -5 bash tests/vm/suite.sh >"$results/vm" 2>&1 </dev/null &
      guest=$!
      ;;
    bench)
      say "benchmarks"
      # shellcheck disable=SC2086
      install_packages $bench_packages
      build release || { count "bench: build" 1; continue; }
      for bench in build/release/tests/bench/*_bench; do
        case $bench in */rivals_bench | */scale_bench) continue ;; esac # run.sh's.
        status=0
        "$bench" || status=$?
        count "bench: $(basename "$bench")" $status "needs root"
      done
      tests/bench/run.sh --build build/release
      count "bench: run.sh" $?
      ;;
    system)
      say "system: the installed unit under a real service manager"
      # shellcheck disable=SC2086
      install_packages $system_packages
      build dev || { count "system: build" 1; continue; }
      MAPCAP_BUILD=$PWD/build/dev in_a_tree system
      ;;
    packages)
      say "packages: the Debian packages in a Debian that has nothing else"
      # shellcheck disable=SC2086
      install_packages $system_packages
      build debian || { count "packages: build" 1; continue; }
      MAPCAP_BUILD=$PWD/build/debian in_a_tree packages
      ;;
    programs)
      say "programs: Debian's, with a region under a path of theirs"
      # shellcheck disable=SC2086
      install_packages $program_packages
      build dev || { count "programs: build" 1; continue; }
      MAPCAPD=$PWD/build/dev/broker/mapcapd MAPCAP=$PWD/build/dev/client/cli/mapcap \
        MAPCAP_LIBRARY=$PWD/build/dev/client/libmapcap.so.0 PYTHONDONTWRITEBYTECODE=1 \
        PYTHONPATH=client/python:tests/python /usr/bin/python3 tests/programs/run.py >"$results/programs" 2>&1 </dev/null
      read -r -a counts < <(tail -n 1 "$results/programs" | grep -E '^[0-9]+ passed' | tr -dc '0-9 \n' | tr -s ' ')
      if [ ${#counts[@]} -eq 3 ]; then
        passed=$((passed + counts[0])) failed=$((failed + counts[1])) skipped=$((skipped + counts[2]))
        grep -E '^skip ' "$results/programs"
        [ "${counts[1]}" -eq 0 ] || cat "$results/programs"
      else
        cat "$results/programs"
        count "programs" 1
      fi
      ;;
    *) die "there is no stage $stage; there are lint dev quickstart vm system asan tsan fuzz tidy bench programs" ;;
  esac
  took="$took $stage $((SECONDS - stage_began)) s,"
  echo "-- $stage took $((SECONDS - stage_began)) s"
done

join_guest
if [ -s "$results/failures" ]; then
  say "what failed tests printed"
  cat "$results/failures"
fi
say "all of it took $((SECONDS - began)) s:${took%,}"
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
