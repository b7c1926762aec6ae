#!/usr/bin/env bash
# Makes the Debian packages of this build, looks into them, and installs them into an empty root of dpkg's.
#
#     packages.sh BUILD
set -eu -o pipefail
build=$(readlink -f "$1")
work=$(mktemp -d /tmp/mapcap-packages.XXXXXX)
trap 'rm -rf "$work"' EXIT
wrong=0
say() { echo "$*"; wrong=1; }

(cd "$work" && cpack --config "$build/CPackConfig.cmake" -B "$work/packages" >"$work/cpack.log" 2>&1) ||
  { cat "$work/cpack.log"; exit 1; }
# package NAME: its file.
package() { find "$work/packages" -maxdepth 1 -name "$1_*.deb" | head -n 1; }
# holds NAME PATH...: each is in that package.
holds() {
  local file
  file=$(package "$1")
  [ -n "$file" ] || { say "there is no package $1"; return; }
  local name=$1 path
  dpkg-deb -c "$file" | awk '{ print $6 }' | sed 's|^\./||' >"$work/$name.list"
  shift
  for path in "$@"; do grep -qE "^$path\$" "$work/$name.list" || say "$name does not hold $path"; done
}
# depends NAME WORD...: its Depends names each.
depends() {
  local name=$1 word listed
  shift
  listed=$(dpkg-deb -f "$(package "$name")" Depends)
  for word in "$@"; do grep -qE "(^|[ ,])$word" <<<"$listed" || say "$name depends on \"$listed\", not on $word"; done
}

holds mapcap usr/bin/mapcap usr/sbin/mapcapd usr/lib/systemd/system/mapcapd.service etc/mapcap/policy.toml \
  'usr/lib/.*libmapcap-preload.so' usr/share/bash-completion/completions/mapcap
holds libmapcap0 'usr/lib/.*libmapcap.so.0'
holds libmapcap-dev usr/include/mapcap.h usr/include/mapcap_endpoint.h usr/include/mapcap_service.h usr/include/mapcap/testing.h 'usr/lib/.*libmapcap.so' 'usr/lib/.*pkgconfig/mapcap.pc' \
  usr/share/mapcap/mapcap.capnp
holds python3-mapcap usr/lib/python3/dist-packages/mapcap/py.typed
depends mapcap libc6 libseccomp2 libpmem2
depends libmapcap0 libc6 libcapnp libpmem2
depends libmapcap-dev libmapcap0
depends python3-mapcap python3 libmapcap0
dpkg-deb -I "$(package mapcap)" conffiles >"$work/conffiles" && grep -qx /etc/mapcap/policy.toml "$work/conffiles" ||
  say "the policy is no conffile of mapcap"

root=$work/root
mkdir -p "$root/var/lib/dpkg/info" "$root/var/lib/dpkg/updates"
: >"$root/var/lib/dpkg/status"
dpkg --root="$root" --log=/dev/null --force-depends --force-not-root --force-script-chrootless --unpack "$work"/packages/*.deb \
  >"$work/dpkg.log" 2>&1 || { cat "$work/dpkg.log"; say "dpkg does not unpack the packages"; }
grep -q "^ExecStart=/usr/sbin/mapcapd --policy /etc/mapcap/policy.toml$" "$root/usr/lib/systemd/system/mapcapd.service" ||
  say "the unit does not name where things are installed"
said=$("$root/usr/bin/mapcap" dev -- "$root/usr/bin/mapcap" create packaged/region --size 1M 2>&1) || say "mapcap dev: $said"
exit $wrong
