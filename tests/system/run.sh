#!/usr/bin/env bash
# The installed unit under a real service manager: boots a Debian tree with systemd in a container, installs the build
# into it as `cmake --install` does, and does to the service what administrators and accidents do.
#
#     MAPCAP_BUILD=$PWD/build/dev tests/system/run.sh [CASE...]      every case of tests/system/cases.sh, or those named
#     MAPCAP_BUILD=$PWD/build/dev tests/system/run.sh -- COMMAND...  a command in the booted container
#
# The tree is made once, below build/system or $MAPCAP_SYSTEM_CACHE. Prints "ok", "FAIL" or "skip" and the case's name, and
# "N passed, N failed" at last; exit status 77 and one line where it cannot run. Leaves nothing mounted or running.
set -u -o pipefail
here=$(dirname "$(readlink -f "$0")")
root=$(readlink -f "$here/../..")
build=$(readlink -f "${MAPCAP_BUILD:-$root/build/dev}")
cache=${MAPCAP_SYSTEM_CACHE:-$root/build/system}
skip() { echo "skip: $1"; exit 77; }

[ "$(id -u)" = 0 ] || skip "needs root"
[ -x "$build/broker/mapcapd" ] || skip "mapcapd is not built in $build"
[ -c /dev/fuse ] || skip "there is no /dev/fuse"
for tool in systemd-nspawn debootstrap nsenter strip; do
  command -v $tool >/dev/null || skip "$tool is not installed"
done

# ---- the tree ---------------------------------------------------------------------------------------------

. "$here/../support/debian_tree.sh"
why=$(debian_tree "$cache/tree" systemd,systemd-sysv,procps,util-linux) || skip "$(tail -n 1 <<<"$why")"

work=$(mktemp -d /tmp/mapcap-system.XXXXXX)
tree=$work/tree
machine= # process id of systemd-nspawn
leader=  # of the container's init, seen from here
clean_up() {
  if [ -n "$machine" ] && kill -0 "$machine" 2>/dev/null; then
    kill -TERM "$machine" # an orderly poweroff
    for _ in $(seq 100); do kill -0 "$machine" 2>/dev/null || break; sleep 0.1; done
    [ -z "$leader" ] || kill -9 "$leader" 2>/dev/null
    for _ in $(seq 50); do kill -0 "$machine" 2>/dev/null || break; sleep 0.1; done
    kill -9 "$machine" 2>/dev/null
    wait "$machine" 2>/dev/null
  fi
  rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

cp -a --reflink=auto "$cache/tree" "$tree" || exit 1
DESTDIR=$tree cmake --install "$build" --prefix /usr >"$work/install" 2>&1 || { cat "$work/install"; exit 1; }
# What the programs link and the tree lacks.
ldd "$build/broker/mapcapd" "$build/client/cli/mapcap" | sed -n 's/.* => \(\/[^ ]*\) .*/\1/p' | sort -u |
  while read -r library; do
    [ -e "$tree$library" ] || cp -L "$library" "$tree/usr/lib/$(basename "$(dirname "$library")")/"
  done
cp "$here/cases.sh" "$tree/root/"
# Another build of the same program.
strip -o "$tree/root/mapcapd.other" "$tree/usr/sbin/mapcapd"
ln -sf /dev/null "$tree/etc/systemd/system/systemd-networkd.service"

# ---- the machine ------------------------------------------------------------------------------------------

systemd-nspawn --quiet --directory="$tree" --boot --register=no --keep-unit --capability=all --bind=/dev/fuse \
  --system-call-filter="bpf perf_event_open @mount @privileged @keyring" --console=pipe >"$work/console" 2>&1 </dev/null &
machine=$!
inside() { nsenter --target "$leader" --all env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"; }
booted=
for _ in $(seq 300); do
  kill -0 "$machine" 2>/dev/null || break
  leader=$(pgrep -P "$machine" | head -n 1)
  if [ -n "$leader" ] && inside systemctl is-system-running 2>/dev/null | grep -qE '^(running|degraded)$'; then booted=yes; break; fi
  sleep 0.2
done
if [ -z "$booted" ]; then
  tail -n 20 "$work/console"
  skip "systemd does not boot in a container here"
fi

if [ "${1:-}" = -- ]; then
  shift
  inside "$@"
  exit
fi
inside bash /root/cases.sh "$@"
status=$?
[ $status -eq 0 ] || inside journalctl --no-pager -n 60 -u mapcapd
exit $status
