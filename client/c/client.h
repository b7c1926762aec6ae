// The connection behind a mapcap_client.
#pragma once

#include <deque>
#include <mutex>
#include <optional>
#include <string>

#include "client/c/call.h"

struct mapcap_client {
  std::optional<mapcap::Client> client;
  bool wants_notices = false;
  std::string broker;
  /// Notices wait here between the poll that brings several and the calls that take one each.
  std::mutex mutex;
  std::deque<mapcap::Notice> notices;
};

namespace mapcap::c {

/// Errors: `invalid` for NULL.
inline Client& of(mapcap_client* client) {
  return *needed(client, "client")->client;
}

}  // namespace mapcap::c
