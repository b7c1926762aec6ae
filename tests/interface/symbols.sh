#!/bin/sh
# Compares what libmapcap.so exports with symbols.txt: what users link against is neither lost nor added by chance.
#
#     symbols.sh LIBRARY EXPECTED          fails with the difference; to accept it: nm as below > EXPECTED
set -eu
found=$(mktemp)
trap 'rm -f "$found"' EXIT
nm -D --defined-only --with-symbol-versions "$1" | awk '$2 != "A" { print $3 }' | LC_ALL=C sort >"$found"
if ! diff -u "$2" "$found"; then
  echo "libmapcap exports something else than $2 says (- is missing, + is new)"
  exit 1
fi
