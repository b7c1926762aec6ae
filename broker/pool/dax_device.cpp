#include "broker/pool/dax_device.h"

#include <sys/stat.h>

#include <cerrno>
#include <filesystem>
#include <fstream>

#include "broker/pool/device_pool.h"
#include "broker/pool/persistence.h"

namespace mapcap::broker::pool {

namespace fs = std::filesystem;
using schema::ByteCount;
using schema::ErrorCode;
using schema::Granularity;
using schema::PersistenceDomain;
using schema::Result;

namespace {

struct Found {
  ByteCount size;
  ByteCount alignment;
  schema::Durability durability;
};

std::uint64_t number_in(const fs::path& file) {
  std::uint64_t number = 0;
  std::ifstream(file) >> number;
  return number;
}

/// Soft-reserved DRAM and CXL memory have no NVDIMM region above them, and promise nothing.
schema::Durability durability_of(const fs::path& sysfs) {
  const std::optional<PersistenceDomain> domain = persistence_domain(sysfs);
  if (!domain) return {Granularity::none, PersistenceDomain::volatile_memory, false};
  return {granularity_of(*domain), *domain, true};
}

Result<Found> look_at(const std::string& where, const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) {
    if (errno == ENOENT) {
      return schema::error(ErrorCode::not_found,
                           where + "there is no " + path + "; `daxctl list` shows what there is");
    }
    return schema::io_error(where + path, errno);
  }
  const std::optional<fs::path> sysfs =
      S_ISCHR(status.st_mode) ? sysfs_of(DeviceKind::character, status.st_rdev) : std::nullopt;
  std::error_code failed;
  if (!sysfs || fs::canonical(*sysfs / "subsystem", failed).filename() != "dax") {
    return schema::error(ErrorCode::invalid,
                         where + path + " is not a device-DAX node; `daxctl list` shows them");
  }
  if (status.st_uid != 0 || (status.st_mode & 077U) != 0) {
    return schema::error(ErrorCode::invalid, where + path + " must be root's alone: chown root " + path +
                                                 " && chmod 0600 " + path);
  }
  Found found;
  found.size = {number_in(*sysfs / "size")};
  found.alignment = {number_in(*sysfs / "align")};
  if (found.size.value == 0) {
    return schema::error(ErrorCode::invalid, where + path + " has no memory; `daxctl list` shows its size");
  }
  if (found.alignment.value == 0) found.alignment = {2U << 20U};
  found.durability = durability_of(*sysfs);
  return found;
}

/// True only when the kernel counts no open file of any device-DAX node.
bool nothing_open() {
  const fs::path module = "/sys/module/device_dax";
  std::ifstream file(module / "refcnt");
  std::int64_t references = 0;
  if (!(file >> references)) return false;  // Built in: nobody counts.
  std::error_code failed;
  std::int64_t modules = 0;
  for (fs::directory_iterator entry(module / "holders", failed), end; !failed && entry != end;
       entry.increment(failed)) {
    ++modules;
  }
  return !failed && references <= modules;
}

/// Stores to damaged blocks of a mapped device end in a machine check.
Result<void> check_bad_blocks(const Device&, const Device::Mode& mode) {
  struct stat status {};
  if (::stat(mode.path.c_str(), &status) != 0) return schema::io_error(mode.path, errno);
  const std::optional<fs::path> sysfs = sysfs_of(DeviceKind::character, status.st_rdev);
  std::error_code failed;
  for (fs::path at = sysfs.value_or(fs::path()); at.has_relative_path(); at = at.parent_path()) {
    if (!fs::exists(at / "badblocks", failed)) continue;
    std::uint64_t first = 0;
    if (std::ifstream(at / "badblocks") >> first) {
      return schema::error(ErrorCode::io, mode.path + " lies in a region with bad blocks (" +
                                              (at / "badblocks").string() +
                                              "); clear them with ndctl clear-errors");
    }
    break;
  }
  return schema::ok();
}

bool weaker(const schema::Durability& a, const schema::Durability& b) {
  return a.granularity < b.granularity;
}

}  // namespace

Result<std::unique_ptr<Pool>> open_dax_device(const DaxDeviceOptions& options) {
  const std::string where = "pool " + options.name + ": ";
  DevicePoolParts parts;
  for (const std::string& path : options.devices) {
    MAPCAP_TRY(const Found found, look_at(where, path));
    if (parts.devices.empty() || weaker(found.durability, parts.facts.durability)) {
      parts.facts.durability = found.durability;
    }
    if (parts.devices.empty() || found.alignment < parts.facts.granule) parts.facts.granule = found.alignment;
    parts.devices.push_back({{{schema::CacheMode::write_back, path}}, found.size});
  }
  parts.facts.name = options.name;
  parts.facts.backing = "dax-device";
  parts.facts.seals = {schema::SealKind::revocable};
  parts.facts.cache_modes = {schema::CacheMode::write_back};
  parts.facts.volatile_memory = false;
  parts.scrub = Scrub::non_temporal;
  parts.unheld = nothing_open;
  parts.check = check_bad_blocks;
  return make_device_pool(std::move(parts));
}

}  // namespace mapcap::broker::pool
