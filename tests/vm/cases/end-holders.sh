#!/usr/bin/env bash
# Where a pool's policy says so, a revoke of a device ends whoever still has it, then and only then.
# vm: --kernel 6.12 --nvdimm label --ivshmem --nvme-pmr
# vm: --kernel 6.1 --nvdimm label --ivshmem --nvme-pmr
. "$MAPCAP_VM/guest/lib.sh"
. "$MAPCAP_VM/guest/broker.sh"

# Promise 5, for devices too.
need_labels
work=/run/end-holders
mkdir -m 1777 $work.seen
device=$("$guest/devdax.sh" ended 16M)
bar=$("$guest/bar.sh" ivshmem)
rm -rf /run/mapcap-bars
start_broker $work << END
[pool.nv]
backing = "dax-device"
devices = ["$device"]
end_holders_after = "2s"

[pool.bar]
backing = "pci-bar"
resources = ["$bar"]
end_holders_after = "0s"

END
stranger() { mc run "$1" -- setpriv --reuid 65534 --regid 65534 --clear-groups "${@:2}"; } # GRANT COMMAND...
started() { within 20 test -e $work.seen/$1 || fail "$1 did not start"; }
ended() { # PID NAME
    local status=0
    wait "$1" || status=$?
    [ $status = 137 ] || fail "$2 ended with $status, not by SIGKILL"
}

mc create nv/a --pool nv --size 1M > /dev/null
(stranger nv/a:rw "$probe" hold-mapped 3 $work.seen/mapped $work.seen/never) 2> /dev/null & mapped=$!
(mc run nv/a:ro -- sleep 300) 2> /dev/null & open=$!
(mc run nv/a:rw -- "$probe" hold 3 $work.seen/polite $work.seen/asked) & polite=$!
sleep 300 & bystander=$!
started mapped
started polite
# Who lets go in time is not ended.
(sleep 0.5; touch $work.seen/asked) &
began=$SECONDS
mc revoke nv/a > $work/revoke 2>&1 || { cat $work/revoke; fail "a revoke that ends holders fails"; }
[ $((SECONDS - began)) -ge 2 ] || fail "holders were not given the time that the policy gives them"
ended $mapped "who has it mapped"
ended $open "who has it open"
wait $polite || fail "who let go in time was ended"
kill -0 $bystander || fail "somebody who has nothing was ended"
kill $bystander
grep -q 'revoking region nv/a ended 2 processes' $work/log || { cat $work/log; fail "the log does not say that processes were ended"; }
within 10 is_gone nv/a || fail "the device does not come back"
mc create nv/b --pool nv --size 1M > /dev/null || fail "the device was not given back"
mc run nv/b:ro -- "$probe" fd-zero 3 || fail "the next tenant reads what the last one left"

# A BAR, at once.
mc create bar/a --pool bar --size 1M --cache uc > /dev/null
(stranger bar/a:rw "$probe" hold-mapped 3 $work.seen/bar $work.seen/never) 2> /dev/null & mapped=$!
started bar
mc revoke bar/a > $work/revoke 2>&1 || { cat $work/revoke; fail "a revoke that ends holders of a BAR fails"; }
ended $mapped "who has a BAR mapped"

# Whose pin it is nobody can tell: quarantined as ever, and nobody is ended for it.
mc run nv/b:rw -- "$probe" pin 3 $work.seen/pinned $work.seen/unpin & pinner=$!
started pinned
mc revoke nv/b > /dev/null 2>&1 && fail "a device of which a page is pinned is called revoked"
state_is nv/b quarantined || fail "a pinned device is $(shown nv/b state)"
touch $work.seen/unpin
wait $pinner || fail "who pins a page was ended"
within 30 is_gone nv/b || fail "the device does not come back when its pin ends"
stop_broker
destroy_namespace name ended
