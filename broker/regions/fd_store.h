// The service manager's fd store (sd_pid_notify_with_fds(3), FDSTORE=1): what of DRAM outlives a kill of
// broker and keeper together, over the restart that follows. A stop empties it (systemd before 254): then the
// keeper alone holds.
//
// Two limits bind it, and systemd tells of neither: a descriptor too many is dropped without a word, and a
// start with too many fails, for ever.
//  - FileDescriptorStoreMax= of the unit.
//  - At the next start the names of all descriptors come in one environment variable, which the kernel takes
//  up to 128
//    KiB of (MAX_ARG_STRLEN); with more it refuses to execute anything (E2BIG). So names are short: a
//    region's number in base 85, and their sum is watched.
// What has no place is told of, and held by broker and keeper all the same.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>

#include "base/units.h"
#include "broker/report/report.h"

namespace mapcap::broker {

class FdStore {
 public:
  /// `most`: descriptors that the service manager keeps of this service, where known.
  FdStore(std::optional<std::uint64_t> most, Report& report) : most_(most), report_(&report) {}

  /// Of the manager that started this process: what $FDSTORE says (systemd 254), else what systemd answers
  /// when it is asked. Absent: nobody says. Before threads and before the system-call filter; returns within
  /// 2 s.
  static std::optional<std::uint64_t> most_of_this_service();

  /// "r" and the number, the most significant digit first: 4 characters up to region 614,124.
  static std::string name_of(RegionId region);
  /// Of such a name, or of "mapcap-123", which earlier versions gave. Absent for every other.
  static std::optional<RegionId> region_of(std::string_view name);

  /// It was in the store when this broker started, under that name.
  void found(RegionId region, std::string name);

  /// A place for a region: the name to store it by, or nothing when the store is full, which is reported once
  /// until there is room again; or when it has one already.
  std::optional<std::string> take(RegionId region);
  /// That number is an endpoint's, and what is stored under it a listening socket: counted apart, until drop().
  void note_socket(RegionId number) { sockets_.insert(number.value); }
  /// The name to remove from the store, or nothing when it was not there.
  std::optional<std::string> drop(RegionId region);

  [[nodiscard]] bool has(RegionId region) const { return names_.contains(region.value); }
  /// Regions.
  [[nodiscard]] std::uint64_t stored() const { return names_.size() - sockets(); }
  [[nodiscard]] std::uint64_t sockets() const;
  /// Regions that asked for a place when there was none, and still have none.
  [[nodiscard]] std::uint64_t without_place() const;
  [[nodiscard]] std::optional<std::uint64_t> most() const { return most_; }

 private:
  std::optional<std::uint64_t> most_;
  Report* report_;
  std::unordered_map<std::uint64_t, std::string> names_;
  std::uint64_t name_bytes_ = 0;  ///< With the ':' between them.
  std::unordered_set<std::uint64_t> homeless_;
  std::unordered_set<std::uint64_t> sockets_;  ///< Stored, homeless, or neither yet.
  bool full_ = false;
};

}  // namespace mapcap::broker
