// How a broker gets a keeper: it adopts the one that survived in the state directory, or forks a new one.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "broker/keeper/clone.h"
#include "broker/keeper/keeper.h"
#include "mapcap/fd.h"

namespace mapcap::broker::keeper {

/// A keeper process and the broker's ends of what connects the two.
struct KeeperHandle {
  Fd socket;
  Fd process;  ///< A pidfd.
  int pid = 0;
  CloneConfiner::Connection clone;  ///< Empty where clones cannot be issued.
  std::string clone_unavailable;    ///< Then: why.
};

/// What a keeper tells a broker that connects.
struct Inventory {
  std::uint64_t max_held = 0;
  bool holds_many = false;       ///< It understands wire::Kind::hold_many.
  bool tells_published = false;  ///< And wire::Kind::published.
  bool knows_blanks = false;     ///< And labels and named.
  bool knows_ready_opens = false;
  bool opens_by_name = false;
  bool forgets_many = false;  ///< And drop_many and unbacked_many.
  std::int32_t last_backing = 0;
  bool fuse_alive = false;
  std::vector<HeldMemory> memory;
  std::vector<confine::LiveGrant> grants;
  std::vector<std::pair<RegionId, std::int32_t>> backings;
  std::vector<std::string> names;  ///< That nodes may still have; to be taken away.
  // Of an adoption only:
  Fd page;
  Fd root;
  confine::GrantId next_grant = 0;
  bool complete = false;

  /// Takes one packet in. Errors: `busy` when the keeper has a broker, `unsupported` for another version of
  /// it, `malformed`.
  Result<void> hear(schema::Incoming packet);
};

/// Errors: `io`.
Result<Fd> open_state_directory(const std::string& path);

/// Where the keeper of a state directory listens; and, while one takes over from another, the one that does
/// not count: the next before it has everything, the last afterwards.
inline constexpr const char* kSocketName = "keeper.sock";
inline constexpr const char* kSpareName = "keeper-spare.sock";

/// Forks a keeper, which listens at `socket_name`. Its inventory (empty, but with limits) comes over the
/// socket. `request_timeout`: mount_fuse; `idle` and `accounts`: KeeperOptions. Errors: `io`.
Result<KeeperHandle> fork_keeper(BorrowedFd directory, std::chrono::seconds request_timeout,
                                 std::optional<std::chrono::seconds> idle, policy::Subordinates accounts,
                                 const char* socket_name = kSocketName);

/// Waits for the inventory of a keeper. Errors: `timed_out`, and those of Inventory::hear.
Result<Inventory> receive_inventory(const KeeperHandle& keeper, const KeeperOptions& options);

/// Nothing when no keeper listens there; one that stays silent is killed, and counts as none.
/// Where its clones are of no use to this broker, `clone.path` is empty and clone_unavailable says why.
/// Errors: `busy`, `unsupported`, `io`.
Result<std::optional<std::pair<KeeperHandle, Inventory>>> adopt_keeper(BorrowedFd directory,
                                                                       const KeeperOptions& options);

/// Gives `memory` to a new keeper that can make clones, and ends `old`, which cannot, only when that has all
/// of it. A broker or a keeper that dies on the way loses nothing: the next start finds `old` as it was, or
/// the new one complete. Errors: `unsupported` when a new one could not make clones either, `timed_out`,
/// `io`; then `old` is what it was.
Result<std::pair<KeeperHandle, Inventory>> take_over(BorrowedFd directory, const KeeperHandle& old,
                                                     const std::vector<HeldMemory>& memory,
                                                     std::chrono::seconds request_timeout,
                                                     const KeeperOptions& options);

/// Ends the keeper that a takeover left beside the one that counts, if its broker died on the way.
void end_spare_keeper(BorrowedFd directory);

/// Sends without a loop: waits until `until` for room in the keeper's queue. Errors: `timed_out`, `io`.
Result<void> send_now(BorrowedFd socket, std::span<const std::byte> bytes, std::span<const BorrowedFd> fds,
                      std::chrono::steady_clock::time_point until);

/// A pidfd of the process at the other end of a socket, or, without one, of `pid`. Errors: `io`.
Result<Fd> open_pidfd(BorrowedFd socket, pid_t pid);

/// Removes the adoption socket.
void unlink_socket(BorrowedFd directory);

/// SIGKILL or SIGCONT to a keeper. Fails only when it is gone already.
void signal_keeper(BorrowedFd process, int number);

/// Takes a child's exit status, so that it does not stay a zombie, and says how it ended ("ended with exit
/// code 3"). Nothing while it lives; an adopted keeper is nobody's child, and "ended, how is not known".
std::optional<std::string> reap_keeper(BorrowedFd process);

}  // namespace mapcap::broker::keeper
