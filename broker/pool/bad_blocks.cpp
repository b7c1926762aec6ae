#include "broker/pool/bad_blocks.h"

#include <linux/fiemap.h>
#include <linux/fs.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>

#include "base/small_file.h"

namespace mapcap::broker::pool {

namespace fs = std::filesystem;

namespace {

constexpr std::chrono::seconds kFresh{1};
constexpr std::size_t kExtentsAtOnce = 64;

}  // namespace

std::vector<ByteRange> parse_bad_blocks(std::string_view text, std::uint64_t begin) {
  std::vector<ByteRange> ranges;
  std::istringstream lines{std::string(text)};
  std::uint64_t first = 0;
  std::uint64_t count = 0;
  while (lines >> first >> count) {
    const std::uint64_t end = first + count;
    if (end <= begin) continue;
    const std::uint64_t from = std::max(first, begin);
    ranges.push_back({(from - begin) * kSector, (end - from) * kSector});
  }
  return ranges;
}

std::vector<ByteRange> damaged_parts(const std::vector<FileExtent>& extents,
                                     const std::vector<ByteRange>& bad) {
  std::vector<ByteRange> parts;
  for (const FileExtent& extent : extents) {
    for (const ByteRange& range : bad) {
      const std::uint64_t from = std::max(extent.on_device, range.offset);
      const std::uint64_t to = std::min(extent.on_device + extent.size, range.offset + range.size);
      if (from < to) parts.push_back({extent.in_file + (from - extent.on_device), to - from});
    }
  }
  std::sort(parts.begin(), parts.end(),
            [](const ByteRange& a, const ByteRange& b) { return a.offset < b.offset; });
  return parts;
}

Result<std::vector<FileExtent>> extents_of(BorrowedFd fd) {
  // The head with its extents behind it; in C++ no struct can have a member after a flexible array.
  alignas(fiemap) std::array<std::byte, sizeof(fiemap) + kExtentsAtOnce * sizeof(fiemap_extent)> answer{};
  std::vector<FileExtent> found;
  std::uint64_t from = 0;
  for (;;) {
    fiemap head{};
    head.fm_start = from;
    head.fm_length = FIEMAP_MAX_OFFSET - from;
    head.fm_extent_count = kExtentsAtOnce;
    std::memcpy(answer.data(), &head, sizeof head);
    // SAFETY: the kernel writes at most fm_extent_count extents behind the head, which is what there is room
    // for.
    if (::ioctl(fd.get(), FS_IOC_FIEMAP, answer.data()) != 0) return io_error("FIEMAP", errno);
    std::memcpy(&head, answer.data(), sizeof head);
    const std::size_t count = std::min<std::size_t>(head.fm_mapped_extents, kExtentsAtOnce);
    if (count == 0) return found;
    for (std::size_t i = 0; i < count; ++i) {
      fiemap_extent extent{};
      std::memcpy(&extent, answer.data() + sizeof head + i * sizeof extent, sizeof extent);
      found.push_back({extent.fe_logical, extent.fe_physical, extent.fe_length});
      if ((extent.fe_flags & FIEMAP_EXTENT_LAST) != 0) return found;
      from = extent.fe_logical + extent.fe_length;
    }
  }
}

BadBlocks::BadBlocks(const fs::path& device) {
  std::error_code failed;
  if (device.empty()) return;
  if (fs::exists(device / "badblocks", failed)) {
    list_ = device / "badblocks";
  } else if (fs::exists(device / "partition", failed) &&
             fs::exists(device.parent_path() / "badblocks", failed)) {
    list_ = device.parent_path() / "badblocks";
    std::ifstream(device / "start") >> begin_;
  }
}

std::vector<ByteRange> BadBlocks::of_device(Reading reading) {
  if (list_.empty()) return {};
  const std::lock_guard lock(mutex_);
  const auto now = std::chrono::steady_clock::now();
  const bool never = read_at_ == std::chrono::steady_clock::time_point{};
  if (never || reading == Reading::now || now - read_at_ > kFresh) {
    known_ = parse_bad_blocks(contents_of(list_), begin_);
    read_at_ = now;
  }
  return known_;
}

std::vector<ByteRange> BadBlocks::in(BorrowedFd fd, Reading reading) {
  const std::vector<ByteRange> bad = of_device(reading);
  if (bad.empty()) return {};
  Result<std::vector<FileExtent>> extents = extents_of(fd);
  if (!extents) return {};
  return damaged_parts(extents.value(), bad);
}

}  // namespace mapcap::broker::pool
