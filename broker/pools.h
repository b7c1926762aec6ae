// The pools that this broker serves, each with the confiner that its machine and its policy allow.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "broker/confine/confiner.h"
#include "broker/pool/pool.h"

namespace mapcap::broker {

struct ServedPool {
  std::unique_ptr<pool::Pool> pool;
  confine::Confiner* confiner = nullptr;
  std::string confinement_reason;  ///< Why not a stronger confinement; empty for the strongest.

  [[nodiscard]] const pool::Facts& facts() const { return pool->facts(); }
};

/// In the order of the policy file.
using ServedPools = std::vector<std::unique_ptr<ServedPool>>;

inline ServedPool* find_pool(const ServedPools& pools, const std::string& name) {
  for (const auto& served : pools) {
    if (served->facts().name == name) return served.get();
  }
  return nullptr;
}

}  // namespace mapcap::broker
