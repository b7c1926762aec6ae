#include "broker/pool/devices/pci_bar.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <fstream>

#include "broker/pool/devices/device_pool.h"

namespace mapcap::broker::pool {

namespace fs = std::filesystem;

namespace {

constexpr const char* kMemtypes = "/sys/kernel/debug/x86/pat_memtype_list";

/// Where in physical memory a BAR is; pat_memtype_list speaks of that.
struct Place {
  std::uint64_t start = 0;
  std::uint64_t end = 0;  ///< Inclusive.
};

/// "…/0000:00:04.0/resource2_wc" -> "…/0000:00:04.0/resource2".
std::string without_suffix(std::string path) {
  if (path.ends_with("_wc")) path.resize(path.size() - 3);
  return path;
}

std::optional<Place> place_of(const fs::path& resource) {
  const std::string name = resource.filename().string();
  constexpr std::string_view kName = "resource";
  std::size_t index = 0;
  if (!name.starts_with(kName)) return std::nullopt;
  const char* end = name.data() + name.size();
  const auto [rest, fault] = std::from_chars(name.data() + kName.size(), end, index);
  if (fault != std::errc() || rest != end || index > 5) return std::nullopt;
  std::ifstream lines(resource.parent_path() / "resource");
  std::string line;
  for (std::size_t i = 0; i <= index; ++i) std::getline(lines, line);
  Place place;
  std::array<char, 3> blank{};
  if (std::sscanf(line.c_str(), "0x%lx%1[ ]0x%lx", &place.start, blank.data(), &place.end) != 3)
    return std::nullopt;
  if (place.start == 0 || place.end <= place.start) return std::nullopt;
  return place;
}

/// The attribute with which the kernel knows a mapping within the place: "uncached-minus",
/// "write-combining", ...; empty: none. Nothing: the list cannot be read.
std::optional<std::string> attribute_of(const Place& place) {
  std::ifstream lines(kMemtypes);
  if (!lines) return std::nullopt;
  std::string line;
  while (std::getline(lines, line)) {
    Place entry;
    std::array<char, 33> type{};
    // "PAT: [mem 0x00000000fe000000-0x00000000ff000000] write-combining", the end exclusive.
    if (std::sscanf(line.c_str(), "PAT: [mem 0x%lx-0x%lx] %32s", &entry.start, &entry.end, type.data()) != 3)
      continue;
    if (entry.start <= place.end && entry.end > place.start) return std::string(type.data());
  }
  return std::string();
}

std::string attribute_for(CacheMode mode) {
  return mode == CacheMode::write_combining ? "write-combining" : "uncached-minus";
}

Result<void> check_unmapped(const std::string& where, const std::string& path, const Place& place) {
  const std::optional<std::string> found = attribute_of(place);
  if (!found || found->empty()) return ok();
  return failure(ErrorCode::busy, where + path + " is mapped by somebody else (" + *found +
                                      "), who decides its cache mode; end them, or unbind its driver");
}

/// Maps a page and reads its attribute back. True: it is what the mode says; false: nobody can tell.
Result<bool> try_mode(const std::string& where, const Device::Mode& mode, const Place& place) {
  const Fd fd(::open(mode.path.c_str(), O_RDWR | O_CLOEXEC));
  if (!fd.valid()) return io_error(where + "opening " + mode.path, errno);
  // SAFETY: a fresh mapping of one page that is not touched, and unmapped below.
  void* at = ::mmap(nullptr, kPageSize, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (at == MAP_FAILED) {
    return failure(ErrorCode::unsupported,
                   where + mode.path + " cannot be mapped (" + std::generic_category().message(errno) +
                       "); unbind its driver, write 1 to its `enable`, and see that the kernel is not locked "
                       "down",
                   {{"errno", std::to_string(errno)}});
  }
  const std::optional<std::string> found = attribute_of(place);
  ::munmap(at, kPageSize);
  if (!found) return false;
  if (*found == attribute_for(mode.cache)) return true;
  return failure(ErrorCode::cache_mode, where + mode.path + " is mapped " + *found + ", not " +
                                            attribute_for(mode.cache) + "; somebody else has it mapped");
}

/// One lock file a BAR. It is held as long as the pool, and its content says that the BAR was granted.
class Locks {
 public:
  Result<void> take(const std::string& where, const std::string& directory, const std::string& resource) {
    if (::mkdir(directory.c_str(), 0700) != 0 && errno != EEXIST) {
      return io_error(where + "making " + directory, errno);
    }
    // By the device's own place: /sys/bus/pci/devices/... are links.
    std::error_code failed;
    std::string name = fs::canonical(resource, failed).string();
    std::replace(name.begin(), name.end(), '/', '-');
    const std::string path = directory + "/" + name;
    Fd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!fd.valid()) return io_error(where + "opening " + path, errno);
    if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
      return failure(ErrorCode::busy, where + "another mapcapd serves " + resource);
    }
    locks_.emplace_back(resource, std::move(fd));
    return ok();
  }

  [[nodiscard]] bool noted(const std::string& resource) const {
    char byte = 0;
    return ::pread(of(resource), &byte, 1, 0) == 1;
  }
  /// Cannot fail on the tmpfs that it is meant for, but by lack of memory: then it counts as granted while
  /// this broker lives.
  void note(const std::string& resource, Granted granted) const {
    const char byte = 'g';
    [[maybe_unused]] const bool done = granted == Granted::yes ? ::pwrite(of(resource), &byte, 1, 0) == 1
                                                               : ::ftruncate(of(resource), 0) == 0;
  }

 private:
  [[nodiscard]] int of(const std::string& resource) const {
    for (const auto& [name, fd] : locks_) {
      if (name == resource) return fd.get();
    }
    return -1;
  }
  std::vector<std::pair<std::string, Fd>> locks_;
};

struct Bar {
  Device device;
  Place place;
  bool verified = false;
};

Result<Bar> look_at(const std::string& where, const std::string& path,
                    const std::vector<CacheMode>& allowed) {
  const std::string resource = without_suffix(path);
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) {
    if (errno == ENOENT) {
      return failure(ErrorCode::not_found, where + "there is no " + path + "; ls /sys/bus/pci/devices/*/");
    }
    return io_error(where + path, errno);
  }
  const std::optional<Place> place = place_of(resource);
  if (!place || !S_ISREG(status.st_mode)) {
    return failure(ErrorCode::invalid, where + path +
                                           " is not the memory of a PCI device: take resource0 to "
                                           "resource5 below /sys/bus/pci/devices");
  }
  Bar bar;
  bar.place = *place;
  bar.device.size = {place->end - place->start + 1};
  if (bar.device.size.value % kPageSize != 0) {
    return failure(ErrorCode::invalid,
                   where + path + " is no multiple of a page: it has " + format_bytes(bar.device.size));
  }
  const auto may = [&](CacheMode mode) {
    return allowed.empty() || std::find(allowed.begin(), allowed.end(), mode) != allowed.end();
  };
  const std::string combining = resource + "_wc";
  if (may(CacheMode::uncached) && path == resource)
    bar.device.modes.push_back({CacheMode::uncached, resource});
  if (may(CacheMode::write_combining) && ::access(combining.c_str(), F_OK) == 0) {
    bar.device.modes.push_back({CacheMode::write_combining, combining});
  }
  if (bar.device.modes.empty()) {
    return failure(ErrorCode::cache_mode,
                   where + path +
                       " can have none of the cache modes that the pool allows: uc, and wc where "
                       "there is a file with _wc");
  }
  return bar;
}

/// Where a BAR is known by in locks and records: without _wc, whatever the policy lists.
std::string resource_of(const Device& device) {
  return without_suffix(device.modes.front().path);
}

}  // namespace

Result<std::unique_ptr<Pool>> open_pci_bar(const PciBarOptions& options) {
  const std::string where = "pool " + options.name + ": ";
  DevicePoolParts parts;
  auto locks = std::make_shared<Locks>();
  parts.facts.cache_verified = true;
  for (const std::string& path : options.resources) {
    MAPCAP_TRY(Bar bar, look_at(where, path, options.cache));
    const std::string resource = resource_of(bar.device);
    MAPCAP_TRY_VOID(locks->take(where, options.locks, resource));
    // Mappings of our own tenants, from before a restart of the broker, are to be expected.
    if (!locks->noted(resource)) {
      MAPCAP_TRY_VOID(check_unmapped(where, resource, bar.place));
      for (const Device::Mode& mode : bar.device.modes) {
        MAPCAP_TRY(const bool verified, try_mode(where, mode, bar.place));
        parts.facts.cache_verified = parts.facts.cache_verified && verified;
      }
    } else {
      parts.facts.cache_verified = parts.facts.cache_verified && attribute_of(bar.place).has_value();
    }
    for (const Device::Mode& mode : bar.device.modes) {
      auto& modes = parts.facts.cache_modes;
      if (std::find(modes.begin(), modes.end(), mode.cache) == modes.end()) modes.push_back(mode.cache);
    }
    parts.devices.push_back(std::move(bar.device));
  }
  parts.facts.name = options.name;
  parts.facts.backing = "pci-bar";
  parts.facts.seals = {SealKind::irrevocable};
  // Nothing is promised of what lies behind a BAR.
  parts.facts.durability = {Granularity::none, PersistenceDomain::volatile_memory, false};
  parts.facts.volatile_memory = false;
  parts.facts.may_return = true;
  parts.scrub = Scrub::words;
  if (options.census) {
    parts.facts.end_holders_after = options.end_holders_after;
    parts.end_holders = [census = options.census](BorrowedFd fd) {
      return device_holders::end_processes(*census, fd);
    };
    // Mappings of I/O memory cannot be pinned.
    parts.held = [census = options.census](const Device&, BorrowedFd node) -> Result<bool> {
      MAPCAP_TRY(const std::uint32_t opens, census->opens(node));
      return opens != 0;
    };
  }
  parts.note = [locks](const Device& device, Granted granted) { locks->note(resource_of(device), granted); };
  parts.noted = [locks](const Device& device) { return locks->noted(resource_of(device)); };
  parts.check = [where](const Device& device, const Device::Mode& mode) -> Result<void> {
    const std::optional<Place> place = place_of(resource_of(device));
    if (!place) return failure(ErrorCode::io, where + mode.path + " has lost its place in memory");
    MAPCAP_TRY_VOID(check_unmapped(where, mode.path, *place));
    MAPCAP_TRY([[maybe_unused]] const bool verified, try_mode(where, mode, *place));
    return ok();
  };
  return make_device_pool(std::move(parts));
}

}  // namespace mapcap::broker::pool
