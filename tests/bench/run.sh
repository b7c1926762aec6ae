#!/usr/bin/env bash
# mapcap beside a plain C server (the floor), sd-bus peer to peer and through dbus-daemon, and shm_open: builds what it
# needs, measures, and says it in tables and plots.
#
#     tests/bench/run.sh [--quick|--full] [--build DIR] [--out DIR]
#
# About three minutes on two processors; --quick 40 s, --full a quarter of an hour. DIR of --build: a build directory that is
# there already (default build/release, which is built). Tables on the terminal; report.md, report.json and *.svg in --out
# (default bench-report in the build directory). What cannot be had here is left out by name. Needs root; leaves nothing
# running or mounted. What is measured: README.md beside this file.
set -u -o pipefail
cd "$(dirname "$(readlink -f "$0")")/../.." || exit 1
. tests/support/packages.sh

size=default build= out=
while [ $# -gt 0 ]; do
  case $1 in
    --quick | --full) size=${1#--}; shift ;;
    --build) build=${2:?--build needs a directory}; shift 2 ;;
    --out) out=${2:?--out needs a directory}; shift 2 ;;
    *) die "there is no option $1" ;;
  esac
done
[ "$(id -u)" -eq 0 ] || { echo "run.sh: needs root, because it starts mapcapd" >&2; exit 77; }

if [ -z "$build" ]; then
  build=build/release
  say "building $build"
  log=$(mktemp)
  launcher=()
  command -v ccache >/dev/null && launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
  cmake --preset release "${launcher[@]}" >"$log" 2>&1 &&
    cmake --build --preset release --target mapcapd mapcap rivals_bench scale_bench >>"$log" 2>&1 ||
    { tail -n 40 "$log"; rm -f "$log"; die "does not build"; }
  rm -f "$log"
fi
out=${out:-$build/bench-report}
mkdir -p "$out" || exit 1
rm -f "$out"/*.svg "$out"/*.jsonl "$out"/report.*

# Where servers run, and where clients do when they are apart.
processors=$(nproc)
cpus=(--cpu 0 --other-cpu $((processors > 1 ? 1 : 0)))
case $size in
  quick) rivals=(--rounds 3 --slot 25 --sustained 2 --memory 3 --clients 1 --clients 8) regions=10000 ;;
  default) rivals=(--rounds 12 --slot 50 --sustained 4 --memory 7) regions=100000 ;;
  full) rivals=(--rounds 40 --slot 100 --sustained 30 --memory 15) regions=1000000 ;;
esac
status=0
say "beside others ($size)"
"$build/tests/bench/rivals_bench" "${rivals[@]}" "${cpus[@]}" >"$out/rivals.jsonl" || status=$?
if [ $status -eq 0 ]; then
  say "among many regions"
  taskset -c 0 "$build/tests/bench/scale_bench" --json $regions >"$out/scale.jsonl" || status=$?
fi
[ $status -eq 0 ] || die "a benchmark ended with $status; what it wrote is in $out"
last=$(sed -n 's/.*"regions": \([0-9]*\),.*/\1/p' "$out/scale.jsonl" | tail -n 1)
[ "${last:-0}" -ge $regions ] ||
  echo "{\"kind\": \"missing\", \"way\": \"$regions live regions\", \"reason\": \"broker and keeper hold a descriptor of each, and the limit on open files is $(ulimit -Hn)\"}" >>"$out/scale.jsonl"

machine="$(date -u +%Y-%m-%d), $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), $processors processors, Linux $(uname -r), load $(cut -d' ' -f1 /proc/loadavg), $size run"
PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 tests/bench/report.py "$out" "$machine" "$out/rivals.jsonl" "$out/scale.jsonl" || exit 1
echo "tables, figures and plots: $out"
