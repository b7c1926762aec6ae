#!/usr/bin/env bash
# The guest runs the host's programs on a writable root, with what a broker expects of a machine.
# vm: --kernel 6.12 --nvdimm label --ivshmem --nvme-pmr
# vm: --kernel 6.1 --nvdimm label --ivshmem --nvme-pmr
. "$MAPCAP_VM/guest/lib.sh"

[ "$(id -u)" = 0 ] || fail "the guest's command does not run as root"
[ "$(stat -f -c %T /)" = overlayfs ] || fail "the root is no overlay"
[ "$(stat -f -c %T /dev/shm)" = tmpfs ] || fail "/dev/shm is no tmpfs"
[ "$(stat -f -c %T /run)" = tmpfs ] || fail "/run is no tmpfs"
[ "$(stat -f -c %T /sys/fs/cgroup)" = cgroup2fs ] || fail "/sys/fs/cgroup is no cgroup2"
[ "$(stat -f -c %T /dev/pts)" = devpts ] || fail "/dev/pts is no devpts"
[ "$(stat -f -c %T /sys/fs/bpf)" = bpf_fs ] || fail "/sys/fs/bpf is no bpffs"
[ -e /sys/kernel/debug/x86/pat_memtype_list ] || fail "debugfs shows no memory types"
echo changed > /etc/mapcap-vm-root && [ "$(cat /etc/mapcap-vm-root)" = changed ] || fail "the root is not writable"
grep -q . "$MAPCAP_VM/run.sh" || fail "the host's files are not where they are on the host"
[ -c /dev/fuse ] || fail "there is no /dev/fuse"
modprobe -n vgem || fail "the kernel's other modules are not to be found"
