// The keeper's own side: what runs in the forked child.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>

#include "mapcap/fd.h"
#include "policy/subordinates.h"

namespace mapcap::broker::keeper {

/// What a new keeper is given. All owned.
struct KeeperStart {
  Fd device;    ///< A clone of the FUSE connection, non-blocking; invalid: hold memory only.
  Fd root;      ///< The mount, until a broker sends a better descriptor; invalid with the device.
  Fd page;      ///< The issuing page.
  Fd listener;  ///< The adoption socket, bound; the keeper itself listens, so that peers see its pid.
  Fd broker;    ///< The end of a socket pair with the broker that forked it.
  std::uint64_t first_grant = 0;
  policy::Subordinates accounts;  ///< Who stands behind a uid, as far as was known at the start.
  /// How long it stays with neither a broker nor anything to keep. Absent: it ends with its broker.
  std::optional<std::chrono::nanoseconds> idle;
};

/// Runs in the forked child until told to end, or until there has been neither a broker nor anything to keep
/// for as long as `idle` says. Never returns to the caller's stack.
[[noreturn]] void run_keeper(KeeperStart start);

}  // namespace mapcap::broker::keeper
