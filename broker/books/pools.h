// The pools that this broker serves, each with the confiner that its machine and its policy allow.
#pragma once

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "broker/confine/confiner.h"
#include "broker/pool/pool.h"
#include "mapcap/words.h"
#include "schema/reply.h"

namespace mapcap::broker {

struct ServedPool {
  std::shared_ptr<pool::Pool> pool;  ///< Shared with what is asked of it on a thread while it may go.
  confine::Confiner* confiner = nullptr;
  std::string confinement_reason;  ///< Why not a stronger confinement; empty for the strongest.

  /// Where the policy knows better than the pool: of memory that the platform makes write-through, and what a
  /// reload changed (capacity, seals). Loop only once the pool is in service.
  std::optional<pool::Facts> told;

  [[nodiscard]] const pool::Facts& facts() const { return told ? *told : pool->facts(); }

  /// What a region's mode is by now: the policy may have changed since its record was written.
  [[nodiscard]] CacheMode cache_of(const ledger::RegionRecord& record) const {
    const std::vector<CacheMode>& modes = facts().cache_modes;
    const bool still = std::find(modes.begin(), modes.end(), record.cache_effective) != modes.end();
    return still ? record.cache_effective : modes.front();
  }

  /// A page attribute that was read back says nothing of what the platform makes of it.
  [[nodiscard]] bool cache_verified() const { return !by_platform() && pool->cache_verified(); }
  [[nodiscard]] bool cache_verified(const pool::Extent& extent) const {
    return !by_platform() && pool->cache_verified(extent);
  }

 private:
  [[nodiscard]] bool by_platform() const { return facts().cache_mechanism == CacheMechanism::platform; }
};

/// In the order of the policy file.
using ServedPools = std::vector<std::unique_ptr<ServedPool>>;

class Quotas;

inline ServedPool* find_pool(const ServedPools& pools, const std::string& name) {
  for (const auto& served : pools) {
    if (served->facts().name == name) return served.get();
  }
  return nullptr;
}

/// What clients are told of each pool, in the same order.
schema::PoolList describe(const ServedPools& pools, const Quotas& quotas);

}  // namespace mapcap::broker
