#!/usr/bin/env bash
# --nvdimm raw is an NVDIMM without labels: one namespace, which cannot be split.
# vm: --kernel 6.12 --nvdimm raw
. "$MAPCAP_VM/guest/lib.sh"

region=$(nd_region)
refused has_labels "$region" || fail "this NVDIMM has labels"
[ "$(cat "/sys/bus/nd/devices/$region/persistence_domain")" = memory_controller ] ||
    fail "the persistence domain is not the memory controller"
refused "$guest/devdax.sh" split 32M || fail "an NVDIMM without labels was split"
"$guest/fsdax.sh" ext4
fallocate -l 4M /mnt/pmem/mapped
"$probe" map-sync /mnt/pmem/mapped || fail "a file cannot be mapped with MAP_SYNC"
