// What takes the machine's power to make: a keeper with its FUSE mount, and the numbers by which the kernel knows the files
// behind clones.
//
// A broker that has the power does it itself; one that has given it up asks the mint.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/result.h"
#include "broker/keeper/start.h"
#include "mapcap/fd.h"
#include "policy/subordinates.h"

namespace mapcap::broker::keeper {

struct NewKeeper {
  std::chrono::seconds request_timeout{0};   ///< mount_fuse
  std::optional<std::chrono::seconds> idle;  ///< KeeperOptions::idle
  policy::Subordinates accounts;             ///< KeeperOptions::accounts; a mint reads them itself.
  const char* socket_name = kSocketName;
};

/// Thread-safe. Each call waits as long as the kernel does, or the mint, which a deadline bounds.
class Forge {
 public:
  virtual ~Forge() = default;
  /// fork_keeper in the state directory `directory`. Errors: `io`, `unavailable`, `timed_out`.
  virtual Result<KeeperHandle> start_keeper(BorrowedFd directory, const NewKeeper& wanted) = 0;
  /// keeper::open_backing. Errors: its own, `unavailable`.
  virtual Result<std::int32_t> open_backing(BorrowedFd device, BorrowedFd file) = 0;
  /// The same of all of these files, or of none, in their order.
  virtual Result<std::vector<std::int32_t>> open_backings(BorrowedFd device,
                                                          std::span<const BorrowedFd> files) = 0;
  /// Returns when all of these ids are closed; one that is not open is none.
  virtual void close_backings(BorrowedFd device, std::span<const std::int32_t> ids) = 0;
  /// The same of one whose file may be somebody's whose filesystem takes its time.
  virtual void bury_backing(BorrowedFd device, std::int32_t backing_id) = 0;
};

/// Of a process that has the power itself.
std::shared_ptr<Forge> own_forge();

}  // namespace mapcap::broker::keeper
