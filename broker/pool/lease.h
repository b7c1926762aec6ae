// Leases as a question: does anybody still have this memory open or mapped?
//
// The kernel grants a write lease only when nobody but the asker's own open file description has the inode
// open (fs/locks.c, check_conflicting_open; a mapping keeps its description alive, so it counts as one). And
// a lease ends with the last reference to its description, be it a descriptor, one that travels in a socket,
// or a mapping: as long as /proc/locks shows it, somebody holds the memory.
#pragma once

#include <chrono>
#include <cstdint>
#include <mutex>
#include <unordered_set>

#include "base/result.h"
#include "mapcap/fd.h"

namespace mapcap::broker::pool {

/// Whether another description of the file is open or mapped than `fd`'s own, which must be an O_RDONLY one
/// of a file of the caller's uid. Exact. Errors: `io`.
Result<bool> open_elsewhere(BorrowedFd fd);

/// Whether the file is open for writing, or mapped through a description that is, by anybody: the kernel grants a read
/// lease only where nobody has it so (inode_is_open_for_write). Exact, with the exception of descriptions that were
/// created with the file and never opened, such as a memfd's first: they are the broker's and the keeper's. Pinned
/// pages are not seen. `fd` as for open_elsewhere. Errors: `io`.
Result<bool> open_for_writing(BorrowedFd fd);

/// Marks `fd`'s description with a read lease, which only the file's owner and holders of CAP_LEASE can
/// remove; returns what Leases need to find it again: the inode's number. For files that cannot be
/// opened a second time. Errors: `unsupported` when the kernel leases no such file.
Result<std::uint64_t> mark_with_lease(BorrowedFd fd);

/// The leases of the machine, from /proc/locks: as long as that is, reading it takes; users make it long.
/// Thread-safe.
class Leases {
 public:
  /// Whether a description that was marked so is still referred to by anybody, the caller included. A "yes"
  /// may be kFresh old, so that many who ask cost one reading; a "no" is always read anew. Errors: `io`.
  Result<bool> lives(std::uint64_t inode);

  static constexpr std::chrono::milliseconds kFresh{20};

 private:
  std::mutex mutex_;
  std::unordered_set<std::uint64_t> inodes_;
  std::chrono::steady_clock::time_point read_at_;  ///< When the last reading began.
};

}  // namespace mapcap::broker::pool
