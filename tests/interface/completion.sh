#!/usr/bin/env bash
# What a shell is given to complete mapcap's commands: read by that shell, and used by it.
#
#     completion.sh MAPCAP bash|zsh|fish        77 where that shell is not installed
set -eu -o pipefail
mapcap=$1 shell=$2
work=$(mktemp -d /tmp/mapcap-completion.XXXXXX)
trap 'rm -rf "$work"' EXIT
wrong=0

"$mapcap" completion "$shell" >"$work/script"
[ -s "$work/script" ] || { echo "completion $shell prints nothing"; exit 1; }
if "$mapcap" completion tcsh >/dev/null 2>&1; then
  echo "completion tcsh is no error"
  wrong=1
fi
command -v "$shell" >/dev/null || { echo "$shell is not installed"; exit 77; }
"$shell" -n "$work/script" || { echo "$shell does not read its script"; wrong=1; }

# ---- bash: the function is called as it would

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
in_bash() {
  . "$work/script"
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
  local listed command
  listed=$("$mapcap" --help | sed -n '/^Subcommands:/,$s/^  \([a-z]\+\)  .*/\1/p')
  [ -n "$listed" ] || { echo "the help lists no commands"; wrong=1; }
  for command in $listed; do offers "$command" "$command"; done
}

# ---- the others complete themselves

# becomes EXPECTED LINE: what zsh has on its line after TAB, and what fish offers.
becomes() {
  local expected=$1 line=$2 found
  case $shell in
    zsh) found=$(timeout 120 zsh -f "$(dirname "$0")/completion.zsh" "$work/script" "$line") ;;
    fish)
      found=$(HOME=$work XDG_CONFIG_HOME=$work fish --no-config -c 'source $argv[1]; complete -C $argv[2]' \
        "$work/script" "$line" | cut -f 1 | xargs)
      ;;
  esac
  [ "$found" = "$expected" ] || { echo "$shell: \"$line\" becomes \"$found\", not \"$expected\""; wrong=1; }
}
in_zsh() {
  becomes "mapcap policy " "mapcap polic"
  becomes "mapcap endpoint renew " "mapcap endpoint ren"
  becomes "mapcap quota set --user " "mapcap quota set --us"
  becomes "mapcap run root/x -- unshare " "mapcap run root/x -- unshar"
}
in_fish() {
  becomes "policy" "mapcap polic"
  becomes "renew" "mapcap endpoint ren"
  becomes "--user" "mapcap quota set --us"
  becomes "clear list set" "mapcap quota "
}

"in_$shell"
exit $wrong
