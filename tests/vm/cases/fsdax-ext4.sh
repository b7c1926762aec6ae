#!/usr/bin/env bash
# ext4 on the NVDIMM is mounted with DAX, and synchronous mappings of its files work.
# vm: --kernel 6.12 --nvdimm label --ivshmem --nvme-pmr
# vm: --kernel 6.1 --nvdimm label --ivshmem --nvme-pmr
. "$MAPCAP_VM/guest/lib.sh"

need_fsdax ext4
grep -q ' /mnt/ext4 ext4 .*dax=always' /proc/mounts || fail "ext4 is not mounted with dax=always"
fallocate -l 4M /mnt/ext4/mapped
"$probe" map-sync /mnt/ext4/mapped || fail "a file on ext4 cannot be mapped with MAP_SYNC"
# The same call must be able to fail, or the line above says nothing.
fallocate -l 4M /dev/shm/mapped
"$probe" no-map-sync /dev/shm/mapped || fail "MAP_SYNC is accepted on a filesystem without DAX"
rm /mnt/ext4/mapped /dev/shm/mapped
