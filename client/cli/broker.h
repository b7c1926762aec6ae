// The connection that one command works over.
#pragma once

#include "client/cli/command.h"
#include "mapcap/client.h"

namespace mapcap::cli {

inline Client connect(const Common& common) {
  ConnectOptions options;
  options.socket = common.socket;
  options.program = "mapcap " MAPCAP_VERSION;
  return Client::connect(std::move(options));
}

}  // namespace mapcap::cli
