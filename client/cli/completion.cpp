// Each script walks the words before the cursor down to a place in the tree (" quota set"), and offers what there
// is there; where nothing fits, files. Behind -- stands another program, which the shell completes as such.
#include "client/cli/completion.h"

#include <functional>
#include <iostream>

#include "client/cli/commands.h"
#include "mapcap/error.h"

namespace mapcap::cli {
namespace {

/// Everything but the program itself, with its place.
using Visit = std::function<void(const std::string& place, const CommandTree& command)>;
void for_each_place(const std::string& place, const CommandTree& command, const Visit& visit) {
  visit(place, command);
  for (const CommandTree& below : command.commands) for_each_place(place + " " + below.name, below, visit);
}

std::string replaced(std::string text, const std::string& what, const std::string& with) {
  for (std::size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + with.size()))
    text.replace(at, what.size(), with);
  return text;
}

/// The alternatives of a shell's case: every place but the program's own.
std::string places(const CommandTree& program, const std::string& between) {
  std::string list;
  for_each_place("", program, [&](const std::string& place, const CommandTree&) {
    if (!place.empty()) list += (list.empty() ? "\"" : between + "\"") + place + "\"";
  });
  return list;
}

/// Its commands, its options and those of the program.
std::string words_at(const CommandTree& program, const std::string& place, const CommandTree& command) {
  std::string words;
  for (const CommandTree& below : command.commands) words += below.name + " ";
  for (const auto& option : command.options) words += option.name + " ";
  if (!place.empty()) {
    for (const auto& option : program.options) {
      if (option.name != "--version" && option.name != "--help") words += option.name + " ";
    }
  }
  if (!words.empty()) words.pop_back();
  return words;
}

/// Of all commands: what stands behind one of these is its value.
std::string options_with_values(const CommandTree& program) {
  std::string list;
  for_each_place("", program, [&](const std::string&, const CommandTree& command) {
    for (const auto& option : command.options) {
      if (option.takes_value && ("|" + list + "|").find("|" + option.name + "|") == std::string::npos)
        list += (list.empty() ? "" : "|") + option.name;
    }
  });
  return list;
}

std::string bash(const CommandTree& program) {
  std::string text = R"(# Completion of mapcap for bash; made by `mapcap completion bash`.
_mapcap() {
  local word=${COMP_WORDS[COMP_CWORD]} place= words= i
  COMPREPLY=()
  for ((i = 1; i < COMP_CWORD; i++)); do
    if [[ ${COMP_WORDS[i]} == -- ]]; then
      if ((i + 1 == COMP_CWORD)); then
        COMPREPLY=($(compgen -c -- "$word"))
      else
        compopt -o default
      fi
      return
    fi
    case "$place ${COMP_WORDS[i]}" in
      )" + places(program, " | ") +
                     R"() place="$place ${COMP_WORDS[i]}" ;;
    esac
  done
  case ${COMP_WORDS[COMP_CWORD - 1]} in
    )" + options_with_values(program) +
                     R"()
      compopt -o default
      return
      ;;
  esac
  case $place in
)";
  for_each_place("", program, [&](const std::string& place, const CommandTree& command) {
    text += "    \"" + place + "\") words=\"" + words_at(program, place, command) + "\" ;;\n";
  });
  return text + R"(  esac
  COMPREPLY=($(compgen -W "$words" -- "$word"))
  ((${#COMPREPLY[@]} > 0)) || compopt -o default
}
complete -F _mapcap mapcap
)";
}

std::string zsh_choice(const std::string& name, const std::string& help) {
  return "'" + name + ":" + replaced(replaced(help, "\\", "\\\\"), "'", "'\\''") + "' ";
}

std::string zsh(const CommandTree& program) {
  std::string text = R"(#compdef mapcap
# Completion of mapcap for zsh; made by `mapcap completion zsh`.
_mapcap() {
  local place= i
  # Not "commands" and "options", which are what zsh's own completions of a program's words ask.
  local -a verbs switches
  for ((i = 2; i < CURRENT; i++)); do
    if [[ ${words[i]} == -- ]]; then
      shift $i words
      ((CURRENT -= i))
      _normal
      return
    fi
    case "$place ${words[i]}" in
      )" + places(program, " | ") +
                     R"() place="$place ${words[i]}" ;;
    esac
  done
  case ${words[CURRENT - 1]} in
    )" + options_with_values(program) +
                     R"()
      _files
      return
      ;;
  esac
  case $place in
)";
  for_each_place("", program, [&](const std::string& place, const CommandTree& command) {
    text += "    \"" + place + "\")\n      verbs=(";
    for (const CommandTree& below : command.commands) text += zsh_choice(below.name, below.help);
    text += ")\n      switches=(";
    for (const auto& option : command.options) text += zsh_choice(option.name, option.help);
    text += ")\n      ;;\n";
  });
  return text + R"(  esac
  if [[ $PREFIX == -* ]]; then
    _describe -o option switches
  elif ((${#verbs} > 0)); then
    _describe command verbs
  else
    _files
  fi
}
if [[ ${zsh_eval_context[-1]} == loadautofunc ]]; then
  _mapcap "$@"
else
  compdef _mapcap mapcap
fi
)";
}

std::string fish_quoted(const std::string& text) {
  return "'" + replaced(replaced(text, "\\", "\\\\"), "'", "\\'") + "'";
}

std::string fish(const CommandTree& program) {
  std::string text = R"(# Completion of mapcap for fish; made by `mapcap completion fish`.
function __mapcap_place
    set -l place ""
    set -l words (commandline -opc)
    contains -- -- $words; and return 1
    for word in $words[2..]
        switch "$place $word"
            case )" + places(program, " ") +
                     R"(
                set place "$place $word"
        end
    end
    test "$place" = "$argv[1]"
end
)";
  for_each_place("", program, [&](const std::string& place, const CommandTree& command) {
    const std::string here =
        "complete -c mapcap -n " + fish_quoted("__mapcap_place " + fish_quoted(place)) + " ";
    for (const CommandTree& below : command.commands)
      text += here + "-f -a " + below.name + " -d " + fish_quoted(below.help) + "\n";
    for (const auto& option : command.options)
      text += here + "-l " + option.name.substr(2) + (option.takes_value ? " -r" : "") + " -d " +
              fish_quoted(option.help) + "\n";
  });
  return text;
}

}  // namespace

std::string completion_script(const std::string& shell, const CommandTree& program) {
  if (shell == "bash") return bash(program);
  if (shell == "zsh") return zsh(program);
  if (shell == "fish") return fish(program);
  throw Error(ErrorCode::invalid, "there is no completion for \"" + shell + "\", but for bash, zsh and fish");
}

int perform(const Common&, const CompletionCommand& command) {
  std::cout << completion_script(command.shell, command.program);
  return 0;
}

}  // namespace mapcap::cli
