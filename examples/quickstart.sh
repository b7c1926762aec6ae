#!/usr/bin/env bash
# What mapcap does, before your eyes: installs what it needs, builds, starts a broker on its built-in policy, and
# walks once through its main job. Safe to repeat; leaves nothing running or mounted.
set -eu -o pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
. tests/support/packages.sh
become_root "$@"
# shellcheck disable=SC2086
install_packages $build_packages

say "building (the first time takes some minutes)"
cmake --preset release -DMAPCAP_BENCHMARKS=OFF >/dev/null || die "cmake could not configure the build"
cmake --build --preset release --target mapcapd mapcap tour || die "the build failed: see above"
bin=$PWD/build/release
PATH=$bin/broker:$bin/client/cli:$bin/examples:$PATH

work=$(mktemp -d /tmp/mapcap-quickstart.XXXXXX)
export MAPCAP_SOCKET=$work/socket
chmod 0755 "$work"
broker=
children=()

start_broker() {
  mapcapd --state "$work/state" 2>>"$work/broker.log" &
  broker=$!
  for _ in $(seq 100); do
    mapcap pools >/dev/null 2>&1 && return
    kill -0 "$broker" 2>/dev/null || break
    sleep 0.05
  done
  cat "$work/broker.log" >&2
  die "the broker did not start; \`$bin/client/cli/mapcap doctor\` says what this machine lacks"
}
clean_up() {
  rm -f "$work/holding"
  for child in "${children[@]:-}"; do [ -n "$child" ] && kill "$child" 2>/dev/null && wait "$child" 2>/dev/null || true; done
  # A signal would leave the regions, and the keeper that holds them, for the next broker.
  if [ -n "$broker" ] && kill -0 "$broker" 2>/dev/null; then
    mapcap shutdown --end-regions --yes >/dev/null || true
    wait "$broker" || true
  fi
  rm -rf "$work"
}
trap clean_up EXIT

# A real file of some 100 MB: the largest one that this machine has in that range, else a piece of its programs.
real_file() {
  local found
  found=$(find /usr /opt /boot -xdev -type f -size +60M -size -160M -printf '%s %p\n' 2>/dev/null | sort -rn | head -n 1 | cut -d' ' -f2-)
  if [ -z "$found" ]; then
    found=$work/file
    (tar -cf - /usr/lib /usr/bin 2>/dev/null || true) | head -c 100M >"$found" || true
  fi
  echo "$found"
}
as_nobody() { setpriv --reuid=65534 --regid=65534 --clear-groups --no-new-privs "$@"; }

started=$(date +%s%N)
say "starting mapcapd on the built-in policy: one DRAM pool, everybody under their own name"
start_broker
mapcap pools

file=$(real_file)
bytes=$(stat -c %s "$file")
say "a region, filled through its mapping with $file ($((bytes >> 20)) MiB)"
mapcap create root/demo --size "$bytes" --mode 0644 --revocable
mapcap fill root/demo "$file"

say "a process of user nobody gets a read-only grant and hashes what it maps"
want=$(sha256sum <"$file")
got=$(mapcap run root/demo:ro -- setpriv --reuid=65534 --regid=65534 --clear-groups --no-new-privs "$bin/examples/tour" bytes | head -c "$bytes" | sha256sum)
echo "   the file    $want"
echo "   the mapping $got"
[ "$want" = "$got" ] || die "the hashes differ"

say "on the same descriptor, everything but mmap is refused"
as_nobody "$bin/client/cli/mapcap" run root/demo:ro -- "$bin/examples/tour" refused || die "an operation got through"

say "a writer's store is seen by a reader"
as_nobody "$bin/client/cli/mapcap" run root/demo:ro -- "$bin/examples/tour" await 4096 hello-from-the-writer & children+=($!)
mapcap run root/demo:rw -- "$bin/examples/tour" store 4096 hello-from-the-writer
wait "${children[-1]}" || die "the reader did not see the store"
children=()
echo "   the reader saw it"

say "a create over quota is refused"
mapcap quota set --user nobody --bytes 1M
if as_nobody "$bin/client/cli/mapcap" create nobody/too-much --size 2M; then die "it was not refused"; fi

say "what there is"
mapcap list

say "the broker is killed with -9 while a process holds a mapping, and started again"
touch "$work/holding" && chmod 0666 "$work/holding"
as_nobody "$bin/client/cli/mapcap" run root/demo:ro -- "$bin/examples/tour" hold "$work/holding" & children+=($!)
sleep 0.3
kill -9 "$broker"; wait "$broker" 2>/dev/null || true
start_broker
mapcap list
cmp -n 4096 "$file" <(mapcap run root/demo:ro -- "$bin/examples/tour" bytes) || die "the region lost its contents"
rm "$work/holding"
wait "${children[-1]}" || die "the mapping broke"
children=()

say "revoke ends it"
mapcap revoke root/demo
mapcap list
if mapcap run root/demo:ro -- true; then die "it can still be opened"; fi
say "done in $((($(date +%s%N) - started) / 1000000)) ms after the build; nothing is left running"
