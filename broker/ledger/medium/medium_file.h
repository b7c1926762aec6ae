// A ledger in a regular file, mapped through libpmem2. The only file of the ledger that knows libpmem2.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "broker/ledger/medium/medium.h"

namespace mapcap::broker::ledger {

/// Slots of a new ledger: 1 MiB of them.
inline constexpr std::uint32_t kInitialCapacity = 4096;

struct FileOptions {
  /// For tests and benchmarks only: pretend that the file is on a medium of this granularity. Durability is
  /// then whatever it is.
  std::optional<Granularity> pretend;
  std::uint32_t capacity = kInitialCapacity;  ///< Of a file that is made.
};

/// Opens the file, or makes it with an empty ledger in it; takes its lock; maps it.
/// The lock is one on the open file description (F_OFD_SETLK), released when the medium goes. It would live
/// on in a process that was forked without exec and kept the descriptor, which is O_CLOEXEC. A ledger appears
/// under its name whole or not at all: it is made as PATH.new and linked. Errors: `busy` when somebody else
/// holds the lock; `invalid` for what is not a regular file or too short; `io` otherwise.
Result<std::shared_ptr<Medium>> open_or_create_file(const std::string& path, const FileOptions& options = {});

/// Opens an existing file for reading only, with a shared lock; stores are a broken invariant.
/// Errors: `not_found`, and as above.
Result<std::shared_ptr<Medium>> open_file_read_only(const std::string& path);

}  // namespace mapcap::broker::ledger
