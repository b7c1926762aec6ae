// Completion for shells, made of what the parser itself knows, so that it cannot say anything else.
#pragma once

#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace mapcap::cli {

/// A command, or the program, as the parser has it.
struct CommandTree {
  struct Option {
    std::string name;  ///< "--size"
    std::string help;
    bool takes_value = false;
  };
  std::string name;
  std::string help;
  std::vector<Option> options;  ///< Of its own; those of the program are understood by every command.
  std::vector<CommandTree> commands;
};

CommandTree tree_of(const CLI::App& app);

/// A script for the shell to source. `shell`: bash, zsh or fish. Errors: `invalid`.
std::string completion_script(const std::string& shell, const CommandTree& program);

}  // namespace mapcap::cli
