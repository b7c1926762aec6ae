// Whether a service manager started this process, and where it listens.
#pragma once

#include <cstdlib>
#include <optional>
#include <string>

namespace mapcap::broker {

/// $NOTIFY_SOCKET: a path, or "@" and an abstract name. Absent without a service manager.
inline std::optional<std::string> notify_socket() {
  const char* name = std::getenv("NOTIFY_SOCKET");  // NOLINT(concurrency-mt-unsafe): nobody sets it.
  if (name == nullptr) return std::nullopt;
  return name;
}

}  // namespace mapcap::broker
