#include <CLI/App.hpp>

#include "client/cli/completion.h"

namespace mapcap::cli {

CommandTree tree_of(const CLI::App& app) {
  CommandTree tree{app.get_name(), app.get_description(), {}, {}};
  for (const CLI::Option* option : app.get_options()) {
    // Arguments are for the user to know; files are what shells offer by themselves.
    if (option->get_lnames().empty()) continue;
    tree.options.push_back({"--" + option->get_lnames().front(), option->get_description(),
                            option->get_items_expected_max() > 0});
  }
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; }))
    tree.commands.push_back(tree_of(*command));
  return tree;
}

}  // namespace mapcap::cli
