# Sourced by what tests in a Debian of its own: tests/system/run.sh, tests/packages/run.sh.

# debian_tree TREE PACKAGE,...: makes a Debian 12 with these and no recommended packages, where it is not there yet, from the
# mirror that this machine's apt uses, or else debootstrap's own. Prints why and returns 1 where none can be had.
debian_tree() {
  local tree=$1 packages=$2 mirror
  [ "$(cat "$tree/.complete" 2>/dev/null)" = "$packages" ] && return
  rm -rf "$tree"
  mkdir -p "$(dirname "$tree")"
  mirror=$(sed -n 's/^URIs: *\([^ ]*\).*/\1/p; s/^deb \(\[[^]]*\] \)\?\([^ ]*debian[^ ]*\) .*/\2/p' /etc/apt/sources.list \
    /etc/apt/sources.list.d/debian.sources 2>/dev/null | head -n 1)
  # What is made once and can be made again need not be on the disk at every step.
  if ! DPKG_FORCE=unsafe-io debootstrap --variant=minbase --include="$packages" bookworm "$tree" ${mirror:+"$mirror"} >"$tree.log" 2>&1; then
    tail -n 3 "$tree.log"
    echo "no Debian tree can be had from ${mirror:-the mirror that debootstrap knows}"
    return 1
  fi
  rm -rf "$tree"/var/cache/apt/archives/*.deb
  echo "$packages" >"$tree/.complete"
}
