#include "broker/pool/devices/dax_device.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>

#include "broker/pool/devices/dax_node.h"
#include "broker/pool/devices/device_pool.h"

namespace mapcap::broker::pool {

namespace {

bool weaker(const Durability& a, const Durability& b) {
  return a.granularity < b.granularity;
}

std::vector<ByteRange> damage_of(const Device& device) {
  const Result<DaxNode> node = read_dax_node("", device.modes.front().path);
  return node ? damaged_parts(node.value().sysfs, node.value().ranges) : std::vector<ByteRange>();
}

std::uint32_t damaged_sectors(const Device& device) {
  std::uint64_t sectors = 0;
  for (const ByteRange& part : damage_of(device)) sectors += (part.size + kSector - 1) / kSector;
  return static_cast<std::uint32_t>(std::min<std::uint64_t>(sectors, UINT32_MAX));
}

/// Whoever reads a damaged block of a mapped device gets a machine check.
Result<void> check_bad_blocks(const Device& device, const Device::Mode& mode) {
  const std::vector<ByteRange> damage = damage_of(device);
  if (damage.empty()) return ok();
  return failure(ErrorCode::io, mode.path + " has bad blocks, the first at byte " +
                                    std::to_string(damage.front().offset) +
                                    "; clear them with ndctl clear-errors");
}

}  // namespace

Result<std::unique_ptr<Pool>> open_dax_device(const DaxDeviceOptions& options) {
  const std::string where = "pool " + options.name + ": ";
  DevicePoolParts parts;
  for (const std::string& path : options.devices) {
    MAPCAP_TRY(const DaxNode node, read_dax_node(where, path));
    if (parts.devices.empty() || weaker(node.durability, parts.facts.durability)) {
      parts.facts.durability = node.durability;
    }
    if (parts.devices.empty() || node.alignment < parts.facts.granule) parts.facts.granule = node.alignment;
    parts.devices.push_back({{{CacheMode::write_back, path}}, node.size, node.uuid});
  }
  parts.facts.name = options.name;
  parts.facts.backing = "dax-device";
  parts.facts.seals = {SealKind::irrevocable};
  parts.facts.cache_modes = {CacheMode::write_back};
  parts.facts.volatile_memory = false;
  parts.facts.may_return = true;
  if (!options.devices.empty()) {
    const Fd first(::open(options.devices.front().c_str(), O_RDONLY | O_CLOEXEC));
    if (!first.valid()) return io_error(where + "opening " + options.devices.front(), errno);
    verify_cache(options.cache_reader, first.borrow(), parts.facts);
  }
  parts.scrub = Scrub::non_temporal;
  if (options.census) {
    parts.facts.end_holders_after = options.end_holders_after;
    parts.end_holders = [census = options.census](BorrowedFd fd) {
      return device_holders::end_processes(*census, fd);
    };
    parts.held = [census = options.census](const Device& device, BorrowedFd fd) -> Result<bool> {
      MAPCAP_TRY(const DaxNode node, read_dax_node("", device.modes.front().path));
      return is_held(*census, node, fd);
    };
  }
  parts.bad_blocks = damaged_sectors;
  parts.check = check_bad_blocks;
  return make_device_pool(std::move(parts));
}

}  // namespace mapcap::broker::pool
