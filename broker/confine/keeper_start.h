// How a broker gets a keeper: it adopts the one that survived in the state directory, or forks a new one.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "broker/confine/clone.h"
#include "broker/confine/keeper.h"
#include "schema/result.h"
#include "schema/unique_fd.h"

namespace mapcap::broker::confine {

/// A keeper process and the broker's ends of what connects the two.
struct KeeperHandle {
  schema::UniqueFd socket;
  schema::UniqueFd process;  ///< A pidfd.
  int pid = 0;
  CloneConfiner::Connection clone;  ///< Empty where clones cannot be issued.
  std::string clone_unavailable;    ///< Then: why.
};

/// What a keeper tells a broker that connects.
struct Inventory {
  std::uint64_t max_held = 0;
  std::int32_t last_backing = 0;
  bool fuse_alive = false;
  std::vector<HeldMemory> memory;
  std::vector<LiveGrant> grants;
  std::vector<std::pair<schema::RegionId, std::int32_t>> backings;
  // Of an adoption only:
  schema::UniqueFd page;
  schema::UniqueFd root;
  GrantId next_grant = 0;
  bool complete = false;

  /// Takes one packet in. Errors: `busy` when the keeper has a broker, `unsupported` for another version of
  /// it, `malformed`.
  schema::Result<void> hear(schema::Incoming packet);
};

/// Errors: `io`.
schema::Result<schema::UniqueFd> open_state_directory(const std::string& path);

/// Forks a keeper. Its inventory (empty, but with limits) comes over the socket. `request_timeout`:
/// mount_fuse; `idle`: KeeperOptions. Errors: `io`.
schema::Result<KeeperHandle> fork_keeper(schema::BorrowedFd directory, std::chrono::seconds request_timeout,
                                         std::chrono::seconds idle);

/// Waits for the inventory of a keeper. Errors: `timed_out`, and those of Inventory::hear.
schema::Result<Inventory> receive_inventory(const KeeperHandle& keeper, std::chrono::nanoseconds patience);

/// Nothing when no keeper listens there; one that stays silent for `patience` is killed, and counts as none.
/// Errors: `busy`, `unsupported`, `io`.
schema::Result<std::optional<std::pair<KeeperHandle, Inventory>>> adopt_keeper(
    schema::BorrowedFd directory, std::chrono::nanoseconds patience);

/// Removes the adoption socket.
void unlink_socket(schema::BorrowedFd directory);

/// SIGKILL or SIGCONT to a keeper. Fails only when it is gone already.
void signal_keeper(schema::BorrowedFd process, int number);

/// Takes a child's exit status, so that it does not stay a zombie. True when there is nothing left to wait
/// for.
bool reap_keeper(schema::BorrowedFd process);

}  // namespace mapcap::broker::confine
