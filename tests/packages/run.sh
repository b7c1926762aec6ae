#!/usr/bin/env bash
# The Debian packages of a build in a Debian that has nothing but what they say they depend on, and a compiler: installed by
# dpkg without a network, used as the README says, as root and as nobody, and purged (steps.sh).
#
#     MAPCAP_BUILD=$PWD/build/debian tests/packages/run.sh
#
# The Debian is made once, below build/packages or $MAPCAP_PACKAGES_CACHE. Prints "ok" or "FAIL" and what was done, and
# "N passed, N failed" at last; exit status 77 and one line where it cannot run. Leaves nothing mounted or running.
set -u -o pipefail
here=$(dirname "$(readlink -f "$0")")
root=$(readlink -f "$here/../..")
build=$(readlink -f "${MAPCAP_BUILD:-$root/build/debian}")
cache=${MAPCAP_PACKAGES_CACHE:-$root/build/packages}
skip() { echo "skip: $1"; exit 77; }
. "$here/../support/debian_tree.sh"

[ "$(id -u)" = 0 ] || skip "needs root"
[ -e "$build/CPackConfig.cmake" ] || skip "there is no build in $build"
for tool in debootstrap unshare dpkg-shlibdeps; do
  command -v $tool >/dev/null || skip "$tool is not installed"
done

work=$(mktemp -d /tmp/mapcap-clean.XXXXXX)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
(cd "$work" && cpack --config "$build/CPackConfig.cmake" -B "$work/packages" >"$work/cpack.log" 2>&1) ||
  { cat "$work/cpack.log"; echo "FAIL packages: cpack"; echo "0 passed, 1 failed"; exit 1; }

# What they need, by the first of each "a | b (>= 1)", without each other.
own=$(for file in "$work"/packages/*.deb; do dpkg-deb -f "$file" Package; done)
needed=$(for file in "$work"/packages/*.deb; do dpkg-deb -f "$file" Depends; done | tr ',' '\n' |
  sed -E 's/^ *([^ (|]+).*/\1/' | sort -u | grep -vxF "$own" | paste -sd ,)
why=$(debian_tree "$cache/tree" "build-essential,cmake,pkg-config,$needed") || skip "$(tail -n 1 <<<"$why")"

cp -a --reflink=auto "$cache/tree" "$work/tree" || exit 1
mkdir -p "$work/tree/root/given"
cp "$work"/packages/*.deb "$root/README.md" "$root/tests/interface/readme_steps.sh" "$here/steps.sh" "$work/tree/root/given/"
chmod -R a+rX "$work/tree/root"
# The trees are nobody else's, and what is mounted is gone with the last process.
unshare --mount --pid --fork --kill-child --mount-proc="$work/tree/proc" chroot "$work/tree" \
  /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 bash /root/given/steps.sh </dev/null
