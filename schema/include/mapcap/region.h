// A region: what is asked for, and what is known of it. Sizes are bytes; uid, gid and mode are the kernel's.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "mapcap/words.h"

namespace mapcap {

/// What to create. Every member has an initializer, so that designated ones may leave out the rest.
struct RegionSpec {
  std::string name{};  ///< Components of [A-Za-z0-9._-] joined by slashes; the shipped policy wants USER/...
  std::uint64_t size = 0;  ///< Rounded up to the pool's granule.
  std::string pool{};      ///< Empty: the first pool of the policy that the caller may use.
  CacheRequest cache{};
  Lifetime lifetime{};
  std::uint32_t mode = 0600;
  std::optional<std::uint32_t> group{};  ///< One of the caller's. Absent: the caller's primary group.
  std::optional<SealKind> seal{};        ///< Absent: the pool's default.
  bool operator==(const RegionSpec&) const = default;
};

struct RegionInfo {
  std::uint64_t id = 0;  ///< Never reused.
  std::string name;
  std::string pool;
  std::uint32_t owner = 0;
  std::uint32_t group = 0;
  std::uint32_t mode = 0;  ///< Permission bits, 0 to 0666.
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
  bool draining = false;         ///< Of one that is revoking: its holders may finish first.
  /// Since when nobody can write it (since 1970-01-01 UTC); absent: it is not published.
  std::optional<std::chrono::nanoseconds> published_unix;
  std::string endpoint{};  ///< The endpoint whose number `owner` is; empty: a user's.
  bool operator==(const RegionInfo&) const = default;
};

/// Grants of one region that one user holds, got from one place.
struct Holder {
  std::uint32_t uid = 0;
  Access rights = Access::read_only;
  std::uint32_t count = 0;
  std::string endpoint{};  ///< The endpoint whose number `uid` is; empty: none.
  bool ended = false;      ///< That endpoint has ended, and these grants stay with whoever has them.
  /// Where whoever got them ran when he connected, for people and no authority; each empty: not that, or not known (the broker
  /// was started since, or the kernel or the broker does not tell).
  std::string unit{};       ///< "postgresql.service"; at most 128 bytes, longer ones end in "...".
  std::string container{};  ///< The first 12 digits of its id.
  std::string cgroup{};     ///< Where it is neither: the path, at most 256 bytes.
  bool operator==(const Holder&) const = default;
};

struct RegionDetails {
  RegionInfo region;
  std::vector<Holder> holders;  ///< Who was handed the grants that are still alive.
  bool operator==(const RegionDetails&) const = default;
};

/// What a revoke left behind: bytes that stay charged until the last holder lets go of `grants` grants.
struct Revoked {
  std::uint64_t held = 0;
  std::uint32_t grants = 0;
  bool operator==(const Revoked&) const = default;
};

}  // namespace mapcap
