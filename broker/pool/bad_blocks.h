// Damaged sectors of a block device, as the kernel lists them, and where in a file they are.
#pragma once

#include <chrono>
#include <filesystem>
#include <mutex>
#include <vector>

#include "base/result.h"
#include "base/units.h"
#include "mapcap/fd.h"

namespace mapcap::broker::pool {

inline constexpr std::uint64_t kSector = 512;

/// Bytes [offset, offset + size).
struct ByteRange {
  std::uint64_t offset = 0;
  std::uint64_t size = 0;
  bool operator==(const ByteRange&) const = default;
};

/// The text of a `badblocks` attribute: lines "FIRST COUNT", in sectors of the whole disk. Only what lies
/// within the partition that begins at sector `begin` counts, relative to it.
std::vector<ByteRange> parse_bad_blocks(std::string_view text, std::uint64_t begin);

/// The parts of a file that lie on damaged bytes of its device, in ascending order. `extents`: where in the
/// file, where on the device, and how long.
struct FileExtent {
  std::uint64_t in_file = 0;
  std::uint64_t on_device = 0;
  std::uint64_t size = 0;
};
std::vector<ByteRange> damaged_parts(const std::vector<FileExtent>& extents,
                                     const std::vector<ByteRange>& bad);

/// Where a file's bytes are (FS_IOC_FIEMAP). Errors: `io`, also where the filesystem cannot tell.
Result<std::vector<FileExtent>> extents_of(BorrowedFd fd);

/// How old what is known of a device may be: a second, for each region that somebody lists; or not at all.
enum class Reading : bool { recent, now };

/// A device's list. Thread-safe.
class BadBlocks {
 public:
  /// `device`: the device's or partition's directory in sysfs, or empty for none.
  explicit BadBlocks(const std::filesystem::path& device);

  /// Of the file, in ascending order; empty where nothing is known.
  std::vector<ByteRange> in(BorrowedFd fd, Reading reading);

 private:
  std::vector<ByteRange> of_device(Reading reading);

  std::filesystem::path list_;  ///< Empty: the device keeps none.
  std::uint64_t begin_ = 0;     ///< First sector of the partition.
  std::mutex mutex_;
  std::chrono::steady_clock::time_point read_at_{};
  std::vector<ByteRange> known_;
};

}  // namespace mapcap::broker::pool
