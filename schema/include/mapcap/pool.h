// What is known of a pool. Sizes are bytes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "mapcap/words.h"

namespace mapcap {

struct PoolInfo {
  std::string name;
  std::string backing;  ///< "memory", "dax-file", "dax-device", "pci-bar"
  std::uint64_t capacity = 0;
  std::uint64_t used = 0;
  std::uint64_t regions = 0;
  std::uint64_t granule = 0;  ///< Sizes are rounded up to a multiple of it.
  Confinement confinement = Confinement::sealed;
  std::string confinement_reason;  ///< Why not a stronger one; empty for the strongest.
  std::vector<SealKind> seals;     ///< Allowed; the first is the default.
  std::vector<CacheMode> cache_modes;
  Durability durability;
  bool cache_verified = false;  ///< The modes were read back from the kernel.
  bool operator==(const PoolInfo&) const = default;
};

}  // namespace mapcap
