// How much memory this machine has, and what limits whoever wants more of it: what the kernel says of itself.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/units.h"

namespace mapcap::machine {

/// Zero where the kernel does not say.
struct Memory {
  ByteCount total;
  ByteCount available;  ///< Without swapping.
  ByteCount swap_free;
  ByteCount commit_limit;  ///< Binds where overcommit is 2.
  ByteCount committed;
  int overcommit = 0;  ///< vm.overcommit_memory: 0 heuristic, 1 always, 2 strict.

  /// What may still be committed; 0 when the limit is passed.
  [[nodiscard]] ByteCount commit_room() const {
    return {commit_limit > committed ? commit_limit.value - committed.value : 0};
  }
};
/// `proc`: where procfs is mounted.
Memory memory(const std::string& proc = "/proc");

/// What sysconf(3) calls the physical pages: the whole that pools have their share of.
ByteCount total_memory();

/// Blocks of 2 MiB that are free in one piece (/proc/buddyinfo); absent where that cannot be read.
std::optional<std::uint64_t> free_huge_pages(const std::string& proc = "/proc");

/// A memory cgroup with a limit.
struct CgroupLimit {
  std::string group;  ///< "/system.slice/mapcapd.service"
  ByteCount limit;
  ByteCount used;  ///< Less the page cache that the kernel drops before it refuses.

  [[nodiscard]] ByteCount room() const { return {limit > used ? limit.value - used.value : 0}; }
};
/// Of the caller's memory cgroup and those above it, as far as they are visible, the one with least room.
/// `cgroups`: where cgroups are mounted. Absent: none has a limit.
std::optional<CgroupLimit> tightest_cgroup(const std::string& proc = "/proc",
                                           const std::string& cgroups = "/sys/fs/cgroup");

}  // namespace mapcap::machine
