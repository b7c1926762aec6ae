#include "broker/config.h"

#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>

#include "policy/load/loader.h"

namespace mapcap::broker {

namespace {

/// Its text becomes the config's.
Result<std::shared_ptr<const policy::Policy>> load(Config& config) {
  if (config.policy_path.empty()) {
    config.policy_text = policy::default_text();
    return policy::load_default();
  }
  MAPCAP_TRY(config.policy_text, policy::read_file(config.policy_path));
  return policy::load_text(config.policy_text, config.policy_path, policy::system_accounts());
}

}  // namespace

std::variant<Config, int> parse_command_line(int argc, char** argv) {
  Config config;
  CLI::App app{"mapcapd hands out memory that can be mmapped and nothing else."};
  app.set_version_flag("--version", "mapcapd " MAPCAP_VERSION);
  app.add_option("--policy", config.policy_path, "Policy file (TOML); without it the built-in default");
  app.add_option("--socket", config.socket, "Socket to serve; else $MAPCAP_SOCKET, else the policy's")
      ->envname("MAPCAP_SOCKET");
  app.add_option("--state", config.state, "Directory of the ledger; else the policy's");
  app.add_flag("--private", config.private_use,
               "A broker of one user's own (mapcap dev): needs no privilege, uses what it has, and nothing "
               "that it holds outlives it");
  app.add_flag("--check-ledger", config.check_ledger, "Verify the ledger without changing it, and exit");
  app.add_flag(
      "--forget-damaged", config.forget_damaged,
      "Free the records that --check-ledger calls damaged, and exit: what their regions left may be removed "
      "from then on");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  auto loaded = load(config);
  if (!loaded) {
    std::fprintf(stderr, "mapcapd: %s\n", loaded.error().sentence.c_str());
    for (const Detail& detail : loaded.error().details) {
      if (detail.key == "problem" && detail.value != loaded.error().sentence) {
        std::fprintf(stderr, "mapcapd: %s\n", detail.value.c_str());
      }
    }
    return 1;
  }
  config.policy = std::move(loaded.value());
  if (config.socket.empty()) config.socket = config.policy->broker().socket;
  if (config.state.empty()) config.state = config.policy->broker().state;
  return config;
}

}  // namespace mapcap::broker
