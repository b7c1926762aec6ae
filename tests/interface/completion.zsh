# Completes in a real zsh, at a terminal of its own: prints what the line is after TAB.
#
#     zsh -f completion.zsh SCRIPT LINE
zmodload zsh/zpty zsh/datetime
script=$1 line=$2 work=$(mktemp -d /tmp/mapcap-zsh.XXXXXX)
trap 'rm -rf $work' EXIT
cat >$work/rc <<RC
PROMPT= RPROMPT=
unsetopt beep
cd $work
autoload -Uz compinit && compinit -u -D
source $script
tell() { print -r -- "\$BUFFER" >$work/told.new && mv $work/told.new $work/told }
zle -N tell
bindkey '^X' tell
bindkey '^I' complete-word
: >$work/ready
RC
zpty shell zsh -f -i
zpty -w shell "source $work/rc"
# What it prints is read all the while, so that it never waits for room.
wait_for() {
  local -i until=$((EPOCHSECONDS + 60))
  until [[ -e $1 ]]; do
    ((EPOCHSECONDS < until)) || { print -u2 "zsh does not come to $1"; exit 1; }
    zpty -rt shell >/dev/null
    sleep 0.02
  done
}
wait_for $work/ready
zpty -w -n shell "$line"$'\t\x18'
wait_for $work/told
cat $work/told
zpty -d shell
