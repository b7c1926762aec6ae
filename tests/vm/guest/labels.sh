#!/usr/bin/env bash
# labels.sh: makes the NVDIMM splittable, by writing an empty label index to it. All namespaces
# and what was in them are gone afterwards. Needs run.sh --nvdimm label or eadr.
. "$MAPCAP_VM/guest/lib.sh"

region=$(nd_region)
ndctl disable-region "$region" > /dev/null 2>&1
ndctl init-labels -f nmem0 > /dev/null 2>&1 || true
ndctl enable-region "$region" > /dev/null 2>&1
has_labels "$region" || skip "this NVDIMM keeps no labels (run.sh --nvdimm label)"
