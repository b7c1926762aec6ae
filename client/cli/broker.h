// The connection that one command works over.
#pragma once

#include <chrono>
#include <filesystem>
#include <system_error>

#include "client/cli/command.h"
#include "mapcap/client.h"

namespace mapcap::cli {

inline Client connect(const Common& common) {
  ConnectOptions options;
  options.socket = common.socket;
  options.program = "mapcap " MAPCAP_VERSION;
  // A socket that nobody listens on was left by a broker that died: the next one may be on its way.
  const std::string path = common.socket.empty() ? default_socket() : common.socket;
  // Where it cannot be looked at, the library says why.
  std::error_code fault;
  if (std::filesystem::is_socket(path, fault)) options.wait_for_broker = std::chrono::seconds(2);
  return Client::connect(std::move(options));
}

}  // namespace mapcap::cli
