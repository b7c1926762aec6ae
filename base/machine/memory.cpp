#include "base/machine/memory.h"

#include <unistd.h>

#include <fstream>
#include <limits>
#include <sstream>

#include "base/small_file.h"

namespace mapcap::machine {
namespace {

/// "max", and what does not exist, is no limit.
std::optional<ByteCount> bytes_in(const std::string& path) {
  const std::optional<std::uint64_t> number = number_in(path);
  return number ? std::optional<ByteCount>(ByteCount{*number}) : std::nullopt;
}

/// What files say that have a line "KEY VALUE" each. `reclaimable`: keys whose values are added.
ByteCount page_cache(const std::string& path, const std::string& inactive, const std::string& active) {
  std::ifstream file(path);
  std::string key;
  ByteCount sum;
  for (std::uint64_t value = 0; file >> key >> value;) {
    if (key == inactive || key == active) sum.value += value;
  }
  return sum;
}

/// The two generations of cgroups under one roof.
struct Hierarchy {
  std::string root;   ///< Where it is mounted.
  std::string group;  ///< The caller's, below root.
  bool unified = true;

  [[nodiscard]] std::optional<CgroupLimit> limit_of(const std::string& at) const {
    const std::string directory = root + at;
    const auto limit = bytes_in(directory + (unified ? "/memory.max" : "/memory.limit_in_bytes"));
    const auto used = bytes_in(directory + (unified ? "/memory.current" : "/memory.usage_in_bytes"));
    // Version 1 says "none" by a number that no machine has.
    if (!limit || !used || limit->value > std::numeric_limits<std::int64_t>::max() / 2) return std::nullopt;
    const ByteCount cache =
        unified ? page_cache(directory + "/memory.stat", "inactive_file", "active_file")
                : page_cache(directory + "/memory.stat", "total_inactive_file", "total_active_file");
    return CgroupLimit{at.empty() ? "/" : at, *limit, {*used > cache ? used->value - cache.value : 0}};
  }
};

std::optional<Hierarchy> memory_hierarchy(const std::string& proc, const std::string& cgroups) {
  std::ifstream file(proc + "/self/cgroup");
  std::optional<Hierarchy> unified;
  for (std::string line; std::getline(file, line);) {
    const std::size_t first = line.find(':');
    const std::size_t second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    const std::string group = line.substr(second + 1) == "/" ? "" : line.substr(second + 1);
    // Where version 1 has the memory controller, version 2 has not.
    if (controllers.find(",memory,") != std::string::npos)
      return Hierarchy{cgroups + "/memory", group, false};
    if (controllers == ",,") unified = Hierarchy{cgroups, group, true};
  }
  return unified;
}

}  // namespace

Memory memory(const std::string& proc) {
  Memory found;
  std::ifstream file(proc + "/meminfo");
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string key;
    std::uint64_t kibibytes = 0;
    if (!(words >> key >> kibibytes)) continue;
    const ByteCount bytes{kibibytes * 1024};
    if (key == "MemTotal:") found.total = bytes;
    if (key == "MemAvailable:") found.available = bytes;
    if (key == "SwapFree:") found.swap_free = bytes;
    if (key == "CommitLimit:") found.commit_limit = bytes;
    if (key == "Committed_AS:") found.committed = bytes;
  }
  std::ifstream(proc + "/sys/vm/overcommit_memory") >> found.overcommit;
  return found;
}

ByteCount total_memory() {
  const long pages = ::sysconf(_SC_PHYS_PAGES);
  return {static_cast<std::uint64_t>(pages > 0 ? pages : 0) * kPageSize};
}

std::optional<std::uint64_t> free_huge_pages(const std::string& proc) {
  constexpr std::size_t kOrder = 9;  // 2^9 pages are 2 MiB.
  std::ifstream file(proc + "/buddyinfo");
  if (!file) return std::nullopt;
  std::uint64_t free = 0;
  // "Node 0, zone   Normal   12 8 4 ...": blocks of 1, 2, 4, ... pages.
  for (std::string line; std::getline(file, line);) {
    const std::size_t zone = line.find("zone");
    if (zone == std::string::npos) continue;
    std::istringstream words(line.substr(zone + 4));
    std::string name;
    words >> name;
    std::uint64_t blocks = 0;
    for (std::size_t order = 0; words >> blocks; ++order) {
      if (order >= kOrder) free += blocks << (order - kOrder);
    }
  }
  return free;
}

std::optional<CgroupLimit> tightest_cgroup(const std::string& proc, const std::string& cgroups) {
  const std::optional<Hierarchy> hierarchy = memory_hierarchy(proc, cgroups);
  if (!hierarchy) return std::nullopt;
  std::optional<CgroupLimit> tightest;
  for (std::string group = hierarchy->group;; group.resize(group.rfind('/'))) {
    const std::optional<CgroupLimit> limit = hierarchy->limit_of(group);
    if (limit && (!tightest || limit->room() < tightest->room())) tightest = limit;
    if (group.rfind('/') == std::string::npos) return tightest;
  }
}

}  // namespace mapcap::machine
