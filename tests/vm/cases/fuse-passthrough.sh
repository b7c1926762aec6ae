#!/usr/bin/env bash
# Linux 6.12 knows FUSE passthrough, which 6.1 does not: confinement by clones can be tested for both.
# vm: --kernel 6.12 --nvdimm label --ivshmem --nvme-pmr
# vm: --kernel 6.1 --nvdimm label --ivshmem --nvme-pmr
. "$MAPCAP_VM/guest/lib.sh"

case $(uname -r) in
6.12.*) "$probe" passthrough || fail "this kernel has no FUSE passthrough" ;;
*) refused "$probe" passthrough || fail "a kernel before 6.9 claims FUSE passthrough" ;;
esac
