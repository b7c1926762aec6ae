// What the kernel says about how stores to a directory's files, or to a device, become durable.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <optional>
#include <string>

#include "base/result.h"
#include "mapcap/fd.h"
#include "mapcap/words.h"

namespace mapcap::broker::pool {

/// /sys/dev/block/M:m or /sys/dev/char/M:m with every link followed; nothing when the device has no place
/// in sysfs.
enum class DeviceKind : std::uint8_t { block, character };
std::optional<std::filesystem::path> sysfs_of(DeviceKind kind, dev_t device);

/// Up to where a flushed store survives, by the persistence_domain of the NVDIMM region that a device (a path
/// from sysfs_of) belongs to; of stacked devices the weakest. Nothing when the platform promises nothing
/// (Documentation/ABI/testing/sysfs-bus-nvdimm).
std::optional<PersistenceDomain> persistence_domain(const std::filesystem::path& device);

/// The granularity that goes with a persistence domain on mapped persistent memory.
Granularity granularity_of(PersistenceDomain domain);

/// How files in a directory behave.
struct FileFacts {
  std::int64_t filesystem = 0;  ///< statfs(2) f_type.
  bool dax = false;             ///< Mappings reach the medium itself (statx STATX_ATTR_DAX and MAP_SYNC).
  bool reflink = false;         ///< Others may share a file's blocks, after which a store moves it.
  bool append_only = false;     ///< Files can be marked so that holders cannot punch holes.
  Durability durability;        ///< Of a fully written, synced file; map_sync as of the file itself.
};

/// Finds out with a file of its own in the directory, which is gone afterwards. Errors: `io` when the
/// directory cannot be written to.
Result<FileFacts> examine_directory(BorrowedFd directory);

}  // namespace mapcap::broker::pool
