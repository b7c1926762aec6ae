#!/usr/bin/env bash
# Runs in the container that run.sh boots, as root, with the unit installed: each function case_* is a test. DRAM
# contents are compared after whatever happens to the service.
set -u -o pipefail
cd /root || exit 1

fail() { echo "  $1" >&2; exit 1; }
within() { # SECONDS COMMAND...
  local tick ticks=$(($1 * 10))
  shift
  for tick in $(seq "$ticks"); do
    "$@" >/dev/null 2>&1 && return
    sleep 0.1
  done
  return 1
}
main_pid() { systemctl show -P MainPID mapcapd; }
answers() { mapcap pools; }
# Processes of the program that are not the service's main one.
service_pids() {
  local exe pid main
  main=$(main_pid)
  for exe in /proc/[0-9]*/exe; do
    pid=${exe#/proc/} pid=${pid%/exe}
    case $(readlink "$exe" 2>/dev/null) in
    /usr/sbin/mapcapd*) [ "$pid" = "$main" ] || echo "$pid" ;;
    esac
  done
}
keeper_of() {
  local pid
  for pid in $(service_pids); do
    [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = mapcapd-keeper ] && echo "$pid" && return
  done
}

# Regions with contents of their own, of three sizes.
make_regions() { # PREFIX COUNT
  local i
  for i in $(seq "$2"); do
    mapcap create "$1/$i" --size $((4096 << (i % 3))) --lifetime persistent >/dev/null || fail "create $1/$i"
    head -c $((4096 << (i % 3))) <(yes "$1/$i of a real service") >"/root/expected.$i"
    mapcap fill "$1/$i" "/root/expected.$i" >/dev/null || fail "fill $1/$i"
  done
}
check_regions() { # PREFIX COUNT
  local i
  for i in $(seq "$2"); do
    head -c $((4096 << (i % 3))) <(yes "$1/$i of a real service") >"/root/expected.$i"
    rm -f "/root/found.$i"
    mapcap dump "$1/$i" "/root/found.$i" >/dev/null || fail "dump $1/$i"
    cmp -s "/root/expected.$i" "/root/found.$i" || fail "$1/$i has other contents"
  done
}
fresh_service() {
  # What a case that failed left is not always a service that answers.
  mapcap shutdown --end-regions --yes >/dev/null 2>&1
  systemctl stop mapcapd
  local pid
  for pid in $(service_pids); do kill -9 "$pid"; done
  rm -rf /var/lib/mapcap /etc/systemd/system/mapcapd.service.d
  systemctl daemon-reload
  systemctl reset-failed mapcapd 2>/dev/null
  systemctl start mapcapd || fail "the service does not start"
}

case_start() {
  [ "$(systemctl is-active mapcapd)" = active ] || fail "not active"
  mapcap list >/dev/null || fail "does not answer"
  make_regions root/start 3
  check_regions root/start 3
}
case_the_out_of_memory_killer_takes_others_first() {
  local pid
  [ "$(systemctl show -P OOMScoreAdjust mapcapd)" -le -500 ] || fail "the unit asks for no protection"
  # Where systemd itself may not (a machine without CAP_SYS_RESOURCE), it goes on without.
  (echo -500 >"/proc/$BASHPID/oom_score_adj") 2>/dev/null || return 0
  for pid in $(main_pid) $(keeper_of); do
    [ "$(cat "/proc/$pid/oom_score_adj")" -le -500 ] || fail "process $pid has oom_score_adj $(cat "/proc/$pid/oom_score_adj")"
  done
}
# What runs is told apart by its name, and no device is out of reach that a pool may have.
case_processes_have_names_of_their_own_and_devices_are_in_reach() {
  [ "$(cat "/proc/$(keeper_of)/comm")" = mapcapd-keeper ] || fail "the keeper is called $(cat "/proc/$(keeper_of)/comm")"
  [ -z "$(systemctl show -P DeviceAllow mapcapd)" ] || fail "DeviceAllow is set: $(systemctl show -P DeviceAllow mapcapd)"
}
case_restart_keeps_contents() {
  make_regions root/restart 5
  local before
  before=$(main_pid)
  systemctl restart mapcapd || fail "restart"
  [ "$(main_pid)" != "$before" ] || fail "the same process"
  check_regions root/restart 5
}
case_stop_and_start_keeps_contents() {
  make_regions root/stop 5
  systemctl stop mapcapd || fail "stop"
  [ "$(systemctl is-active mapcapd)" = inactive ] || fail "still active"
  systemctl start mapcapd || fail "start"
  check_regions root/stop 5
}
case_reload_keeps_the_process_and_contents() {
  make_regions root/reload 3
  local before
  before=$(main_pid)
  systemctl reload mapcapd || fail "reload"
  sleep 0.5
  [ "$(main_pid)" = "$before" ] || fail "another process"
  check_regions root/reload 3
}
case_kill_of_the_main_process() {
  make_regions root/main 5
  local before keeper
  before=$(main_pid) keeper=$(keeper_of)
  kill -9 "$before"
  within 20 another_main "$before" || fail "was not started again"
  within 20 answers || fail "does not answer"
  [ -d "/proc/$keeper" ] || fail "the keeper was killed with it"
  check_regions root/main 5
}
another_main() { local now; now=$(main_pid); [ "$now" != 0 ] && [ "$now" != "$1" ]; }
case_kill_of_the_keeper() {
  make_regions root/keeper 5
  local before
  before=$(keeper_of)
  kill -9 "$before"
  within 20 another_keeper "$before" || { ps axf >&2; fail "no other keeper came"; }
  check_regions root/keeper 5
  # And what the new keeper was given is enough.
  before=$(main_pid)
  kill -9 "$before"
  within 20 another_main "$before" && within 20 answers || fail "was not started again"
  check_regions root/keeper 5
}
another_keeper() { local now; now=$(keeper_of); [ -n "$now" ] && [ "$now" != "$1" ]; }
case_kill_of_all_is_what_the_store_is_for() {
  make_regions root/all 5
  local before
  before=$(main_pid)
  systemctl kill --kill-who=all --signal=KILL mapcapd
  within 20 another_main "$before" && within 20 answers || fail "was not started again"
  check_regions root/all 5
  # What came from the store is held by the new keeper too.
  before=$(main_pid)
  kill -9 "$before"
  within 20 another_main "$before" && within 20 answers || fail "was not started again"
  check_regions root/all 5
}
# systemd empties the store when the service is stopped (before 254).
case_what_a_stop_took_from_the_store_is_stored_again() {
  make_regions root/again 5
  systemctl stop mapcapd && systemctl start mapcapd || fail "stop and start"
  within 20 stores 5 || fail "the store has $(systemctl show -P NFileDescriptorStore mapcapd) descriptors"
  local before
  before=$(main_pid)
  systemctl kill --kill-who=all --signal=KILL mapcapd
  within 20 another_main "$before" && within 20 answers || fail "was not started again"
  check_regions root/again 5
}
stores() { [ "$(systemctl show -P NFileDescriptorStore mapcapd)" -ge "$1" ]; }
# `cmake --install --prefix /usr` of a build for another prefix.
case_what_is_installed_names_its_prefix() {
  local file
  for file in /usr/lib/systemd/system/mapcapd.service $(find /usr/lib -name mapcap.pc); do
    grep -q /usr/local "$file" && fail "$file names the prefix of the build"
  done
  [ -e /etc/mapcap/policy.toml ] || fail "no policy was installed"
  [ -z "$(find /usr/local -name '*mapcap*')" ] || fail "something was installed outside the prefix"
}
case_sigterm_to_all_is_a_stop() {
  make_regions root/term 5
  systemctl kill --kill-who=all --signal=TERM mapcapd
  within 20 inactive || fail "does not end"
  systemctl start mapcapd || fail "start"
  check_regions root/term 5
}
inactive() { [ "$(systemctl is-active mapcapd)" = inactive ]; }
case_shutdown_stops_the_service_and_keeps_contents() {
  make_regions root/shutdown 5
  mapcap shutdown >/dev/null || fail "shutdown"
  within 20 inactive || fail "the service is $(systemctl is-active mapcapd)"
  systemctl start mapcapd || fail "start"
  check_regions root/shutdown 5
}
nobody_is_left() { [ -z "$(service_pids)" ]; }
case_shutdown_ends_regions_keeper_and_store() {
  make_regions root/end 5
  within 20 stores 5 || fail "the store has $(systemctl show -P NFileDescriptorStore mapcapd) descriptors"
  mapcap shutdown --end-regions --yes >/dev/null || fail "shutdown"
  within 20 inactive || fail "the service is $(systemctl is-active mapcapd)"
  within 20 nobody_is_left || fail "a process is still there"
  [ "$(systemctl show -P NFileDescriptorStore mapcapd)" = 0 ] || fail "something is in the store"
  systemctl start mapcapd || fail "start"
  [ "$(mapcap list --json)" = "[]" ] || fail "regions are left: $(mapcap list)"
}
case_the_binary_is_exchanged_under_load() {
  make_regions root/exchange 5
  rm -f /root/acknowledged /root/enough
  (
    i=0
    while [ ! -e /root/enough ]; do
      i=$((i + 1))
      # What is acknowledged must be there afterwards; a refusal meanwhile is allowed, a hang is not.
      if timeout 60 mapcap create "root/load/$i" --size 4096 --lifetime persistent >/dev/null 2>>/root/load.errors; then
        echo "root/load/$i contents" | timeout 60 mapcap fill "root/load/$i" - >/dev/null 2>&1 && echo "$i" >>/root/acknowledged
      fi
    done
  ) &
  local load=$! round
  cp /usr/sbin/mapcapd /root/mapcapd.first
  for round in other first other first; do
    sleep 0.5
    cp "/root/mapcapd.$round" /usr/sbin/mapcapd.new && mv /usr/sbin/mapcapd.new /usr/sbin/mapcapd
    systemctl restart mapcapd || fail "restart with the $round build"
  done
  sleep 0.5
  touch /root/enough
  wait $load
  [ "$(wc -l </root/acknowledged)" -gt 4 ] || fail "the load did nothing: $(tail -n 1 /root/load.errors)"
  check_regions root/exchange 5
  local i
  while read -r i; do
    rm -f /root/found
    mapcap dump "root/load/$i" /root/found >/dev/null || fail "root/load/$i was acknowledged and is not there"
    [ "$(head -n 1 /root/found)" = "root/load/$i contents" ] || fail "root/load/$i has other contents"
  done </root/acknowledged
}
# The journal takes what it was sent in its own time. (grep -q would end journalctl by SIGPIPE.)
logged() { journalctl -q --no-pager -u mapcapd | grep "$1" >/dev/null; }
journal_entry() { # NEWEST: fields that it must have
  journalctl -q --no-pager -o json -n 1 "$@" >/root/entry && [ -s /root/entry ]
}
case_audit_records_are_journal_entries_with_fields() {
  mapcap create root/told --size 4096 --lifetime persistent >/dev/null || fail "create"
  setpriv --reuid 4711 --regid 4711 --clear-groups mapcap create root/theirs --size 4096 2>/dev/null &&
    fail "somebody made a region in root's name"
  local id=6e8f4a1c0d5b4f0e9a7c3b2d1e0f5a69
  within 20 journal_entry MESSAGE_ID=$id MAPCAP_VERB=create MAPCAP_NAME=root/told || fail "no entry of what was allowed"
  local field
  for field in '"MAPCAP_VERDICT":"allowed"' '"MAPCAP_UID":"0"' '"MAPCAP_PROGRAM":"mapcap"' '"MAPCAP_PID":' \
    '"MAPCAP_RULE":"/etc/mapcap/policy.toml:' '"_SYSTEMD_UNIT":"mapcapd.service"'; do
    grep -F "$field" /root/entry >/dev/null || fail "the entry lacks $field: $(cat /root/entry)"
  done
  within 20 journal_entry MESSAGE_ID=$id MAPCAP_UID=4711 MAPCAP_NAME=root/theirs || fail "no entry of what was denied"
  for field in '"MAPCAP_VERDICT":"denied"' '"MAPCAP_WHY":"' '"PRIORITY":"'; do
    grep -F "$field" /root/entry >/dev/null || fail "the entry lacks $field: $(cat /root/entry)"
  done
  # By its unit: who asks is told of as the service that he is.
  printf '[Service]\nType=oneshot\nExecStart=/usr/bin/mapcap create root/by-unit --size 4096 --lifetime persistent\n' \
    >/run/systemd/system/asker.service
  systemctl daemon-reload
  systemctl start asker || fail "create by a unit"
  within 20 journal_entry MESSAGE_ID=$id MAPCAP_UNIT=asker.service MAPCAP_NAME=root/by-unit || fail "no entry names the unit"
}
case_more_regions_than_the_store_takes() {
  mkdir -p /etc/systemd/system/mapcapd.service.d
  printf '[Service]\nFileDescriptorStoreMax=4\n' >/etc/systemd/system/mapcapd.service.d/few.conf
  systemctl daemon-reload
  systemctl restart mapcapd || fail "restart"
  make_regions root/many 10
  within 20 logged FileDescriptorStoreMax || fail "nobody was told"
  # All that needs the store's help to live is what a kill of all leaves; everything else keeps all of them.
  systemctl restart mapcapd || fail "restart"
  check_regions root/many 10
  systemctl stop mapcapd && systemctl start mapcapd || fail "stop and start"
  check_regions root/many 10
  local before
  before=$(main_pid)
  kill -9 "$before"
  within 20 another_main "$before" && within 20 answers || fail "was not started again"
  check_regions root/many 10
}

cases=("$@")
[ ${#cases[@]} -gt 0 ] || mapfile -t cases < <(declare -F | sed -n 's/^declare -f case_//p')
passed=0 failed=0
for name in "${cases[@]}"; do
  # A shell of its own: fail ends it.
  if (fresh_service && "case_$name") 2>/root/why; then
    passed=$((passed + 1)) && echo "ok   system: ${name//_/ }"
  else
    failed=$((failed + 1)) && echo "FAIL system: ${name//_/ }" && cat /root/why
  fi
done
echo "$passed passed, $failed failed, 0 skipped"
[ $failed -eq 0 ]
