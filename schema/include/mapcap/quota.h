// Whose quota, what it allows and what of it is used.
#pragma once

#include <cstdint>
#include <string>

#include "mapcap/words.h"

namespace mapcap {

/// Whose quota, and in which pool.
struct QuotaSlot {
  SubjectKind subject = SubjectKind::any;
  std::uint32_t id = 0;  ///< uid or gid; 0 for any.
  std::string pool;      ///< Empty: over all pools.
  bool operator==(const QuotaSlot&) const = default;
};

struct QuotaInfo {
  QuotaSlot slot;
  Limits limits;
  std::uint64_t bytes = 0;
  std::uint64_t regions = 0;
  std::uint64_t grants = 0;
  std::uint64_t connections = 0;
  bool overridden = false;  ///< The limits come from an administrator's override, not from the policy.
  std::string endpoint{};   ///< The endpoint whose number a user's id is; empty: none.
  bool operator==(const QuotaInfo&) const = default;
};

}  // namespace mapcap
