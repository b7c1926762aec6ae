#!/usr/bin/env bash
# Copies the first programs from the README, builds them against an installation of this build, with pkg-config and with
# CMake, and runs them with nothing but that installation and the system's own directories around them.
#
#     readme_programs.sh SOURCE BUILD
set -eu -o pipefail
source=$(readlink -f "$1") build=$(readlink -f "$2")
work=$(mktemp -d /tmp/mapcap-readme.XXXXXX)
trap 'rm -rf "$work"' EXIT
die() { echo "$*" >&2; exit 1; }

# program FILE: the indented block behind the paragraph that names it.
program() {
  awk -v name="\`$1\`" '
    index($0, name) && !found { found = 1; next }
    found && /^    / { inside = 1; sub(/^    /, ""); print; next }
    inside && /^$/ { print; next }
    inside { exit }' "$source/README.md" >"$work/$1"
  [ -s "$work/$1" ] || die "README.md shows no $1"
}
for file in first.cpp first.c first.py CMakeLists.txt; do program "$file"; done

prefix=$work/prefix
cmake --install "$build" --prefix "$prefix" >"$work/install.log" || { cat "$work/install.log"; die "the installation failed"; }
libraries=$(dirname "$(find "$prefix" -name libmapcap.so)")
[ -d "$libraries/pkgconfig" ] || die "no pkg-config file is installed in $libraries/pkgconfig"

# clean COMMAND...: as a login has it whose prefix this is.
clean() {
  env -i PATH="$prefix/bin:$prefix/sbin:/usr/bin:/bin:/usr/sbin:/sbin" HOME="$work" TMPDIR=/tmp LD_LIBRARY_PATH="$libraries" \
    PKG_CONFIG_PATH="$libraries/pkgconfig" CMAKE_PREFIX_PATH="$prefix" PYTHONDONTWRITEBYTECODE=1 \
    PYTHONPATH="$prefix/lib/python3/dist-packages" "$@"
}
# says TEXT PROGRAM...: under a broker of its own.
says() {
  local text=$1 said
  shift
  said=$(clean mapcap dev -- "$@" 2>"$work/errors") || { cat "$work/errors"; die "$* failed"; }
  [ "$said" = "$text" ] || die "$* says \"$said\" and not \"$text\""
  echo "ok   $*: $said"
}

cd "$work"
# The lines of the page.
build_line() { sed -n "s/.*\`\($1 [^\`]* $2 [^\`]*\)\`.*/\1/p" "$source/README.md" | head -n 1; }
for kind in "c++ first.cpp" "cc first.c"; do
  read -r compiler file <<<"$kind"
  line=$(build_line "$compiler" "$file")
  [ -n "$line" ] || die "README.md does not say how $file is built"
  clean sh -c "$line" || die "$line: failed"
  mv first "first-$compiler"
done
says "hello from C++" ./first-c++
says "hello from C" ./first-cc
says "hello from Python" /usr/bin/python3 first.py
clean cmake -S . -B cmake-build >"$work/cmake.log" && clean cmake --build cmake-build >>"$work/cmake.log" ||
  { cat "$work/cmake.log"; die "the CMake project does not build"; }
says "hello from C++" ./cmake-build/first_cpp
says "hello from C" ./cmake-build/first_c

# Older C++ is told so, in one error.
if errors=$(clean sh -c 'c++ -std=c++17 -fsyntax-only first.cpp $(pkg-config --cflags mapcap)' 2>&1); then
  die "<mapcap/mapcap.h> compiles as C++17"
fi
header_errors=$(grep -c "include/mapcap/.*error" <<<"$errors" || true)
[ "$header_errors" -eq 1 ] || die "<mapcap/mapcap.h> gives $header_errors errors as C++17: $errors"
grep -q "needs C++20" <<<"$errors" || die "<mapcap/mapcap.h> does not say that it needs C++20: $errors"
echo "ok   C++17 is told what the header needs"
