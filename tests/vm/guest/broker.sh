# Sourced after lib.sh by cases that run mapcapd: start_broker, kill_broker, mc.

mapcapd=$(built broker/mapcapd)
mapcap=$(built client/cli/mapcap)
broker=
work=
state= # where the ledger lives; by default beside the socket

# Everybody may do everything; the pools come on standard input (no pipeline: it must not be a subshell).
start_broker() { # DIRECTORY: of socket, state, policy and log; the second call in a row starts it again
    work=$1
    export MAPCAP_SOCKET=$work/socket
    local ledger=${state:-$work/state}
    mkdir -p -m 0700 "$work" "$ledger"
    if [ ! -e "$work/policy.toml" ]; then
        { cat && printf '[[rule]]\nany = true\n\n[broker]\ngrace = "1s"\n'; } > "$work/policy.toml"
    fi
    "$mapcapd" --policy "$work/policy.toml" --state "$ledger" --socket "$work/socket" > "$work/log" 2>&1 &
    broker=$!
    local tick
    for tick in $(seq 300); do
        "$mapcap" pools > /dev/null 2>&1 && return
        kill -0 "$broker" 2> /dev/null || break
        sleep 0.2
    done
    cat "$work/log"
    fail "mapcapd did not start"
}
kill_broker() { kill -9 "$broker" && { wait "$broker" || true; }; } 2> /dev/null
# An orderly end, of the keeper and of what it guards too: no later case finds anything of this one.
stop_broker() { mc shutdown --end-regions --yes && { wait "$broker" || true; }; }
# The broker and its keeper, which is its child.
kill_both() {
    local keeper
    keeper=$(cat "/proc/$broker/task/$broker/children")
    kill_broker
    # shellcheck disable=SC2086  # none, or several while one is replaced
    [ -z "$keeper" ] || kill -9 $keeper
}
mc() { "$mapcap" "$@"; }
# The value of a key in what `mapcap show NAME --json` says.
shown() { # NAME KEY
    mc show "$1" --json 2> /dev/null | grep -o '"'"$2"'": *"\{0,1\}[^",}]*' | head -n 1 | sed 's/.*: *"\{0,1\}//'
}
# Tries for so many seconds whether the command succeeds.
within() { # SECONDS COMMAND...
    local tick ticks=$(($1 * 5))
    shift
    for tick in $(seq "$ticks"); do
        "$@" > /dev/null 2>&1 && return
        sleep 0.2
    done
    return 1
}
state_is() { [ "$(shown "$1" state)" = "$2" ]; }
is_gone() { ! mc show "$1" > /dev/null 2>&1; }
