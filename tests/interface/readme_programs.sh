#!/usr/bin/env bash
# Does what the README says of its first programs (readme_steps.sh) with an installation of this build, and nothing but that
# and the system's own directories around; looks whether the library needs what the page says.
#
#     readme_programs.sh SOURCE BUILD
set -eu -o pipefail
source=$(readlink -f "$1") build=$(readlink -f "$2")
work=$(mktemp -d /tmp/mapcap-readme.XXXXXX)
trap 'rm -rf "$work"' EXIT
die() { echo "$*" >&2; exit 1; }

prefix=$work/prefix
cmake --install "$build" --prefix "$prefix" >"$work/install.log" || { cat "$work/install.log"; die "the installation failed"; }
libraries=$(dirname "$(find "$prefix" -name libmapcap.so)")
[ -d "$libraries/pkgconfig" ] || die "no pkg-config file is installed in $libraries/pkgconfig"

# As a login has it whose prefix this is.
mkdir "$work/first"
cd "$work/first"
env -i PATH="$prefix/bin:$prefix/sbin:/usr/bin:/bin:/usr/sbin:/sbin" HOME="$work" TMPDIR=/tmp LD_LIBRARY_PATH="$libraries" \
  PKG_CONFIG_PATH="$libraries/pkgconfig" CMAKE_PREFIX_PATH="$prefix" PYTHONDONTWRITEBYTECODE=1 \
  PYTHONPATH="$prefix/lib/python3/dist-packages" bash "$source/tests/interface/readme_steps.sh" "$source/README.md"

# What the page says that the library needs is what the loader is told, and nothing else but C and its own runtime.
said=$(tr '\n' ' ' <"$source/README.md" | sed -n 's/.*At run time libmapcap.so needs \([^.]*\)\..*/\1/p' | grep -oE '\<lib[a-z0-9]+' | grep -vx library | sort)
needs() { readelf -d "$1" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | sed 's/\.so.*//; s/-[0-9.]*$//' | grep -vxE "$2" | sort; }
found=$(needs "$libraries/libmapcap.so" 'libstdc\+\+|libgcc_s|libc|libm|ld-linux.*')
[ -n "$said" ] && [ "$said" = "$found" ] || die "README.md says that libmapcap.so needs" $said "and it needs" $found
found=$(needs "$(find "$libraries" -name libmapcap-preload.so)" 'libc|ld-linux.*') || true
[ -z "$found" ] || die "libmapcap-preload.so brings $found into other people's programs"
echo "ok   libmapcap.so needs what the page says:" $said
