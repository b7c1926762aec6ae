#!/bin/sh
# Prints where each field of the protocol lies, from the schema: what docs/protocol-layout.txt holds.
#
#     layout.sh SCHEMA             prints it
#     layout.sh SCHEMA DOCUMENT    fails with the difference
set -eu
schema=$1
layout() {
  echo "# Where each field lies: bits within the data section, ptr within the pointer section. Of schema/mapcap.capnp."
  capnp compile -ocapnp "$schema" | sed -e '1,/^\$import/d' -e 's/ @0x[0-9a-f]*//'
}
if [ $# -lt 2 ]; then
  layout
else
  found=$(mktemp)
  trap 'rm -f "$found"' EXIT
  layout >"$found"
  diff -u "$2" "$found" || {
    echo "the document is not of this schema: layout.sh SCHEMA > DOCUMENT, and say in protocol.md what is new"
    exit 1
  }
fi
