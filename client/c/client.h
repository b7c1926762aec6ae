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

/// MAPCAP_UNLIMITED is no limit.
inline Limits to_limits(const mapcap_amounts& amounts) {
  const auto limit = [](std::uint64_t value) {
    return value == MAPCAP_UNLIMITED ? std::optional<std::uint64_t>() : value;
  };
  return {limit(amounts.bytes), limit(amounts.regions), limit(amounts.grants), limit(amounts.connections)};
}
inline mapcap_amounts to_amounts(const Limits& limits) {
  return {limits.bytes.value_or(MAPCAP_UNLIMITED), limits.regions.value_or(MAPCAP_UNLIMITED),
          limits.grants.value_or(MAPCAP_UNLIMITED), limits.connections.value_or(MAPCAP_UNLIMITED)};
}

}  // namespace mapcap::c
