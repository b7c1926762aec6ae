// The daemon's command line, and where that leaves the files.
#pragma once

#include <memory>
#include <string>
#include <variant>

#include "policy/policy.h"

namespace mapcap::broker {

struct Config {
  std::string policy_path;  ///< Empty: the built-in default.
  std::string policy_text;
  std::shared_ptr<const policy::Policy> policy;
  std::string socket;
  std::string state;
  bool private_use = false;  ///< Of one user, without root: nothing outlives this process.
  bool check_ledger = false;
  bool forget_damaged = false;

  [[nodiscard]] std::string ledger() const { return state + "/ledger"; }
};

/// --policy, --socket, --state, --private, --check-ledger, --forget-damaged. The socket is, in this order: --socket,
/// $MAPCAP_SOCKET, the policy's. Prints help, the version or an error itself; then the value is the exit
/// status: 0, 2 for wrong usage, 1 for a policy that cannot be loaded.
std::variant<Config, int> parse_command_line(int argc, char** argv);

}  // namespace mapcap::broker
