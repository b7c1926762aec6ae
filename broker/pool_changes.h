// What a new policy does to the pools in service: adds some, takes empty ones away, gives some another capacity.
//
// In three steps, so that nothing is half done: what can be said at once (on the loop), what asks filesystems and
// devices (on a thread, beside the pools' own work), and what puts it in force (on the loop, and cannot fail).
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "broker/books/pools.h"
#include "broker/books/quotas.h"
#include "policy/policy.h"
#include "policy/problem.h"

namespace mapcap::broker {

class PoolChanges {
 public:
  using Problems = std::vector<policy::Problem>;
  /// open_pool: asks filesystems and devices.
  using OpenPool = std::function<Result<std::unique_ptr<ServedPool>>(const policy::PoolSettings&)>;
  /// How many regions lie in the pool of that name, lost ones too.
  using RegionsIn = std::function<std::uint64_t(const std::string& pool)>;

  /// `now`: of the pools in service, which outlive this. `may_kill`: the broker has kept CAP_KILL.
  PoolChanges(const policy::Policy& now, std::shared_ptr<const policy::Policy> next, ServedPools& pools,
              bool may_kill);

  /// What takes a restart, by its key.
  [[nodiscard]] Problems not_in_service() const;
  /// What regions stand in the way of. Right until the loop does something else.
  [[nodiscard]] Problems in_the_way(const Quotas& quotas, const RegionsIn& regions_in) const;
  /// Opens what is added, and finds out the other capacities. Once, on a thread.
  Problems prepare(const OpenPool& open, const pool::Recorded& recorded);
  /// Puts it in force: only where none of the others had a problem. Returns what is out of service, which may take
  /// long to close.
  ServedPools commit(Quotas& quotas);

  /// Of pools that were opened: what lies in them and is nobody's.
  [[nodiscard]] const std::vector<std::pair<std::string, Failure>>& leftovers() const { return leftovers_; }

 private:
  struct Change {
    const policy::PoolSettings& settings;
    const policy::PoolSettings* old = nullptr;  ///< Null: added.
    ServedPool* served = nullptr;               ///< Null: added.
    std::unique_ptr<ServedPool> opened;
    std::optional<ByteCount> capacity;  ///< Absent: as it was.
  };
  [[nodiscard]] bool goes(const std::string& name) const;

  const policy::Policy& now_;
  std::shared_ptr<const policy::Policy> next_;
  ServedPools& pools_;
  bool may_kill_;
  std::vector<Change> changes_;  ///< In the order of the new file.
  std::vector<std::pair<std::string, Failure>> leftovers_;
};

}  // namespace mapcap::broker
