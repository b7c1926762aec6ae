#!/usr/bin/env bash
# libpmem2's own example programs, unmodified, work on grants that they inherit, and so does an allocator.
# vm: host
# vm-timeout: 600
set -euo pipefail

examples="basic advanced map_multiple_files redo ringbuf"

# They take paths: the regions are at /region/1, /region/2.
run() { # GRANTS -- PROGRAM ARGS...
    local at=() n=0
    while [ "$1" != -- ]; do n=$((n + 1)) && at+=(--at "/region/$n=$1") && shift; done
    shift
    mc run "${at[@]}" -- "$MAPCAP_VM_CACHE/pmem2/$1" "${@:2}"
}

guest_part() {
    . "$MAPCAP_VM/guest/lib.sh"
    . "$MAPCAP_VM/guest/broker.sh"
    need_fsdax ext4
    mkdir -p -m 0700 /mnt/ext4/clones /mnt/ext4/files
    start_broker /run/pmem2 << END
[pool.clone]
backing = "dax-file"
path = "/mnt/ext4/clones"
capacity = "80M"
confinement = "clone"

[pool.lsm]
backing = "dax-file"
path = "/mnt/ext4/files"
capacity = "32M"
confinement = "lsm"

[pool.device]
backing = "dax-device"
devices = ["$("$guest/devdax.sh" pmem2 32M)"]

[pool.dram]
backing = "memory"
capacity = "64M"

END
    local pool said
    for pool in clone lsm device dram; do
        mc create $pool/one --pool $pool --size 8M > /dev/null
        run $pool/one:rw -- basic /region/1 || fail "basic does not work on $pool"
        said=$(mc dump $pool/one - --bytes 24) || true
        [ "$said" = "hello, persistent memory" ] || fail "basic left '$said' in $pool/one"
        said=$(run $pool/one:rw -- advanced /region/1 7 10) || fail "advanced does not work on $pool"
        [ "$said" = "70 65 72 73 69 73 74 65 6E 74 " ] || fail "advanced reads '$said' from $pool/one"

        head -c 8M /dev/zero | mc fill $pool/one - > /dev/null
        run $pool/one:rw -- redo add /region/1 1 42 > /dev/null || fail "redo does not add on $pool"
        # The rest maps privately, which device-DAX refuses to everybody.
        if [ $pool != device ]; then
            run $pool/one:rw -- redo check /region/1 > /dev/null || fail "redo finds damage on $pool"
            said=$(run $pool/one:rw -- redo print /region/1) || fail "redo does not print on $pool"
            grep -q 42 <<< "$said" || fail "redo lost what it had added on $pool: $said"
        fi

        head -c 8M /dev/zero | mc fill $pool/one - > /dev/null
        run $pool/one:rw -- ringbuf /region/1 64 1000 > /dev/null || fail "ringbuf does not work on $pool"

        if [ $pool != device ]; then # It has one device.
            mc create $pool/two --pool $pool --size 8M > /dev/null
            run $pool/one:rw $pool/two:rw -- map_multiple_files /region/1 /region/2 > /dev/null ||
                fail "map_multiple_files does not work on $pool"
        fi
        echo "ok on $pool ($(shown $pool/one confinement), $(shown $pool/one granularity))"
    done

    if [ -x "$MAPCAP_BUILD/examples/allocator" ]; then
        mc create clone/heap --pool clone --size 64M > /dev/null
        mc run clone/heap:rw -- "$MAPCAP_BUILD/examples/allocator" || fail "memkind does not allocate in a grant"
    else
        echo "examples/allocator is not built"
    fi
    stop_broker
}

if [ "${1:-}" = guest ]; then
    guest_part
    exit
fi

# Debian ships the sources with the library's headers; documentation may have been left out of this machine.
skip() { echo "skip: $1" && exit 77; }
cache=$MAPCAP_VM_CACHE/pmem2
mkdir -p "$cache"
sources=/usr/share/doc/libpmem2-dev/examples
if [ ! -e "$sources/basic/basic.c" ]; then
    sources=$cache/unpacked/usr/share/doc/libpmem2-dev/examples
    [ -e "$sources/basic/basic.c" ] ||
        { (cd "$cache" && apt-get -qq -o APT::Sandbox::User=root download libpmem2-dev) &&
            dpkg-deb -x "$cache"/libpmem2-dev_*.deb "$cache/unpacked"; } > /dev/null 2>&1 ||
        skip "the sources of libpmem2's examples (Debian's package libpmem2-dev) cannot be had"
fi
for name in $examples; do
    gcc -O1 -o "$cache/$name" "$sources/$name/$name.c" -lpmem2 -lpthread 2> "$cache/$name.log" ||
        { cat "$cache/$name.log" && echo "fail: $name cannot be built" && exit 1; }
done
exec "$MAPCAP_VM/run.sh" --nvdimm label --timeout 400 -- bash "$0" guest
