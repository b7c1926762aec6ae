#!/usr/bin/env bash
# Two services that do not trust each other share a model. The filler has an endpoint through which it can make, fill and
# publish models/**; the readers have one through which models/** can be opened read-only, and nothing else be done. Both run in
# containers (runc) as the same uid; without runc, under `mapcap endpoint run`. One of the readers tries everything.
#
#     readers.sh [DIRECTORY OF mapcapd] [DIRECTORY OF mapcap]      as root; the default is what is in PATH
#
# Starts a broker of its own, and leaves nothing running.
set -eu -o pipefail
mapcapd=$(command -v "${1:+$(readlink -f "$1")/}mapcapd") || { echo "readers.sh: there is no mapcapd; name its directory" >&2; exit 1; }
mapcap=$(command -v "${2:+$(readlink -f "$2")/}mapcap") || { echo "readers.sh: there is no mapcap; name its directory" >&2; exit 1; }
[ "$(id -u)" = 0 ] || { echo "readers.sh: run it as root, who starts brokers and containers" >&2; exit 1; }

work=$(mktemp -d /tmp/mapcap-readers.XXXXXX)
chmod 0755 "$work"
export MAPCAP_SOCKET=$work/run/mapcap.sock
broker=
clean_up() {
  if [ -n "$broker" ] && kill -0 "$broker" 2>/dev/null; then
    # What the endpoints made ends with them, so the broker's keeper has nothing to wait for.
    for endpoint in filler readers; do "$mapcap" endpoint end "$endpoint" >/dev/null 2>&1 || true; done
    kill -TERM "$broker"
    wait "$broker" || true
  fi
  rm -rf "$work"
}
trap clean_up EXIT
say() { printf '\n== %s\n' "$*"; }
die() { echo "readers.sh: $*" >&2; exit 1; }

"$mapcapd" --socket "$MAPCAP_SOCKET" --state "$work/state" 2>"$work/log" &
broker=$!
for _ in $(seq 200); do "$mapcap" pools >/dev/null 2>&1 && break; sleep 0.05; done
"$mapcap" pools >/dev/null || { cat "$work/log" >&2; die "the broker did not start"; }

say "two endpoints, made by who runs the machine"
"$mapcap" endpoint create filler --names 'models/**' --verbs create,open,publish,show,list --bytes 64M --label role=filler
"$mapcap" endpoint create readers --names 'models/**' --verbs open --rights ro --connections 16 --label role=reader

# contained ENDPOINT COMMAND...: as uid 1000 with nothing but the endpoint's directory, where a program looks for the broker.
can_contain=$(command -v runc || true)
number=0
contained() {
  local endpoint=$1 bundle mounts args word path
  shift
  if [ -z "$can_contain" ]; then
    "$mapcap" endpoint run "$endpoint" -- "$@"
    return
  fi
  number=$((number + 1))
  bundle=$work/bundle-$BASHPID-$number
  mounts='{"destination":"/proc","type":"proc","source":"proc"}'
  mkdir -p "$bundle/rootfs/proc" "$bundle/rootfs/run/mapcap"
  for path in /usr /lib /lib64 /bin "$(dirname "$mapcap")" "$work/share"; do
    [ -e "$path" ] || continue
    mkdir -p "$bundle/rootfs$path"
    mounts+=",{\"destination\":\"$path\",\"type\":\"none\",\"source\":\"$path\",\"options\":[\"rbind\",\"ro\"]}"
  done
  mounts+=",{\"destination\":\"/run/mapcap\",\"type\":\"none\",\"source\":\"$work/run/endpoints/$endpoint\",\"options\":[\"bind\",\"ro\"]}"
  args=
  for word in "$@"; do
    word=${word//\\/\\\\}
    args+="${args:+,}\"${word//\"/\\\"}\""
  done
  cat >"$bundle/config.json" <<JSON
{"ociVersion":"1.0.2","process":{"terminal":false,"user":{"uid":1000,"gid":1000},"args":[$args],"env":["PATH=/usr/bin:/bin"],
"cwd":"/","capabilities":{},"noNewPrivileges":true},"root":{"path":"rootfs","readonly":true},"hostname":"$endpoint",
"mounts":[$mounts],"linux":{"namespaces":[{"type":"pid"},{"type":"mount"},{"type":"uts"},{"type":"ipc"},{"type":"network"}]}}
JSON
  runc --root "$work/runc" run --bundle "$bundle" "mapcap-readers-$$-$BASHPID-$number" </dev/null
}
mkdir "$work/share"
if [ -n "$can_contain" ] && ! contained readers "$mapcap" --version >/dev/null 2>"$work/runc.log"; then
  echo "(runc cannot run a container here: $(tail -n 1 "$work/runc.log"))"
  can_contain=
fi
[ -n "$can_contain" ] && how="in a container" || how="by mapcap endpoint run"

say "the filler makes a model and publishes it before anybody reads it, $how"
head -c 8M /dev/urandom >"$work/share/weights"
chmod 0644 "$work/share/weights"
contained filler "$mapcap" create models/a --size 8M --mode 0644 --revocable
contained filler "$mapcap" fill --publish models/a "$work/share/weights"

# From here on nobody can write it, the filler neither.
if contained filler "$mapcap" run models/a:rw -- true >"$work/out" 2>&1; then die "the filler can still write what it published"; fi
grep -q "published" "$work/out" || { cat "$work/out" >&2; die "the filler was refused for another reason"; }

say "three readers read it"
wanted=$(sha256sum <"$work/share/weights")
readers=()
for i in 1 2 3; do
  (got=$(contained readers /bin/sh -c "$mapcap dump models/a - | sha256sum") && [ "$got" = "$wanted" ] && echo "reader $i has the model") &
  readers+=($!)
done
for reader in "${readers[@]}"; do wait "$reader" || die "a reader did not get the model"; done

say "the fourth tries everything"
must_fail() {
  if contained readers "$@" >"$work/out" 2>&1; then cat "$work/out"; die "it could: $*"; fi
  echo "no: $(grep -m 1 '^mapcap:' "$work/out" | cut -c 9- | cut -c -110)"
}
must_fail "$mapcap" run models/a:rw -- true
must_fail "$mapcap" create models/b --size 4K
must_fail "$mapcap" revoke models/a
must_fail "$mapcap" pools
must_fail "$mapcap" clone /usr/bin/env --ro -- true
must_fail "$mapcap" quota set --any --bytes unlimited
must_fail "$mapcap" endpoint create more --names '**'
must_fail "$mapcap" endpoint end filler
must_fail "$mapcap" --socket "$MAPCAP_SOCKET" pools
[ "$(contained readers "$mapcap" list | wc -l)" = 1 ] || die "it could list what there is"
contained readers /bin/sh -c "$mapcap dump models/a - | sha256sum" | grep -qF "$wanted" || die "the model is not what it was"

say "who has what"
"$mapcap" endpoint list
"$mapcap" show models/a | head -n 4

say "the filler's endpoint ends, and with it what it made"
"$mapcap" endpoint end filler
must_fail "$mapcap" dump models/a -
say "done"
