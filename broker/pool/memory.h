// The `memory` pool: one memfd a region (or, for huge pages, one unlinked file on a tmpfs that is mounted
// nowhere).
//
// Never reused: every region is a fresh inode, which the kernel hands out zeroed (promise 6), and an inode
// that was cut is never grown again, because old mappings would come back to life.
#pragma once

#include <functional>
#include <memory>
#include <optional>

#include "broker/pool/pool.h"
#include "broker/pool/reservation.h"

namespace mapcap::broker::pool {

struct MemoryOptions {
  std::string name;
  ByteCount capacity;           ///< Checked against the machine's memory by open_memory.
  std::vector<SealKind> seals;  ///< Allowed; first is the default.
  bool populate = false;        ///< Allocate the pages at create, not at first touch; all of them huge ones,
                                ///< with `huge`.
  bool huge = false;            ///< Transparent huge pages, through a detached tmpfs with huge=always.
  bool secret = false;          ///< memfd_secret: not even in the kernel's direct map.
  std::optional<std::uint32_t> numa_node;
  bool cache_verified = false;  ///< Somebody saw in the page table that memory is mapped write-back.
  Reservation::Places places;
  /// What mounts a tmpfs for huge pages, for a broker that may not; empty: detached_huge_tmpfs().
  std::function<Result<Fd>()> huge_tmpfs;
};

/// A tmpfs of huge pages that no path leads to. The books say how much of it is used: its own limit only keeps it below
/// what the machine has, since a capacity may grow. Needs CAP_SYS_ADMIN. Errors: `unsupported`, `io`.
Result<Fd> detached_huge_tmpfs();

/// Errors: `invalid` when the capacity exceeds the machine's memory, the NUMA node does not exist or the
/// options exclude each other; `unsupported` when the kernel lacks memfd_secret or huge tmpfs pages.
Result<std::unique_ptr<Pool>> open_memory(MemoryOptions options);

}  // namespace mapcap::broker::pool
