#!/usr/bin/env bash
# Where regions are confined by BPF LSM too, what reads clients' bytes has no power, and the mint may be killed.
# vm: --kernel 6.12 --nvdimm label --ivshmem --nvme-pmr
# vm: --kernel 6.1 --nvdimm label --ivshmem --nvme-pmr
# vm-timeout: 900
. "$MAPCAP_VM/guest/lib.sh"

# Promise 17.
tests=$(built tests/e2e/mapcap_e2e_tests)
export MAPCAP_TEST_MEMORY=64M
"$tests" --gtest_brief=1 --gtest_filter='MintTest.*LsmThatAReloadAdds*' || fail "a reload does not add a pool of lsm"
export MAPCAP_TEST_POOL=marked
export MAPCAP_TEST_POOLS='[pool.marked]
backing = "memory"
capacity = "64M"
confinement = "lsm"
'
# But for one that adds a pool of that name, and one that wants a filesystem for files in /tmp.
"$tests" --gtest_brief=1 --gtest_filter='MintTest.*-*ThatAReloadAdds*' || fail "see above"
