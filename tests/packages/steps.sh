#!/usr/bin/env bash
# Runs in the Debian that run.sh makes, as root, with the packages beside it.
set -u -o pipefail
cd "$(dirname "$(readlink -f "$0")")" || exit 1
passed=0 failed=0
# tried NAME COMMAND...: one test, which says what it prints where it fails.
tried() {
  local name=$1 said
  shift
  if said=$("$@" 2>&1); then
    passed=$((passed + 1)) && echo "ok   packages: $name"
  else
    failed=$((failed + 1)) && echo "FAIL packages: $name" && echo "$said"
  fi
}

# Whatever of ours there is, but for what run.sh put here and what these steps made.
everything() { find / -xdev \( -path /proc -o -path /root -o -path /tmp -o -path /home \) -prune -o -name '*mapcap*' -print; }

install() { dpkg -i ./*.deb && [ -z "$(dpkg --audit)" ]; }
# Libraries that the packages' own need and that nobody installed.
complete() {
  local file missing
  for file in /usr/bin/mapcap /usr/sbin/mapcapd $(find /usr/lib -name 'libmapcap*.so*'); do
    missing=$(ldd "$file" | grep "not found") && echo "$file: $missing" && return 1
  done
  return 0
}
as_the_page_says() { # [COMMAND...]: by whom
  local place
  place=$("$@" mktemp -d) && cd "$place" && "$@" env HOME="$place" bash /root/given/readme_steps.sh /root/given/README.md
}
documented() {
  local page
  for page in man1/mapcap.1 man8/mapcapd.8; do
    [ -s "/usr/share/man/$page" ] || [ -s "/usr/share/man/$page.gz" ] || { echo "there is no $page"; return 1; }
  done
}
purge() {
  dpkg -P python3-mapcap libmapcap-dev mapcap libmapcap0 || return 1
  local left
  left=$(everything)
  [ -z "$left" ] || { echo "left: $left"; return 1; }
}

nobody=(setpriv --reuid=65534 --regid=65534 --clear-groups)
tried "there is nothing of ours before" test -z "$(everything)"
tried "dpkg installs them with what they depend on" install
tried "every library is there" complete
tried "the policy that is installed is right" mapcap policy check /etc/mapcap/policy.toml
tried "what the README says of its first programs" as_the_page_says
tried "and the same as nobody" as_the_page_says "${nobody[@]}"
tried "programs have their pages" documented
tried "dpkg purges them" purge
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
