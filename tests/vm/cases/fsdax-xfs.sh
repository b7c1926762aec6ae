#!/usr/bin/env bash
# XFS without reflink on the NVDIMM is mounted with DAX, and synchronous mappings of its files work.
# vm: --kernel 6.12 --nvdimm label --ivshmem --nvme-pmr
# vm: --kernel 6.1 --nvdimm label --ivshmem --nvme-pmr
. "$MAPCAP_VM/guest/lib.sh"

need_fsdax xfs
grep -q ' /mnt/xfs xfs .*dax=always' /proc/mounts || fail "XFS is not mounted with dax=always"
fallocate -l 4M /mnt/xfs/mapped
"$probe" map-sync /mnt/xfs/mapped || fail "a file on xfs cannot be mapped with MAP_SYNC"
# The same call must be able to fail, or the line above says nothing.
fallocate -l 4M /dev/shm/mapped
"$probe" no-map-sync /dev/shm/mapped || fail "MAP_SYNC is accepted on a filesystem without DAX"
rm /mnt/xfs/mapped /dev/shm/mapped
