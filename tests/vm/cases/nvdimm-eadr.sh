#!/usr/bin/env bash
# --nvdimm eadr attests that CPU caches are persistent, and its filesystems work like others.
# vm: --kernel 6.12 --nvdimm eadr --dax-hmem
. "$MAPCAP_VM/guest/lib.sh"

domain=$(cat "/sys/bus/nd/devices/$(nd_region)/persistence_domain")
[ "$domain" = cpu_cache ] || fail "the persistence domain is $domain, not cpu_cache"
need_fsdax ext4
fallocate -l 4M /mnt/ext4/mapped
"$probe" map-sync /mnt/ext4/mapped || fail "a file cannot be mapped with MAP_SYNC"
