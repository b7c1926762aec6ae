// The `dax-file` pool: one file a region, in a directory that belongs to the broker, on ext4 or XFS.
//
// With DAX (mount -o dax) a mapping reaches the persistent memory itself; without, the same works on the page
// cache and says so (durability page).
//
// Before a file is granted every byte of it was written and it was synced. So no block of it can move any
// more, and making the client's stores durable needs no more than flushing cache lines: without the
// filesystem, and without MAP_SYNC, which the clone cannot have.
//
// The broker's rules about its files:
//   region-LEDGER-ID   a region's. A file that no record names is a leftover of a crash and is removed at
//                      start; one of another ledger is told of and stays: the right state directory may only
//                      not be mounted.
//   damaged-ID         what is kept back because the device has bad blocks there; nothing but those is
//                      allocated. Removed at the next start after they were cleared.
// A file is unlinked only after it was truncated, and is truncated only once nobody pins its pages: unlinking
// a file whose pages are pinned would hand them to the next file while somebody still writes to them.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string_view>
#include <variant>

#include "broker/pool/pool.h"

namespace mapcap::broker::pool {

struct DaxFileOptions {
  std::string name;
  std::string path;          ///< A directory: root's, mode 0700, for nobody else.
  std::uint32_t ledger = 0;  ///< Ledger::identity(): its files are named by it.
  /// Of bytes, or in percent of the filesystem; nothing: all of the filesystem.
  std::optional<std::variant<ByteCount, std::uint32_t>> capacity;
  std::vector<SealKind> seals{SealKind::revocable};
  /// How the pool's grants are confined: a clone loses MAP_SYNC.
  Confinement confinement = Confinement::clone;
  /// How long a revoke waits for pins before the region is quarantined. Large files get 1 s more per 4 GiB.
  std::chrono::milliseconds cut_deadline{5000};
  CacheReader cache_reader;  ///< May be empty.
  /// Opens the pool's path, for a broker that can open none by itself: not valid with errno where that fails. May be
  /// empty: open(2).
  std::function<Fd(const std::string& pool)> open_directory;
  /// Tests only: asked before each system call that changes something, by name; an errno makes it fail.
  std::function<int(std::string_view call)> fault;
};

/// Errors: `not_found` (no such directory), `invalid` (no directory, not root's alone, on a filesystem that
/// cannot hold regions, a capacity beyond the filesystem's), `busy` (another broker has it), `io`.
Result<std::unique_ptr<Pool>> open_dax_file(DaxFileOptions options);

}  // namespace mapcap::broker::pool
