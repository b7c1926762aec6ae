#!/usr/bin/env bash
# Does what the README says of its first programs, word for word, in the current directory, which is empty, with the mapcap that
# is installed where this environment looks for one: copies the programs from the page, builds them with pkg-config and with
# CMake, and runs them.
#
#     readme_steps.sh README
set -eu -o pipefail
readme=$1
die() { echo "$*" >&2; exit 1; }

# program FILE: the indented block behind the paragraph that names it.
program() {
  awk -v name="\`$1\`" '
    index($0, name) && !found { found = 1; next }
    found && /^    / { inside = 1; sub(/^    /, ""); print; next }
    inside && /^$/ { print; next }
    inside { exit }' "$readme" >"$1"
  [ -s "$1" ] || die "README.md shows no $1"
}
for file in first.cpp first.c first.py CMakeLists.txt; do program "$file"; done

# says TEXT PROGRAM...: under a broker of its own.
says() {
  local text=$1 said
  shift
  said=$(mapcap dev -- "$@" 2>errors) || { cat errors; die "$* failed"; }
  [ "$said" = "$text" ] || die "$* says \"$said\" and not \"$text\""
  echo "ok   $*: $said"
}

# The lines of the page.
build_line() { sed -n "s/.*\`\($1 [^\`]* $2 [^\`]*\)\`.*/\1/p" "$readme" | head -n 1; }
for kind in "c++ first.cpp" "cc first.c"; do
  read -r compiler file <<<"$kind"
  line=$(build_line "$compiler" "$file")
  [ -n "$line" ] || die "README.md does not say how $file is built"
  sh -c "$line" || die "$line: failed"
  mv first "first-$compiler"
done
says "hello from C++" ./first-c++
says "hello from C" ./first-cc
says "hello from Python" /usr/bin/python3 first.py
cmake -S . -B cmake-build >cmake.log && cmake --build cmake-build >>cmake.log || { cat cmake.log; die "the CMake project does not build"; }
says "hello from C++" ./cmake-build/first_cpp
says "hello from C" ./cmake-build/first_c

# Older C++ is told so, in one error.
if errors=$(sh -c 'c++ -std=c++17 -fsyntax-only first.cpp $(pkg-config --cflags mapcap)' 2>&1); then
  die "<mapcap/mapcap.h> compiles as C++17"
fi
header_errors=$(grep -c "include/mapcap/.*error" <<<"$errors" || true)
[ "$header_errors" -eq 1 ] || die "<mapcap/mapcap.h> gives $header_errors errors as C++17: $errors"
grep -q "needs C++20" <<<"$errors" || die "<mapcap/mapcap.h> does not say that it needs C++20: $errors"
echo "ok   C++17 is told what the header needs"
