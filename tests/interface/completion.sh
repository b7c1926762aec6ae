#!/usr/bin/env bash
# What the shells are given to complete mapcap's commands: read by each shell that is here, and used by bash.
#
#     completion.sh MAPCAP
set -eu -o pipefail
mapcap=$1
work=$(mktemp -d /tmp/mapcap-completion.XXXXXX)
trap 'rm -rf "$work"' EXIT
wrong=0

for shell in bash zsh fish; do
  "$mapcap" completion "$shell" >"$work/$shell"
  [ -s "$work/$shell" ] || { echo "completion $shell prints nothing"; wrong=1; }
  command -v "$shell" >/dev/null || continue
  "$shell" -n "$work/$shell" || { echo "$shell does not read its script"; wrong=1; }
done
if "$mapcap" completion tcsh >/dev/null 2>&1; then
  echo "completion tcsh is no error"
  wrong=1
fi

. "$work/bash"
# offers EXPECTED WORD...: what bash shows after these words, the last of which is being written.
offers() {
  local expected=$1
  shift
  COMP_WORDS=(mapcap "$@")
  COMP_CWORD=$#
  _mapcap 2>"$work/errors" || true
  [ "${COMPREPLY[*]}" = "$expected" ] || { echo "mapcap $*: offers \"${COMPREPLY[*]}\", not \"$expected\""; wrong=1; }
}
compopt() { echo files >"$work/files"; } # It works during a completion only.

offers "create clone completion" c
offers "set" quota s
offers "--user" quota set --u
offers "--size --sealed --socket" create root/x --s
offers "default" policy de
COMP_WORDS=(mapcap run root/x -- ech) COMP_CWORD=4
_mapcap || true
[[ " ${COMPREPLY[*]} " == *" echo "* ]] || { echo "programs are not offered behind --"; wrong=1; }
rm -f "$work/files"
offers "" fill root/x READM
offers "" create root/x --size x
[ -e "$work/files" ] || { echo "files are not offered where nothing else fits"; wrong=1; }
# Whatever the help lists is completed.
listed=$("$mapcap" --help | sed -n '/^Subcommands:/,$s/^  \([a-z]\+\)  .*/\1/p')
[ -n "$listed" ] || { echo "the help lists no commands"; wrong=1; }
for command in $listed; do offers "$command" "$command"; done
exit $wrong
