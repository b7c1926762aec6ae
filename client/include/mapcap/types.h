// What is known of regions, pools and quotas, as plain values.
//
// Sizes are bytes; uid, gid and mode are the kernel's.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "mapcap/api.h"
#include "mapcap/words.h"

namespace mapcap {

struct RegionInfo {
  std::uint64_t id = 0;  ///< Never reused.
  std::string name;
  std::string pool;
  std::uint32_t owner = 0;
  std::uint32_t group = 0;
  std::uint32_t mode = 0;
  std::uint64_t size = 0;
  CacheStatus cache;
  Durability durability;
  Confinement confinement = Confinement::sealed;
  SealKind seal = SealKind::sealed;
  Lifetime lifetime;
  std::chrono::nanoseconds created_unix{0};           ///< Since 1970-01-01 UTC.
  std::optional<std::chrono::nanoseconds> remaining;  ///< Until expiry; absent: it does not expire by time.
  RegionState state = RegionState::live;
  std::uint32_t grants = 0;      ///< Descriptors or mappings still alive, as far as the kernel tells.
  std::uint64_t held = 0;        ///< Bytes still charged to the owner.
  std::uint32_t bad_blocks = 0;  ///< Damaged 512-byte sectors of the backing device within the region.
};

/// Grants of one region that one user holds.
struct Holder {
  std::uint32_t uid = 0;
  Access rights = Access::read_only;
  std::uint32_t count = 0;
};

struct RegionDetails {
  RegionInfo region;
  std::vector<Holder> holders;
};

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
};

/// Whose quota, and in which pool.
struct QuotaSlot {
  SubjectKind subject = SubjectKind::any;
  std::uint32_t id = 0;  ///< uid or gid; 0 for any.
  std::string pool;      ///< Empty: over all pools.
};

struct QuotaInfo {
  QuotaSlot slot;
  Limits limits;
  std::uint64_t bytes = 0;
  std::uint64_t regions = 0;
  std::uint64_t grants = 0;
  std::uint64_t connections = 0;
  bool overridden = false;  ///< The limits come from quota_set, not from the policy.
};

}  // namespace mapcap
