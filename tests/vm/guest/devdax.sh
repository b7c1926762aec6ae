#!/usr/bin/env bash
# devdax.sh NAME [SIZE] [ALIGN]: one more devdax namespace of the NVDIMM (default 32M, aligned 2M), named
# NAME; prints its device, e.g. /dev/dax0.1. Sizes are multiples of 16 MiB, of which 2 MiB are lost.
# Needs run.sh --nvdimm label or eadr, and labels.sh once before.
. "$MAPCAP_VM/guest/lib.sh"

created=$(ndctl create-namespace -r "$(nd_region)" -m devdax -n "$1" -s "${2:-32M}" -a "${3:-2M}")
echo "/dev/$(json chardev <<< "$created" | head -n 1)"
