#include "broker/pool/devices/dax_node.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <iomanip>
#include <sstream>

#include "base/small_file.h"
#include "broker/pool/persistence.h"

namespace mapcap::broker::pool {

namespace fs = std::filesystem;
using device_holders::Range;

namespace {

Durability durability_of(const fs::path& sysfs) {
  const std::optional<PersistenceDomain> domain = persistence_domain(sysfs);
  if (!domain) return {Granularity::none, PersistenceDomain::volatile_memory, false};
  return {granularity_of(*domain), *domain, true};
}

/// mapping0, mapping1, ... in their order; older kernels have them for dynamic devices only, which may be in
/// pieces.
std::vector<Range> ranges_of(const fs::path& sysfs, ByteCount size) {
  std::vector<Range> ranges;
  std::error_code failed;
  for (int i = 0; fs::exists(sysfs / ("mapping" + std::to_string(i)), failed); ++i) {
    const fs::path mapping = sysfs / ("mapping" + std::to_string(i));
    const std::uint64_t start = number_in(mapping / "start").value_or(0);
    ranges.push_back({start, number_in(mapping / "end").value_or(0) + 1 - start});
  }
  if (ranges.empty()) ranges.push_back({number_in(sysfs / "resource").value_or(0), size.value});
  return ranges;
}

}  // namespace

Result<DaxNode> read_dax_node(const std::string& where, const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) {
    if (errno == ENOENT) {
      return failure(ErrorCode::not_found,
                     where + "there is no " + path + "; `daxctl list` shows what there is");
    }
    return io_error(where + path, errno);
  }
  const std::optional<fs::path> sysfs =
      S_ISCHR(status.st_mode) ? sysfs_of(DeviceKind::character, status.st_rdev) : std::nullopt;
  std::error_code failed;
  if (!sysfs || fs::canonical(*sysfs / "subsystem", failed).filename() != "dax") {
    return failure(ErrorCode::invalid, where + path + " is not a device-DAX node; `daxctl list` shows them");
  }
  if (status.st_uid != 0 || (status.st_mode & 077U) != 0) {
    return failure(ErrorCode::invalid,
                   where + path + " must be root's alone: chown root " + path + " && chmod 0600 " + path);
  }
  DaxNode node;
  node.path = path;
  node.sysfs = *sysfs;
  node.size = {number_in(*sysfs / "size").value_or(0)};
  node.alignment = {number_in(*sysfs / "align").value_or(0)};
  if (node.size.value == 0) {
    return failure(ErrorCode::invalid, where + path + " has no memory; `daxctl list` shows its size");
  }
  if (node.alignment.value == 0) node.alignment = {2U << 20U};
  node.ranges = ranges_of(*sysfs, node.size);
  // Of the namespace's info block; the kernel numbers devices anew at each boot.
  node.uuid = contents_of(node.sysfs.parent_path() / "uuid");
  node.durability = durability_of(*sysfs);
  return node;
}

Result<bool> is_held(device_holders::Census& census, const DaxNode& node, BorrowedFd fd) {
  MAPCAP_TRY(const std::uint32_t opens, census.opens(fd));
  if (opens != 0) return true;
  // Nobody can pin a page any more who does not already: so now the pins can be looked for.
  const Fd device(::open(node.path.c_str(), O_RDWR | O_CLOEXEC));
  if (!device.valid()) return io_error("opening " + node.path, errno);
  return census.pinned(device.borrow(), node.alignment, node.ranges);
}

std::vector<ByteRange> damaged_parts(const fs::path& sysfs, const std::vector<Range>& ranges) {
  std::error_code failed;
  fs::path region = sysfs;
  while (region.has_relative_path() && !fs::exists(region / "badblocks", failed))
    region = region.parent_path();
  if (!region.has_relative_path()) return {};
  const std::vector<ByteRange> bad = parse_bad_blocks(contents_of(region / "badblocks"), 0);
  const std::uint64_t region_start = number_in(region / "resource").value_or(0);
  std::vector<FileExtent> extents;
  std::uint64_t offset = 0;
  for (const Range& range : ranges) {
    extents.push_back({offset, range.start - region_start, range.size});
    offset += range.size;
  }
  return damaged_parts(extents, bad);
}

}  // namespace mapcap::broker::pool
