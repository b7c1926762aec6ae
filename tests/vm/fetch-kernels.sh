#!/usr/bin/env bash
# Puts Debian kernels, and the few tools a guest needs that the host may lack, into the cache.
#
#   tests/vm/fetch-kernels.sh [6.12|6.1]...      (default: both)
#
# Packages come from the package sources that this machine is configured with, through apt-get
# download, and are unpacked with dpkg-deb -x: nothing is installed and /etc/apt stays as it is.
# Where those sources have no 6.12, the same mirror's bookworm-backports suite is asked, through a
# private apt configuration inside the cache.
#
# Result: $MAPCAP_VM_CACHE/kernel-VERSION/{vmlinuz,release,lib/modules/RELEASE} and, where the host
# has no mkfs.xfs, $MAPCAP_VM_CACHE/tools. Exit 77, with one "skip:" line, when they cannot be had.

set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${MAPCAP_VM_CACHE:-$(cd "$here/../.." && pwd)/build/vm}

skip() {
    echo "skip: $1: $2" >&2
    exit 77
}

# The concrete package behind a meta package, e.g. linux-image-6.1.0-56-amd64. Empty when unknown.
concrete_package() { # META [APT-OPTION...]
    local meta=$1
    shift
    apt-cache "$@" depends --no-recommends --no-suggests "$meta" 2>/dev/null |
        awk '$1 == "Depends:" && $2 ~ /^linux-image-[0-9]/ { print $2; exit }'
}

# apt options that add the configured Debian mirror's backports, kept apart from the system's lists.
backports_options() {
    local apt=$cache/apt uri keyring
    uri=$(apt-get indextargets --format '$(REPO_URI) $(SUITE)' 'Created-By: Packages' 2>/dev/null |
        awk '$2 == "bookworm" || $2 == "stable" || $2 == "oldstable" { print $1; exit }')
    [ -n "$uri" ] || return 1
    keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    mkdir -p "$apt/lists/partial" "$apt/archives/partial"
    echo "deb [signed-by=$keyring] $uri bookworm-backports main" > "$apt/sources.list"
    echo "-o Dir::Etc::SourceList=$apt/sources.list -o Dir::Etc::SourceParts=/dev/null" \
        "-o Dir::State::Lists=$apt/lists -o Dir::Cache=$apt"
}

download_and_unpack() { # DIRECTORY PACKAGE... -- [APT-OPTION...]
    local into=$1 packages=()
    shift
    while [ $# -gt 0 ] && [ "$1" != -- ]; do
        packages+=("$1")
        shift
    done
    shift
    local downloads
    downloads=$(mktemp -d "$cache/download.XXXXXX")
    # The sandbox user cannot write into the cache of another user, and need not: we unpack only.
    if ! (cd "$downloads" && apt-get -qq -o APT::Sandbox::User=root "$@" download "${packages[@]}"); then
        rm -rf "$downloads"
        return 1
    fi
    rm -rf "$into.part"
    mkdir -p "$into.part"
    local deb
    for deb in "$downloads"/*.deb; do
        dpkg-deb -x "$deb" "$into.part"
    done
    rm -rf "$downloads"
}

fetch_kernel() { # 6.12|6.1
    local version=$1 meta package options=()
    local into=$cache/kernel-$version
    [ -e "$into/release" ] && return 0
    case $version in
    6.12) meta=linux-image-6.12-amd64 ;;
    6.1) meta=linux-image-amd64 ;;
    *)
        echo "fetch-kernels.sh: unknown kernel '$version': use 6.12 or 6.1" >&2
        exit 2
        ;;
    esac
    package=$(concrete_package "$meta")
    if [ -z "$package" ] && [ "$version" = 6.12 ]; then
        read -ra options <<< "$(backports_options || true)"
        [ ${#options[@]} -gt 0 ] && apt-get -qq "${options[@]}" update > /dev/null 2>&1 &&
            package=$(concrete_package linux-image-amd64 "${options[@]}")
    fi
    case $package in
    linux-image-"$version".*) ;;
    *) skip "kernel-$version" "no package source of this machine offers $meta (try: apt-get update)" ;;
    esac
    echo "vm: fetching $package" >&2
    download_and_unpack "$into" "$package" -- "${options[@]}" ||
        skip "kernel-$version" "cannot download $package"

    local part=$into.part release
    release=$(basename "$part"/lib/modules/*)
    mv "$part/boot/vmlinuz-$release" "$part/vmlinuz"
    rm -rf "${part:?}/usr/share"
    depmod -b "$part" "$release"
    echo "$release" > "$part/release"
    rm -rf "$into"
    mv "$part" "$into"
}

# mkfs.xfs with the libraries that a host without it may lack as well.
fetch_tools() {
    local into=$cache/tools
    [ -e "$into" ] && return 0
    if command -v mkfs.xfs > /dev/null; then return 0; fi
    echo "vm: fetching xfsprogs" >&2
    if download_and_unpack "$into" xfsprogs libinih1 liburcu8 libedit2 --; then
        rm -rf "${into:?}.part/usr/share"
        mv "$into.part" "$into"
    else
        echo "vm: no mkfs.xfs: cases on XFS will be skipped" >&2
    fi
}

for tool in apt-get apt-cache dpkg-deb depmod flock; do
    command -v "$tool" > /dev/null || skip kernels "$tool is not installed"
done
mkdir -p "$cache"
exec 9> "$cache/lock"
flock 9
[ $# -gt 0 ] || set -- 6.12 6.1
for version in "$@"; do
    fetch_kernel "$version"
done
fetch_tools
